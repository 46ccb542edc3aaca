-- Grain: one row per subscription and as-of date with usage known by both clocks:
-- the sums over the feature windows that feat_usage_asof and feat_circle_asof divide.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

{#- measure -> the windows (columns of feat_day_asof) over which it is summed -#}
{%- set windows = {
    'voice_out_s': ['m1', 'm2', 'm3'],
    'voice_in_s': ['m1', 'm2', 'm3'],
    'voice_offnet_s': ['m1', 'm3', '3m', '90d'],
    'voice_roaming_s': ['3m'],
    'voice_long_distance_s': ['3m'],
    'voice_s': ['7d', '30d', '90d'],
    'voice_weekend_s': ['90d'],
    'voice_out_cnt': ['3m'],
    'voice_cnt': ['3m', '30d', '90d'],
    'voice_dropped_cnt': ['30d'],
    'voice_night_cnt': ['90d'],
    'hotline_cnt': ['30d', '90d'],
    'sms_out_cnt': ['m1', 'm2', 'm3'],
    'sms_out_offnet_cnt': ['3m'],
    'sms_in_cnt': ['3m'],
    'sms_service_cnt': ['m1'],
    'data_bytes': ['m1', 'm2', 'm3', 'm1_first_10d', '90d'],
    'data_weekend_bytes': ['90d'],
    'data_roaming_bytes': ['3m'],
    'data_cnt': ['3m', '90d'],
    'data_night_cnt': ['90d'],
    'onnet_contact_cnt': ['3m'],
    'offnet_contact_cnt': ['3m'],
    'contact_cnt': ['3m'],
    'voice_days': ['m1'],
    'sms_days': ['m1'],
    'data_days': ['m1'],
} %}

with

days as (

    select * from {{ ref('feat_day_asof') }}

),

usage_days as (

    select * from {{ ref('feat_usage_day') }}

),

known as (

    select
        usage_days.*,
        days.as_of_date,
        days.days_ago,
        days.in_m1,
        days.in_m2,
        days.in_m3,
        days.in_3m,
        days.in_7d,
        days.in_30d,
        days.in_90d,
        days.in_m1_first_10d,
        usage_days.voice_out_s + usage_days.voice_in_s as voice_s,
        (usage_days.voice_out_s + usage_days.voice_in_s) * days.is_weekend as voice_weekend_s,
        usage_days.data_bytes * days.is_weekend as data_weekend_bytes

    from usage_days
    inner join days
        on
            usage_days.event_date = days.event_date
            and usage_days.load_date <= days.as_of_date
            and days.days_ago < 124

)

select
    subscription_id,
    as_of_date,
    {% for measure, names in windows.items() %}
        {% for name in names %}
            {{ as_bigint('sum(' ~ measure ~ ' * in_' ~ name ~ ')') }} as {{ measure }}_{{ name }},
        {% endfor %}
    {% endfor %}
    cast(min(case when sms_out_cnt > 0 then days_ago end) as integer) as days_since_last_sms,
    cast(min(case when data_cnt > 0 then days_ago end) as integer) as days_since_last_data,
    cast(
        min(case when hotline_cnt > 0 then days_ago end) as integer
    ) as days_since_competitor_hotline

from known

group by subscription_id, as_of_date
