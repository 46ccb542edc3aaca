-- Grain: one row per change of a trouble ticket; the last one known is the ticket's state.

{{ config(**replace_window()) }}

with

tickets as (
    {{ kept_rows('trouble_ticket') }}

)

select
    {{ surrogate_key(['ticket_id', 'updated_at']) }} as case_key,
    ticket_id,
    interaction_id,
    subscription_id,
    type_code,
    severity,
    {{ local_date('created_at') }} as created_date,
    {{ local_date('acknowledged_at') }} as acknowledged_date,
    {{ local_date('resolved_at') }} as resolved_date,
    {{ local_date('closed_at') }} as closed_date,
    {{ hours_between('created_at', 'acknowledged_at') }} as hours_to_acknowledge,
    {{ hours_between('created_at', 'resolved_at') }} as hours_to_resolve,
    coalesce(reopened_cnt, 0) as reopened_cnt,
    status,
    -- Missed: mended after the promised time, or not mended when this change was recorded.
    coalesce(coalesce(resolved_at, updated_at) > expected_at, false) as sla_breached,
    updated_at,
    event_date,
    load_date

from tickets

{{ in_time_order(['load_date', 'updated_at']) }}
