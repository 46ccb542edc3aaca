-- Grain: one row per subscription and month in which it was in the base or was lost.
-- opening + gross add - churn = closing, in every row.
--
-- In base on a day: activated by then, and no standing loss (fct_churn_event, not revoked) has
-- happened by then. A loss that becomes known later restates its month and those after it: each
-- run rewrites from the earliest month that has changed to the last one.

{{ config(**replace_rows('month_start', "month_start >= {{ first_changed_month() }}")) }}

{%- set first_month = first_changed_month() %}

with

subscriptions as (

    select
        *,
        -- What was known of a line that is gone describes it until it is back.
        coalesce(
            lead(valid_from) over (partition by subscription_id order by valid_from),
            {{ end_of_time() }}
        ) as described_to

    from {{ ref('dim_subscription') }}

    where subscription_id <> 'UNKNOWN' and not is_inferred

),

losses as (

    select * from {{ ref('fct_churn_event') }}

    where revoked_date is null

),

activity as (

    select * from {{ ref('fct_activity_daily') }}

    where event_date >= {{ first_month }}

),

usage_daily as (

    select * from {{ ref('fct_usage_daily') }}

    where event_date >= {{ first_month }}

),

bill_lines as (

    select * from {{ ref('fct_bill_line') }}

    where
        charge_class <> 'tax'
        and subscription_id is not null
        and event_date >= {{ first_month }}

),

recharges as (

    select * from {{ ref('fct_recharge') }}

    where not reversed_flag and event_date >= {{ first_month }}

),

taxes as (

    select * from {{ ref('param_threshold') }}

    where key = 'prepaid_tax_share' and scope = 'ALL'

),

days as (

    select * from {{ ref('dim_date') }}

),

activity_span as (

    select
        min(load_date) as first_date,
        max(load_date) as last_date

    from {{ ref('fct_activity_daily') }}

),

subscription_span as (

    select
        min(load_date) as first_date,
        max(load_date) as last_date

    from subscriptions

),

span as (

    select
        least(
            subscription_span.first_date,
            coalesce(activity_span.first_date, subscription_span.first_date)
        ) as first_date,
        greatest(
            subscription_span.last_date,
            coalesce(activity_span.last_date, subscription_span.last_date)
        ) as last_date

    from subscription_span

    cross join activity_span

),

months as (

    select
        days.month_start,
        {{ add_days('days.month_start', -1) }} as opening_date,
        case
            when {{ add_months('days.month_start', 1) }} <= span.last_date
                then {{ add_days(add_months('days.month_start', 1), -1) }}
            else span.last_date
        end as closing_date

    from days

    cross join span

    where
        days.date_day = days.month_start
        and days.month_start >= {{ month_start('span.first_date') }}
        and days.month_start <= span.last_date
        and days.month_start >= {{ first_month }}

),

lives as (

    select
        subscriptions.subscription_id,
        subscriptions.activated_date,
        coalesce(losses.event_date, {{ end_of_time() }}) as lost_date

    from subscriptions

    left join losses on subscriptions.subscription_id = losses.subscription_id

    where subscriptions.described_to = {{ end_of_time() }}

),

base as (

    select
        lives.subscription_id,
        lives.activated_date,
        months.month_start,
        months.opening_date,
        months.closing_date,
        lives.activated_date < months.month_start as opening_flag,
        lives.activated_date >= months.month_start as gross_add_flag,
        lives.lost_date <= months.closing_date as churn_flag,
        lives.lost_date > months.closing_date as closing_flag

    from lives

    inner join months
        on
            lives.activated_date <= months.closing_date
            and lives.lost_date >= months.month_start

),

