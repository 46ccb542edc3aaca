{#
    A layer's schema is its name on every engine and for every user: `core`, not
    `dbt_someone_core`. Operators are kept apart by database, not by schema.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
