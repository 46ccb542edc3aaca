{#
    Every value of the columns lies in a range; empty values are not looked at.

    Args:
        columns: columns to look at.
        minimum: smallest accepted value, or none.
        maximum: largest accepted value, or none.
#}
{% test accepted_range(model, columns, minimum=none, maximum=none) %}

select
    {{ columns | join(',\n    ') }}

from {{ model }}

where
    1 = 0
    {%- for column in columns %}
    {%- if minimum is not none %}
    or {{ column }} < {{ minimum }}
    {%- endif %}
    {%- if maximum is not none %}
    or {{ column }} > {{ maximum }}
    {%- endif %}
    {%- endfor %}

{% endtest %}
