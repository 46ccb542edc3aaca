-- Written by `keepline generate` from billing_account.yml: do not edit.
-- Who pays; one row per change.

with

source as (

    select * from {{ source('crm', 'billing_account') }}

)

select
    account_id,
    customer_id,
    payment_type,
    {{ to_fen('credit_limit_amt') }} as credit_limit_fen,
    bill_cycle_day,
    auto_pay_flag,
    status,
    updated_at,
    event_date,
    load_date

from source
