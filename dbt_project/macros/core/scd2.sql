{#
    Slowly changing dimensions (type 2) out of append-only change feeds, in two steps
    so that a dimension may join two feeds in between. Both macros write a chain of
    CTEs; the last one has the name that the model goes on with.

    Day grain: of several changes of one load date the last one counts. A change that
    arrives late, recorded before one that is already known, changes nothing: what was
    known on a day stays what it was. One recorded more than a day after its load date is
    a wrong date: it counts, but makes nothing after it late.
#}


{#
    CTE `<name>`: what was known of each entity, one row per load date that changed it,
    with `known_from` (that load date) and `known_to` (the next one, excluded).

    Args:
        name: name of the CTE.
        changes: CTE or relation with one row per change: key, `load_date`, `updated_at`, which
            orders the changes of an entity. Changes of one load date must differ in it.
        key: list of the columns that identify an entity.
#}
{% macro known_versions(name, changes, key) -%}
{%- set keys = key | join(', ') -%}
{{ name }}_ranked as (

    select
        *,
        row_number() over (
            partition by {{ keys }}, load_date order by updated_at desc
        ) as change_rank

    from {{ changes }}

),

{{ name }}_ordered as (

    select
        *,
        max(
            case
                when {{ local_date('updated_at') }} <= {{ add_days('load_date', 1) }}
                    then updated_at
            end
        ) over (
            partition by {{ keys }} order by load_date
            rows between unbounded preceding and 1 preceding
        ) as newest_before

    from {{ name }}_ranked

    where change_rank = 1

),

{{ name }} as (

    select
        *,
        load_date as known_from,
        coalesce(
            lead(load_date) over (partition by {{ keys }} order by load_date),
            {{ end_of_time() }}
        ) as known_to

    from {{ name }}_ordered

    where newest_before is null or updated_at >= newest_before

)
{%- endmacro %}


{#
    CTE `versions`: the rows of the dimension, with `version_key`, `valid_from`,
    `valid_to` (excluded), `is_current`, `is_inferred` and `load_date`. Repeated versions
    that differ in nothing tracked are one. The unknown member is among them.

    Args:
        known: CTE of what was known: key, tracked columns, `known_from`.
        key: column that identifies an entity.
        tracked: list of the columns whose change makes a new version.
        first_from: date column of `known`; the first version of an entity begins on that
            day when it is earlier than the day on which it became known.
        gaps: `known` has a column `is_gone`: while it is true the entity has no version.
        inferred: CTE of `inferred_members`, whose keys have one version without values.
#}
{% macro scd2_versions(known, key, tracked, first_from=none, gaps=false, inferred=none) -%}
hashed as (

    select
        *,
        {{ surrogate_key(tracked + (['is_gone'] if gaps else [])) }} as version_hash

    from {{ known }}

),

compared as (

    select
        *,
        lag(version_hash) over (partition by {{ key }} order by known_from) as previous_hash

    from hashed

),

kept as (

    select
        {{ key }},
        {%- for column in tracked %}
        {{ column }},
        {%- endfor %}
        known_from as load_date,
        {%- if first_from %}
        case
            when previous_hash is null and {{ first_from }} < known_from then {{ first_from }}
            else known_from
        end as valid_from,
        {%- else %}
        known_from as valid_from,
        {%- endif %}
        lead(known_from) over (partition by {{ key }} order by known_from) as next_from
        {%- if gaps %},
        is_gone
        {%- endif %}

    from compared

    where previous_hash is null or version_hash <> previous_hash

),

members as (

    select
        {{ key }},
        {%- for column in tracked %}
        {{ column }},
        {%- endfor %}
        load_date,
        valid_from,
        next_from,
        false as is_inferred

    from kept
    {%- if gaps %}

    where not is_gone
    {%- endif %}
    {%- if inferred %}

    union all

    select
        {{ key }},
        {%- for column in tracked %}
        null as {{ column }},
        {%- endfor %}
        known_from as load_date,
        known_from as valid_from,
        null as next_from,
        true as is_inferred

    from {{ inferred }}
    {%- endif %}

),

unknown_member as (

    select 'UNKNOWN' as unknown_id

),

versions as (

    select
        case
            when members.{{ key }} is null then {{ surrogate_key(["'UNKNOWN'"]) }}
            else {{ surrogate_key(['members.' ~ key, 'members.valid_from']) }}
        end as version_key,
        coalesce(members.{{ key }}, unknown_member.unknown_id) as {{ key }},
        {%- for column in tracked %}
        members.{{ column }},
        {%- endfor %}
        coalesce(members.load_date, cast('1900-01-01' as date)) as load_date,
        coalesce(members.valid_from, cast('1900-01-01' as date)) as valid_from,
        coalesce(members.next_from, {{ end_of_time() }}) as valid_to,
        members.next_from is null as is_current,
        coalesce(members.is_inferred, false) as is_inferred

    from members

    full join unknown_member on members.{{ key }} = unknown_member.unknown_id

)
{%- endmacro %}
