-- Grain: one row per subscription and as-of date on which anything is known of it:
-- a usage, bill line, recharge or contact of the last 365 days.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

days as (

    select * from {{ ref('feat_day_asof') }}

),

-- Usage without income (incoming messages, failed calls) is known, but no activity.
signs as (

    select
        subscription_id,
        event_date,
        load_date,
        1 as is_activity

    from {{ ref('fct_activity_daily') }}

    where {{ within_reach(365) }}

    union all

    select
        subscription_id,
        event_date,
        load_date,
        0 as is_activity

    from {{ ref('feat_usage_day') }}

    union all

    select
        subscription_id,
        event_date,
        load_date,
        0 as is_activity

    from {{ ref('fct_bill_line') }}

    where {{ within_reach(365) }}

    union all

    select
        subscription_id,
        event_date,
        load_date,
        0 as is_activity

    from {{ ref('fct_recharge') }}

    where {{ within_reach(365) }}

    union all

    select
        subscription_id,
        event_date,
        load_date,
        0 as is_activity

    from {{ ref('fct_interaction') }}

    where {{ within_reach(365) }}

)

select
    signs.subscription_id,
    days.as_of_date,
    true as is_known,
    cast(
        min(case when signs.is_activity = 1 then days.days_ago end) as integer
    ) as days_since_activity

from signs
inner join days
    on
        signs.event_date = days.event_date
        and signs.load_date <= days.as_of_date
        and days.in_365d = 1

where signs.subscription_id is not null

group by signs.subscription_id, days.as_of_date
