{#
    The versions of each entity follow one another without overlap or gap, none is
    empty, and the last one, and only that one, is current.

    Args:
        key: column that identifies an entity.
#}
{% test scd2_no_overlap(model, key) %}

select
    {{ key }},
    valid_from,
    valid_to,
    next_from,
    is_current

from (
    select
        {{ key }},
        valid_from,
        valid_to,
        is_current,
        lead(valid_from) over (partition by {{ key }} order by valid_from) as next_from

    from {{ model }}
) as versions

where
    valid_from >= valid_to
    or valid_to <> coalesce(next_from, {{ end_of_time() }})
    or (is_current and next_from is not null)
    or (not is_current and next_from is null)

{% endtest %}
