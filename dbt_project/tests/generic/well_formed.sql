{#
    Every row has a value in the columns that need one, and no two rows share a key.
    One test per model instead of one per column: what a test costs is its start, not
    its scan. DuckDB and PostgreSQL enforce the values as constraints too, Spark does
    not.

    Args:
        key: columns that identify a row together.
        not_null: columns that must have a value, those of the key among them.
#}
{% test well_formed(model, key, not_null) %}

select
    'a value is missing' as problem,
    count(*) as row_cnt

from {{ model }}

where
    {% for column in not_null -%}
    {{ "or " if not loop.first }}{{ column }} is null
    {% endfor %}
having count(*) > 0

union all

select
    'rows share a key' as problem,
    count(*) as row_cnt

from (
    select {{ key | join(', ') }}

    from {{ model }}

    group by {{ key | join(', ') }}

    having count(*) > 1
) as repeated

having count(*) > 0

{% endtest %}
