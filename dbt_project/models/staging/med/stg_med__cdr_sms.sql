-- Written by `keepline generate` from cdr_sms.yml: do not edit.
-- A text message.

with

source as (

    select * from {{ source('med', 'cdr_sms') }}

)

select
    usage_id,
    subscription_id,
    other_number_hash,
    other_prefix,
    direction,
    sent_at,
    sms_class,
    cell_id,
    received_at,
    {{ to_fen('charge_amt') }} as charge_fen,
    event_date,
    load_date

from source
