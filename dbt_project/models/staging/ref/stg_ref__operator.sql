-- Written by `keepline generate` from operator.yml: do not edit.
-- Telecom operators, this one among them.

with

source as (

    select * from {{ source('ref', 'operator') }}

)

select
    operator_code,
    name,
    type,
    own_flag,
    updated_at,
    event_date,
    load_date

from source
