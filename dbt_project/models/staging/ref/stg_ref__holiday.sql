-- Written by `keepline generate` from holiday.yml: do not edit.
-- Public holidays, solar and lunar.

with

source as (

    select * from {{ source('ref', 'holiday') }}

)

select
    holiday_date,
    name,
    workday_flag,
    updated_at,
    event_date,
    load_date

from source
