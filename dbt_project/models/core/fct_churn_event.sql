-- Grain: one row per loss of a subscription, as confirmed on a day. At most one loss of a
-- subscription stands (revoked_date is null).
--
-- A prepaid line is lost by inactivity: so many days (param_churn_definition) after its last
-- event that brings income. Any line is lost by termination, unless it was lost before. A line that
-- is gone from the key lists without one is terminated on that load date, for reason `deleted`.
-- The table is a pure function of what is loaded, however it was loaded: a later event revokes.

with

activity as (

    select * from {{ ref('fct_activity_daily') }}

),

subscriptions as (

    select * from {{ ref('dim_subscription') }}

    where subscription_id <> 'UNKNOWN' and not is_inferred

),

ports as (

    select * from {{ ref('fct_port_request') }}

),

definitions as (

    select * from {{ ref('param_churn_definition') }}

    where key = 'inactivity_days'

),

reasons as (

    select * from {{ ref('churn_reason') }}

),

-- The days between which nothing was seen because nothing was delivered are nobody's silence.
observed as (

    select
        min(load_date) as first_date,
        max(load_date) as last_date

    from activity

),

followed as (

    select
        *,
        lead(valid_from) over (
            partition by subscription_id order by valid_from
        ) as next_from

    from subscriptions

),

-- A version that ends and is followed by none, or by one of a later day, ends with a deletion.
states as (

    select
        subscription_id,
        payment_type,
        activated_date,
        status_code,
        status_date,
        terminated_date,
        termination_reason_code,
        load_date

    from subscriptions

    union all

    select
        subscription_id,
        payment_type,
        activated_date,
        'terminated' as status_code,
        valid_to as status_date,
        valid_to as terminated_date,
        'deleted' as termination_reason_code,
        valid_to as load_date

    from followed

    where valid_to < coalesce(next_from, {{ end_of_time() }})

),

versions as (

    select
        *,
        case when status_code = 'terminated' then 1 else 0 end as is_terminated,
        lag(status_code) over (
            partition by subscription_id order by load_date
        ) as previous_status,
        lag(payment_type) over (
            partition by subscription_id order by load_date
        ) as previous_payment_type

    from states

),

silenceable as (

    select distinct subscriptions.subscription_id

    from subscriptions

    inner join definitions on subscriptions.payment_type = definitions.scope

),

-- What shows that a line is alive: an activation, a return, a change of payment, an activity.
signs_of_life as (

    select
        activity.subscription_id,
        activity.load_date as known_date,
        activity.event_date as alive_date

    from activity

    inner join silenceable on activity.subscription_id = silenceable.subscription_id

    union all

    select
        versions.subscription_id,
        versions.load_date as known_date,
        case
            when versions.previous_status is not null then versions.load_date
            when versions.activated_date > observed.first_date then versions.activated_date
            else observed.first_date
        end as alive_date

    from versions

    cross join observed

    where
        versions.previous_status is null
        or versions.previous_payment_type <> versions.payment_type
        or (versions.previous_status = 'terminated' and versions.status_code <> 'terminated')

),

last_signs as (

    select
        subscription_id,
        known_date,
        max(alive_date) as alive_date

    from signs_of_life

    group by subscription_id, known_date

),

-- As known on a day, the last sign of life is the latest one of all that were known by then.
known_signs as (

    select
        subscription_id,
        known_date,
        max(alive_date) over (
            partition by subscription_id order by known_date
            rows between unbounded preceding and current row
        ) as alive_date,
        max(alive_date) over (
            partition by subscription_id order by known_date
            rows between unbounded preceding and 1 preceding
        ) as alive_date_before

    from last_signs

),

silences as (

    select
        subscription_id,
        known_date,
        alive_date,
        lead(known_date) over (
            partition by subscription_id order by known_date
        ) as next_known_date

    from known_signs

    where alive_date_before is null or alive_date > alive_date_before

),

inactive as (

    select
        silences.subscription_id,
        definitions.scope as payment_type,
        definitions.value as inactivity_days,
        {{ add_days('silences.alive_date', 1) }} as event_date,
        case
            when
                {{ add_days('silences.alive_date', 'definitions.value') }} < silences.known_date
                then silences.known_date
            else {{ add_days('silences.alive_date', 'definitions.value') }}
        end as confirmed_date,
        silences.next_known_date as revoked_date

    from silences

    inner join definitions
        on
            silences.alive_date >= definitions.valid_from
            and silences.alive_date < definitions.valid_to

),

