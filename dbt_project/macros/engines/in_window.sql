{#
    Predicate that keeps the periods of the run's window [window_from, window_to),
    or every row when the model is built from nothing; when that is begun in parts
    (variable `built_to`), every row before that day. The window comes from the
    caller, never from `max(...)` of the model itself, so that rerunning an old day
    reads and rewrites that day.

    Args:
        period_column: date expression to compare with the window.

    Raises a compiler error when an incremental run has no window.
#}
{% macro in_window(period_column='load_date') -%}
    {%- if is_incremental() -%}
        {{ period_column }} >= {{ window_from() }}
        and {{ period_column }} < {{ window_to() }}
    {%- elif var('built_to') -%}
        {{ period_column }} < cast('{{ var("built_to") }}' as date)
    {%- else -%}
        1 = 1
    {%- endif -%}
{%- endmacro %}

{# First load date of the window, as a date literal. #}
{% macro window_from() -%}
    cast('{{ window_edge("window_from") }}' as date)
{%- endmacro %}

{# Load date after the last one of the window, as a date literal. #}
{% macro window_to() -%}
    cast('{{ window_edge("window_to") }}' as date)
{%- endmacro %}

{% macro window_edge(name) -%}
    {%- if execute and not var(name) -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ ": this run needs the variables window_from and window_to"
            ~ " (load dates, end excluded)"
        ) }}
    {%- endif -%}
    {{ return(var(name) or '1900-01-01') }}
{%- endmacro %}
