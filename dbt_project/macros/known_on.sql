{#
    The day whose end bounds what a label may know, as a date literal: variable
    `known_on` (the training day), or the last day of the window. A run without as-of
    dates labels nothing and needs neither.
#}
{% macro known_on() -%}
    {%- if var('known_on', none) -%}
        cast('{{ var("known_on") }}' as date)
    {%- elif not var('as_of_dates') -%}
        {{ end_of_time() }}
    {%- else -%}
        {{ add_days(window_to(), -1) }}
    {%- endif -%}
{%- endmacro %}
