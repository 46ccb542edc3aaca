-- Grain: one row per loss of a subscription, as it was confirmed on a day. What became of it is
-- its outcome: it stands, the subscription was won back, or there never was a loss (corrected).
--
-- A prepaid line is lost by inactivity: so many days (param_churn_definition) after its last
-- event that brings income. Any line is lost by termination, unless it was lost before. A line that
-- is gone from the key lists without one is terminated on that load date, for reason `deleted`.
-- The table is a pure function of what is loaded, however it was loaded.

with

activity as (

    select * from {{ ref('fct_activity_daily') }}

),

subscriptions as (

    select * from {{ ref('dim_subscription') }}

    where subscription_id <> 'UNKNOWN' and not is_inferred

),

port_versions as (

    select
        *,
        row_number() over (
            partition by port_id order by updated_at desc, load_date desc
        ) as version_rank

    from {{ ref('fct_port_request') }}

),

ports as (

    select
        subscription_id,
        recipient_operator,
        completed_date,
        updated_at

    from port_versions

    where
        version_rank = 1
        and direction = 'out'
        and status = 'completed'
        and subscription_id is not null

),

definitions as (

    select * from {{ ref('param_churn_definition') }}

    where key = 'inactivity_days'

),

reasons as (

    select * from {{ ref('churn_reason') }}

),

business_dates as (

    select * from {{ ref('business_date') }}

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
        case when status_code not in ('created', 'pending_active') then activated_date end
            as activated_date,
        status_code,
        status_date,
        terminated_date,
        termination_reason_code,
        load_date,
        false as is_deletion

    from subscriptions

    union all

    select
        subscription_id,
        payment_type,
        case when status_code not in ('created', 'pending_active') then activated_date end
            as activated_date,
        'terminated' as status_code,
        valid_to as status_date,
        valid_to as terminated_date,
        'deleted' as termination_reason_code,
        valid_to as load_date,
        true as is_deletion

    from followed

    where valid_to < coalesce(next_from, {{ end_of_time() }})

),

versions as (

    select
        states.*,
        case when states.status_code = 'terminated' then 1 else 0 end as is_terminated,
        -- Before the first day that was delivered nobody was seen, and nobody was silent.
        case
            when states.activated_date is not null
                then greatest(states.activated_date, observed.first_date)
        end as seen_from,
        lag(states.status_code) over (
            partition by states.subscription_id order by states.load_date
        ) as previous_status,
        lag(states.payment_type) over (
            partition by states.subscription_id order by states.load_date
        ) as previous_payment_type,
        coalesce(
            lead(states.load_date) over (
                partition by states.subscription_id order by states.load_date
            ), {{ end_of_time() }}
        ) as next_load_date

    from states

    cross join observed

),

silenceable as (

    select distinct subscriptions.subscription_id

    from subscriptions

    inner join definitions on subscriptions.payment_type = definitions.scope

),

compared_versions as (

    select
        *,
        lag(seen_from) over (
            partition by subscription_id order by load_date
        ) as previous_seen_from

    from versions

),

-- An activation is a sign of life until the date is corrected.
activations as (

    select
        subscription_id,
        seen_from as alive_date,
        load_date as known_date,
        lead(load_date) over (
            partition by subscription_id order by load_date
        ) as withdrawn_date

    from compared_versions

    where previous_seen_from is null or seen_from is null or seen_from <> previous_seen_from

),

-- What shows that a line is alive: an activation, a return, a change of payment, an activity.
signs_of_life as (

    select
        activity.subscription_id,
        activity.event_date as alive_date,
        activity.load_date as known_date,
        {{ end_of_time() }} as withdrawn_date

    from activity

    inner join silenceable on activity.subscription_id = silenceable.subscription_id

    union all

    select
        subscription_id,
        alive_date,
        known_date,
        coalesce(withdrawn_date, {{ end_of_time() }}) as withdrawn_date

    from activations

    where alive_date is not null

    union all

    select
        subscription_id,
        load_date as alive_date,
        load_date as known_date,
        {{ end_of_time() }} as withdrawn_date

    from versions

    where
        previous_payment_type <> payment_type
        or (previous_status = 'terminated' and status_code <> 'terminated')

),

