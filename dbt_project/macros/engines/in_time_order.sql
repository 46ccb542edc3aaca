{#
    Sorting of a fact's rows as they are stored, so that a later read of a few days
    touches few blocks. Only the window's rows are sorted.

    Args:
        columns: columns to sort by, coarsest first.
#}
{% macro in_time_order(columns) -%}
    {{ return(adapter.dispatch('in_time_order', 'keepline')(columns)) }}
{%- endmacro %}

{% macro default__in_time_order(columns) -%}
    order by {{ columns | join(', ') }}
{%- endmacro %}

{# Spark: a file holds one day; sorting all rows would cost a shuffle and prune nothing. #}
{% macro spark__in_time_order(columns) -%}
{%- endmacro %}
