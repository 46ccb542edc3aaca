{# First day of the month of a date expression, as a date. #}
{% macro month_start(day) -%}
    cast({{ dbt.date_trunc('month', day) }} as date)
{%- endmacro %}

{#
    A day some days later (or earlier, when negative), as a date. By an integer: to
    DuckDB 1.5 an interval of 30 days equals one of a month, so that of a day plus
    either, in one query, both come out as the first.
#}
{% macro add_days(day, days) -%}
    {{ return(adapter.dispatch('add_days', 'keepline')(day, days)) }}
{%- endmacro %}

{% macro default__add_days(day, days) -%}
    (cast({{ day }} as date) + cast({{ days }} as integer))
{%- endmacro %}

{# Spark adds no integer to a date. #}
{% macro spark__add_days(day, days) -%}
    date_add(cast({{ day }} as date), cast({{ days }} as integer))
{%- endmacro %}

{# A day some months later (or earlier, when negative), as a date. #}
{% macro add_months(day, months) -%}
    {{ return(adapter.dispatch('add_months', 'keepline')(day, months)) }}
{%- endmacro %}

{% macro default__add_months(day, months) -%}
    cast({{ dbt.dateadd('month', months, day) }} as date)
{%- endmacro %}

{# dbt's own goes through seconds since 1970 and refuses a null. #}
{% macro spark__add_months(day, months) -%}
    add_months(cast({{ day }} as date), cast({{ months }} as integer))
{%- endmacro %}

{# Whole days from one date to another, as bigint: engines disagree on `date - date`. #}
{% macro days_between(earlier, later) -%}
    {{ return(adapter.dispatch('days_between', 'keepline')(earlier, later)) }}
{%- endmacro %}

{% macro default__days_between(earlier, later) -%}
    cast({{ dbt.datediff(earlier, later, 'day') }} as bigint)
{%- endmacro %}

{# dbt's own refuses a null. #}
{% macro spark__days_between(earlier, later) -%}
    cast(datediff({{ later }}, {{ earlier }}) as bigint)
{%- endmacro %}

{# The day that closes nothing: `valid_to` of what is still valid. #}
{% macro end_of_time() -%}
    cast('9999-12-31' as date)
{%- endmacro %}

{# Whole seconds from one timestamp to another, as bigint. #}
{% macro seconds_between(earlier, later) -%}
    {{ return(adapter.dispatch('seconds_between', 'keepline')(earlier, later)) }}
{%- endmacro %}

{% macro default__seconds_between(earlier, later) -%}
    cast({{ dbt.datediff(earlier, later, 'second') }} as bigint)
{%- endmacro %}

{# dbt's own refuses a null. Seconds are counted by their beginnings, as elsewhere. #}
{% macro spark__seconds_between(earlier, later) -%}
    cast(timestampdiff(
        second, date_trunc('second', {{ earlier }}), date_trunc('second', {{ later }})
    ) as bigint)
{%- endmacro %}

{# Full hours from one timestamp to another, as bigint. #}
{% macro hours_between(earlier, later) -%}
    cast(floor({{ seconds_between(earlier, later) }} / 3600.0) as bigint)
{%- endmacro %}

{#
    The date that a query of one value gives in an incremental run, as a literal, so that
    engines open only the partitions and blocks that it leaves. A model that is built from
    nothing begins with the beginning of time. While dbt parses, the query itself.

    Use with the query inside: call asked_date() ... endcall
#}
{% macro asked_date() -%}
    {%- if not execute -%}
        {{ caller() }}
    {%- elif is_incremental() -%}
        cast('{{ run_query("select " ~ caller()).rows[0][0] }}' as date)
    {%- else -%}
        cast('1900-01-01' as date)
    {%- endif -%}
{%- endmacro %}
