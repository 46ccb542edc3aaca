-- Grain: one row per holding of a product offering (subscription, offering, instant of the start)
-- and as-of date: its last version known by both clocks, with the offering as known then.
-- recorded_at and load_date are those of its first version: the order in which holdings were told.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

dates as (

    select * from {{ ref('feat_date_asof') }}

),

versions as (

    select * from {{ ref('fct_offering_holding') }}

    where {{ known_by_then() }}

),

offerings as (

    select * from {{ ref('dim_product_offering') }}

),

ranked as (

    select
        dates.as_of_date,
        versions.subscription_id,
        versions.offering_id,
        versions.role,
        versions.start_at,
        versions.start_date,
        versions.end_date,
        versions.contract_end_date,
        versions.commit_flag,
        versions.subsidy_fen,
        row_number() over (
            partition by
                dates.as_of_date,
                versions.subscription_id,
                versions.offering_id,
                versions.start_at
            order by versions.updated_at desc, versions.load_date desc
        ) as version_rank,
        min(versions.updated_at) over (
            partition by
                dates.as_of_date,
                versions.subscription_id,
                versions.offering_id,
                versions.start_at
        ) as recorded_at,
        min(versions.load_date) over (
            partition by
                dates.as_of_date,
                versions.subscription_id,
                versions.offering_id,
                versions.start_at
        ) as load_date

    from dates
    inner join versions
        on
            dates.as_of_date >= versions.event_date
            and dates.as_of_date >= versions.load_date

)

select
    ranked.as_of_date,
    ranked.subscription_id,
    ranked.offering_id,
    ranked.role,
    ranked.start_at,
    ranked.start_date,
    ranked.recorded_at,
    ranked.load_date,
    ranked.end_date,
    ranked.contract_end_date,
    ranked.commit_flag,
    ranked.subsidy_fen,
    offerings.family,
    offerings.monthly_fee_fen,
    case
        when ranked.end_date is null or ranked.end_date > ranked.as_of_date then 1
        else 0
    end as is_held,
    {{ days_between('ranked.start_date', 'ranked.as_of_date') }} as begun_days_ago,
    case
        when ranked.end_date <= ranked.as_of_date
            then {{ days_between('ranked.end_date', 'ranked.as_of_date') }}
    end as ended_days_ago

from ranked
left join offerings
    on
        ranked.offering_id = offerings.offering_id
        and ranked.as_of_date >= offerings.valid_from
        and ranked.as_of_date < offerings.valid_to
        and ranked.as_of_date >= offerings.load_date

where ranked.version_rank = 1
