{#
    Deterministic key of a row: the MD5 (32 hex digits) of its natural key. A
    rebuild gives the same key, on every engine.

    Args:
        columns: expressions of the natural key, in order; null and '' are one value.
#}
{% macro surrogate_key(columns) -%}
    {%- set parts = [] -%}
    {%- for column in columns -%}
        {%- do parts.append("coalesce(cast(" ~ column ~ " as " ~ dbt.type_string() ~ "), '')") -%}
        {%- if not loop.last -%}{%- do parts.append("'|'") -%}{%- endif -%}
    {%- endfor -%}
    {{ dbt.hash(dbt.concat(parts)) }}
{%- endmacro %}
