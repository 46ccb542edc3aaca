-- Grain: one row per subscription and as-of date with a suspension known by both
-- clocks: days in suspension in the 180 days up to the as-of date. A state lasts from the day of
-- its change to that of the next one; changes of a day follow each other by their instant.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

dates as (

    select * from {{ ref('feat_date_asof') }}

),

status_events as (

    select * from {{ ref('fct_subscription_status_event') }}

    where {{ known_by_then() }}

),

known as (

    select
        dates.as_of_date,
        status_events.subscription_id,
        status_events.to_status,
        status_events.event_date as from_day,
        lead(status_events.event_date) over (
            partition by dates.as_of_date, status_events.subscription_id
            order by
                status_events.event_at,
                status_events.recorded_at,
                status_events.load_date,
                -- Nothing tells which came first: the line is not held to be suspended.
                case when status_events.to_status = 'suspended' then 0 else 1 end
        ) as to_day,
        {{ add_days('dates.as_of_date', -179) }} as first_day,
        {{ add_days('dates.as_of_date', 1) }} as last_day_end

    from dates
    inner join status_events
        on
            dates.as_of_date >= status_events.event_date
            and dates.as_of_date >= status_events.load_date

)

select
    subscription_id,
    as_of_date,
    cast(sum(
        greatest(
            {{ days_between('greatest(from_day, first_day)', 'coalesce(to_day, last_day_end)') }}, 0
        )
    ) as integer) as suspended_days_180d

from known

where to_status = 'suspended'

group by subscription_id, as_of_date
