-- Grain: one row per subscription and as-of date with a holding known by both clocks:
-- the holdings of perspectives 6 (value-added services) and 10 (product, contract).

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

holdings as (

    select * from {{ ref('feat_holding_known_asof') }}

),

-- Of plans that began and were recorded in one instant the dearer one follows the cheaper one:
-- nobody told of a downgrade.
main_plans as (

    select
        *,
        coalesce(monthly_fee_fen, -1) as fee_in_order

    from holdings

    where role = 'main'

),

plans as (

    select
        as_of_date,
        subscription_id,
        start_date,
        begun_days_ago,
        monthly_fee_fen,
        offering_id,
        lag(offering_id) over (
            partition by as_of_date, subscription_id
            order by start_at, recorded_at, load_date, fee_in_order
        ) as offering_before,
        lag(monthly_fee_fen) over (
            partition by as_of_date, subscription_id
            order by start_at, recorded_at, load_date, fee_in_order
        ) as fee_before

    from main_plans

),

plan_sums as (

    select
        as_of_date,
        subscription_id,
        max(start_date) as plan_start_date,
        -- The same plan anew, as for another contract, is no change of plan.
        max(case when offering_id <> offering_before then start_date end) as plan_changed_on,
        sum(
            case when offering_id <> offering_before and begun_days_ago < 180 then 1 else 0 end
        ) as change_cnt_180d,
        sum(
            case when monthly_fee_fen < fee_before and begun_days_ago < 90 then 1 else 0 end
        ) as downgrade_cnt_90d

    from plans

    group by as_of_date, subscription_id

),

sums as (

    select
        as_of_date,
        subscription_id,
        sum(case when role = 'add_on' then is_held else 0 end) as add_on_cnt,
        sum(
            case when role = 'add_on' and begun_days_ago < 90 then 1 else 0 end
        ) as add_on_begun_90d,
        sum(
            case when role = 'add_on' and ended_days_ago < 90 then 1 else 0 end
        ) as add_on_ended_90d,
        min(case when role = 'add_on' then begun_days_ago end) as add_on_days_ago,
        count(distinct case when is_held = 1 then family end) as family_cnt,
        max(case when family = 'broadband' then is_held else 0 end) as has_broadband,
        max(case when family = 'tv' then is_held else 0 end) as has_tv,
        sum(is_held) as held_cnt,
        max(case when commit_flag then is_held else 0 end) as has_commitment,
        max(case when subsidy_fen > 0 then is_held else 0 end) as has_subsidy,
        -- A holding that ended before its contract broke the contract with it.
        max(
            case when end_date is null or end_date >= contract_end_date then contract_end_date end
        ) as contract_end_date

    from holdings

    group by as_of_date, subscription_id

)

select
    sums.subscription_id,
    sums.as_of_date,
    cast(sums.add_on_cnt as integer) as vas_active_cnt,
    cast(sums.add_on_begun_90d as integer) as vas_added_90d,
    cast(sums.add_on_ended_90d as integer) as vas_cancelled_90d,
    cast(sums.add_on_days_ago as integer) as days_since_new_service,
    cast(sums.family_cnt as integer) as service_type_cnt,
    sums.has_broadband = 1 as broadband_flag,
    sums.has_tv = 1 as iptv_flag,
    cast(sums.held_cnt as integer) as bundle_depth,
    cast(coalesce(plan_sums.change_cnt_180d, 0) as integer) as plan_changes_180d,
    cast(coalesce(plan_sums.downgrade_cnt_90d, 0) as integer) as plan_downgrade_90d,
    {{ full_months('plan_sums.plan_changed_on', add_days('sums.as_of_date', 1)) }}
        as months_since_plan_change,
    sums.has_commitment = 1 as minimum_commit_flag,
    sums.has_subsidy = 1 as device_subsidy_flag,
    sums.contract_end_date,
    plan_sums.plan_start_date

from sums
left join plan_sums
    on
        sums.subscription_id = plan_sums.subscription_id
        and sums.as_of_date = plan_sums.as_of_date
