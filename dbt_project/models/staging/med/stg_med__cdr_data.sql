-- Written by `keepline generate` from cdr_data.yml: do not edit.
-- A data session.

with

source as (

    select * from {{ source('med', 'cdr_data') }}

)

select
    usage_id,
    subscription_id,
    session_start_at,
    bytes_up,
    bytes_down,
    rat,
    cell_id,
    roam_type,
    received_at,
    {{ to_fen('charge_amt') }} as charge_fen,
    event_date,
    load_date

from source
