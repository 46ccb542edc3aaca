{#
    The types of a contract in the engine's own words. dbt asks these macros for the
    columns of a table that it makes, and of the query that it compares with a model's.

    PostgreSQL calls a double `double precision`, and its expressions give `text`, which
    dbt takes for another type than `varchar`.
#}
{% macro postgres__get_table_columns_and_constraints() -%}
    {{ return(in_words_of_postgres(table_columns_and_constraints())) }}
{%- endmacro %}

{% macro postgres__get_empty_schema_sql(columns) -%}
    {{ return(in_words_of_postgres(default__get_empty_schema_sql(columns))) }}
{%- endmacro %}

{% macro in_words_of_postgres(declared) -%}
    {%- set doubles = modules.re.sub('\\bdouble\\b', 'double precision', declared) -%}
    {{ return(modules.re.sub('\\bvarchar\\b', 'text', doubles)) }}
{%- endmacro %}
