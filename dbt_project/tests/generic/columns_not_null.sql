{#
    No row lacks a value in any of the columns: one scan per model instead of one per
    column. DuckDB and PostgreSQL enforce it as a constraint, Spark does not.

    Args:
        columns: columns that must have a value.
#}
{% test columns_not_null(model, columns) %}

select
    {{ columns | join(',\n    ') }}

from {{ model }}

where
    {% for column in columns -%}
    {{ "or " if not loop.first }}{{ column }} is null
    {% endfor %}
{% endtest %}
