-- Grain: one row per subscription and spell in service, as known now. A spell begins with the
-- activation or a return and ends with a loss: in service on day D is from_date <= D < to_date.

with

versions as (

    select
        subscription_id,
        activated_date,
        status_code,
        lead(valid_from) over (partition by subscription_id order by valid_from) as next_from

    from {{ ref('dim_subscription') }}

    where subscription_id <> 'UNKNOWN' and not is_inferred

),

-- A loss that never was is none.
losses as (

    select
        subscription_id,
        event_date,
        returned_date,
        row_number() over (
            partition by subscription_id order by event_date, confirmed_date
        ) as loss_no,
        lead(event_date) over (
            partition by subscription_id order by event_date, confirmed_date
        ) as next_event_date

    from {{ ref('fct_churn_event') }}

    where outcome <> 'corrected'

),

activated as (

    select
        subscription_id,
        activated_date

    from versions

    where
        next_from is null
        and activated_date is not null
        and status_code not in ('created', 'pending_active')

),

spells as (

    select
        activated.subscription_id,
        'activation' as begin_kind,
        activated.activated_date,
        activated.activated_date as from_date,
        losses.event_date as lost_date

    from activated

    left join losses
        on activated.subscription_id = losses.subscription_id and losses.loss_no = 1

    union all

    select
        activated.subscription_id,
        'return' as begin_kind,
        activated.activated_date,
        greatest(losses.returned_date, activated.activated_date) as from_date,
        losses.next_event_date as lost_date

    from activated

    inner join losses on activated.subscription_id = losses.subscription_id

    where losses.returned_date is not null

)

select
    subscription_id,
    begin_kind,
    activated_date,
    from_date,
    -- Nobody is lost before the spell has begun: who is, is lost on its first day.
    greatest(coalesce(lost_date, {{ end_of_time() }}), from_date) as to_date

from spells
