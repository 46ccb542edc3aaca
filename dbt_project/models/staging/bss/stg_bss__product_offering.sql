-- Written by `keepline generate` from product_offering.yml: do not edit.
-- The catalogue; one row per change.

with

source as (

    select * from {{ source('bss', 'product_offering') }}

)

select
    offering_id,
    name,
    family,
    brand_code,
    {{ to_fen('monthly_fee_amt') }} as monthly_fee_fen,
    voice_min,
    data_mb,
    sms_cnt,
    promo_months,
    {{ to_fen('price_after_amt') }} as price_after_fen,
    network_gen,
    partner_id,
    valid_from,
    valid_to,
    updated_at,
    event_date,
    load_date

from source
