-- Grain: one row per bill line or recharge that is revenue of a subscription, without tax, with
-- what is collected for partners apart. Which source counts is decided by the payment type of the
-- day, so that a month in which it changes has both.

{{ config(**replace_rows('event_date', "event_date >= {{ first_revenue_date() }}")) }}

{%- set first_date = first_revenue_date() %}

with

bill_lines as (

    select
        *,
        {{ add_days('billed_date', -1) }} as last_billed_date

    from {{ ref('fct_bill_line') }}

    where
        charge_class <> 'tax'
        and subscription_id is not null
        and event_date >= {{ first_date }}

),

recharges as (

    select * from {{ ref('fct_recharge') }}

    where
        not reversed_flag
        and subscription_id is not null
        and event_date >= {{ first_date }}

),

-- Before its first version a subscription is as the first one says, while deleted as the last.
payment_types as (

    select
        subscription_id,
        payment_type,
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

holdings as (

    select * from {{ ref('fct_offering_holding') }}

),

offerings as (

    select * from {{ ref('dim_product_offering') }}

),

rates as (

    select * from {{ ref('param_tax_rate') }}

),

-- A bill line of one who was prepaid at both ends of what it bills says what recharges have paid.
billed as (

    select
        bill_lines.bill_line_key,
        bill_lines.subscription_id,
        bill_lines.event_date,
        bill_lines.load_date,
        bill_lines.charge_class,
        bill_lines.usage_type,
        bill_lines.third_party_flag,
        bill_lines.tax_excl_fen

    from bill_lines

    left join payment_types as first_day
        on
            bill_lines.subscription_id = first_day.subscription_id
            and least(
                coalesce(bill_lines.period_start, bill_lines.last_billed_date),
                bill_lines.last_billed_date
            ) >= first_day.described_from
            and least(
                coalesce(bill_lines.period_start, bill_lines.last_billed_date),
                bill_lines.last_billed_date
            ) < first_day.described_to

    left join payment_types as last_day
        on
            bill_lines.subscription_id = last_day.subscription_id
            and bill_lines.last_billed_date >= last_day.described_from
            and bill_lines.last_billed_date < last_day.described_to

    where
        coalesce(first_day.payment_type, 'unknown') <> 'prepaid'
        or coalesce(last_day.payment_type, 'unknown') <> 'prepaid'

),

rate_days as (

    select distinct valid_from from rates

),

rate_periods as (

    select
        valid_from,
        coalesce(lead(valid_from) over (order by valid_from), {{ end_of_time() }}) as valid_to

    from rate_days

),

-- The tax in a recharge: that of each service, by its part in what recharges are spent on.
recharge_taxes as (

    select
        rate_periods.valid_from,
        rate_periods.valid_to,
        cast(
            sum(taxes.value * mixes.value) / sum(mixes.value) as decimal(9, 6)
        ) as tax_rate

    from rate_periods

    inner join rates as taxes
        on
            taxes.key = 'tax_rate'
            and rate_periods.valid_from >= taxes.valid_from
            and rate_periods.valid_from < taxes.valid_to

    inner join rates as mixes
        on
            mixes.key = 'recharge_mix'
            and taxes.scope = mixes.scope
            and rate_periods.valid_from >= mixes.valid_from
            and rate_periods.valid_from < mixes.valid_to

    group by rate_periods.valid_from, rate_periods.valid_to

),

recharged as (

    select
        recharges.recharge_key,
        recharges.subscription_id,
        recharges.event_date,
        recharges.load_date,
        {{ whole_ratio('recharges.paid_fen', '1 + coalesce(recharge_taxes.tax_rate, 0)') }}
            as amount_fen

    from recharges

    inner join payment_types
        on
            recharges.subscription_id = payment_types.subscription_id
            and recharges.event_date >= payment_types.described_from
            and recharges.event_date < payment_types.described_to

    left join recharge_taxes
        on
            recharges.event_date >= recharge_taxes.valid_from
            and recharges.event_date < recharge_taxes.valid_to

    where payment_types.payment_type = 'prepaid'

),

partner_offerings as (

    select distinct offering_id

    from offerings

    where partner_id is not null

),

-- Only who holds something of a partner pays one.
partner_holders as (

    select distinct holdings.subscription_id

    from holdings

    inner join partner_offerings on holdings.offering_id = partner_offerings.offering_id

),

-- What was held on the day of a recharge, each holding as its last version known with the recharge.
known_holdings as (

    select
        recharged.recharge_key,
        recharged.load_date,
        recharged.event_date,
        holdings.offering_id,
        holdings.end_date,
        row_number() over (
            partition by
                recharged.recharge_key,
                recharged.load_date,
                holdings.offering_id,
                holdings.start_at
            order by holdings.updated_at desc, holdings.load_date desc
        ) as version_rank

    from recharged

    inner join partner_holders on recharged.subscription_id = partner_holders.subscription_id

    inner join holdings
        on
            recharged.subscription_id = holdings.subscription_id
            and recharged.event_date >= holdings.start_date
            and recharged.load_date >= holdings.load_date

),

fees as (

    select
        known_holdings.recharge_key,
        known_holdings.load_date,
        sum(offerings.monthly_fee_fen) as all_fen,
        sum(case when offerings.partner_id is not null then offerings.monthly_fee_fen else 0 end)
            as partner_fen

    from known_holdings

    inner join offerings
        on
            known_holdings.offering_id = offerings.offering_id
            and known_holdings.event_date >= offerings.valid_from
            and known_holdings.event_date < offerings.valid_to
            and known_holdings.load_date >= offerings.load_date

    where
        known_holdings.version_rank = 1
        and (
            known_holdings.end_date is null or known_holdings.end_date > known_holdings.event_date
        )

    group by known_holdings.recharge_key, known_holdings.load_date

),

split as (

    select
        recharged.recharge_key,
        recharged.subscription_id,
        recharged.event_date,
        recharged.load_date,
        recharged.amount_fen,
        coalesce(
            {{ whole_ratio('recharged.amount_fen * fees.partner_fen', 'fees.all_fen') }}, 0
        ) as third_party_fen

    from recharged

    left join fees
        on
            recharged.recharge_key = fees.recharge_key
            and recharged.load_date = fees.load_date

)

select
    bill_line_key as source_key,
    'bill' as source_name,
    subscription_id,
    charge_class,
    usage_type,
    {{ as_bigint('case when third_party_flag then 0 else tax_excl_fen end') }} as own_fen,
    {{ as_bigint('case when third_party_flag then tax_excl_fen else 0 end') }}
        as third_party_fen,
    event_date,
    load_date

from billed

union all

select
    recharge_key as source_key,
    'recharge' as source_name,
    subscription_id,
    'recharge' as charge_class,
    cast(null as {{ dbt.type_string() }}) as usage_type,
    {{ as_bigint('amount_fen - third_party_fen') }} as own_fen,
    {{ as_bigint('third_party_fen') }} as third_party_fen,
    event_date,
    load_date

from split
