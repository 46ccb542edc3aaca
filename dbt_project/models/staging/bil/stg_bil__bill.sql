-- Written by `keepline generate` from bill.yml: do not edit.
-- A bill; one row per change of its state.

with

source as (

    select * from {{ source('bil', 'bill') }}

)

select
    bill_id,
    account_id,
    bill_no,
    period_start,
    period_end,
    bill_date,
    due_date,
    {{ to_fen('amount_due_amt') }} as amount_due_fen,
    {{ to_fen('remaining_amt') }} as remaining_fen,
    state,
    updated_at,
    event_date,
    load_date

from source