signs as (

    select
        subscription_id,
        alive_date,
        min(known_date) as known_date,
        max(withdrawn_date) as withdrawn_date

    from signs_of_life

    group by subscription_id, alive_date

),

followed_signs as (

    select
        *,
        lead(alive_date) over (partition by subscription_id order by alive_date) as next_alive_date,
        lead(known_date) over (partition by subscription_id order by alive_date)
            as next_known_date,
        lead(withdrawn_date) over (partition by subscription_id order by alive_date)
            as next_withdrawn_date

    from signs

),

-- Signs after which a silence may have been long enough: not those that the next sign follows in
-- time and was known in time, which are nearly all.
silences as (

    select
        followed_signs.subscription_id,
        followed_signs.alive_date,
        followed_signs.withdrawn_date,
        definitions.scope as payment_type,
        definitions.value as inactivity_days,
        {{ add_days('followed_signs.alive_date', 'definitions.value') }} as silent_to,
        followed_signs.known_date

    from followed_signs

    inner join definitions
        on
            followed_signs.alive_date >= definitions.valid_from
            and followed_signs.alive_date < definitions.valid_to

    where
        followed_signs.next_alive_date is null
        or followed_signs.next_alive_date
        > {{ add_days('followed_signs.alive_date', 'definitions.value') }}
        or followed_signs.next_known_date
        > {{ add_days('followed_signs.alive_date', 'definitions.value') }}
        or followed_signs.next_withdrawn_date < {{ end_of_time() }}

),

-- A sign counts from the day on which the line was known to be activated by then, as use before
-- the activation begins no silence.
counted_silences as (

    select
        silences.subscription_id,
        silences.alive_date,
        silences.withdrawn_date,
        silences.payment_type,
        silences.inactivity_days,
        silences.silent_to,
        greatest(
            silences.silent_to,
            min(greatest(versions.load_date, silences.known_date))
        ) as confirmed_date

    from silences

    inner join versions
        on
            silences.subscription_id = versions.subscription_id
            and silences.alive_date >= versions.activated_date
            and silences.known_date < versions.next_load_date

    group by
        silences.subscription_id,
        silences.alive_date,
        silences.withdrawn_date,
        silences.payment_type,
        silences.inactivity_days,
        silences.silent_to

),

-- Versions that say, after a loss was confirmed, that the line was not activated by then.
uncounted as (

    select
        counted_silences.subscription_id,
        counted_silences.alive_date,
        counted_silences.payment_type,
        min(versions.load_date) as uncounted_date

    from counted_silences

    inner join versions
        on
            counted_silences.subscription_id = versions.subscription_id
            and counted_silences.confirmed_date < versions.load_date
            and counted_silences.alive_date
            < coalesce(versions.activated_date, {{ end_of_time() }})

    group by
        counted_silences.subscription_id,
        counted_silences.alive_date,
        counted_silences.payment_type

),

-- What became known of the days after the sign: within the silence it was none, after it a return.
judged_silences as (

    select
        counted_silences.subscription_id,
        counted_silences.alive_date,
        counted_silences.payment_type,
        counted_silences.inactivity_days,
        counted_silences.silent_to,
        counted_silences.confirmed_date,
        least(
            counted_silences.withdrawn_date,
            coalesce(uncounted.uncounted_date, {{ end_of_time() }}),
            coalesce(
                min(
                    case
                        when
                            signs.alive_date <= counted_silences.silent_to
                            and signs.withdrawn_date > counted_silences.confirmed_date
                            then signs.known_date
                    end
                ),
                {{ end_of_time() }}
            )
        ) as corrected_date,
        min(
            case
                when
                    signs.alive_date > counted_silences.silent_to
                    and signs.withdrawn_date = {{ end_of_time() }}
                    then signs.alive_date
            end
        ) as returned_date,
        coalesce(
            min(
                case
                    when
                        signs.alive_date > counted_silences.silent_to
                        and signs.withdrawn_date = {{ end_of_time() }}
                        then signs.known_date
                end
            ),
            {{ end_of_time() }}
        ) as return_known_date

    from counted_silences

    left join uncounted
        on
            counted_silences.subscription_id = uncounted.subscription_id
            and counted_silences.alive_date = uncounted.alive_date
            and counted_silences.payment_type = uncounted.payment_type

    left join signs
        on
            counted_silences.subscription_id = signs.subscription_id
            and counted_silences.alive_date < signs.alive_date

    group by
        counted_silences.subscription_id,
        counted_silences.alive_date,
        counted_silences.payment_type,
        counted_silences.inactivity_days,
        counted_silences.silent_to,
        counted_silences.confirmed_date,
        counted_silences.withdrawn_date,
        uncounted.uncounted_date

),

