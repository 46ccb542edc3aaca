-- Written by `keepline generate` from customer.yml: do not edit.
-- A party with an agreement; one row per change.

with

source as (

    select * from {{ source('crm', 'customer') }}

)

select
    customer_id,
    party_id,
    customer_class,
    customer_tier,
    group_customer_id,
    key_person_flag,
    campus_flag,
    since_date,
    status,
    province_code,
    updated_at,
    event_date,
    load_date

from source
