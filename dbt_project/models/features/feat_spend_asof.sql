-- Grain: one row per subscription and as-of date with a bill line or recharge of the
-- last 400 days known by both clocks: perspective 2 (spend and value) in fen without tax.
-- Revenue is own_fen of int_revenue. What a bill is made of comes from all its lines: those of a
-- prepaid line say what its recharges were spent on.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

days as (

    select * from {{ ref('feat_day_asof') }}

),

lines as (

    select * from {{ ref('feat_line_asof') }}

),

bill_lines as (

    select * from {{ ref('fct_bill_line') }}

    where charge_class <> 'tax' and {{ within_reach(400) }}

),

revenues as (

    select * from {{ ref('int_revenue') }}

    where {{ within_reach(400) }}

),

money as (

    select
        subscription_id,
        event_date,
        load_date,
        charge_class,
        usage_type,
        third_party_flag,
        tax_excl_fen as billed_fen,
        {{ as_bigint('0') }} as revenue_fen

    from bill_lines

    union all

    select
        subscription_id,
        event_date,
        load_date,
        'revenue' as charge_class,
        cast(null as {{ dbt.type_string() }}) as usage_type,
        false as third_party_flag,
        {{ as_bigint('0') }} as billed_fen,
        own_fen as revenue_fen

    from revenues

),

known as (

    select
        days.as_of_date,
        lines.subscription_id,
        days.in_m1,
        days.in_m2,
        days.in_m3,
        days.in_m4,
        days.in_3m,
        days.in_12m,
        days.in_90d,
        money.billed_fen,
        money.revenue_fen,
        days.month_no * days.in_12m as month_no_12m,
        case
            when money.charge_class in ('recurring', 'usage', 'one_off') then money.billed_fen
            else 0
        end as gross_fen,
        case when money.third_party_flag then 0 else 1 end as is_own,
        case when money.charge_class = 'recurring' then 1 else 0 end as is_recurring,
        case when money.charge_class = 'usage' then 1 else 0 end as is_usage,
        case when money.charge_class = 'discount' then 1 else 0 end as is_discount,
        case when money.charge_class = 'adjustment' then 1 else 0 end as is_adjustment,
        case when money.usage_type = 'voice' then 1 else 0 end as is_voice,
        case when money.usage_type = 'data' then 1 else 0 end as is_data,
        case when money.usage_type = 'vas' then 1 else 0 end as is_vas

    from money
    inner join days
        on
            money.event_date = days.event_date
            and money.load_date <= days.as_of_date
    inner join lines
        on
            money.subscription_id = lines.subscription_id
            and days.as_of_date = lines.as_of_date

),

sums as (

    select
        subscription_id,
        as_of_date,
        -- Months before the first bill or recharge are not on record: they do not thin the mean.
        max(month_no_12m) as months_on_record,
        {{ as_bigint('sum(revenue_fen * in_m1)') }} as m1,
        {{ as_bigint('sum(revenue_fen * in_m2)') }} as m2,
        {{ as_bigint('sum(revenue_fen * in_m3)') }} as m3,
        {{ as_bigint('sum(revenue_fen * in_m4)') }} as m4,
        {{ as_bigint('sum(revenue_fen * in_12m)') }} as m12,
        {{ as_bigint('sum(gross_fen * in_3m)') }} as gross_3m,
        {{ as_bigint('sum(gross_fen * is_own * in_3m)') }} as own_gross_3m,
        {{ as_bigint('sum(gross_fen * is_own * is_recurring * in_3m)') }} as recurring_3m,
        {{ as_bigint('sum(gross_fen * is_own * is_usage * in_3m)') }} as usage_3m,
        {{ as_bigint('sum(gross_fen * is_own * is_voice * in_3m)') }} as voice_3m,
        {{ as_bigint('sum(gross_fen * is_own * is_data * in_3m)') }} as data_3m,
        {{ as_bigint('sum(gross_fen * is_own * is_vas * in_3m)') }} as vas_3m,
        {{ as_bigint('sum(billed_fen * is_own * is_discount * in_3m)') }} as discount_3m,
        {{ as_bigint('sum(billed_fen * is_adjustment * in_90d)') }} as adjustment_90d

    from known

    group by subscription_id, as_of_date

)

select
    subscription_id,
    as_of_date,
    m1 as arpu_m1,
    {{ whole_ratio('m1 + m2 + m3', '3') }} as arpu_avg3m,
    {{ whole_ratio('m12', 'months_on_record') }} as arpu_avg12m,
    {{ whole_ratio('m1 - m3', '2') }} as arpu_slope3m,
    {{ ratio('3 * m1', 'm1 + m2 + m3') }} as arpu_m1_ratio,
    {{ variation('3', '(m1 + m2 + m3)', '(m1 * m1 + m2 * m2 + m3 * m3)') }} as arpu_cv3m,
    {{ ratio('recurring_3m', 'own_gross_3m') }} as recurring_share,
    {{ ratio('usage_3m', 'usage_3m + recurring_3m') }}
        as out_of_bundle_share,
    {{ ratio('voice_3m', 'own_gross_3m') }} as voice_charge_share,
    {{ ratio('data_3m', 'own_gross_3m') }} as data_charge_share,
    {{ ratio('-discount_3m', 'own_gross_3m') }} as discount_share,
    {{ ratio('gross_3m - own_gross_3m', 'gross_3m') }} as third_party_share,
    {{ ratio('3 * m1', 'm2 + m3 + m4') }} as bill_shock_ratio,
    adjustment_90d as adjustment_amt_90d,
    {{ whole_ratio('vas_3m', '3') }} as vas_spend_avg3m,
    {{ ratio('vas_3m', 'own_gross_3m') }} as vas_spend_ratio,
    m1 + m2 + m3 as revenue_3m_fen

from sums
