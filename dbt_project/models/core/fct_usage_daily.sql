-- Grain: one row per subscription, event day, load date, usage type, direction, network,
-- roaming and other operator; this is the key, a hash of it would cost more than the rows.
-- Additive over every measure but contact_cnt. A record that arrives late makes a row of its
-- own load date, so that "known on day D" can be answered.

{{ config(**replace_window()) }}

with

voice as (
    {{ kept_rows('cdr_voice') }}

),

sms as (
    {{ kept_rows('cdr_sms') }}

),

sessions as (
    {{ kept_rows('cdr_data') }}

),

operator_changes as (

    select * from {{ ref('stg_ref__operator') }}

),

range_changes as (

    select * from {{ ref('stg_ref__number_range') }}

),

usage_types as (

    select * from {{ ref('dim_usage_type') }}

),

hotline_changes as (

    select * from {{ ref('stg_ref__competitor_hotline') }}

),

-- Reference data is read as it was known on the load date of the usage: a day that is built
-- alone and a day that is built within a year give the same rows.
{{ known_versions('operators', 'operator_changes', ['operator_code']) }},

{{ known_versions('ranges', 'range_changes', ['prefix', 'valid_from']) }},

{{ known_versions('hotlines', 'hotline_changes', ['number_hash']) }},

calls_and_messages as (

    select
        subscription_id,
        event_date,
        load_date,
        'voice' as usage_type,
        direction,
        roam_type,
        other_number_hash,
        other_prefix,
        0 as is_service,
        case when status in ('completed', 'dropped') then 1 else 0 end as is_connected,
        case when status = 'dropped' then 1 else 0 end as is_dropped,
        {{ at_night('start_at') }} as is_night,
        duration_s,
        case when call_type = 'long_distance' then duration_s else 0 end as long_distance_s,
        coalesce(charge_fen, 0) as charge_fen

    from voice

    union all

    select
        subscription_id,
        event_date,
        load_date,
        'sms' as usage_type,
        direction,
        'home' as roam_type,
        other_number_hash,
        other_prefix,
        case when sms_class = 'service' then 1 else 0 end as is_service,
        1 as is_connected,
        0 as is_dropped,
        {{ at_night('sent_at') }} as is_night,
        0 as duration_s,
        0 as long_distance_s,
        coalesce(charge_fen, 0) as charge_fen

    from sms

),

prefixes as (

    select distinct
        other_prefix,
        event_date,
        load_date

    from calls_and_messages

),

prefix_ranges as (

    select
        prefixes.other_prefix,
        prefixes.event_date,
        prefixes.load_date,
        ranges.operator_code,
        row_number() over (
            partition by prefixes.other_prefix, prefixes.event_date, prefixes.load_date
            order by ranges.valid_from desc
        ) as range_rank

    from prefixes

    inner join ranges
        on
            prefixes.other_prefix = ranges.prefix
            and prefixes.event_date >= ranges.valid_from
            and prefixes.event_date < coalesce(ranges.valid_to, {{ end_of_time() }})
            and prefixes.load_date >= ranges.known_from
            and prefixes.load_date < ranges.known_to

),

prefix_operators as (

    select
        prefix_ranges.other_prefix,
        prefix_ranges.event_date,
        prefix_ranges.load_date,
        prefix_ranges.operator_code,
        coalesce(operators.own_flag, false) as is_own

    from prefix_ranges

    left join operators
        on
            prefix_ranges.operator_code = operators.operator_code
            and prefix_ranges.load_date >= operators.known_from
            and prefix_ranges.load_date < operators.known_to

    where prefix_ranges.range_rank = 1

),

