-- Grain: one row per subscription in service at the end of a month that has ended, and that month.
-- Recency and frequency (90 days) up to the month's last day and money of the three calendar months
-- that end with it, all as known now; scores 1 (worst) to 5 within brand and payment type. Equal
-- values have equal scores: no id decides.

{{ config(**replace_rows('month_start', "month_start >= {{ first_rfm_month() }}")) }}

{%- set first_month = first_rfm_month() %}

with

measures as (

    select * from {{ ref('int_value__rfm_measures') }}

    -- The month before those that are written tells their previous segment.
    where month_start >= {{ add_months(first_month, -1) }}

),

cells as (

    select * from {{ ref('rfm_cell') }}

),

bands as (

    select * from {{ ref('param_rfm_band') }}

),

thresholds as (

    select * from {{ ref('param_threshold') }}

    where scope = 'ALL'

),

groups as (

    select distinct
        month_start,
        month_end,
        brand_code,
        payment_type

    from measures

),

-- The band that is meant for the group most closely, for each score.
limits as (

    select
        groups.month_start,
        groups.brand_code,
        groups.payment_type,
        bands.r_score,
        coalesce(
            max(
                case
                    when
                        bands.brand_code = groups.brand_code
                        and bands.scope = groups.payment_type
                        then bands.max_days
                end
            ),
            max(case when bands.brand_code = groups.brand_code then bands.max_days end),
            max(case when bands.scope = groups.payment_type then bands.max_days end),
            max(bands.max_days)
        ) as max_days

    from groups
    inner join bands
        on
            groups.month_end >= bands.valid_from
            and groups.month_end < bands.valid_to
            and bands.brand_code in (groups.brand_code, 'ALL')
            and bands.scope in (groups.payment_type, 'ALL')

    group by groups.month_start, groups.brand_code, groups.payment_type, bands.r_score

),

recency_bands as (

    select
        month_start,
        brand_code,
        payment_type,
        max(case when r_score = 5 then max_days end) as r5_max_days,
        max(case when r_score = 4 then max_days end) as r4_max_days,
        max(case when r_score = 3 then max_days end) as r3_max_days,
        max(case when r_score = 2 then max_days end) as r2_max_days

    from limits

    group by month_start, brand_code, payment_type

),

-- Whether the facts are there at all, and where a value stands among those above zero.
compared as (

    select
        measures.*,
        recency_bands.r5_max_days,
        recency_bands.r4_max_days,
        recency_bands.r3_max_days,
        recency_bands.r2_max_days,
        max(case when measures.recency_days is not null then 1 else 0 end) over (
            partition by measures.month_start, measures.payment_type
        ) as has_activity,
        max(
            case when measures.monetary_fen <> 0 or measures.third_party_fen <> 0 then 1 else 0 end
        ) over (
            partition by measures.month_start, measures.payment_type
        ) as has_money,
        count(case when measures.frequency > 0 then 1 end) over (
            partition by measures.month_start, measures.brand_code, measures.payment_type
        ) as f_n,
        min(case when measures.frequency > 0 then measures.frequency end) over (
            partition by measures.month_start, measures.brand_code, measures.payment_type
        ) as f_low,
        max(measures.frequency) over (
            partition by measures.month_start, measures.brand_code, measures.payment_type
        ) as f_high,
        count(case when measures.frequency > 0 then 1 end) over (
            partition by measures.month_start, measures.brand_code, measures.payment_type
            order by measures.frequency
            range between unbounded preceding and current row
        ) as f_c,
        count(case when measures.monetary_fen > 0 then 1 end) over (
            partition by measures.month_start, measures.brand_code, measures.payment_type
        ) as m_n,
        min(case when measures.monetary_fen > 0 then measures.monetary_fen end) over (
            partition by measures.month_start, measures.brand_code, measures.payment_type
        ) as m_low,
        max(measures.monetary_fen) over (
            partition by measures.month_start, measures.brand_code, measures.payment_type
        ) as m_high,
        count(case when measures.monetary_fen > 0 then 1 end) over (
            partition by measures.month_start, measures.brand_code, measures.payment_type
            order by measures.monetary_fen
            range between unbounded preceding and current row
        ) as m_c

    from measures
    left join recency_bands
        on
            measures.month_start = recency_bands.month_start
            and measures.brand_code = recency_bands.brand_code
            and measures.payment_type = recency_bands.payment_type

),

