-- Written by `keepline generate` from trouble_ticket.yml: do not edit.
-- A complaint or fault from opening to close; one row per change.

with

source as (

    select * from {{ source('cc', 'trouble_ticket') }}

)

select
    ticket_id,
    interaction_id,
    subscription_id,
    type_code,
    severity,
    priority,
    created_at,
    acknowledged_at,
    expected_at,
    resolved_at,
    closed_at,
    reopened_cnt,
    status,
    status_reason,
    root_cause_code,
    updated_at,
    event_date,
    load_date

from source
