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

{#
    What dbt takes for changed columns of an incremental model. PostgreSQL's expressions
    give a decimal without its places (as `coalesce(share, 0)` does), which the table has;
    and a seed's `varchar` is no other type than `text`.
#}
{% macro postgres__diff_column_data_types(source_columns, target_columns) -%}
    {%- set changed = [] -%}
    {%- for change in default__diff_column_data_types(source_columns, target_columns) -%}
        {%- set target = target_columns | selectattr('name', 'equalto', change.column_name) | first -%}
        {%- set is_same = (change.new_type == 'numeric' and target.is_numeric())
            or (change.new_type.startswith('character varying') and target.is_string()) -%}
        {%- if not is_same -%}
            {%- do changed.append(change) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(changed) }}
{%- endmacro %}
