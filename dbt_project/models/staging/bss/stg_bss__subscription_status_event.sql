-- Written by `keepline generate` from subscription_status_event.yml: do not edit.
-- A change of a subscription's state.

with

source as (

    select * from {{ source('bss', 'subscription_status_event') }}

)

select
    event_id,
    subscription_id,
    from_status,
    to_status,
    reason_code,
    event_at,
    recorded_at,
    event_date,
    load_date

from source
