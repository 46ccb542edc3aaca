-- Grain: one row per product offering and version. The first version begins when its sale does.
-- An offering that lines and bills name and the catalogue does not have yet is inferred.

with

changes as (

    select
        offering_id,
        name as offering_name,
        family,
        brand_code,
        monthly_fee_fen,
        voice_min,
        data_mb,
        sms_cnt,
        promo_months,
        price_after_fen,
        network_gen,
        partner_id,
        valid_from as sold_from,
        updated_at,
        load_date

    from {{ ref('stg_bss__product_offering') }}

),

{{ known_versions('known', 'changes', ['offering_id']) }},

{{ inferred_members('inferred', 'offering_id', 'changes', 'UNKNOWN_CODE') }},

{{ scd2_versions('known', 'offering_id', [
    'offering_name', 'family', 'brand_code', 'monthly_fee_fen', 'voice_min', 'data_mb', 'sms_cnt',
    'promo_months', 'price_after_fen', 'network_gen', 'partner_id',
], 'sold_from', inferred='inferred') }}

select
    version_key as offering_key,
    offering_id,
    offering_name,
    family,
    brand_code,
    monthly_fee_fen,
    voice_min,
    data_mb,
    sms_cnt,
    promo_months,
    price_after_fen,
    network_gen,
    partner_id,
    is_inferred,
    load_date,
    valid_from,
    valid_to,
    is_current

from versions
