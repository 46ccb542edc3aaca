-- Grain: one row per channel of the seed `channel`.

with

named as (

    select * from {{ ref('channel') }}

),

unknown_member as (

    select 'UNKNOWN' as unknown_code

)

select
    {{ surrogate_key(['coalesce(named.channel_code, unknown_member.unknown_code)']) }}
        as channel_key,
    coalesce(named.channel_code, unknown_member.unknown_code) as channel_code,
    coalesce(named.channel_name, 'Unknown') as channel_name,
    named.is_digital,
    named.is_human

from named

full join unknown_member on named.channel_code = unknown_member.unknown_code