-- The days on which a version says that the line has ended: an end that is announced has not come.
ended_versions as (

    select
        subscription_id,
        valid_to,
        greatest(valid_from, coalesce(terminated_date, status_date, valid_from)) as ended_from

    from subscriptions

    where
        status_code = 'terminated'
        and coalesce(terminated_date, status_date, valid_from) < valid_to

),

inactivity_losses as (

    select
        judged_silences.subscription_id,
        {{ dbt.concat([
            "'INACTIVITY_'",
            'cast(judged_silences.inactivity_days as ' ~ dbt.type_string() ~ ')',
        ]) }}
            as definition_code,
        'inactivity' as kind,
        {{ add_days('judged_silences.alive_date', 1) }} as event_date,
        judged_silences.confirmed_date,
        judged_silences.corrected_date,
        judged_silences.returned_date,
        -- A return that was known before its loss revokes it on the same day.
        greatest(
            least(judged_silences.corrected_date, judged_silences.return_known_date),
            judged_silences.confirmed_date
        ) as revoked_date

    from judged_silences

    cross join observed

    inner join subscriptions
        on
            judged_silences.subscription_id = subscriptions.subscription_id
            and judged_silences.payment_type = subscriptions.payment_type
            and judged_silences.confirmed_date >= subscriptions.valid_from
            and judged_silences.confirmed_date < subscriptions.valid_to

    left join ended_versions as ended_then
        on
            judged_silences.subscription_id = ended_then.subscription_id
            and judged_silences.confirmed_date >= ended_then.ended_from
            and judged_silences.confirmed_date < ended_then.valid_to

    left join ended_versions as ended_before
        on
            judged_silences.subscription_id = ended_before.subscription_id
            and judged_silences.silent_to >= ended_before.ended_from
            and judged_silences.silent_to < ended_before.valid_to

    -- Who is terminated is not silent.
    where
        judged_silences.confirmed_date <= observed.last_date
        and judged_silences.confirmed_date < judged_silences.corrected_date
        and ended_then.subscription_id is null
        and ended_before.subscription_id is null

),

-- The ends of a line are numbered by the versions that say that it is in service.
numbered as (

    select
        *,
        sum(1 - is_terminated) over (
            partition by subscription_id order by load_date
            rows between unbounded preceding and current row
        ) as life_no

    from versions

),

told_ends as (

    select
        subscription_id,
        life_no,
        load_date,
        is_deletion,
        greatest(
            coalesce(terminated_date, status_date, load_date), activated_date
        ) as event_date,
        row_number() over (
            partition by subscription_id, life_no order by load_date
        ) as telling_no,
        -- The newest version says why; a deletion says nothing of a line that had ended.
        first_value(termination_reason_code) over (
            partition by subscription_id, life_no
            order by case when is_deletion then 1 else 0 end, load_date desc
        ) as newest_reason_code,
        terminated_date is not null or status_date is not null as is_dated

    from numbered

    where is_terminated = 1 and activated_date is not null

),

