-- Grain: one row per subscription known on an as-of date: perspective 1 (identity and
-- life cycle), and the versions of account and plan that were known then.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

lines as (

    select * from {{ ref('feat_line_asof') }}

),

customers as (

    select * from {{ ref('dim_customer') }}

    where customer_id <> 'UNKNOWN' and not is_inferred

),

accounts as (

    select * from {{ ref('dim_account') }}

    where account_id <> 'UNKNOWN'

),

dealers as (

    select * from {{ ref('dim_dealer') }}

),

counties as (

    select * from {{ ref('dim_geography') }}

),

offerings as (

    select * from {{ ref('dim_product_offering') }}

    where offering_id <> 'UNKNOWN'

)

select
    lines.subscription_id,
    lines.as_of_date,
    {{ full_months('customers.birth_date', add_days('lines.as_of_date', 1)) }} as age_months,
    counties.urban_flag as urban_rural_flag,
    coalesce(dealers.dealer_type, 'UNKNOWN') as dealer_type,
    case when customers.gender in ('F', 'M') then 1 else 0 end
    + case when customers.birth_date is not null then 1 else 0 end
    + case when customers.marital_status <> 'unknown' then 1 else 0 end
    + case when customers.employment_status <> 'unknown' then 1 else 0 end
    + case when customers.id_no_hash is not null then 1 else 0 end
    + case when customers.since_date is not null then 1 else 0 end as profile_field_cnt,
    -- Of a customer that is not known nothing can be said.
    case when customers.customer_id is not null then customers.group_customer_id is not null end
        as group_customer_flag,
    case when customers.customer_id is not null then coalesce(customers.campus_flag, false) end
        as campus_flag,
    customers.customer_tier as vip_tier,
    accounts.auto_pay_flag,
    accounts.credit_limit_fen,
    offerings.monthly_fee_fen,
    offerings.price_after_fen,
    offerings.promo_months,
    cast(offerings.voice_min as bigint) as voice_min,
    cast(offerings.data_mb as bigint) as data_mb,
    cast(offerings.sms_cnt as bigint) as sms_cnt,
    offerings.network_gen

from lines
left join customers
    on
        lines.customer_id = customers.customer_id
        and lines.as_of_date >= customers.valid_from
        and lines.as_of_date < customers.valid_to
        and lines.as_of_date >= customers.load_date
left join accounts
    on
        lines.account_id = accounts.account_id
        and lines.as_of_date >= accounts.valid_from
        and lines.as_of_date < accounts.valid_to
left join dealers
    on
        lines.dealer_id = dealers.dealer_id
        and lines.as_of_date >= dealers.valid_from
        and lines.as_of_date < dealers.valid_to
        and lines.as_of_date >= dealers.load_date
left join counties
    on
        lines.county_code = counties.county_code
        and lines.as_of_date >= counties.valid_from
        and lines.as_of_date < counties.valid_to
left join offerings
    on
        lines.offering_id = offerings.offering_id
        and lines.as_of_date >= offerings.valid_from
        and lines.as_of_date < offerings.valid_to
        and lines.as_of_date >= offerings.load_date
