-- Grain: one row per change of a subscription's state.

{{ config(**replace_window()) }}

with

status_events as (
    {{ kept_rows('subscription_status_event') }}

)

select
    {{ surrogate_key(['event_id']) }} as status_event_key,
    event_id,
    subscription_id,
    from_status,
    to_status,
    reason_code,
    event_at,
    recorded_at,
    event_date,
    load_date

from status_events

{{ in_time_order(['load_date', 'event_at']) }}
