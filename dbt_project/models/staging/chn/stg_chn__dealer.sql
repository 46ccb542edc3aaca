-- Written by `keepline generate` from dealer.yml: do not edit.
-- A dealer; one row per change.

with

source as (

    select * from {{ source('chn', 'dealer') }}

)

select
    dealer_id,
    name,
    type,
    level,
    province_code,
    city_code,
    valid_from,
    valid_to,
    updated_at,
    event_date,
    load_date

from source
