-- Grain: one row per contact between a subscriber and the operator.

{{ config(**replace_window()) }}

with

kept as (
    {{ kept_rows('interaction') }}

),

interactions as (

    select
        *,
        {{ seconds_between('started_at', 'ended_at') }} - coalesce(queue_s, 0) as served_s

    from kept

)

select
    {{ surrogate_key(['interaction_id']) }} as interaction_key,
    interaction_id,
    subscription_id,
    channel_code,
    direction,
    origin,
    reason_code,
    phase_code,
    served_province,
    started_at,
    queue_s,
    case when served_s < 0 then {{ as_bigint('0') }} else served_s end as talk_s,
    status,
    csat_score,
    event_date,
    load_date

from interactions

{{ in_time_order(['load_date', 'event_date']) }}
