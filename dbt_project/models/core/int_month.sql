-- Grain: one row per calendar month that has begun since the first business date. A month is over
-- by the business date, not by a row that happened to land.

with

business_dates as (

    select * from {{ ref('business_date') }}

),

days as (

    select * from {{ ref('dim_date') }}

),

span as (

    select
        min(load_date) as first_date,
        max(load_date) as last_date

    from business_dates

),

months as (

    select
        days.month_start,
        span.first_date,
        span.last_date,
        {{ add_days(add_months('days.month_start', 1), -1) }} as month_end

    from days

    cross join span

    where
        days.date_day = days.month_start
        and days.month_start >= {{ month_start('span.first_date') }}
        and days.month_start <= span.last_date

)

select
    month_start,
    month_end,
    last_date as known_until,
    least(month_end, last_date) as closing_date,
    month_end <= last_date as is_ended,
    month_end <= last_date and month_start >= first_date as is_whole_month

from months