-- The first telling of an end, and later ones that date it: a deletion ends what had not ended.
dated_ends as (

    select
        *,
        lag(event_date) over (
            partition by subscription_id, life_no order by load_date
        ) as event_date_before

    from told_ends

    where telling_no = 1 or (is_dated and not is_deletion)

),

ends as (

    select
        subscription_id,
        life_no,
        load_date,
        newest_reason_code as termination_reason_code,
        event_date,
        lead(load_date) over (
            partition by subscription_id, life_no order by load_date
        ) as restated_date

    from dated_ends

    where event_date_before is null or event_date <> event_date_before

),

restorations as (

    select
        subscription_id,
        life_no,
        load_date as known_date,
        coalesce(status_date, load_date) as restored_date

    from numbered

    where is_terminated = 0 and previous_status = 'terminated'

),

judged_ends as (

    select
        ends.subscription_id,
        ends.load_date,
        ends.termination_reason_code,
        ends.event_date,
        -- A termination that is announced ahead is confirmed when its day comes.
        greatest(ends.event_date, ends.load_date) as confirmed_date,
        least(
            coalesce(ends.restated_date, {{ end_of_time() }}),
            coalesce(restorations.known_date, {{ end_of_time() }})
        ) as revoked_date,
        case
            when ends.restated_date is not null then ends.restated_date
            when restorations.restored_date <= ends.event_date then restorations.known_date
            else {{ end_of_time() }}
        end as corrected_date,
        case
            when ends.restated_date is null and restorations.restored_date > ends.event_date
                then restorations.restored_date
        end as returned_date

    from ends

    left join restorations
        on
            ends.subscription_id = restorations.subscription_id
            and ends.life_no + 1 = restorations.life_no

),

-- The losses by silence from before the end: one may stand, and the line came back from the others.
already_lost as (

    select
        judged_ends.subscription_id,
        judged_ends.load_date,
        max(
            case
                when judged_ends.confirmed_date < inactivity_losses.revoked_date
                    then inactivity_losses.revoked_date
            end
        ) as free_from,
        max(
            case
                when inactivity_losses.corrected_date = {{ end_of_time() }}
                    then inactivity_losses.returned_date
            end
        ) as returned_date

    from judged_ends

    inner join inactivity_losses
        on
            judged_ends.subscription_id = inactivity_losses.subscription_id
            and judged_ends.confirmed_date >= inactivity_losses.confirmed_date

    group by judged_ends.subscription_id, judged_ends.load_date

),

-- No loss begins before the line came back from the one before; restored by then, it was no loss.
free_ends as (

    select
        judged_ends.subscription_id,
        judged_ends.load_date,
        judged_ends.termination_reason_code,
        judged_ends.revoked_date,
        greatest(
            judged_ends.event_date,
            coalesce(already_lost.returned_date, judged_ends.event_date)
        ) as event_date,
        greatest(
            judged_ends.confirmed_date,
            coalesce(already_lost.free_from, judged_ends.confirmed_date)
        ) as confirmed_date,
        case
            when judged_ends.returned_date <= already_lost.returned_date
                then judged_ends.revoked_date
            else judged_ends.corrected_date
        end as corrected_date,
        case
            when
                already_lost.returned_date is null
                or judged_ends.returned_date > already_lost.returned_date
                then judged_ends.returned_date
        end as returned_date

    from judged_ends

    left join already_lost
        on
            judged_ends.subscription_id = already_lost.subscription_id
            and judged_ends.load_date = already_lost.load_date

),

-- The losses that the line came back from; what was corrected or never came was none.
won_back as (

    select
        subscription_id,
        event_date,
        returned_date

    from inactivity_losses

    where returned_date is not null and corrected_date = {{ end_of_time() }}

    union all

    select
        subscription_id,
        event_date,
        returned_date

    from free_ends

    where
        returned_date is not null
        and corrected_date = {{ end_of_time() }}
        and confirmed_date < revoked_date

),

