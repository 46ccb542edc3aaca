-- Grain: one row per change of a bill; the last one known is the bill's state.

{{ config(**replace_window()) }}

with

bills as (
    {{ kept_rows('bill') }}

)

select
    {{ surrogate_key(['bill_id', 'updated_at']) }} as bill_key,
    bill_id,
    account_id,
    period_start,
    period_end,
    bill_date,
    due_date,
    amount_due_fen,
    remaining_fen,
    state,
    updated_at,
    event_date,
    load_date

from bills

{{ in_time_order(['load_date', 'updated_at']) }}
