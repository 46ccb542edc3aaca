-- Grain: one row per telecom operator, as last known.

with

changes as (

    select * from {{ ref('stg_ref__operator') }}

),

{{ known_versions('known', 'changes', ['operator_code']) }},

unknown_member as (

    select 'UNKNOWN' as unknown_code

)

select
    {{ surrogate_key(['coalesce(known.operator_code, unknown_member.unknown_code)']) }}
        as operator_key,
    coalesce(known.operator_code, unknown_member.unknown_code) as operator_code,
    coalesce(known.name, 'Unknown') as operator_name,
    known.type as operator_type,
    coalesce(known.own_flag, false) as is_own

from known

full join unknown_member on known.operator_code = unknown_member.unknown_code

where known.known_to is null or known.known_to = {{ end_of_time() }}
