-- Grain: one row per subscription and as-of date with usage known by both clocks:
-- perspectives 3 (voice), 4 (messaging) and 5 (data traffic), what needs no plan.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

sums as (

    select
        *,
        voice_out_s_m1 + voice_out_s_m2 + voice_out_s_m3 as voice_out_s_3m,
        voice_in_s_m1 + voice_in_s_m2 + voice_in_s_m3 as voice_in_s_3m,
        voice_out_s_m1 + voice_in_s_m1 as voice_s_m1,
        voice_out_s_m3 + voice_in_s_m3 as voice_s_m3,
        sms_out_cnt_m1 + sms_out_cnt_m2 + sms_out_cnt_m3 as sms_out_cnt_3m,
        data_bytes_m1 + data_bytes_m2 + data_bytes_m3 as data_bytes_3m

    from {{ ref('feat_usage_window_asof') }}

)

select
    subscription_id,
    as_of_date,

    -- voice
    {{ ratio('voice_out_s_3m', '180') }} as mou_out_avg3m,
    {{ ratio('voice_in_s_3m', '180') }} as mou_in_avg3m,
    {{ ratio('3 * voice_s_m1', 'voice_out_s_3m + voice_in_s_3m') }} as mou_m1_ratio,
    {{ ratio('voice_s_m1 - voice_s_m3', '120') }} as mou_slope3m,
    {{ ratio('voice_out_cnt_3m', '3') }} as calls_out_avg3m,
    {{ ratio('voice_in_s_3m', 'voice_out_s_3m') }} as in_out_ratio,
    {{ ratio('voice_out_s_3m + voice_in_s_3m', 'voice_cnt_3m') }}
        as avg_call_seconds,
    {{ ratio('voice_long_distance_s_3m', 'voice_out_s_3m') }} as long_distance_share,
    {{ ratio('voice_roaming_s_3m', 'voice_out_s_3m + voice_in_s_3m') }}
        as roaming_mou_share,
    {{ ratio('voice_night_cnt_90d', 'voice_cnt_90d') }} as night_share,
    {{ ratio('voice_weekend_s_90d', 'voice_s_90d') }} as weekend_share,
    cast(voice_days_m1 as integer) as call_active_days_m1,
    {{ ratio('7 * voice_s_30d - 30 * voice_s_7d', '7 * voice_s_30d') }}
        as usage_drop_7d_vs_30d,
    {{ ratio('voice_dropped_cnt_30d', 'voice_cnt_30d') }} as drop_rate_30d,

    -- messaging
    {{ ratio('sms_out_cnt_3m', '3') }} as sms_out_avg3m,
    {{ ratio('sms_in_cnt_3m', '3') }} as sms_in_p2p_avg3m,
    {{ ratio('3 * sms_out_cnt_m1', 'sms_out_cnt_3m') }} as sms_m1_ratio,
    {{ ratio('sms_out_cnt_m1 - sms_out_cnt_m3', '2') }} as sms_slope3m,
    cast(sms_days_m1 as integer) as sms_active_days_m1,
    {{ ratio('sms_out_offnet_cnt_3m', 'sms_out_cnt_3m') }} as sms_offnet_share,
    cast(sms_service_cnt_m1 as integer) as service_sms_received_m1,
    days_since_last_sms,

    -- data traffic, MB of 1,048,576 bytes
    {{ ratio('data_bytes_3m', '3 * 1048576') }} as data_mb_avg3m,
    {{ ratio('3 * data_bytes_m1', 'data_bytes_3m') }} as data_m1_ratio,
    {{ ratio('data_bytes_m1 - data_bytes_m3', '2 * 1048576') }} as data_slope3m,
    cast(data_days_m1 as integer) as data_active_days_m1,
    {{ ratio('data_night_cnt_90d', 'data_cnt_90d') }} as data_night_share,
    {{ ratio('data_weekend_bytes_90d', 'data_bytes_90d') }} as data_weekend_share,
    {{ ratio('data_roaming_bytes_3m', 'data_bytes_3m') }} as data_roaming_share,
    {{ ratio('data_bytes_m1_first_10d', 'data_bytes_m1') }} as data_first10days_share,
    {{ ratio('data_cnt_3m', '3') }} as data_sessions_avg3m,
    days_since_last_data,

    -- what the plan and the bill are compared with
    voice_out_s_m1,
    voice_out_s_m2,
    voice_out_s_m3,
    sms_out_cnt_m1,
    data_bytes_m1,
    data_bytes_m2,
    data_bytes_m3,
    data_bytes_3m

from sums
