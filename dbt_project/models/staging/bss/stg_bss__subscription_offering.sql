-- Written by `keepline generate` from subscription_offering.yml: do not edit.
-- A product offering held by a subscription for a time; one row per change.

with

source as (

    select * from {{ source('bss', 'subscription_offering') }}

)

select
    subscription_id,
    offering_id,
    role,
    start_at,
    end_at,
    contract_months,
    contract_end_date,
    commit_flag,
    {{ to_fen('subsidy_amt') }} as subsidy_fen,
    updated_at,
    event_date,
    load_date

from source
