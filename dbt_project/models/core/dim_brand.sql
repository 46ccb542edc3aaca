-- Grain: one row per brand and version. The first version begins when the brand does.

with

changes as (

    select
        brand_code,
        name as brand_name,
        parent_brand_code,
        operator_code,
        valid_from as sold_from,
        updated_at,
        load_date

    from {{ ref('stg_ref__brand') }}

),

{{ known_versions('known', 'changes', ['brand_code']) }},

{{ scd2_versions(
    'known', 'brand_code', ['brand_name', 'parent_brand_code', 'operator_code'], 'sold_from'
) }}

select
    version_key as brand_key,
    brand_code,
    brand_name,
    parent_brand_code,
    operator_code,
    valid_from,
    valid_to,
    is_current

from versions
