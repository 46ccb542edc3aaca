-- Grain: one row per payment; a reversal is a negative one.

{{ config(**replace_window()) }}

with

payments as (
    {{ kept_rows('payment') }}

)

select
    {{ surrogate_key(['payment_id']) }} as payment_key,
    payment_id,
    account_id,
    amount_fen,
    method_code,
    channel_code,
    event_date,
    load_date

from payments

{{ in_time_order(['load_date', 'event_date']) }}
