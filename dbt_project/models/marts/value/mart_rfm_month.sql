-- Grain: one row per subscription and month that has ended, for lines in service at its end.
-- Recency and frequency (90 days) up to the month's last day and money of the three calendar months
-- that end with it, all as known now; scores 1 (worst) to 5 within brand and payment type.

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

thresholds as (

    select * from {{ ref('param_threshold') }}

    where scope = 'ALL'

),

-- Never active counts as longest ago; among equals the customer and the line decide, so that
-- every engine and every run gives the same fifth. Where no line brought money (say because there
-- are no bills) that order would be all there is to tell a big payer from a small one: all get 3.
scored as (

    select
        *,
        ntile(5) over (
            partition by month_start, brand_code, payment_type
            order by coalesce(recency_days, 999999) desc, customer_id asc, subscription_id asc
        ) as r_score,
        ntile(5) over (
            partition by month_start, brand_code, payment_type
            order by frequency, customer_id, subscription_id
        ) as f_score,
        case
            when
                max(monetary_fen) over (partition by month_start, brand_code, payment_type) > 0
                then ntile(5) over (
                    partition by month_start, brand_code, payment_type
                    order by monetary_fen, customer_id, subscription_id
                )
            else 3
        end as m_score

    from measures

),

segmented as (

    select
        scored.*,
        cells.segment,
        rising.value as rising_ratio,
        falling.value as falling_ratio,
        lag(scored.month_start) over (
            partition by scored.subscription_id order by scored.month_start
        ) as row_before,
        lag(cells.segment) over (
            partition by scored.subscription_id order by scored.month_start
        ) as segment_before

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

)

select
    subscription_id,
    month_start,
    customer_id,
    province_code,
    brand_code,
    payment_type,
    cast(recency_days as integer) as recency_days,
    cast(frequency as integer) as frequency,
    monetary_fen,
    cast(r_score as integer) as r_score,
    cast(f_score as integer) as f_score,
    cast(m_score as integer) as m_score,
    coalesce(segment, 'OTHER') as segment,
    case when row_before = {{ add_months('month_start', -1) }} then segment_before end
        as previous_segment,
    case
        when trend_ratio is null then null
        when trend_ratio >= rising_ratio then 'rising'
        when trend_ratio <= falling_ratio then 'falling'
        else 'stable'
    end as frequency_trend,
    trend_ratio

from segmented

where month_start >= {{ first_month }}
