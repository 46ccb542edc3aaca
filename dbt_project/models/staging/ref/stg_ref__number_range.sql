-- Written by `keepline generate` from number_range.yml: do not edit.
-- Which operator a number prefix was given to.

with

source as (

    select * from {{ source('ref', 'number_range') }}

)

select
    prefix,
    operator_code,
    valid_from,
    valid_to,
    updated_at,
    event_date,
    load_date

from source
