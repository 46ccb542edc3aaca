-- Grain: one row per calendar day, with the operator's holidays.

with

holiday_changes as (

    select * from {{ ref('stg_ref__holiday') }}

),

days as (

    {{ calendar_days() }}

),

parts as (

    select
        date_day,
        cast(extract(year from date_day) as integer) as year, -- noqa: RF04
        cast(extract(month from date_day) as integer) as month_number,
        cast(
            {{ days_between("cast('2000-01-03' as date)", 'date_day') }} % 7 + 1 as integer
        ) as day_of_week,
        {{ month_start('date_day') }} as month_start

    from days

),

{{ known_versions('known_holidays', 'holiday_changes', ['holiday_date']) }},

holidays as (

    select
        holiday_date,
        name,
        workday_flag

    from known_holidays

    where known_to = {{ end_of_time() }}

)

select
    parts.date_day,
    parts.year,
    cast(floor((parts.month_number + 2) / 3.0) as integer) as quarter, -- noqa: RF04
    parts.month_start,
    case parts.month_number
        when 1 then 'January'
        when 2 then 'February'
        when 3 then 'March'
        when 4 then 'April'
        when 5 then 'May'
        when 6 then 'June'
        when 7 then 'July'
        when 8 then 'August'
        when 9 then 'September'
        when 10 then 'October'
        when 11 then 'November'
        else 'December'
    end as month_name,
    parts.day_of_week,
    parts.day_of_week >= 6 as is_weekend,
    holidays.workday_flag is not null and not holidays.workday_flag as is_holiday,
    holidays.name as holiday_name,
    coalesce(holidays.workday_flag, parts.day_of_week <= 5) as is_workday,
    cast(
        {{ days_between('parts.month_start', add_months('parts.month_start', 1)) }} as integer
    ) as days_in_month

from parts

left join holidays on parts.date_day = holidays.holiday_date
