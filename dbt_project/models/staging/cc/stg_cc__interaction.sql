-- Written by `keepline generate` from interaction.yml: do not edit.
-- A contact between a subscriber and the operator.

with

source as (

    select * from {{ source('cc', 'interaction') }}

)

select
    interaction_id,
    subscription_id,
    channel_code,
    direction,
    origin,
    reason_code,
    phase_code,
    employee_id,
    served_province,
    started_at,
    ended_at,
    queue_s,
    status,
    csat_score,
    event_date,
    load_date

from source
