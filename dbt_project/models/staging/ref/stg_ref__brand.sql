-- Written by `keepline generate` from brand.yml: do not edit.
-- Brands with their parents.

with

source as (

    select * from {{ source('ref', 'brand') }}

)

select
    brand_code,
    name,
    parent_brand_code,
    operator_code,
    valid_from,
    valid_to,
    updated_at,
    event_date,
    load_date

from source