placed as (

    select
        calls.subscription_id,
        calls.event_date,
        calls.load_date,
        calls.usage_type,
        calls.direction,
        calls.roam_type,
        calls.other_number_hash,
        calls.is_connected,
        calls.is_dropped,
        calls.is_night,
        calls.duration_s,
        calls.long_distance_s,
        calls.charge_fen,
        case
            when hotlines.number_hash is not null then 'hotline'
            when calls.is_service = 1 then 'service'
            when prefix_operators.is_own then 'onnet'
            else 'offnet'
        end as net_type,
        coalesce(hotlines.operator_code, prefix_operators.operator_code, 'UNKNOWN')
            as other_operator_code

    from calls_and_messages as calls

    left join hotlines
        on
            calls.other_number_hash = hotlines.number_hash
            and calls.load_date >= hotlines.known_from
            and calls.load_date < hotlines.known_to

    left join prefix_operators
        on
            calls.other_prefix = prefix_operators.other_prefix
            and calls.event_date = prefix_operators.event_date
            and calls.load_date = prefix_operators.load_date

),

-- Counted per other party first: cheaper than to count the different ones in the end.
by_contact as (

    select
        subscription_id,
        event_date,
        load_date,
        usage_type,
        direction,
        net_type,
        roam_type,
        other_operator_code,
        count(*) as record_cnt,
        sum(is_connected) as connected_cnt,
        sum(duration_s) as duration_s,
        sum(charge_fen) as charge_fen,
        sum(is_dropped) as dropped_cnt,
        sum(is_night) as night_cnt,
        sum(long_distance_s) as long_distance_s,
        case when other_number_hash is null then 0 else 1 end as contact_cnt

    from placed

    group by
        subscription_id, event_date, load_date, usage_type, direction, net_type, roam_type,
        other_operator_code, other_number_hash

),

daily as (

    select
        subscription_id,
        event_date,
        load_date,
        usage_type,
        direction,
        net_type,
        roam_type,
        other_operator_code,
        {{ as_bigint('sum(record_cnt)') }} as record_cnt,
        {{ as_bigint('sum(connected_cnt)') }} as connected_cnt,
        {{ as_bigint('sum(duration_s)') }} as duration_s,
        {{ as_bigint('0') }} as volume_bytes,
        {{ as_bigint('sum(charge_fen)') }} as charge_fen,
        {{ as_bigint('sum(dropped_cnt)') }} as dropped_cnt,
        {{ as_bigint('sum(night_cnt)') }} as night_cnt,
        {{ as_bigint('sum(long_distance_s)') }} as long_distance_s,
        {{ as_bigint('sum(contact_cnt)') }} as contact_cnt

    from by_contact

    group by
        subscription_id, event_date, load_date, usage_type, direction, net_type, roam_type,
        other_operator_code

    union all

    select
        subscription_id,
        event_date,
        load_date,
        'data' as usage_type,
        'none' as direction,
        'none' as net_type,
        roam_type,
        'NONE' as other_operator_code,
        {{ as_bigint('count(*)') }} as record_cnt,
        {{ as_bigint('sum(case when bytes_up + bytes_down > 0 then 1 else 0 end)') }}
            as connected_cnt,
        {{ as_bigint('0') }} as duration_s,
        {{ as_bigint('sum(bytes_up + bytes_down)') }} as volume_bytes,
        {{ as_bigint('sum(coalesce(charge_fen, 0))') }} as charge_fen,
        {{ as_bigint('0') }} as dropped_cnt,
        {{ as_bigint('sum(' ~ at_night('session_start_at') ~ ')') }} as night_cnt,
        {{ as_bigint('0') }} as long_distance_s,
        {{ as_bigint('0') }} as contact_cnt

    from sessions

    group by subscription_id, event_date, load_date, roam_type

)

select
    usage_types.usage_type_key,
    daily.subscription_id,
    daily.event_date,
    daily.usage_type,
    daily.direction,
    daily.net_type,
    daily.roam_type,
    daily.other_operator_code,
    daily.record_cnt,
    daily.connected_cnt,
    daily.duration_s,
    daily.volume_bytes,
    daily.charge_fen,
    daily.dropped_cnt,
    daily.night_cnt,
    daily.long_distance_s,
    daily.contact_cnt,
    daily.load_date

from daily

left join usage_types
    on
        daily.usage_type = usage_types.usage_type
        and daily.direction = usage_types.direction
        and daily.net_type = usage_types.net_type
        and daily.roam_type = usage_types.roam_type

{{ in_time_order(['daily.load_date', 'daily.event_date']) }}
