-- Grain: one row per change of an offering that a subscription holds for a time.

{{ config(**replace_window()) }}

with

holdings as (
    {{ kept_rows('subscription_offering') }}

)

select
    {{ surrogate_key(['subscription_id', 'offering_id', 'start_at', 'updated_at']) }}
        as holding_key,
    subscription_id,
    offering_id,
    role,
    start_at,
    {{ local_date('start_at') }} as start_date,
    {{ local_date('end_at') }} as end_date,
    contract_months,
    contract_end_date,
    commit_flag,
    subsidy_fen,
    updated_at,
    event_date,
    load_date

from holdings

{{ in_time_order(['load_date', 'updated_at']) }}
