-- Grain: one row per subscription and month in which it was in service, or lost or told as lost.
-- opening + gross add + win-backs - churn = closing, in every row.
--
-- In service on a day: see int_subscription_life. What becomes known later restates its month and
-- those after it: each run rewrites from the earliest month that has changed to the last one.

{{ config(**replace_rows('month_start', "month_start >= {{ first_changed_month() }}")) }}

{%- set first_month = first_changed_month() %}

with

-- Before its first version a line is described by it; what was known of one that is gone describes
-- it until it is back.
subscriptions as (

    select
        *,
        case
            when lag(valid_from) over (partition by subscription_id order by valid_from) is null
                then cast('1900-01-01' as date)
            else valid_from
        end as described_from,
        coalesce(
            lead(valid_from) over (partition by subscription_id order by valid_from),
            {{ end_of_time() }}
        ) as described_to

    from {{ ref('dim_subscription') }}

    where subscription_id <> 'UNKNOWN' and not is_inferred

),

lives as (

    select * from {{ ref('int_subscription_life') }}

),

turns as (

    select * from {{ ref('int_subscription_turn') }}

),

months as (

    select
        *,
        {{ add_days('month_start', -1) }} as opening_date

    from {{ ref('int_month') }}

    where month_start >= {{ first_month }}

),

activity as (

    select * from {{ ref('fct_activity_daily') }}

    where event_date >= {{ first_month }}

),

usage_daily as (

    select * from {{ ref('fct_usage_daily') }}

    where event_date >= {{ first_month }}

),

revenues as (

    select * from {{ ref('int_revenue') }}

    where event_date >= {{ first_month }}

),

recharges as (

    select * from {{ ref('fct_recharge') }}

    where not reversed_flag and event_date >= {{ first_month }}

),

served as (

    select
        lives.subscription_id,
        months.month_start,
        max(
            case
                when lives.from_date < months.month_start and lives.to_date >= months.month_start
                    then 1
                else 0
            end
        ) as is_opening,
        max(
            case
                when
                    lives.from_date <= months.closing_date and lives.to_date > months.closing_date
                    then 1
                else 0
            end
        ) as is_closing

    from lives

    inner join months
        on
            lives.from_date <= months.closing_date
            and lives.to_date >= months.month_start

    group by lives.subscription_id, months.month_start

),

base as (

    select
        coalesce(served.subscription_id, turns.subscription_id) as subscription_id,
        coalesce(served.month_start, turns.month_start) as month_start,
        coalesce(served.is_opening, 0) = 1 as opening_flag,
        coalesce(served.is_closing, 0) = 1 as closing_flag,
        coalesce(turns.gross_add_cnt, 0) = 1 as gross_add_flag,
        coalesce(turns.win_back_cnt, 0) as win_back_cnt,
        coalesce(turns.churn_cnt, 0) as churn_cnt,
        coalesce(turns.churn_first_published_cnt, 0) as churn_first_published_cnt

    from served

    full join turns
        on
            served.subscription_id = turns.subscription_id
            and served.month_start = turns.month_start

),

described as (

    select
        base.subscription_id,
        base.month_start,
        base.opening_flag,
        base.gross_add_flag,
        base.win_back_cnt,
        base.churn_cnt,
        base.churn_first_published_cnt,
        base.closing_flag,
        months.month_end,
        months.closing_date,
        months.is_whole_month,
        closing.customer_id,
        closing.account_id,
        closing.brand_code,
        closing.payment_type,
        closing.offering_id,
        closing.province_code,
        closing.dealer_id,
        closing.activation_channel,
        closing.load_date,
        opening.brand_code as opening_brand_code,
        opening.payment_type as opening_payment_type,
        opening.province_code as opening_province_code

    from base

    inner join months on base.month_start = months.month_start

    inner join subscriptions as closing
        on
            base.subscription_id = closing.subscription_id
            and months.closing_date >= closing.described_from
            and months.closing_date < closing.described_to

    left join subscriptions as opening
        on
            -- With the flag as a condition of its own every line is compared with every other.
            case when base.opening_flag then base.subscription_id end = opening.subscription_id
            and months.opening_date >= opening.described_from
            and months.opening_date < opening.described_to

),

activated as (

    select
        subscription_id,
        activated_date

    from lives

    where begin_kind = 'activation'

),

