{#
    Predicate that keeps the rows that some as-of date of this run may know: both
    clocks at or before the last as-of date, the event at most `days` days before
    the first. Constants, so that engines prune. The exact cut per as-of date is
    made where rows meet `feat_day_asof`.

    Args:
        days: how far the model looks back, days.
        event_date: column with the day of the event.
        load_date: column with the day on which the row became known.
#}
{% macro within_reach(days, event_date='event_date', load_date='load_date') -%}
    {%- set as_of_dates = (var('as_of_dates') or []) | sort -%}
    {%- if as_of_dates -%}
        {{ event_date }} > {{ add_days("cast('" ~ as_of_dates[0] ~ "' as date)", -days) }}
        and {{ event_date }} <= cast('{{ as_of_dates[-1] }}' as date)
        and {{ load_date }} <= cast('{{ as_of_dates[-1] }}' as date)
    {%- else -%}
        1 = 0
    {%- endif -%}
{%- endmacro %}

{# Predicate that keeps what is known at the end of the last as-of date of this run. #}
{% macro known_by_then(load_date='load_date') -%}
    {%- set as_of_dates = (var('as_of_dates') or []) | sort -%}
    {%- if as_of_dates -%}
        {{ load_date }} <= cast('{{ as_of_dates[-1] }}' as date)
    {%- else -%}
        1 = 0
    {%- endif -%}
{%- endmacro %}
