-- Grain: one row per subscription known on an as-of date, with the versions of its
-- dimensions that were known then: whether it may be scored, who holds it, its plan.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

dates as (

    select * from {{ ref('feat_date_asof') }}

),

versions as (

    select * from {{ ref('dim_subscription') }}

    where subscription_id <> 'UNKNOWN' and not is_inferred and {{ known_by_then() }}

),

activity as (

    select * from {{ ref('feat_activity_asof') }}

),

losses as (

    select * from {{ ref('fct_churn_event') }}

    where {{ known_by_then('confirmed_date') }}

),

-- The load dates that brought activity: a silence is known by what was delivered.
deliveries as (

    select distinct load_date

    from {{ ref('fct_activity_daily') }}

    where {{ known_by_then() }}

),

observed as (

    select
        dates.as_of_date,
        max(deliveries.load_date) as last_date

    from dates
    inner join deliveries on dates.as_of_date >= deliveries.load_date

    group by dates.as_of_date

),

-- The lines that have left, as known then. Who is silent has left when that was confirmed.
lost as (

    select distinct
        dates.as_of_date,
        losses.subscription_id

    from dates
    inner join losses
        on
            dates.as_of_date >= losses.confirmed_date
            and dates.as_of_date < coalesce(losses.revoked_date, {{ end_of_time() }})
    left join observed on dates.as_of_date = observed.as_of_date

    where losses.kind <> 'inactivity' or losses.confirmed_date <= observed.last_date

),

-- The version of a line that was valid on the as-of date and had been recorded by then.
known as (

    select
        dates.as_of_date,
        versions.subscription_id,
        versions.customer_id,
        versions.account_id,
        versions.brand_code,
        versions.payment_type,
        versions.offering_id,
        versions.dealer_id,
        versions.activation_channel,
        versions.activated_date,
        versions.status_code,
        versions.province_code,
        versions.county_code,
        versions.secondary_of_id,
        versions.real_name_verified,
        versions.contract_end_date

    from dates
    inner join versions
        on
            dates.as_of_date >= versions.valid_from
            and dates.as_of_date < versions.valid_to
            and dates.as_of_date >= versions.load_date

),

brand_steps as (

    select
        subscription_id,
        valid_from,
        load_date,
        brand_code,
        lag(brand_code) over (partition by subscription_id order by valid_from) as brand_before

    from versions

),

brand_changes as (

    select
        dates.as_of_date,
        brand_steps.subscription_id,
        max(brand_steps.valid_from) as brand_changed_on

    from dates
    inner join brand_steps
        on
            dates.as_of_date >= brand_steps.valid_from
            and dates.as_of_date >= brand_steps.load_date

    where brand_steps.brand_code <> brand_steps.brand_before

    group by dates.as_of_date, brand_steps.subscription_id

),

lines as (

    select
        known.*,
        activity.days_since_activity,
        coalesce(activity.is_known, false) as known_flag,
        brand_changes.brand_changed_on,
        case
            when known.activated_date <= known.as_of_date
                then {{ days_between('known.activated_date', 'known.as_of_date') }}
        end as tenure_days,
        case
            when known.activated_date <= known.as_of_date
                then {{ full_months('known.activated_date', add_days('known.as_of_date', 1)) }}
        end as full_months_on_net,
        coalesce(
            known.activated_date <= known.as_of_date
            and known.status_code not in ('created', 'pending_active')
            and lost.subscription_id is null,
            false
        ) as is_alive

    from known
    left join lost
        on
            known.subscription_id = lost.subscription_id
            and known.as_of_date = lost.as_of_date
    left join activity
        on
            known.subscription_id = activity.subscription_id
            and known.as_of_date = activity.as_of_date
    left join brand_changes
        on
            known.subscription_id = brand_changes.subscription_id
            and known.as_of_date = brand_changes.as_of_date

),

holders as (

    select
        as_of_date,
        customer_id,
        count(*) as line_cnt

    from lines

    where is_alive and customer_id <> 'UNKNOWN'

    group by as_of_date, customer_id

),

secondary_cards as (

    select
        as_of_date,
        secondary_of_id as subscription_id,
        count(*) as card_cnt

    from lines

    where is_alive and secondary_of_id is not null

    group by as_of_date, secondary_of_id

)

select
    lines.subscription_id,
    lines.as_of_date,
    lines.customer_id,
    lines.account_id,
    lines.brand_code,
    lines.payment_type,
    lines.offering_id,
    lines.dealer_id,
    lines.activation_channel,
    lines.province_code,
    lines.county_code,
    lines.real_name_verified,
    lines.contract_end_date,
    lines.known_flag,
    lines.is_alive,
    lines.days_since_activity,
    lines.tenure_days,
    lines.full_months_on_net,
    coalesce(lines.is_alive and lines.full_months_on_net >= 3, false)
        as on_net_3_consecutive_months,
    {{ full_months('lines.brand_changed_on', add_days('lines.as_of_date', 1)) }}
        as months_since_brand_change,
    case
        when lines.customer_id <> 'UNKNOWN' then cast(coalesce(holders.line_cnt, 0) as integer)
    end as subscriptions_per_customer,
    cast(coalesce(secondary_cards.card_cnt, 0) as integer) as secondary_card_cnt

from lines
left join holders
    on lines.customer_id = holders.customer_id and lines.as_of_date = holders.as_of_date
left join secondary_cards
    on
        lines.subscription_id = secondary_cards.subscription_id
        and lines.as_of_date = secondary_cards.as_of_date