inactivity_losses as (

    select
        inactive.subscription_id,
        {{ dbt.concat([
            "'INACTIVITY_'", 'cast(inactive.inactivity_days as ' ~ dbt.type_string() ~ ')'
        ]) }}
            as definition_code,
        'inactivity' as kind,
        greatest(inactive.event_date, subscriptions.activated_date) as event_date,
        inactive.confirmed_date,
        inactive.revoked_date

    from inactive

    cross join observed

    inner join subscriptions
        on
            inactive.subscription_id = subscriptions.subscription_id
            and inactive.payment_type = subscriptions.payment_type
            and inactive.confirmed_date >= subscriptions.valid_from
            and inactive.confirmed_date < subscriptions.valid_to

    where
        inactive.confirmed_date <= observed.last_date
        and (inactive.revoked_date is null or inactive.confirmed_date < inactive.revoked_date)
        and subscriptions.status_code <> 'terminated'

),

ends as (

    select
        subscription_id,
        load_date as confirmed_date,
        termination_reason_code,
        is_terminated,
        previous_status,
        greatest(
            coalesce(terminated_date, status_date, load_date), activated_date
        ) as event_date,
        min(case when is_terminated = 0 then load_date end) over (
            partition by subscription_id order by load_date
            rows between 1 following and unbounded following
        ) as revoked_date

    from versions

),

already_lost as (

    select
        ends.subscription_id,
        ends.confirmed_date,
        max(coalesce(inactivity_losses.revoked_date, {{ end_of_time() }})) as free_from

    from ends

    inner join inactivity_losses
        on
            ends.subscription_id = inactivity_losses.subscription_id
            and ends.confirmed_date > inactivity_losses.confirmed_date
            and ends.confirmed_date
            < coalesce(inactivity_losses.revoked_date, {{ end_of_time() }})

    where ends.is_terminated = 1

    group by ends.subscription_id, ends.confirmed_date

),

last_ports as (

    select
        subscription_id,
        recipient_operator,
        completed_date,
        row_number() over (
            partition by subscription_id
            order by completed_date desc, updated_at desc, port_id desc
        ) as port_rank

    from ports

    where direction = 'out' and status = 'completed' and subscription_id is not null

),

terminations as (

    select
        ends.subscription_id,
        ends.termination_reason_code as reason_code,
        ends.event_date,
        ends.revoked_date,
        reasons.kind as reason_kind,
        last_ports.recipient_operator,
        -- A termination that is announced ahead is confirmed when its day comes.
        greatest(
            ends.event_date, ends.confirmed_date,
            coalesce(already_lost.free_from, ends.confirmed_date)
        ) as confirmed_date,
        last_ports.subscription_id is not null as is_ported

    from ends

    left join already_lost
        on
            ends.subscription_id = already_lost.subscription_id
            and ends.confirmed_date = already_lost.confirmed_date

    left join reasons on ends.termination_reason_code = reasons.reason_code

    left join last_ports
        on
            ends.subscription_id = last_ports.subscription_id
            and last_ports.port_rank = 1
            -- A number that was ported long before and came back did not leave this time.
            and last_ports.completed_date >= {{ add_days('ends.event_date', -30) }}

    where
        ends.is_terminated = 1
        and (ends.previous_status is null or ends.previous_status <> 'terminated')

),

known_until as (

    select max(load_date) as last_date from states

),

termination_losses as (

    select
        terminations.subscription_id,
        'TERMINATION' as definition_code,
        terminations.event_date,
        terminations.confirmed_date,
        terminations.revoked_date,
        terminations.reason_code,
        terminations.recipient_operator,
        case
            when terminations.is_ported or terminations.reason_kind = 'port_out' then 'port_out'
            else coalesce(terminations.reason_kind, 'voluntary')
        end as kind

    from terminations

    cross join known_until

    cross join observed

    where
        terminations.confirmed_date
        <= greatest(known_until.last_date, coalesce(observed.last_date, known_until.last_date))
        and (
            terminations.revoked_date is null
            or terminations.confirmed_date < terminations.revoked_date
        )

),

losses as (

    select
        subscription_id,
        definition_code,
        kind,
        event_date,
        confirmed_date,
        revoked_date,
        cast(null as {{ dbt.type_string() }}) as reason_code,
        cast(null as {{ dbt.type_string() }}) as destination_operator

    from inactivity_losses

    union all

    select
        subscription_id,
        definition_code,
        kind,
        event_date,
        confirmed_date,
        revoked_date,
        reason_code,
        case when kind = 'port_out' then recipient_operator end as destination_operator

    from termination_losses

)

select
    {{ surrogate_key(['subscription_id', 'definition_code', 'confirmed_date']) }}
        as churn_event_key,
    subscription_id,
    definition_code,
    kind,
    event_date,
    confirmed_date,
    revoked_date,
    reason_code,
    destination_operator,
    confirmed_date as load_date

from losses
