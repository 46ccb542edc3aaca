-- Grain: one row per subscription and as-of date with a request to leave with the
-- number known by both clocks: what was asked, never whether the number has left.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

days as (

    select * from {{ ref('feat_day_asof') }}

),

requests as (

    select * from {{ ref('fct_port_request') }}

    where
        direction = 'out'
        and status in ('eligibility_query', 'authorised')
        and {{ within_reach(180) }}

)

select
    requests.subscription_id,
    days.as_of_date,
    cast(
        count(distinct case when requests.status = 'eligibility_query' then requests.port_id end)
        as integer
    ) as port_eligibility_sms_180d,
    cast(
        count(
            distinct case
                when requests.status = 'authorised' and days.in_90d = 1 then requests.port_id
            end
        ) as integer
    ) as port_authorisation_sms_90d

from requests
inner join days
    on
        requests.event_date = days.event_date
        and requests.load_date <= days.as_of_date
        and days.in_180d = 1

where requests.subscription_id is not null

group by requests.subscription_id, days.as_of_date
