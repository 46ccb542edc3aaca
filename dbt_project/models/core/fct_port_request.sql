-- Grain: one row per change of a request to move a number; the last one known is its state.

{{ config(**replace_window()) }}

with

ports as (
    {{ kept_rows('np_port') }}

)

select
    {{ surrogate_key(['port_id', 'updated_at']) }} as port_key,
    port_id,
    subscription_id,
    donor_operator,
    recipient_operator,
    direction,
    status,
    {{ local_date('requested_at') }} as requested_date,
    {{ local_date('completed_at') }} as completed_date,
    updated_at,
    event_date,
    load_date

from ports

{{ in_time_order(['load_date', 'updated_at']) }}
