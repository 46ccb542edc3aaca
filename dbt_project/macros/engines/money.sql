{#
    Yuan with two decimals as a count of fen, so that sums are exact integers on
    every engine.
#}
{% macro to_fen(amount) -%}
    cast(round({{ amount }} * 100) as bigint)
{%- endmacro %}