begun_ends as (

    select
        free_ends.subscription_id,
        free_ends.load_date,
        free_ends.event_date,
        free_ends.returned_date,
        max(won_back.returned_date) as begun_date

    from free_ends

    left join won_back
        on
            free_ends.subscription_id = won_back.subscription_id
            and free_ends.event_date > won_back.event_date

    group by
        free_ends.subscription_id,
        free_ends.load_date,
        free_ends.event_date,
        free_ends.returned_date

),

-- A number that was ported before the line came back did not leave this time, nor did one that is
-- ported after it was back.
near_ports as (

    select
        begun_ends.subscription_id,
        begun_ends.load_date,
        ports.recipient_operator,
        rank() over (
            partition by begun_ends.subscription_id, begun_ends.load_date
            order by
                abs({{ days_between('ports.completed_date', 'begun_ends.event_date') }}),
                ports.completed_date asc,
                ports.updated_at desc
        ) as port_rank

    from begun_ends

    inner join ports
        on
            begun_ends.subscription_id = ports.subscription_id
            and ports.completed_date >= {{ add_days('begun_ends.event_date', -30) }}
            and ports.completed_date <= {{ add_days('begun_ends.event_date', 7) }}
            and ports.completed_date >= coalesce(begun_ends.begun_date, ports.completed_date)
            and ports.completed_date
            < coalesce(begun_ends.returned_date, {{ end_of_time() }})

),

-- Of several ports that nothing tells apart none names the operator, unless all of them do.
nearest_ports as (

    select
        subscription_id,
        load_date,
        case
            when
                min(recipient_operator) = max(recipient_operator)
                and count(recipient_operator) = count(*)
                then min(recipient_operator)
        end as recipient_operator

    from near_ports

    where port_rank = 1

    group by subscription_id, load_date

),

terminations as (

    select
        free_ends.subscription_id,
        free_ends.event_date,
        free_ends.confirmed_date,
        free_ends.revoked_date,
        free_ends.corrected_date,
        free_ends.returned_date,
        free_ends.termination_reason_code as reason_code,
        nearest_ports.recipient_operator,
        case
            when nearest_ports.subscription_id is not null or reasons.kind = 'port_out'
                then 'port_out'
            else coalesce(reasons.kind, 'voluntary')
        end as kind

    from free_ends

    left join reasons on free_ends.termination_reason_code = reasons.reason_code

    left join nearest_ports
        on
            free_ends.subscription_id = nearest_ports.subscription_id
            and free_ends.load_date = nearest_ports.load_date

),

known_until as (

    select max(load_date) as last_date from business_dates

),

losses as (

    select
        subscription_id,
        definition_code,
        kind,
        event_date,
        confirmed_date,
        revoked_date,
        corrected_date,
        returned_date,
        cast(null as {{ dbt.type_string() }}) as reason_code,
        cast(null as {{ dbt.type_string() }}) as destination_operator

    from inactivity_losses

    union all

    select
        terminations.subscription_id,
        'TERMINATION' as definition_code,
        terminations.kind,
        terminations.event_date,
        terminations.confirmed_date,
        terminations.revoked_date,
        terminations.corrected_date,
        terminations.returned_date,
        terminations.reason_code,
        case when terminations.kind = 'port_out' then terminations.recipient_operator end
            as destination_operator

    from terminations

    cross join known_until

    where
        terminations.confirmed_date <= known_until.last_date
        and terminations.confirmed_date < terminations.revoked_date

)

select
    {{ surrogate_key(['subscription_id', 'definition_code', 'event_date', 'confirmed_date']) }}
        as churn_event_key,
    subscription_id,
    definition_code,
    kind,
    event_date,
    confirmed_date,
    case
        when corrected_date < {{ end_of_time() }} then 'corrected'
        when returned_date is not null then 'won_back'
        else 'standing'
    end as outcome,
    case when revoked_date < {{ end_of_time() }} then revoked_date end as revoked_date,
    case
        when corrected_date < {{ end_of_time() }} then null
        else returned_date
    end as returned_date,
    case when corrected_date < {{ end_of_time() }} then corrected_date end as corrected_date,
    reason_code,
    destination_operator,
    confirmed_date as load_date

from losses
