-- Grain: one row per subscription, event date and load date with usage, side by side.
-- Reaches back far enough for M-3 of every as-of date (124 days). A day's first row
-- (by load date) carries 1 in the *_days columns: whatever an as-of date knows, a day
-- counts once.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

usage_rows as (

    select * from {{ ref('fct_usage_daily') }}

    where {{ within_reach(124) }}

),

kinds as (

    select
        subscription_id,
        event_date,
        load_date,
        record_cnt,
        duration_s,
        volume_bytes,
        dropped_cnt,
        night_cnt,
        long_distance_s,
        contact_cnt,
        case when usage_type = 'voice' then 1 else 0 end as is_voice,
        case when usage_type = 'sms' and net_type <> 'service' then 1 else 0 end as is_sms,
        case when usage_type = 'data' then 1 else 0 end as is_data,
        case when direction = 'out' then 1 else 0 end as is_out,
        case when direction = 'in' then 1 else 0 end as is_in,
        case when net_type = 'offnet' then 1 else 0 end as is_offnet,
        case when net_type = 'onnet' then 1 else 0 end as is_onnet,
        case when net_type = 'hotline' then 1 else 0 end as is_hotline,
        case when usage_type = 'sms' and net_type = 'service' then 1 else 0 end as is_service_sms,
        case when roam_type = 'home' then 0 else 1 end as is_roaming

    from usage_rows

),

side_by_side as (

    select
        subscription_id,
        event_date,
        load_date,
        {{ as_bigint('sum(duration_s * is_voice * is_out)') }} as voice_out_s,
        {{ as_bigint('sum(duration_s * is_voice * is_in)') }} as voice_in_s,
        {{ as_bigint('sum(duration_s * is_voice * is_offnet)') }} as voice_offnet_s,
        {{ as_bigint('sum(duration_s * is_voice * is_roaming)') }} as voice_roaming_s,
        {{ as_bigint('sum(long_distance_s * is_voice * is_out)') }} as voice_long_distance_s,
        {{ as_bigint('sum(record_cnt * is_voice * is_out)') }} as voice_out_cnt,
        {{ as_bigint('sum(record_cnt * is_voice)') }} as voice_cnt,
        {{ as_bigint('sum(dropped_cnt * is_voice)') }} as voice_dropped_cnt,
        {{ as_bigint('sum(night_cnt * is_voice)') }} as voice_night_cnt,
        {{ as_bigint('sum(record_cnt * is_hotline * is_out)') }} as hotline_cnt,
        {{ as_bigint('sum(record_cnt * is_sms * is_out)') }} as sms_out_cnt,
        {{ as_bigint('sum(record_cnt * is_sms * is_out * is_offnet)') }} as sms_out_offnet_cnt,
        {{ as_bigint('sum(record_cnt * is_sms * is_in)') }} as sms_in_cnt,
        {{ as_bigint('sum(record_cnt * is_service_sms * is_in)') }} as sms_service_cnt,
        {{ as_bigint('sum(volume_bytes * is_data)') }} as data_bytes,
        {{ as_bigint('sum(volume_bytes * is_data * is_roaming)') }} as data_roaming_bytes,
        {{ as_bigint('sum(record_cnt * is_data)') }} as data_cnt,
        {{ as_bigint('sum(night_cnt * is_data)') }} as data_night_cnt,
        {{ as_bigint('sum(contact_cnt * is_onnet)') }} as onnet_contact_cnt,
        {{ as_bigint('sum(contact_cnt * is_offnet)') }} as offnet_contact_cnt,
        {{ as_bigint('sum(contact_cnt * (is_voice + is_sms))') }} as contact_cnt

    from kinds

    group by subscription_id, event_date, load_date

),

first_known as (

    select
        *,
        min(case when voice_cnt > 0 then load_date end) over (
            partition by subscription_id, event_date
        ) as voice_known_on,
        min(case when sms_out_cnt > 0 then load_date end) over (
            partition by subscription_id, event_date
        ) as sms_known_on,
        min(case when data_cnt > 0 then load_date end) over (
            partition by subscription_id, event_date
        ) as data_known_on

    from side_by_side

)

select
    subscription_id,
    event_date,
    load_date,
    voice_out_s,
    voice_in_s,
    voice_offnet_s,
    voice_roaming_s,
    voice_long_distance_s,
    voice_out_cnt,
    voice_cnt,
    voice_dropped_cnt,
    voice_night_cnt,
    hotline_cnt,
    sms_out_cnt,
    sms_out_offnet_cnt,
    sms_in_cnt,
    sms_service_cnt,
    data_bytes,
    data_roaming_bytes,
    data_cnt,
    data_night_cnt,
    onnet_contact_cnt,
    offnet_contact_cnt,
    contact_cnt,
    case when load_date = voice_known_on then 1 else 0 end as voice_days,
    case when load_date = sms_known_on then 1 else 0 end as sms_days,
    case when load_date = data_known_on then 1 else 0 end as data_days

from first_known
