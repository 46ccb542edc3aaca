-- Grain: one row per kind of usage: type x direction x network x roaming.

with

directions as (

    select 'in' as direction
    union all
    select 'out' as direction

),

networks as (

    select
        'voice' as usage_type,
        'onnet' as net_type
    union all
    select
        'voice' as usage_type,
        'offnet' as net_type
    union all
    select
        'voice' as usage_type,
        'hotline' as net_type
    union all
    select
        'sms' as usage_type,
        'onnet' as net_type
    union all
    select
        'sms' as usage_type,
        'offnet' as net_type
    union all
    select
        'sms' as usage_type,
        'hotline' as net_type
    union all
    select
        'sms' as usage_type,
        'service' as net_type

),

roamings as (

    select 'home' as roam_type
    union all
    select 'national' as roam_type
    union all
    select 'international' as roam_type

),

kinds as (

    select
        networks.usage_type,
        directions.direction,
        networks.net_type,
        roamings.roam_type

    from networks

    cross join directions

    cross join roamings

    -- Messages are delivered without saying where the subscriber was.
    where networks.usage_type = 'voice' or roamings.roam_type = 'home'

    union all

    select
        'data' as usage_type,
        'none' as direction,
        'none' as net_type,
        roam_type

    from roamings

)

select
    {{ surrogate_key(['usage_type', 'direction', 'net_type', 'roam_type']) }} as usage_type_key,
    usage_type,
    direction,
    net_type,
    roam_type

from kinds
