-- Written by `keepline generate` from subscription.yml: do not edit.
-- A line in service or once in service; one row per change. The unit of churn.

with

source as (

    select * from {{ source('bss', 'subscription') }}

)

select
    subscription_id,
    customer_id,
    account_id,
    msisdn_hash,
    msisdn_masked,
    imsi_hash,
    brand_code,
    payment_type,
    offering_id,
    dealer_id,
    outlet_id,
    activation_channel,
    activated_at,
    status_code,
    status_at,
    terminated_at,
    termination_reason_code,
    province_code,
    city_code,
    county_code,
    secondary_of_id,
    real_name_verified,
    updated_at,
    event_date,
    load_date

from source
