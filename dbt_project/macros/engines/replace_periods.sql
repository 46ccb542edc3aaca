{#
    Model config that replaces whole periods on every engine: rows of the periods
    are cleared first, then the model's rows are appended. Clearing first is what
    empties a period that has no rows any more; `append` is the one incremental
    strategy that DuckDB, PostgreSQL and Spark share.

    Use in a model:
        config(**replace_window())                        the run's load dates
        config(**replace_dates('as_of_date', 'as_of_dates'))   the days of a list variable
        config(**replace_rows('month_start', "month_start >= ..."))    rows by a predicate

    What `keepline stage` noted of the periods' contents is forgotten with them.

    Args:
        period_column: date column of the model that says which period a row belongs to.
#}
{% macro replace_window(period_column='load_date') -%}
    {%- set replaced = replace_rows(
        period_column, "{{ in_window('" ~ period_column ~ "') }}", "{{ in_window('period') }}"
    ) -%}
    {#- By this tag `keepline build` finds what it can build in parts of days. -#}
    {%- do replaced.update({'tags': ['by_' ~ period_column]}) -%}
    {{ return(replaced) }}
{%- endmacro %}

{% macro replace_dates(period_column, variable) -%}
    {{ return(replace_rows(period_column, "{{ in_dates('" ~ period_column ~ "', '" ~ variable ~ "') }}")) }}
{%- endmacro %}

{% macro replace_rows(period_column, predicate, forgotten='1 = 1') -%}
    {{ return(adapter.dispatch('replace_rows', 'keepline')(period_column, predicate, forgotten)) }}
{%- endmacro %}

{# DuckDB and PostgreSQL: the deletes run inside the model's own transaction. #}
{% macro default__replace_rows(period_column, predicate, forgotten) -%}
    {{ return({
        'materialized': 'incremental',
        'incremental_strategy': 'append',
        'on_schema_change': 'fail',
        'pre_hook': [
            "{% if is_incremental() %}delete from {{ this }} where " ~ predicate ~ "{% endif %}",
            "delete from ops.period_content where relation = '{{ this.schema }}.{{ this.name }}'"
            ~ "{% if is_incremental() %} and " ~ forgotten ~ "{% endif %}",
        ],
    }) }}
{%- endmacro %}

{# PostgreSQL finds a period's rows by an index, DuckDB by what it knows of its blocks. #}
{% macro postgres__replace_rows(period_column, predicate, forgotten) -%}
    {%- set config = default__replace_rows(period_column, predicate, forgotten) -%}
    {%- do config.update({'indexes': [{'columns': [period_column]}]}) -%}
    {{ return(config) }}
{%- endmacro %}

{#
    Spark: periods are folders; see the materialization in spark_tables.sql. Nothing is
    noted of their contents there.
#}
{% macro spark__replace_rows(period_column, predicate, forgotten) -%}
    {{ return({
        'materialized': 'incremental',
        'incremental_strategy': 'append',
        'on_schema_change': 'fail',
        'partition_by': period_column,
        'meta': {'replaced': predicate},
    }) }}
{%- endmacro %}

{#
    Predicate that keeps the days named by a list variable; a model that has no
    such day yet is built for these days only.
#}
{% macro in_dates(period_column, variable) -%}
    {%- set days = var(variable) or [] -%}
    {%- if days -%}
        {{ period_column }} in (
            {%- for day in days -%}
                cast('{{ day }}' as date){{ ", " if not loop.last }}
            {%- endfor -%}
        )
    {%- else -%}
        1 = 0
    {%- endif -%}
{%- endmacro %}
