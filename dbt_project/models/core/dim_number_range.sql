-- Grain: one row per prefix and period of one operator, as last known.

with

changes as (

    select * from {{ ref('stg_ref__number_range') }}

),

{{ known_versions('known', 'changes', ['prefix', 'valid_from']) }},

ranges as (

    select
        prefix,
        operator_code,
        valid_from,
        valid_to,
        lead(valid_from) over (partition by prefix order by valid_from) as next_from

    from known

    where known_to = {{ end_of_time() }}

)

select
    {{ surrogate_key(['prefix', 'valid_from']) }} as number_range_key,
    prefix,
    operator_code,
    valid_from,
    case
        when next_from < coalesce(valid_to, {{ end_of_time() }}) then next_from
        else coalesce(valid_to, {{ end_of_time() }})
    end as valid_to

from ranges
