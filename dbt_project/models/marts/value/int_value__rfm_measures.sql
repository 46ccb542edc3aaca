-- Grain: one row per subscription in service at the end of a month and that month, once the
-- month has ended. What mart_rfm_month scores.

{{ config(**replace_rows('month_start', "month_start >= {{ first_rfm_month() }}")) }}

{%- set first_month = first_rfm_month() %}

with

base as (

    select * from {{ ref('fct_subscription_month') }}

    where closing_flag and month_start >= {{ first_month }}

),

calendar as (

    select * from {{ ref('int_month') }}

),

-- A year before the first month that is written: what recency looks back on. An incoming event
-- counts where the subscription paid for it: who is only called does not use the line.
usage_daily as (

    select * from {{ ref('fct_usage_daily') }}

    where
        event_date >= {{ add_months(first_month, -12) }}
        and connected_cnt > 0
        and (direction <> 'in' or charge_fen > 0)

),

recharges as (

    select * from {{ ref('fct_recharge') }}

    where not reversed_flag and event_date >= {{ add_months(first_month, -12) }}

),

-- A reversal is a negative payment.
payments as (

    select * from {{ ref('fct_payment') }}

    where amount_fen > 0 and event_date >= {{ add_months(first_month, -12) }}

),

revenue as (

    select * from {{ ref('int_revenue') }}

    where event_date >= {{ add_months(first_month, -2) }}

),

spans as (

    select
        month_start,
        month_end,
        {{ add_days('month_end', -89) }} as first_day_90d,
        {{ add_months('month_start', -1) }} as m2_start,
        {{ add_months('month_start', -2) }} as m3_start

    from calendar

    where is_ended and month_start >= {{ first_month }}

),

-- A trend compares three months: none of them may have begun before the record did.
months as (

    select
        spans.month_start,
        spans.month_end,
        spans.first_day_90d,
        spans.m2_start,
        spans.m3_start,
        {{ days_between('spans.m3_start', 'spans.m2_start') }} as m3_days,
        {{ days_between('spans.m2_start', 'spans.month_start') }} as m2_days,
        {{ days_between('spans.month_start', 'spans.month_end') }} + 1 as m1_days,
        coalesce(calendar.is_whole_month, false) as has_whole_months

    from spans
    left join calendar on spans.m3_start = calendar.month_start

),

events as (

    select
        subscription_id,
        event_date,
        usage_type as event_kind

    from usage_daily

    union all

    select
        subscription_id,
        event_date,
        'recharge' as event_kind

    from recharges

),

active_days as (

    select
        subscription_id,
        event_date,
        max(case when event_kind = 'voice' then 1 else 0 end) as has_call,
        max(case when event_kind = 'sms' then 1 else 0 end) as has_message,
        max(case when event_kind = 'data' then 1 else 0 end) as has_data,
        max(case when event_kind = 'recharge' then 1 else 0 end) as has_recharge

    from events

    group by subscription_id, event_date

),

active_months as (

    select
        subscription_id,
        {{ month_start('event_date') }} as month_start,
        count(*) as active_cnt,
        max(event_date) as last_date,
        max(case when has_call = 1 then event_date end) as last_call_date,
        max(case when has_message = 1 then event_date end) as last_message_date,
        max(case when has_data = 1 then event_date end) as last_data_date,
        max(case when has_recharge = 1 then event_date end) as last_recharge_date

    from active_days

    group by subscription_id, {{ month_start('event_date') }}

),

