-- Written by `keepline generate` from cdr_voice.yml: do not edit.
-- A voice call.

with

source as (

    select * from {{ source('med', 'cdr_voice') }}

)

select
    usage_id,
    subscription_id,
    msisdn_hash,
    other_number_hash,
    other_prefix,
    direction,
    start_at,
    duration_s,
    cell_id,
    roam_type,
    call_type,
    status,
    received_at,
    {{ to_fen('charge_amt') }} as charge_fen,
    event_date,
    load_date

from source
