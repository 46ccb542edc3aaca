-- Grain: one row per county and version.

with

changes as (

    select * from {{ ref('stg_ref__geography') }}

),

{{ known_versions('known', 'changes', ['county_code']) }},

{{ scd2_versions('known', 'county_code', [
    'county_name', 'city_code', 'city_name', 'province_code', 'province_name', 'region_name',
    'urban_flag',
]) }}

select
    version_key as geography_key,
    county_code,
    county_name,
    city_code,
    city_name,
    province_code,
    province_name,
    region_name,
    urban_flag,
    valid_from,
    valid_to,
    is_current

from versions
