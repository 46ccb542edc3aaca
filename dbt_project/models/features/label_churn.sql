-- Grain: one row per subscription and as-of date of the run (as in feat_subscription_asof).
-- What came of the line, as far as the training day (variable known_on) knows: did it leave
-- in (as-of date + gap, as-of date + gap + window]?

{{ config(**replace_dates('as_of_date', 'as_of_dates')) }}

with

lines as (

    select * from {{ ref('feat_subscription_asof') }}

    where {{ in_dates('as_of_date', 'as_of_dates') }}

),

thresholds as (

    select * from {{ ref('param_threshold') }}

    where valid_from <= {{ known_on() }} and valid_to > {{ known_on() }}

),

churn_events as (

    select * from {{ ref('fct_churn_event') }}

    -- Who was won back has left all the same; what was corrected was never a loss.
    where
        confirmed_date <= {{ known_on() }}
        and (corrected_date is null or corrected_date > {{ known_on() }})

),

risk_params as (

    select * from {{ ref('param_risk_tier') }}

    where valid_from <= {{ known_on() }} and valid_to > {{ known_on() }}

),

spans as (

    select
        cast(max(case when key = 'label_gap_days' then value end) as integer) as gap_days,
        cast(max(case when key = 'label_window_days' then value end) as integer) as window_days

    from thresholds

    where scope = 'ALL'

),

definitions as (

    select * from {{ ref('param_churn_definition') }}

    where
        key = 'inactivity_days'
        and valid_from <= {{ known_on() }}
        and valid_to > {{ known_on() }}

),

-- A loss by silence shows itself when the silence is over; other losses have days of their own.
maturities as (

    select
        scope as payment_type,
        cast(value as integer) as maturity_days,
        {{ dbt.concat([
            "'INACTIVITY_'",
            'cast(cast(value as integer) as ' ~ dbt.type_string() ~ ')',
        ]) }}
            as definition_code

    from definitions

    union all

    select
        thresholds.scope as payment_type,
        cast(thresholds.value as integer) as maturity_days,
        'TERMINATION' as definition_code

    from thresholds
    left join definitions on thresholds.scope = definitions.scope

    where thresholds.key = 'label_maturity_days' and definitions.scope is null

),

-- For how many days of silence a contact still reaches a line: of its scope, else of all.
reaches as (

    select
        scope,
        value as silence_days

    from risk_params

    where key = 'reachable_silence_days'

),

losses as (

    select
        subscription_id,
        kind,
        event_date,
        -- Of a loss that was corrected after its return only the day that told of it is left.
        case
            when revoked_date <= {{ known_on() }} then coalesce(returned_date, revoked_date)
        end as returned_date

    from churn_events

),

dated as (

    select
        lines.subscription_id,
        lines.as_of_date,
        lines.payment_type,
        lines.is_alive,
        lines.on_net_3_consecutive_months,
        coalesce(
            lines.days_since_activity
            > coalesce(reaches_of_type.silence_days, reaches_of_all.silence_days),
            false
        ) as is_silent,
        {{ add_days('lines.as_of_date', 'spans.gap_days') }} as gap_end,
        {{ add_days('lines.as_of_date', 'spans.gap_days + spans.window_days') }} as window_end,
        {{ add_days(
            'lines.as_of_date', 'spans.gap_days + spans.window_days + maturities.maturity_days'
        ) }} as matured_on,
        coalesce(maturities.definition_code, 'TERMINATION') as definition_code

    from lines
    cross join spans
    left join maturities on lines.payment_type = maturities.payment_type
    -- A hybrid line is scored, and so judged, like a postpaid one.
    left join reaches as reaches_of_type
        on
            reaches_of_type.scope
            = case when lines.payment_type = 'hybrid' then 'postpaid' else lines.payment_type end
    left join reaches as reaches_of_all on reaches_of_all.scope = 'ALL'

),

-- What is known of the line's leaving, up to the end of the label window.
leavings as (

    select
        dated.subscription_id,
        dated.as_of_date,
        -- A silence is dated back to its first day. A line that is silent and not yet lost is
        -- alive: were its silences left out, the model would only see those that ended well.
        max(
            case
                when losses.event_date <= dated.gap_end and losses.kind <> 'inactivity' then 1
                else 0
            end
        ) as left_before,
        min(
            case
                when
                    (losses.event_date > dated.gap_end or losses.kind = 'inactivity')
                    and losses.kind in ('voluntary', 'port_out', 'inactivity')
                    then losses.event_date
            end
        ) as left_date,
        max(
            case
                when
                    losses.event_date > dated.gap_end
                    and losses.kind not in ('voluntary', 'port_out', 'inactivity')
                    then 1
                else 0
            end
        ) as was_ended

    from dated
    inner join losses
        on
            dated.subscription_id = losses.subscription_id
            and dated.window_end >= losses.event_date
    -- A loss that was over by the as-of date is an earlier story.
    where losses.returned_date is null or losses.returned_date > dated.as_of_date

    group by dated.subscription_id, dated.as_of_date

),

judged as (

    select
        dated.subscription_id,
        dated.as_of_date,
        dated.definition_code,
        dated.matured_on,
        coalesce(dated.matured_on <= {{ known_on() }}, false) as is_matured,
        leavings.left_date,
        case
            when not dated.is_alive then 'NOT_ALIVE'
            when leavings.left_before = 1 then 'CHURNED_BEFORE'
            when not dated.on_net_3_consecutive_months then 'NOT_ON_NET'
            when dated.is_silent then 'SILENT'
            when leavings.was_ended = 1 then 'INVOLUNTARY'
            when dated.matured_on is null then 'NO_DEFINITION'
        end as excluded_reason

    from dated
    left join leavings
        on
            dated.subscription_id = leavings.subscription_id
            and dated.as_of_date = leavings.as_of_date

)

select
    subscription_id,
    as_of_date,
    matured_on,
    is_matured,
    excluded_reason,
    definition_code,
    case
        when is_matured and excluded_reason is null
            then case when left_date is null then 0 else 1 end
    end as label, -- noqa: RF04
    case when is_matured and excluded_reason is null then left_date end as left_date

from judged
