{#
    No two rows have the same values in all of the columns.

    Args:
        columns: columns that identify a row together.
#}
{% test unique_combination(model, columns) %}

select
    {{ columns | join(',\n    ') }},
    count(*) as row_cnt

from {{ model }}

group by {{ columns | join(', ') }}

having count(*) > 1

{% endtest %}
