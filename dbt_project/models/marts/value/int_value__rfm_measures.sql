-- Grain: one row per subscription in service at the end of a month and that month, once the
-- month has ended. What mart_rfm_month scores.

{{ config(**replace_rows('month_start', "month_start >= {{ first_rfm_month() }}")) }}

{%- set first_month = first_rfm_month() %}

with

days as (

    select * from {{ ref('dim_date') }}

),

-- A year before the first month that is written: what recency looks back on.
usage_daily as (

    select * from {{ ref('fct_usage_daily') }}

    where event_date >= {{ add_months(first_month, -12) }}

),

recharges as (

    select * from {{ ref('fct_recharge') }}

    where not reversed_flag and event_date >= {{ add_months(first_month, -12) }}

),

bill_lines as (

    select * from {{ ref('fct_bill_line') }}

    where
        charge_class <> 'tax'
        and not third_party_flag
        and subscription_id is not null
        and event_date >= {{ add_months(first_month, -2) }}

),

subscriptions as (

    select * from {{ ref('dim_subscription') }}

    where subscription_id <> 'UNKNOWN'

),

taxes as (

    select * from {{ ref('param_threshold') }}

    where key = 'prepaid_tax_share' and scope = 'ALL'

),

definitions as (

    select * from {{ ref('param_churn_definition') }}

    where key = 'inactivity_days'

),

span as (

    select
        min(load_date) as first_date,
        max(load_date) as last_date

    from (
        select load_date from {{ ref('fct_usage_daily') }}
        union all
        select load_date from {{ ref('fct_recharge') }}
        union all
        select load_date from {{ ref('fct_bill_line') }}
    ) as known_days

),

months as (

    select
        days.month_start,
        {{ add_days(add_months('days.month_start', 1), -1) }} as month_end,
        {{ add_days(add_months('days.month_start', 1), -90) }} as first_day_90d,
        {{ add_months('days.month_start', -1) }} as m2_start,
        {{ add_months('days.month_start', -2) }} as m3_start

    from days
    cross join span

    where
        days.date_day = days.month_start
        and days.month_start >= {{ month_start('span.first_date') }}
        and {{ add_months('days.month_start', 1) }} <= {{ add_days('span.last_date', 1) }}
        and days.month_start >= {{ first_month }}

),

-- A day with something paid or begun by the line itself: who is only called does not use it.
active_days as (

    select
        usage_daily.subscription_id,
        usage_daily.event_date

    from usage_daily

    where
        usage_daily.connected_cnt > 0
        and (usage_daily.direction <> 'in' or usage_daily.charge_fen > 0)

    union distinct

    select
        recharges.subscription_id,
        recharges.event_date

    from recharges

),

active_months as (

    select
        subscription_id,
        {{ month_start('event_date') }} as month_start,
        max(event_date) as last_date,
        count(*) as active_cnt

    from active_days

    group by subscription_id, {{ month_start('event_date') }}

),

recencies as (

    select
        months.month_start,
        active_months.subscription_id,
        max(active_months.last_date) as last_date,
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

money as (

    select
        bill_lines.subscription_id,
        bill_lines.event_date,
        'bill' as source_name,
        bill_lines.tax_excl_fen as amount_fen

    from bill_lines

    union all

    select
        recharges.subscription_id,
        recharges.event_date,
        'recharge' as source_name,
        {{ without_tax('recharges.paid_fen', 'taxes.value') }} as amount_fen

    from recharges
    left join taxes
        on recharges.event_date >= taxes.valid_from and recharges.event_date < taxes.valid_to

),

-- Whole calendar months: 90 days hold two or three bills, as the day of the bill falls.
revenues as (

    select
        months.month_start,
        money.subscription_id,
        sum(case when money.source_name = 'recharge' then money.amount_fen else 0 end)
            as recharged_fen,
        sum(case when money.source_name = 'bill' then money.amount_fen else 0 end) as billed_fen

    from months
    inner join money
        on months.m3_start <= money.event_date and months.month_end >= money.event_date

    group by months.month_start, money.subscription_id

),

lines as (

    select
        months.month_start,
        months.month_end,
        subscriptions.subscription_id,
        subscriptions.customer_id,
        coalesce(subscriptions.province_code, 'UNKNOWN') as province_code,
        coalesce(subscriptions.brand_code, 'UNKNOWN') as brand_code,
        subscriptions.payment_type,
        subscriptions.activated_date < months.m3_start as has_three_months,
        {{ days_between('months.m3_start', 'months.m2_start') }} as m3_days,
        {{ days_between('months.m2_start', 'months.month_start') }} as m2_days,
        {{ days_between('months.month_start', 'months.month_end') }} + 1 as m1_days

    from months
    inner join subscriptions
        on
            months.month_end >= subscriptions.valid_from
            and months.month_end < subscriptions.valid_to
            and months.month_end >= subscriptions.load_date

    where
        subscriptions.activated_date <= months.month_end
        and subscriptions.status_code not in ('created', 'pending_active', 'terminated')

)

select
    lines.subscription_id,
    lines.month_start,
    lines.month_end,
    lines.customer_id,
    lines.province_code,
    lines.brand_code,
    lines.payment_type,
    {{ days_between('recencies.last_date', 'lines.month_end') }} as recency_days,
    coalesce(frequencies.active_cnt, 0) as frequency,
    {{ as_bigint("case
        when lines.payment_type = 'prepaid' then coalesce(revenues.recharged_fen, 0)
        else coalesce(revenues.billed_fen, 0)
    end") }} as monetary_fen,
    -- Active days per day of the month, so that February is not always falling.
    {{ ratio(
        'case when lines.has_three_months'
        ~ ' then 2 * recencies.m1_cnt * lines.m2_days * lines.m3_days end',
        'lines.m1_days'
        ~ ' * (recencies.m2_cnt * lines.m3_days + recencies.m3_cnt * lines.m2_days)'
    ) }} as trend_ratio

from lines
left join recencies
    on
        lines.subscription_id = recencies.subscription_id
        and lines.month_start = recencies.month_start
left join frequencies
    on
        lines.subscription_id = frequencies.subscription_id
        and lines.month_start = frequencies.month_start
left join revenues
    on
        lines.subscription_id = revenues.subscription_id
        and lines.month_start = revenues.month_start
left join definitions
    on
        lines.payment_type = definitions.scope
        and lines.month_end >= definitions.valid_from
        and lines.month_end < definitions.valid_to

-- A line that has been silent for as long as that is lost (fct_churn_event), not a customer.
where
    definitions.value is null
    or recencies.last_date is null
    or {{ add_days('recencies.last_date', 'definitions.value') }} > lines.month_end
