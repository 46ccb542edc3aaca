-- Grain: one row per subscription and as-of date with a contact of the last 365 days
-- known by both clocks: the contacts of perspectives 6, 9 and 10.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

days as (

    select * from {{ ref('feat_day_asof') }}

),

interactions as (

    select * from {{ ref('fct_interaction') }}

    where {{ within_reach(365) }}

),

channels as (

    select * from {{ ref('dim_channel') }}

),

known as (

    select
        days.as_of_date,
        days.days_ago,
        days.in_7d,
        days.in_30d,
        days.in_90d,
        days.in_180d,
        interactions.subscription_id,
        interactions.started_at,
        interactions.load_date,
        interactions.reason_code,
        interactions.csat_score,
        case when interactions.direction = 'in' then 1 else 0 end as is_in,
        case when interactions.direction = 'out' then 1 else 0 end as is_out,
        case when channels.is_digital then 1 else 0 end as is_digital,
        case when interactions.channel_code = 'shop' then 1 else 0 end as is_shop

    from interactions
    inner join days
        on
            interactions.event_date = days.event_date
            and interactions.load_date <= days.as_of_date
            and days.in_365d = 1
    left join channels on interactions.channel_code = channels.channel_code

),

ranked as (

    select
        *,
        row_number() over (
            partition by subscription_id, as_of_date
            order by
                case when csat_score is null then 1 else 0 end asc,
                started_at desc,
                load_date desc,
                -- Of answers about contacts that began together, the worse one.
                csat_score asc
        ) as survey_rank

    from known

),

sums as (

    select
        subscription_id,
        as_of_date,
        cast(sum(is_in * in_30d) as integer) as inbound_calls_30d,
        cast(sum(is_in * in_90d) as integer) as inbound_calls_90d,
        cast(sum(
            case
                when reason_code in ('port_enquiry', 'cancel_service') then is_in * in_90d
                else 0
            end
        ) as integer) as port_enquiry_calls_90d,
        cast(sum(is_shop * in_90d) as integer) as shop_visits_90d,
        cast(sum(is_out * in_7d) as integer) as contacts_7d,
        cast(sum(is_out * in_30d) as integer) as contacts_30d,
        cast(max(case when survey_rank = 1 then csat_score end) as integer) as csat_last,
        cast(
            min(case when csat_score is not null then days_ago end) as integer
        ) as days_since_survey,
        sum(is_in * is_digital * in_90d) as digital_cnt_90d,
        sum(csat_score * in_180d) as csat_sum_180d,
        sum(case when csat_score is not null then in_180d end) as csat_cnt_180d

    from ranked

    group by subscription_id, as_of_date

)

select
    subscription_id,
    as_of_date,
    inbound_calls_30d,
    inbound_calls_90d,
    port_enquiry_calls_90d,
    shop_visits_90d,
    contacts_7d,
    contacts_30d,
    csat_last,
    days_since_survey,
    {{ ratio('csat_sum_180d', 'csat_cnt_180d') }} as csat_avg_180d,
    {{ ratio('digital_cnt_90d', 'inbound_calls_90d') }} as self_service_share_90d

from sums