described as (

    select
        base.subscription_id,
        base.activated_date,
        base.month_start,
        base.closing_date,
        base.opening_flag,
        base.gross_add_flag,
        base.churn_flag,
        base.closing_flag,
        closing.customer_id,
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

    inner join subscriptions as closing
        on
            base.subscription_id = closing.subscription_id
            and base.closing_date >= closing.valid_from
            and base.closing_date < closing.described_to

    left join subscriptions as opening
        on
            -- With the flag as a condition of its own DuckDB compares every line with every other.
            case when base.opening_flag then base.subscription_id end = opening.subscription_id
            and base.opening_date >= opening.valid_from
            and base.opening_date < opening.described_to

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

bill_months as (

    select
        bill_lines.subscription_id,
        {{ month_start('bill_lines.event_date') }} as month_start,
        sum(case when bill_lines.third_party_flag then 0 else bill_lines.tax_excl_fen end)
            as own_revenue_fen,
        sum(case when bill_lines.third_party_flag then bill_lines.tax_excl_fen else 0 end)
            as third_party_fen,
        max(bill_lines.load_date) as load_date

    from bill_lines

    group by bill_lines.subscription_id, {{ month_start('bill_lines.event_date') }}

),

recharge_months as (

    select
        recharges.subscription_id,
        {{ month_start('recharges.event_date') }} as month_start,
        sum({{ without_tax('recharges.paid_fen', 'taxes.value') }}) as own_revenue_fen,
        sum(recharges.paid_fen) as recharge_fen,
        max(recharges.load_date) as load_date

    from recharges

    left join taxes
        on
            recharges.event_date >= taxes.valid_from
            and recharges.event_date < taxes.valid_to

    group by recharges.subscription_id, {{ month_start('recharges.event_date') }}

)

select
    {{ surrogate_key(['described.subscription_id', 'described.month_start']) }}
        as subscription_month_key,
    described.subscription_id,
    described.month_start,
    described.customer_id,
    described.brand_code,
    described.payment_type,
    described.offering_id,
    described.province_code,
    described.dealer_id,
    described.activation_channel,
    described.opening_flag,
    described.gross_add_flag,
    described.churn_flag,
    described.closing_flag,
    described.opening_brand_code,
    described.opening_payment_type,
    described.opening_province_code,
    coalesce(activity_months.active_days, 0) as active_days,
    {{ full_months('described.activated_date', 'described.closing_date') }} as tenure_months,
    {{ as_bigint('coalesce(usage_months.voice_out_s, 0)') }} as voice_out_s,
    {{ as_bigint('coalesce(usage_months.voice_in_s, 0)') }} as voice_in_s,
    {{ as_bigint('coalesce(usage_months.sms_out_cnt, 0)') }} as sms_out_cnt,
    {{ as_bigint('coalesce(usage_months.volume_bytes, 0)') }} as volume_bytes,
    {{ as_bigint("case
        when described.payment_type = 'prepaid' then coalesce(recharge_months.own_revenue_fen, 0)
        else coalesce(bill_months.own_revenue_fen, 0)
    end") }} as own_revenue_fen,
    {{ as_bigint('coalesce(bill_months.third_party_fen, 0)') }} as third_party_fen,
    {{ as_bigint('coalesce(recharge_months.recharge_fen, 0)') }} as recharge_fen,
    greatest(
        described.load_date,
        coalesce(usage_months.load_date, described.load_date),
        coalesce(bill_months.load_date, described.load_date),
        coalesce(recharge_months.load_date, described.load_date)
    ) as load_date_max

from described

left join activity_months
    on
        described.subscription_id = activity_months.subscription_id
        and described.month_start = activity_months.month_start

left join usage_months
    on
        described.subscription_id = usage_months.subscription_id
        and described.month_start = usage_months.month_start

left join bill_months
    on
        described.subscription_id = bill_months.subscription_id
        and described.month_start = bill_months.month_start

left join recharge_months
    on
        described.subscription_id = recharge_months.subscription_id
        and described.month_start = recharge_months.month_start

{{ in_time_order(['described.month_start', 'described.subscription_id']) }}