recencies as (

    select
        months.month_start,
        active_months.subscription_id,
        max(active_months.last_date) as last_date,
        max(active_months.last_call_date) as last_call_date,
        max(active_months.last_message_date) as last_message_date,
        max(active_months.last_data_date) as last_data_date,
        max(active_months.last_recharge_date) as last_recharge_date,
        sum(
            case
                when active_months.month_start = months.month_start
                    then active_months.active_cnt
                else 0
            end
        ) as m1_cnt,
        sum(
            case
                when active_months.month_start = months.m2_start
                    then active_months.active_cnt
                else 0
            end
        ) as m2_cnt,
        sum(
            case
                when active_months.month_start = months.m3_start
                    then active_months.active_cnt
                else 0
            end
        ) as m3_cnt

    from months
    inner join active_months
        on
            months.month_start >= active_months.month_start
            and active_months.month_start > {{ add_months('months.month_start', -12) }}

    group by months.month_start, active_months.subscription_id

),

frequencies as (

    select
        months.month_start,
        active_days.subscription_id,
        count(*) as active_cnt

    from months
    inner join active_days
        on
            months.first_day_90d <= active_days.event_date
            and months.month_end >= active_days.event_date

    group by months.month_start, active_days.subscription_id

),

payment_months as (

    select
        account_id,
        {{ month_start('event_date') }} as month_start,
        max(event_date) as last_date

    from payments

    group by account_id, {{ month_start('event_date') }}

),

payment_recencies as (

    select
        months.month_start,
        payment_months.account_id,
        max(payment_months.last_date) as last_date

    from months
    inner join payment_months
        on
            months.month_start >= payment_months.month_start
            and payment_months.month_start > {{ add_months('months.month_start', -12) }}

    group by months.month_start, payment_months.account_id

),

-- Whole calendar months: 90 days hold two or three bills, as the day of the bill falls.
revenues as (

    select
        months.month_start,
        revenue.subscription_id,
        sum(revenue.own_fen) as own_fen,
        sum(revenue.third_party_fen) as third_party_fen

    from months
    inner join revenue
        on months.m3_start <= revenue.event_date and months.month_end >= revenue.event_date

    group by months.month_start, revenue.subscription_id

)

select
    base.subscription_id,
    base.month_start,
    months.month_end,
    base.is_whole_month,
    base.customer_id,
    coalesce(base.province_code, 'UNKNOWN') as province_code,
    coalesce(base.brand_code, 'UNKNOWN') as brand_code,
    base.payment_type,
    {{ days_between('recencies.last_date', 'months.month_end') }} as recency_days,
    {{ days_between('recencies.last_call_date', 'months.month_end') }} as recency_call_days,
    {{ days_between('recencies.last_message_date', 'months.month_end') }} as recency_message_days,
    {{ days_between('recencies.last_data_date', 'months.month_end') }} as recency_data_days,
    {{ days_between('recencies.last_recharge_date', 'months.month_end') }}
        as recency_recharge_days,
    {{ days_between('payment_recencies.last_date', 'months.month_end') }} as recency_payment_days,
    {{ as_bigint('coalesce(frequencies.active_cnt, 0)') }} as frequency,
    {{ as_bigint('coalesce(revenues.own_fen, 0)') }} as monetary_fen,
    {{ as_bigint('coalesce(revenues.third_party_fen, 0)') }} as third_party_fen,
    -- Active days per day of the month, so that February is not always falling.
    {{ ratio(
        'case when base.tenure_months >= 3 and months.has_whole_months'
        ~ ' then 2 * recencies.m1_cnt * months.m2_days * months.m3_days end',
        'months.m1_days'
        ~ ' * (recencies.m2_cnt * months.m3_days + recencies.m3_cnt * months.m2_days)'
    ) }} as trend_ratio

from base
inner join months on base.month_start = months.month_start
left join recencies
    on
        base.subscription_id = recencies.subscription_id
        and base.month_start = recencies.month_start
left join frequencies
    on
        base.subscription_id = frequencies.subscription_id
        and base.month_start = frequencies.month_start
left join payment_recencies
    on
        base.account_id = payment_recencies.account_id
        and base.month_start = payment_recencies.month_start
left join revenues
    on
        base.subscription_id = revenues.subscription_id
        and base.month_start = revenues.month_start
