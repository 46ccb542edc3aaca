-- Written by `keepline generate` from payment.yml: do not edit.
-- A payment to an account.

with

source as (

    select * from {{ source('bil', 'payment') }}

)

select
    payment_id,
    account_id,
    paid_at,
    {{ to_fen('amt') }} as amount_fen,
    method_code,
    channel_code,
    event_date,
    load_date

from source
