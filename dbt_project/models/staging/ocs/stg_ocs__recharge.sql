-- Written by `keepline generate` from recharge.yml: do not edit.
-- A top-up of a prepaid balance.

with

source as (

    select * from {{ source('ocs', 'recharge') }}

)

select
    recharge_id,
    subscription_id,
    recharged_at,
    {{ to_fen('face_amt') }} as face_fen,
    {{ to_fen('paid_amt') }} as paid_fen,
    channel_code,
    voucher_type,
    reversed_flag,
    event_date,
    load_date

from source
