-- Grain: one row per recharge of a prepaid balance, those taken back among them.

{{ config(**replace_window()) }}

with

recharges as (
    {{ kept_rows('recharge') }}

)

select
    {{ surrogate_key(['recharge_id']) }} as recharge_key,
    recharge_id,
    subscription_id,
    face_fen,
    paid_fen,
    channel_code,
    voucher_type,
    reversed_flag,
    event_date,
    load_date

from recharges

{{ in_time_order(['load_date', 'event_date']) }}
