-- Written by `keepline generate` from geography.yml: do not edit.
-- Counties with their city, province and region.

with

source as (

    select * from {{ source('ref', 'geography') }}

)

select
    county_code,
    county_name,
    city_code,
    city_name,
    province_code,
    province_name,
    region_name,
    urban_flag,
    updated_at,
    event_date,
    load_date

from source
