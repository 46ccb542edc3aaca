-- Grain: one row per scored subscription and score date.
-- The scores of a day beside what was known of the line at the end of that day.

{{ config(**replace_window('score_date')) }}

with

scores as (

    select * from {{ source('ml', 'fct_churn_score') }}

    where {{ in_window('score_date') }}

),

subscriptions as (

    select * from {{ ref('dim_subscription') }}

),

-- The birth date of a customer, as known on a day; also of one that is gone since.
customers as (

    select
        customer_id,
        birth_date,
        valid_from,
        load_date,
        coalesce(
            lead(valid_from) over (partition by customer_id order by valid_from),
            {{ end_of_time() }}
        ) as described_to

    from {{ ref('dim_customer') }}

    where customer_id <> 'UNKNOWN'

),

ages as (

    select * from {{ ref('param_threshold') }}

    where key = 'adult_age_years' and scope = 'ALL'

),

interactions as (

    select * from {{ ref('fct_interaction') }}

    where direction = 'out' and {{ in_window_and_before(365, 'event_date') }}

),

contacts as (

    select
        scores.score_date,
        scores.subscription_id,
        max(interactions.event_date) as last_contact_date,
        sum(
            case
                when interactions.event_date > {{ add_days('scores.score_date', -7) }} then 1
                else 0
            end
        ) as contacts_7d,
        sum(
            case
                when interactions.event_date > {{ add_days('scores.score_date', -30) }} then 1
                else 0
            end
        ) as contacts_30d

    from scores
    inner join interactions
        on
            scores.subscription_id = interactions.subscription_id
            and scores.score_date >= interactions.event_date
            and {{ add_days('scores.score_date', -365) }} < interactions.event_date
            and scores.score_date >= interactions.load_date

    group by scores.score_date, scores.subscription_id

),

described as (

    select
        scores.score_date,
        scores.subscription_id,
        subscriptions.msisdn_masked,
        scores.churn_probability,
        scores.score_percentile,
        scores.risk_tier,
        scores.tier_rule_id,
        scores.param_version,
        scores.value_fen as clv_12m_fen,
        scores.expected_profit_fen as expected_profit_of_contact_fen,
        scores.reason_1_code,
        scores.reason_1_perspective,
        scores.reason_1_direction,
        scores.reason_1_text,
        scores.reason_2_code,
        scores.reason_2_perspective,
        scores.reason_2_direction,
        scores.reason_2_text,
        scores.reason_3_code,
        scores.reason_3_perspective,
        scores.reason_3_direction,
        scores.reason_3_text,
        contacts.last_contact_date,
        scores.model_version,
        scores.feature_snapshot_id,
        scores.score_run_id,
        coalesce(subscriptions.customer_id, 'UNKNOWN') as customer_id,
        coalesce(subscriptions.province_code, 'UNKNOWN') as province_code,
        coalesce(subscriptions.brand_code, 'UNKNOWN') as brand_code,
        coalesce(subscriptions.payment_type, 'UNKNOWN') as payment_type,
        -- Not for a marketing list: who is under age, may not be the person we take them for, is
        -- not scored, not reached or cannot use the line now.
        case
            when
                {{ full_months('customers.birth_date', 'scores.score_date') }} < ages.value * 12
                then 'MINOR'
            when subscriptions.is_suspect_reuse then 'SUSPECT_REUSE'
            when scores.risk_tier in ('NEW', 'NODATA') then scores.risk_tier
            when scores.tier_rule_id = 'SILENT_TOO_LONG' then 'SILENT'
            when subscriptions.status_code = 'suspended' then 'SUSPENDED'
            when subscriptions.status_code is null or subscriptions.status_code <> 'active'
                then 'NOT_ACTIVE'
        end as ineligible_reason,
        coalesce(contacts.contacts_7d, 0) as contacts_7d,
        coalesce(contacts.contacts_30d, 0) as contacts_30d

    from scores
    left join subscriptions
        on
            scores.subscription_id = subscriptions.subscription_id
            and scores.score_date >= subscriptions.valid_from
            and scores.score_date < subscriptions.valid_to
            and scores.score_date >= subscriptions.load_date
    left join customers
        on
            subscriptions.customer_id = customers.customer_id
            and scores.score_date >= customers.valid_from
            and scores.score_date < customers.described_to
            and scores.score_date >= customers.load_date
    left join ages
        on
            scores.score_date >= ages.valid_from
            and scores.score_date < ages.valid_to
    left join contacts
        on
            scores.subscription_id = contacts.subscription_id
            and scores.score_date = contacts.score_date

)

select
    score_date,
    subscription_id,
    customer_id,
    msisdn_masked,
    province_code,
    brand_code,
    payment_type,
    churn_probability,
    score_percentile,
    risk_tier,
    tier_rule_id,
    param_version,
    clv_12m_fen,
    expected_profit_of_contact_fen,
    reason_1_code,
    reason_1_perspective,
    reason_1_direction,
    reason_1_text,
    reason_2_code,
    reason_2_perspective,
    reason_2_direction,
    reason_2_text,
    reason_3_code,
    reason_3_perspective,
    reason_3_direction,
    reason_3_text,
    ineligible_reason,
    last_contact_date,
    cast(contacts_7d as integer) as contacts_7d,
    cast(contacts_30d as integer) as contacts_30d,
    model_version,
    feature_snapshot_id,
    score_run_id,
    ineligible_reason is null as eligible_flag

from described
