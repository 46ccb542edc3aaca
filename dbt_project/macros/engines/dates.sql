{# First day of the month of a date expression, as a date. #}
{% macro month_start(day) -%}
    cast({{ dbt.date_trunc('month', day) }} as date)
{%- endmacro %}

{# A day some days later (or earlier, when negative), as a date. #}
{% macro add_days(day, days) -%}
    cast({{ dbt.dateadd('day', days, day) }} as date)
{%- endmacro %}

{# A day some months later (or earlier, when negative), as a date. #}
{% macro add_months(day, months) -%}
    cast({{ dbt.dateadd('month', months, day) }} as date)
{%- endmacro %}

{# Whole days from one date to another, as bigint: engines disagree on `date - date`. #}
{% macro days_between(earlier, later) -%}
    cast({{ dbt.datediff(earlier, later, 'day') }} as bigint)
{%- endmacro %}

{# The day that closes nothing: `valid_to` of what is still valid. #}
{% macro end_of_time() -%}
    cast('9999-12-31' as date)
{%- endmacro %}

{# Whole seconds from one timestamp to another, as bigint. #}
{% macro seconds_between(earlier, later) -%}
    cast({{ dbt.datediff(earlier, later, 'second') }} as bigint)
{%- endmacro %}

{# Full hours from one timestamp to another, as bigint. #}
{% macro hours_between(earlier, later) -%}
    cast(floor({{ seconds_between(earlier, later) }} / 3600.0) as bigint)
{%- endmacro %}
