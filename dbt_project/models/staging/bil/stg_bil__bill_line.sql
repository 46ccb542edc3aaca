-- Written by `keepline generate` from bill_line.yml: do not edit.
-- A line of a bill: one charge of one subscription.

with

source as (

    select * from {{ source('bil', 'bill_line') }}

)

select
    bill_id,
    line_no,
    subscription_id,
    offering_id,
    charge_class,
    usage_type,
    third_party_flag,
    partner_id,
    {{ to_fen('tax_excl_amt') }} as tax_excl_fen,
    {{ to_fen('tax_amt') }} as tax_fen,
    billed_date,
    updated_at,
    event_date,
    load_date

from source
