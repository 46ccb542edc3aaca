{#
    Post-hook of every table: what the planner should know of the rows that were just
    written. The next model reads them at once, and a planner that takes a new table or
    a new day for an empty one joins row by row. DuckDB counts by itself.
#}
{% macro told_planner() -%}
    {{ return(adapter.dispatch('told_planner', 'keepline')()) }}
{%- endmacro %}

{% macro default__told_planner() -%}
{%- endmacro %}

{# A tenth of the usual sample: good enough to plan with, and read in milliseconds. #}
{% macro postgres__told_planner() -%}
    {%- if model.config.materialized != 'view' -%}
        set local default_statistics_target = 10; analyze {{ this }}
    {%- endif -%}
{%- endmacro %}
