-- Grain: one row per subscription and as-of date with a case opened in the last 365
-- days known by both clocks: the complaints of perspective 9. A case is as its last
-- version known on the as-of date says.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

days as (

    select * from {{ ref('feat_day_asof') }}

),

versions as (

    select * from {{ ref('fct_case') }}

    where {{ within_reach(365) }}

),

ranked as (

    select
        days.as_of_date,
        days.in_30d,
        days.in_90d,
        versions.subscription_id,
        versions.type_code,
        versions.status,
        versions.hours_to_resolve,
        versions.reopened_cnt,
        row_number() over (
            partition by days.as_of_date, versions.ticket_id
            order by versions.updated_at desc, versions.load_date desc
        ) as version_rank

    from versions
    inner join days
        on
            versions.event_date = days.event_date
            and versions.load_date <= days.as_of_date
            and days.in_365d = 1

)

select
    subscription_id,
    as_of_date,
    cast(sum(in_30d) as integer) as complaints_30d,
    cast(sum(in_90d) as integer) as complaints_90d,
    cast(
        sum(case when status in ('resolved', 'closed') then 0 else 1 end) as integer
    ) as complaints_open,
    cast(sum(reopened_cnt * in_90d) as integer) as complaints_reopened_90d,
    {{ ratio('sum(hours_to_resolve * in_90d)',
        'sum(case when hours_to_resolve is not null then in_90d end)') }}
        as complaint_hours_avg_90d,
    cast(
        sum(case when type_code = 'billing' then in_90d else 0 end) as integer
    ) as billing_dispute_90d,
    cast(
        sum(case when type_code = 'network' then in_90d else 0 end) as integer
    ) as network_complaint_90d,
    cast(
        sum(case when type_code in ('service', 'attitude') then in_90d else 0 end) as integer
    ) as attitude_complaint_90d

from ranked

where version_rank = 1

group by subscription_id, as_of_date
