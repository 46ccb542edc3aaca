-- Grain: one row per subscription, event day and load date with at least one event that brings
-- income: a connected call either way, a message sent to a person, data moved, a recharge.
-- The grain is the key.

{{ config(**replace_window()) }}

with

usage_daily as (

    select * from {{ ref('fct_usage_daily') }}

    where {{ in_window() }}

),

recharges as (

    select * from {{ ref('fct_recharge') }}

    where {{ in_window() }}

),

events as (

    select
        subscription_id,
        event_date,
        load_date,
        connected_cnt as usage_cnt,
        0 as recharge_cnt

    from usage_daily

    where
        connected_cnt > 0
        and (
            usage_type in ('voice', 'data')
            or (usage_type = 'sms' and direction = 'out' and net_type <> 'service')
        )

    union all

    select
        subscription_id,
        event_date,
        load_date,
        0 as usage_cnt,
        1 as recharge_cnt

    from recharges

    where not reversed_flag

)

select
    subscription_id,
    event_date,
    {{ as_bigint('sum(usage_cnt)') }} as usage_cnt,
    {{ as_bigint('sum(recharge_cnt)') }} as recharge_cnt,
    load_date

from events

group by subscription_id, event_date, load_date

{{ in_time_order(['load_date', 'event_date']) }}
