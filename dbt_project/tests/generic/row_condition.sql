{#
    A condition holds in every row; a condition that is neither true nor false fails.

    Args:
        condition: SQL predicate on the columns of the model.
#}
{% test row_condition(model, condition) %}

select *

from {{ model }}

where not coalesce({{ condition }}, false)

{% endtest %}