activity_days as (

    select distinct
        activity.subscription_id,
        activity.event_date,
        {{ month_start('activity.event_date') }} as month_start

    from activity

),

activity_months as (

    select
        subscription_id,
        month_start,
        cast(count(*) as integer) as active_days

    from activity_days

    group by subscription_id, month_start

),

usage_months as (

    select
        usage_daily.subscription_id,
        {{ month_start('usage_daily.event_date') }} as month_start,
        sum(case when usage_daily.direction = 'out' then usage_daily.duration_s else 0 end)
            as voice_out_s,
        sum(case when usage_daily.direction = 'in' then usage_daily.duration_s else 0 end)
            as voice_in_s,
        sum(
            case
                when usage_daily.usage_type = 'sms' and usage_daily.direction = 'out'
                    then usage_daily.record_cnt
                else 0
            end
        ) as sms_out_cnt,
        sum(usage_daily.volume_bytes) as volume_bytes,
        max(usage_daily.load_date) as load_date

    from usage_daily

    group by usage_daily.subscription_id, {{ month_start('usage_daily.event_date') }}

),

revenue_months as (

    select
        revenues.subscription_id,
        {{ month_start('revenues.event_date') }} as month_start,
        sum(revenues.own_fen) as own_revenue_fen,
        sum(revenues.third_party_fen) as third_party_fen,
        max(revenues.load_date) as load_date

    from revenues

    group by revenues.subscription_id, {{ month_start('revenues.event_date') }}

),

recharge_months as (

    select
        recharges.subscription_id,
        {{ month_start('recharges.event_date') }} as month_start,
        sum(recharges.paid_fen) as recharge_fen,
        max(recharges.load_date) as load_date

    from recharges

    group by recharges.subscription_id, {{ month_start('recharges.event_date') }}

)

select
    {{ surrogate_key(['described.subscription_id', 'described.month_start']) }}
        as subscription_month_key,
    described.subscription_id,
    described.month_start,
    described.month_end,
    described.closing_date,
    described.customer_id,
    described.account_id,
    described.brand_code,
    described.payment_type,
    described.offering_id,
    described.province_code,
    described.dealer_id,
    described.activation_channel,
    described.opening_flag,
    described.gross_add_flag,
    described.win_back_cnt,
    described.churn_cnt,
    described.churn_cnt > 0 as churn_flag,
    described.churn_first_published_cnt,
    described.closing_flag,
    described.opening_brand_code,
    described.opening_payment_type,
    described.opening_province_code,
    coalesce(activity_months.active_days, 0) as active_days,
    greatest(
        {{ full_months('activated.activated_date', add_days('described.closing_date', 1)) }}, 0
    ) as tenure_months,
    {{ as_bigint('coalesce(usage_months.voice_out_s, 0)') }} as voice_out_s,
    {{ as_bigint('coalesce(usage_months.voice_in_s, 0)') }} as voice_in_s,
    {{ as_bigint('coalesce(usage_months.sms_out_cnt, 0)') }} as sms_out_cnt,
    {{ as_bigint('coalesce(usage_months.volume_bytes, 0)') }} as volume_bytes,
    {{ as_bigint('coalesce(revenue_months.own_revenue_fen, 0)') }} as own_revenue_fen,
    {{ as_bigint('coalesce(revenue_months.third_party_fen, 0)') }} as third_party_fen,
    {{ as_bigint('coalesce(recharge_months.recharge_fen, 0)') }} as recharge_fen,
    greatest(
        described.load_date,
        coalesce(usage_months.load_date, described.load_date),
        coalesce(revenue_months.load_date, described.load_date),
        coalesce(recharge_months.load_date, described.load_date)
    ) as load_date_max,
    described.is_whole_month

from described

left join activated on described.subscription_id = activated.subscription_id

left join activity_months
    on
        described.subscription_id = activity_months.subscription_id
        and described.month_start = activity_months.month_start

left join usage_months
    on
        described.subscription_id = usage_months.subscription_id
        and described.month_start = usage_months.month_start

left join revenue_months
    on
        described.subscription_id = revenue_months.subscription_id
        and described.month_start = revenue_months.month_start

left join recharge_months
    on
        described.subscription_id = recharge_months.subscription_id
        and described.month_start = recharge_months.month_start

{{ in_time_order(['described.month_start', 'described.subscription_id']) }}
