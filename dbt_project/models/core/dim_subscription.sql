-- Grain: one row per subscription and version. A version begins on the load date that made it
-- known; the first one on the day of activation when that is earlier. A line that is gone from the
-- key lists has no version while it is gone; one that only facts name is inferred.

with

subscription_changes as (

    select
        subscription_id,
        customer_id,
        account_id,
        msisdn_hash,
        msisdn_masked,
        brand_code,
        payment_type,
        offering_id,
        dealer_id,
        outlet_id,
        activation_channel,
        {{ local_date('activated_at') }} as activated_date,
        status_code,
        {{ local_date('status_at') }} as status_date,
        {{ local_date('terminated_at') }} as terminated_date,
        termination_reason_code,
        province_code,
        city_code,
        county_code,
        secondary_of_id,
        real_name_verified,
        updated_at,
        load_date

    from {{ ref('stg_bss__subscription') }}

),

-- What was recorded of a plan in one instant makes one change: the longest contract, the last end.
plan_changes as (

    select
        subscription_id,
        offering_id,
        start_at,
        updated_at,
        load_date,
        max(contract_end_date) as contract_end_date,
        {{ local_date('start_at') }} as start_date,
        case when count(end_at) = count(*) then {{ local_date('max(end_at)') }} end as end_date

    from {{ ref('stg_bss__subscription_offering') }}

    where role = 'main'

    group by subscription_id, offering_id, start_at, updated_at, load_date

),

{{ known_versions('subscriptions', 'subscription_changes', ['subscription_id']) }},

{{ known_versions('plans', 'plan_changes', ['subscription_id', 'offering_id', 'start_at']) }},

-- A plan that is ordered for later counts from its start, one that ends until then: on days that
-- may bring no row, up to the last business date.
plan_days as (

    select
        subscription_id,
        start_date as load_date

    from plans

    where start_date > known_from and start_date < known_to

    union all

    select
        subscription_id,
        end_date as load_date

    from plans

    where end_date > known_from and end_date < known_to

),

last_business_date as (

    select max(load_date) as load_date from {{ ref('business_date') }}

),

changed as (

    select
        subscription_id,
        load_date

    from subscriptions

    union distinct

    select
        subscription_id,
        known_from as load_date

    from plans

    union distinct

    select
        plan_days.subscription_id,
        plan_days.load_date

    from plan_days

    inner join last_business_date on plan_days.load_date <= last_business_date.load_date

),

{{ gone_periods('gone', 'subscription', 'subscription_id', 'subscription_changes') }},

{{ change_days_with_gaps('change_days', 'changed', 'gone', 'subscription_id') }},

{{ inferred_members('inferred', 'subscription_id', 'subscription_changes') }},

-- Lines whose number somebody else had a short time before, by the load date of the version.
suspects as (

    select
        key_text as subscription_id,
        load_date

    from {{ ref('set_aside') }}

    where reason_code = 'SUSPECT_REUSE'

),

-- Of the main plans that run on a day the one that began last says when the contract ends.
running_plans as (

    select
        change_days.subscription_id,
        change_days.load_date,
        plans.contract_end_date,
        row_number() over (
            partition by change_days.subscription_id, change_days.load_date
            order by
                plans.start_at desc,
                plans.updated_at desc,
                case when plans.contract_end_date is null then 1 else 0 end,
                plans.contract_end_date desc
        ) as plan_rank

    from change_days

    inner join plans
        on
            change_days.subscription_id = plans.subscription_id
            and change_days.load_date >= plans.known_from
            and change_days.load_date < plans.known_to
            and change_days.load_date >= plans.start_date
            and (plans.end_date is null or change_days.load_date < plans.end_date)

),

known as (

    select
        subscriptions.subscription_id,
        subscriptions.customer_id,
        subscriptions.account_id,
        subscriptions.msisdn_hash,
        subscriptions.msisdn_masked,
        subscriptions.brand_code,
        subscriptions.payment_type,
        subscriptions.offering_id,
        subscriptions.dealer_id,
        subscriptions.outlet_id,
        subscriptions.activation_channel,
        subscriptions.activated_date,
        subscriptions.status_code,
        subscriptions.status_date,
        subscriptions.terminated_date,
        subscriptions.termination_reason_code,
        subscriptions.province_code,
        subscriptions.city_code,
        subscriptions.county_code,
        subscriptions.secondary_of_id,
        subscriptions.real_name_verified,
        running_plans.contract_end_date,
        change_days.is_gone,
        change_days.load_date as known_from,
        suspects.load_date is not null as is_suspect_reuse

    from change_days

    inner join subscriptions
        on
            change_days.subscription_id = subscriptions.subscription_id
            and change_days.load_date >= subscriptions.known_from
            and change_days.load_date < subscriptions.known_to

    left join running_plans
        on
            change_days.subscription_id = running_plans.subscription_id
            and change_days.load_date = running_plans.load_date
            and running_plans.plan_rank = 1

    left join suspects
        on
            subscriptions.subscription_id = suspects.subscription_id
            and subscriptions.known_from = suspects.load_date

),

{{ scd2_versions('known', 'subscription_id', [
    'customer_id', 'account_id', 'msisdn_hash', 'msisdn_masked', 'brand_code', 'payment_type',
    'offering_id', 'dealer_id', 'outlet_id', 'activation_channel', 'activated_date', 'status_code',
    'status_date', 'terminated_date', 'termination_reason_code', 'province_code', 'city_code',
    'county_code', 'secondary_of_id', 'real_name_verified', 'contract_end_date', 'is_suspect_reuse',
], 'activated_date', gaps=true, inferred='inferred') }}

select
    version_key as subscription_key,
    subscription_id,
    customer_id,
    account_id,
    msisdn_hash,
    msisdn_masked,
    brand_code,
    payment_type,
    offering_id,
    dealer_id,
    outlet_id,
    activation_channel,
    activated_date,
    status_code,
    status_date,
    terminated_date,
    termination_reason_code,
    province_code,
    city_code,
    county_code,
    secondary_of_id,
    real_name_verified,
    contract_end_date,
    is_inferred,
    load_date,
    valid_from,
    valid_to,
    is_current,
    coalesce(is_suspect_reuse, false) as is_suspect_reuse

from versions
