-- Written by `keepline generate` from competitor_hotline.yml: do not edit.
-- Service numbers of competitors.

with

source as (

    select * from {{ source('ref', 'competitor_hotline') }}

)

select
    number_hash,
    operator_code,
    updated_at,
    event_date,
    load_date

from source
