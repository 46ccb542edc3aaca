-- Grain: one row per as-of date and each of the 400 days up to it.
-- Facts join here by event_date (and keep load_date <= as_of_date); the 0/1 columns
-- say to which of the feature windows a day belongs, so that a measure of a window
-- is sum(measure * in_window).

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

dates as (

    select * from {{ ref('feat_date_asof') }}

),

days as (

    select * from {{ ref('dim_date') }}

),

paired as (

    select
        dates.as_of_date,
        days.date_day as event_date,
        days.day_of_week,
        dates.m1_start,
        dates.m1_end,
        dates.m2_start,
        dates.m3_start,
        dates.m4_start,
        dates.m12_start,
        {{ days_between('days.date_day', 'dates.as_of_date') }} as days_ago

    from dates
    inner join days
        on
            dates.as_of_date >= days.date_day
            and days.date_day > {{ add_days('dates.as_of_date', -400) }}

)

select
    as_of_date,
    event_date,
    days_ago,
    -- 1 for M-1, 0 for the month that runs
    {{ full_months(month_start('event_date'), 'm1_end') }} as month_no,
    case when day_of_week >= 6 then 1 else 0 end as is_weekend,
    case when days_ago < 7 then 1 else 0 end as in_7d,
    case when days_ago < 30 then 1 else 0 end as in_30d,
    case when days_ago < 90 then 1 else 0 end as in_90d,
    case when days_ago < 180 then 1 else 0 end as in_180d,
    case when days_ago < 365 then 1 else 0 end as in_365d,
    case when event_date >= m1_start and event_date < m1_end then 1 else 0 end as in_m1,
    case when event_date >= m2_start and event_date < m1_start then 1 else 0 end as in_m2,
    case when event_date >= m3_start and event_date < m2_start then 1 else 0 end as in_m3,
    case when event_date >= m4_start and event_date < m3_start then 1 else 0 end as in_m4,
    case when event_date >= m3_start and event_date < m1_end then 1 else 0 end as in_3m,
    case when event_date >= m12_start and event_date < m1_end then 1 else 0 end as in_12m,
    case
        when event_date >= m1_start and event_date < {{ add_days('m1_start', 10) }} then 1
        else 0
    end as in_m1_first_10d

from paired
