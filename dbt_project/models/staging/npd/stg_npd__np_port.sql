-- Written by `keepline generate` from np_port.yml: do not edit.
-- A request to move a number; one row per change.

with

source as (

    select * from {{ source('npd', 'np_port') }}

)

select
    port_id,
    subscription_id,
    msisdn_hash,
    donor_operator,
    recipient_operator,
    direction,
    requested_at,
    completed_at,
    status,
    updated_at,
    event_date,
    load_date

from source
