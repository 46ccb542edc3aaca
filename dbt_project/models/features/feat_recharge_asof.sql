-- Grain: one row per subscription and as-of date with a recharge of the last 365 days
-- known by both clocks: the recharge part of perspective 8.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

days as (

    select * from {{ ref('feat_day_asof') }}

),

recharges as (

    select * from {{ ref('fct_recharge') }}

    where not reversed_flag and {{ within_reach(365) }}

),

by_day as (

    select
        recharges.subscription_id,
        days.as_of_date,
        days.days_ago,
        max(days.in_90d) as in_90d,
        count(*) as recharge_cnt,
        sum(recharges.paid_fen) as paid_fen

    from recharges
    inner join days
        on
            recharges.event_date = days.event_date
            and recharges.load_date <= days.as_of_date
            and days.in_365d = 1

    group by recharges.subscription_id, days.as_of_date, days.days_ago

),

intervals as (

    select
        subscription_id,
        as_of_date,
        days_ago,
        in_90d,
        recharge_cnt,
        paid_fen,
        lag(days_ago) over (
            partition by subscription_id, as_of_date
            order by days_ago desc
        ) - days_ago as wait_days

    from by_day

),

sums as (

    select
        subscription_id,
        as_of_date,
        min(days_ago) as days_since,
        {{ as_bigint('sum(recharge_cnt * in_90d)') }} as cnt_90d,
        {{ as_bigint('sum(paid_fen * in_90d)') }} as paid_90d,
        count(wait_days) as wait_cnt,
        {{ as_bigint('sum(wait_days)') }} as wait_sum,
        {{ as_bigint('sum(wait_days * wait_days)') }} as wait_squares

    from intervals

    group by subscription_id, as_of_date

)

select
    subscription_id,
    as_of_date,
    cast(cnt_90d as integer) as recharge_cnt_90d,
    paid_90d as recharge_amt_90d,
    {{ whole_ratio('paid_90d', 'cnt_90d') }} as recharge_avg_amt,
    cast(days_since as integer) as days_since_recharge,
    {{ variation('wait_cnt', 'wait_sum', 'wait_squares') }} as recharge_interval_cv,
    {{ ratio('days_since * wait_cnt', 'wait_sum') }} as recharge_overdue_ratio

from sums
