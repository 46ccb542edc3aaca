{#
    The versions of each entity follow one another without overlap or gap, none is
    empty, and the last one, and only that one, is current.

    Args:
        key: column that identifies an entity.
        gaps: an entity may be gone for a time: there may be gaps, and the last version
            is current only if it has no end.
#}
{% test scd2_no_overlap(model, key, gaps=false) %}

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
    {% if gaps -%}
    or valid_to > coalesce(next_from, {{ end_of_time() }})
    or is_current <> (valid_to = {{ end_of_time() }})
    {%- else -%}
    or valid_to <> coalesce(next_from, {{ end_of_time() }})
    or (not is_current and next_from is null)
    {%- endif %}
    or (is_current and next_from is not null)

{% endtest %}