-- A value's score is 1 and how many of the four limits between fifths (R's quantile, type 7) it
-- reaches. c of the n values above zero are not above it: it reaches limit k when
-- 5 (c - 1) >= k (n - 1), in whole numbers.
scored as (

    select
        *,
        case
            when has_activity = 0 then null
            when recency_days <= r5_max_days then 5
            when recency_days <= r4_max_days then 4
            when recency_days <= r3_max_days then 3
            when recency_days <= r2_max_days then 2
            else 1
        end as r_score,
        case
            when has_activity = 0 then null
            when frequency <= 0 then 1
            when f_low = f_high then 3
            when 5 * (f_c - 1) >= 4 * (f_n - 1) then 5
            when 5 * (f_c - 1) >= 3 * (f_n - 1) then 4
            when 5 * (f_c - 1) >= 2 * (f_n - 1) then 3
            when 5 * (f_c - 1) >= f_n - 1 then 2
            else 1
        end as f_score,
        case
            when has_money = 0 then null
            when monetary_fen <= 0 then 1
            when m_low = m_high then 3
            when 5 * (m_c - 1) >= 4 * (m_n - 1) then 5
            when 5 * (m_c - 1) >= 3 * (m_n - 1) then 4
            when 5 * (m_c - 1) >= 2 * (m_n - 1) then 3
            when 5 * (m_c - 1) >= m_n - 1 then 2
            else 1
        end as m_score

    from compared

),

named as (

    select
        scored.*,
        rising.value as rising_ratio,
        falling.value as falling_ratio,
        case
            when
                scored.r_score is not null
                and scored.f_score is not null
                and scored.m_score is not null
                then coalesce(cells.segment, 'OTHER')
        end as segment

    from scored
    left join cells
        on
            scored.r_score = cells.r_score
            and scored.f_score = cells.f_score
            and scored.m_score = cells.m_score
            and scored.month_end >= cells.valid_from
            and scored.month_end < cells.valid_to
    left join thresholds as rising
        on
            rising.key = 'rfm_rising_ratio'
            and scored.month_end >= rising.valid_from
            and scored.month_end < rising.valid_to
    left join thresholds as falling
        on
            falling.key = 'rfm_falling_ratio'
            and scored.month_end >= falling.valid_from
            and scored.month_end < falling.valid_to

),

followed as (

    select
        *,
        lag(month_start) over (partition by subscription_id order by month_start) as row_before,
        lag(segment) over (partition by subscription_id order by month_start) as segment_before

    from named

)

select
    subscription_id,
    month_start,
    is_whole_month,
    customer_id,
    province_code,
    brand_code,
    payment_type,
    cast(recency_days as integer) as recency_days,
    cast(recency_call_days as integer) as recency_call_days,
    cast(recency_message_days as integer) as recency_message_days,
    cast(recency_data_days as integer) as recency_data_days,
    cast(recency_recharge_days as integer) as recency_recharge_days,
    cast(recency_payment_days as integer) as recency_payment_days,
    cast(case when has_activity = 1 then frequency end as integer) as frequency,
    monetary_fen,
    cast(r_score as integer) as r_score,
    cast(f_score as integer) as f_score,
    cast(m_score as integer) as m_score,
    segment,
    case when row_before = {{ add_months('month_start', -1) }} then segment_before end
        as previous_segment,
    case
        when trend_ratio is null then null
        when trend_ratio >= rising_ratio then 'rising'
        when trend_ratio <= falling_ratio then 'falling'
        else 'stable'
    end as frequency_trend,
    trend_ratio

from followed

where month_start >= {{ first_month }}
