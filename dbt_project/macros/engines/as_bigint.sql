{# A count or sum as bigint: engines widen sums to types of their own. #}
{% macro as_bigint(expression) -%}
    cast({{ expression }} as bigint)
{%- endmacro %}
