-- Grain: one row per subscription and as-of date with usage known by both clocks:
-- perspective 7 (calling circle and competition).

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

sums as (

    select
        *,
        voice_out_s_m1 + voice_out_s_m2 + voice_out_s_m3
        + voice_in_s_m1 + voice_in_s_m2 + voice_in_s_m3 as voice_s_3m

    from {{ ref('feat_usage_window_asof') }}

),

days as (

    select * from {{ ref('feat_day_asof') }}

),

offnet_calls as (

    select * from {{ ref('fct_usage_daily') }}

    where
        usage_type = 'voice'
        and net_type = 'offnet'
        and other_operator_code <> 'UNKNOWN'
        and {{ within_reach(90) }}

),

by_operator as (

    select
        offnet_calls.subscription_id,
        days.as_of_date,
        offnet_calls.other_operator_code,
        sum(offnet_calls.duration_s) as voice_s

    from offnet_calls
    inner join days
        on
            offnet_calls.event_date = days.event_date
            and offnet_calls.load_date <= days.as_of_date
            and days.in_90d = 1

    group by offnet_calls.subscription_id, days.as_of_date, offnet_calls.other_operator_code

),

-- Which of two equal operators is the first does not matter: only their seconds are told.
ranked as (

    select
        subscription_id,
        as_of_date,
        voice_s,
        row_number() over (
            partition by subscription_id, as_of_date
            order by voice_s desc
        ) as operator_rank

    from by_operator

),

competitors as (

    select
        subscription_id,
        as_of_date,
        sum(case when operator_rank = 1 then voice_s else 0 end) as first_voice_s,
        sum(case when operator_rank = 2 then voice_s else 0 end) as second_voice_s

    from ranked

    group by subscription_id, as_of_date

)

select
    sums.subscription_id,
    sums.as_of_date,
    {{ ratio('sums.onnet_contact_cnt_3m', 'sums.contact_cnt_3m') }} as onnet_contact_share,
    {{ ratio('sums.offnet_contact_cnt_3m', 'sums.contact_cnt_3m') }} as offnet_contact_share,
    {{ ratio('sums.voice_offnet_s_3m', 'sums.voice_s_3m') }} as offnet_mou_share,
    {{ ratio('sums.voice_offnet_s_m1 - sums.voice_offnet_s_m3', '120') }} as offnet_mou_slope3m,
    {{ ratio('coalesce(competitors.first_voice_s, 0)', 'sums.voice_s_90d') }}
        as competitor1_mou_share,
    {{ ratio('coalesce(competitors.second_voice_s, 0)', 'sums.voice_s_90d') }}
        as competitor2_mou_share,
    cast(sums.hotline_cnt_30d as integer) as competitor_hotline_calls_30d,
    cast(sums.hotline_cnt_90d as integer) as competitor_hotline_calls_90d,
    sums.days_since_competitor_hotline

from sums
left join competitors
    on
        sums.subscription_id = competitors.subscription_id
        and sums.as_of_date = competitors.as_of_date
