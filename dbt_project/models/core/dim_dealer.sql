-- Grain: one row per dealer and version. The first version begins when the dealer does.

with

changes as (

    select
        dealer_id,
        name as dealer_name,
        type as dealer_type,
        level,
        province_code,
        city_code,
        valid_from as dealer_since,
        updated_at,
        load_date

    from {{ ref('stg_chn__dealer') }}

),

{{ known_versions('known', 'changes', ['dealer_id']) }},

{{ scd2_versions('known', 'dealer_id', [
    'dealer_name', 'dealer_type', 'level', 'province_code', 'city_code',
], 'dealer_since') }}

select
    version_key as dealer_key,
    dealer_id,
    dealer_name,
    dealer_type,
    level,
    province_code,
    city_code,
    load_date,
    valid_from,
    valid_to,
    is_current

from versions
