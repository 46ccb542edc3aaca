{#
    The types of a contract in the engine's own words: what others call a double is
    `double precision` on PostgreSQL. dbt asks these macros for the columns of a table
    that it makes, and of the query that it compares with a model's.
#}
{% macro postgres__get_table_columns_and_constraints() -%}
    {{ return(in_words_of_postgres(table_columns_and_constraints())) }}
{%- endmacro %}

{% macro postgres__get_empty_schema_sql(columns) -%}
    {{ return(in_words_of_postgres(default__get_empty_schema_sql(columns))) }}
{%- endmacro %}

{% macro in_words_of_postgres(declared) -%}
    {{ return(modules.re.sub('\\bdouble\\b', 'double precision', declared)) }}
{%- endmacro %}
