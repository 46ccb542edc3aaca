"""Holds the simulated operator's truth against what the operator's own tables show.

A kind of truth that is not checked here can be false for years: each kind gets its entry below.
Nothing here reads what the simulation holds inside; it reads the rows that the operator's systems
recorded, the call records, and the truth's files.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from keepline.simulator import schema, world
from keepline.simulator.arrow import UTC_OFFSET_S, to_arrow
from keepline.simulator.course import Course
from keepline.simulator.truth import write_truth

TRUTHS: Final = ("churn_truth", "stay_truth", "unfinished_truth", "base_truth")
_CLOCKS: Final = {
    "cdr_voice": "start_at.1",
    "cdr_sms": "sent_at.1",
    "cdr_data": "session_start_at.1",
}


def tables_of(course: Course, days: int, folder: Path) -> duckdb.DuckDBPyConnection:
    """Live `days` days and return what the operator then has: its tables, call records and truth.

    Tables are named `schema_table`; instants are the operator's local time. `usage` has a row per
    call record; `sign` one per line and day with something that brings income.
    """
    rows: dict[str, list[pa.Table]] = defaultdict(list)
    records: list[pa.Table] = []
    for day in course.days(days):
        for name, made in day.rows.items():
            rows[name].append(_local(to_arrow(name, made, course.start)))
        records += [_usage(name, made.rows, day.date) for name, made in day.records.items()]
    write_truth(folder, course, [])
    db = duckdb.connect()
    db.execute("set autoinstall_known_extensions = false")
    for name in schema.TABLES:
        none = {c.name: np.array([], dtype=object) for c in schema.TABLES[name]}
        empty = _local(to_arrow(name, none, course.start))
        _create(db, name.replace(".", "_"), pa.concat_tables([empty, *rows[name]]))
    _create(db, "usage", pa.concat_tables(records))
    for name in TRUTHS:
        db.execute(f"create table {name} as select * from '{folder}/{name}.parquet'")
    last = course.start + timedelta(days=days - 1)
    db.execute(f"create table run as select date '{course.start}' as first, date '{last}' as last")
    for view in _VIEWS:
        db.execute(view)
    return db


def contradictions(db: duckdb.DuckDBPyConnection) -> dict[str, list[tuple]]:
    """What the tables and the truth say differently; empty when the truth is true.

    Args:
        db: what `tables_of` returned.

    Returns:
        The first offenders of each sentence that does not hold.
    """
    return _broken(db, {**_LOSSES, **_STAYS, **_TRACES})


def impossible(db: duckdb.DuckDBPyConnection) -> dict[str, list[tuple]]:
    """What no operator's tables could show, whatever is true; empty when there is nothing of it."""
    return _broken(db, _IMPOSSIBLE)


def _broken(db: duckdb.DuckDBPyConnection, checks: dict[str, str]) -> dict[str, list[tuple]]:
    found = {sentence: db.sql(f"{query} limit 5").fetchall() for sentence, query in checks.items()}
    return {sentence: offenders for sentence, offenders in found.items() if offenders}


def _create(db: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    db.register("given", table)
    db.execute(f"create table {name} as select * from given")
    db.unregister("given")


def _local(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            seconds = pc.add(table[place].cast(pa.int64()), UTC_OFFSET_S)
            table = table.set_column(place, field.name, seconds.cast(pa.timestamp("s")))
    return table


def _usage(table: str, rows: np.ndarray, day: date) -> pa.Table:
    n = len(rows)

    def text(name: str) -> pa.Array:
        return pa.array(np.ascontiguousarray(rows[name]), type=pa.binary()).cast(pa.string())

    voice, sms = table == "cdr_voice", table == "cdr_sms"
    yes, nothing = pa.repeat(True, n), pa.nulls(n, pa.string())
    answered = pa.array(["completed", "dropped"])
    return pa.table(
        {
            "line": text("subscription_id.0"),
            "day": pa.repeat(pa.scalar(day, pa.date32()), n),
            "clock": text(_CLOCKS[table]),
            "outgoing": yes if table == "cdr_data" else pc.equal(text("direction.0"), "out"),
            "to_a_person": pc.equal(text("sms_class.0"), "p2p") if sms else yes,
            "connected": pc.is_in(text("status.0"), answered) if voice else yes,
            "other_number": nothing if table == "cdr_data" else text("other_number.0"),
            "cell_id": text("cell_id.0"),
        }
    )


_VIEWS: Final = (
    """create view sign as
    select line, day, bool_or(outgoing) as own, sum(events) as events
    from (
        select line, day, outgoing, count(*) as events from usage
        where connected and to_a_person group by all
        union all
        select subscription_id, cast(recharged_at as date), true, 0 from ocs_recharge
        where not reversed_flag
    ) group by line, day""",
    """create view step as
    select subscription_id as line, to_status, reason_code, event_at,
        cast(event_at as date) as day, recorded_at
    from bss_subscription_status_event""",
    """create view ended as
    select line, day, event_at, reason_code from step where to_status = 'terminated'""",
    """create view line as
    select subscription_id as line, customer_id, account_id, payment_type, secondary_of_id,
        activated_at, cast(activated_at as date) as activated, status_code, county_code
    from bss_subscription
    qualify row_number() over (partition by subscription_id order by updated_at desc) = 1""",
    """create view port as
    select subscription_id as line, port_id, requested_at, completed_at, status,
        cast(completed_at as date) as day, recipient_operator, updated_at
    from npd_np_port where direction = 'out'""",
    """create view plan as
    select 'left' as truth, subscription_id as line, cause, decided_date, leave_date as day,
        kind, shows_signs from churn_truth
    union all
    select 'stayed', subscription_id, cause, decided_date, ended_date, null, shows_signs
    from stay_truth""",
    # What could have made somebody think of the price: a fee that rose, a promotion that ended.
    """create view dearer as
    select h.subscription_id as line,
        cast(h.start_at as date) + cast(floor(o.promo_months * 30.44) as integer) as day
    from bss_subscription_offering as h
    join (select distinct offering_id, promo_months from bss_product_offering) as o
        using (offering_id)
    where h.role = 'main' and o.promo_months > 0
    union all
    select h.subscription_id, cast(o.updated_at as date)
    from bss_subscription_offering as h
    join (
        select *, lag(monthly_fee) over (partition by offering_id order by updated_at) as before
        from bss_product_offering
    ) as o on h.offering_id = o.offering_id and o.monthly_fee > o.before
    where h.role = 'main'""",
    """create view overdue as
    select account_id, bill_id, cast(min(updated_at) as date) as day
    from bil_bill where state = 'overdue' group by all""",
    f"""create view rival_call as
    select line, day from usage
    where outgoing and other_number in ({", ".join(repr(n) for n in world.HOTLINES)})""",
    """create view used as
    select p.truth, p.line, p.cause, p.day as leave_date, p.shows_signs, u.day,
        sum(u.events) as events, sum(u.off_net) as off_net, sum(u.away) as away
    from plan as p
    join line as l using (line)
    join (
        select line, day, count(*) filter (outgoing) as events,
            count(*) filter (outgoing and not own_net) as off_net,
            count(*) filter (county <> home) as away
        from (
            select u.line, u.day, u.outgoing and u.connected as outgoing,
                r.operator_code = 'POLARIS' as own_net,
                left(u.cell_id, 6) as county, l.county_code as home
            from usage as u
            join line as l using (line)
            left join ref_number_range as r on r.prefix = left(u.other_number, 3)
        ) group by all
    ) as u on u.line = p.line and u.day < p.day and u.day >= p.day - 90
    where l.activated < p.day - 90 and p.day >= (select first + 90 from run)
    group by all""",
)

_LOSSES: Final = {
    "a loss lies within the run, and was decided before": """
        select line, decided_date, day from plan, run
        where day < first or day > last or decided_date >= day""",
    "a line leaves once at most": """
        select subscription_id, count(*) from churn_truth group by all having count(*) > 1""",
    "plans of a line follow each other": """
        select line, decided_date, day, next from (
            select *, lead(decided_date) over (partition by line order by decided_date) as next
            from plan
        ) where next <= day""",
    # An end may be recorded up to three days late.
    "a loss that is no silence is a termination of that day": """
        select t.* from churn_truth as t, run
        where kind <> 'silent' and leave_date <= last - 4
        and not exists (
            select 1 from ended as e where e.line = t.subscription_id and e.day = t.leave_date
        )""",
    "every termination is a loss of that day": """
        select e.* from ended as e where not exists (
            select 1 from churn_truth as t where t.subscription_id = e.line
            and t.kind <> 'silent' and t.leave_date = e.day
        )""",
    "after a silent leaver's day nothing brings income, and the line is not ended": """
        select t.* from churn_truth as t where kind = 'silent' and (
            exists (select 1 from sign as s where s.line = t.subscription_id and s.day >= leave_date)
            or exists (select 1 from ended as e where e.line = t.subscription_id)
        )""",
    "nobody but a leaver is silent for long": """
        select * from (
            select line, day, lead(day, 1, last) over (partition by line order by day) as next
            from (
                select line, day, last from sign, run
                union all
                select line, greatest(activated, first), last from line, run
            )
        )
        where next - day >= 60
        and line not in (select subscription_id from churn_truth)""",
    "a leaver was used until shortly before": """
        select t.subscription_id, t.kind, t.leave_date, max(s.day) from churn_truth as t cross join run
        left join sign as s on s.line = t.subscription_id and s.day < t.leave_date
        where kind <> 'involuntary' and leave_date > first + 45
        group by all having max(s.day) is null or t.leave_date - max(s.day) > 45""",
    "a plan under way is of a line in use and ends after the run": """
        select u.* from unfinished_truth as u, run where why = 'under_way' and (
            planned_date <= last
            or exists (select 1 from ended as e where e.line = u.subscription_id)
        )""",
    "a plan is overtaken by an earlier loss of the line": """
        select u.* from unfinished_truth as u where why = 'overtaken' and not exists (
            select 1 from churn_truth as t where t.subscription_id = u.subscription_id
            and t.leave_date between u.decided_date and u.planned_date
        )""",
    "the base's truth has every line once, as the tables do": """
        select coalesce(b.subscription_id, l.line), b.activated_date, l.activated
        from base_truth as b full join line as l on l.line = b.subscription_id
        where b.activated_date is distinct from l.activated
        or b.payment_type is distinct from l.payment_type
        or b.is_base is distinct from (b.activated_date < (select first from run))""",
}

_STAYS: Final = {
    # The tables explain who was not: the line ended within a month, or the run did within a week.
    "who stayed uses the line after the plan's end": """
        select t.subscription_id, t.cause, t.ended_date from stay_truth as t, run
        where ended_date <= last - 7
        and not exists (
            select 1 from sign as s where s.own and s.line = t.subscription_id
            and s.day between t.ended_date and t.ended_date + 30
        )
        and not exists (
            select 1 from ended as e where e.line = t.subscription_id
            and e.day between t.ended_date and t.ended_date + 30
        )""",
    "who stayed is not ended on the plan's day": """
        select t.* from stay_truth as t
        join ended as e on e.line = t.subscription_id and e.day = t.ended_date""",
}


def _most(where: str, shown: str, share: float) -> str:
    """At least so many of the plans that show signs have the trace; few cases prove nothing."""
    return f"""
        select count(*) filter ({shown}) / count(*) as share, count(*) as plans from plan as p
        join line as l using (line)
        where {where} having share < {share} and plans >= 20"""


def _change(where: str, measure: str, low: float, high: float) -> str:
    """A measure of the last fortnight against that of days 61 to 90 before lies within bounds."""
    late, early = "day >= leave_date - 14", "day < leave_date - 60"
    value = measure.format(late) + " / " + measure.format(early)
    return f"""
        select {value} as ratio, count(distinct line) as lines from used where {where}
        having (ratio < {low} or ratio > {high}) and lines >= 20"""


_EVENTS: Final = "(sum(events) filter ({0}) / count(distinct line) / if('{0}' like '%14', 14, 30))"
_OFF_NET: Final = "(sum(off_net) filter ({0}) / sum(events) filter ({0}))"
_AWAY: Final = "(sum(away) filter ({0}) / count(*) filter ({0}))"
_TICKETS: Final = """exists (
    select 1 from cc_trouble_ticket as k where k.subscription_id = p.line
    and k.created_at >= p.decided_date - 120 and k.created_at < p.decided_date)"""

_TRACES: Final = {
    "who leaves for the price saw it rise, or a promotion end, in the two months before": """
        select p.* from plan as p where cause = 'price_shock' and not exists (
            select 1 from dearer as d where d.line = p.line
            and d.day between p.decided_date - 60 and p.decided_date
        )""",
    "who leaves for the service had a ticket before": f"""
        select p.* from plan as p where cause = 'bad_service' and not {_TICKETS}""",
    "who is pulled asks rivals": _most(
        "cause = 'competitor_pull' and shows_signs",
        """exists (select 1 from rival_call as c where c.line = p.line
            and c.day between p.decided_date and p.day)
        or exists (select 1 from port where port.line = p.line
            and port.requested_at between p.decided_date and p.day + 1)""",
        0.7,
    ),
    "others do not": """
        select count(*) filter (exists (select 1 from rival_call as c where c.line = p.line
            and c.day between p.decided_date and p.day)) / count(*) as share, count(*) as plans
        from plan as p where cause in ('declining_usage', 'moving')
        having share > 0.15 and plans >= 20""",
    "who is pulled calls other networks more": _change(
        "cause = 'competitor_pull' and shows_signs", _OFF_NET, 1.15, 9
    ),
    "who declines uses less": _change(
        "cause = 'declining_usage' and shows_signs and truth = 'left'", _EVENTS, 0, 0.5
    ),
    "who declines and stays used less": _change(
        "cause = 'declining_usage' and truth = 'stayed'", _EVENTS, 0, 0.75
    ),
    "who leaves without a sign uses as before": _change("cause = 'no_sign'", _EVENTS, 0.7, 1.3),
    "who moves is elsewhere": _change("cause = 'moving' and shows_signs", _AWAY, 1.5, 99),
    "a port-out is completed on the day, to the operator that the truth names": """
        select t.* from churn_truth as t where kind = 'port_out' and not exists (
            select 1 from port as p where p.line = t.subscription_id and p.status = 'completed'
            and p.day = t.leave_date and p.recipient_operator = t.destination_operator
        )""",
    "every number that is ported out leaves": """
        select p.* from port as p where status = 'completed' and not exists (
            select 1 from churn_truth as t where t.subscription_id = p.line
            and t.kind = 'port_out' and t.leave_date = p.day
        )""",
    "who does not pay has an overdue bill and is suspended until the end": """
        select p.* from plan as p join line as l using (line)
        where cause = 'non_payment' and truth = 'left' and not (
            exists (
                select 1 from overdue as o where o.account_id = l.account_id
                and o.day between p.decided_date - 60 and p.day
            )
            and 'suspended' = (
                select max_by(to_status, event_at) from step as s
                where s.line = p.line and s.day < p.day
            )
        )""",
    "who pays in the end was overdue": """
        select p.* from plan as p join line as l using (line)
        where cause = 'non_payment' and truth = 'stayed' and not exists (
            select 1 from overdue as o where o.account_id = l.account_id
            and o.day between p.decided_date - 60 and p.day
        )""",
    "the written reason fits the way to leave": """
        select t.*, e.reason_code from churn_truth as t
        join ended as e on e.line = t.subscription_id
        where (kind = 'involuntary') <> (reason_code = 'non_payment')
        or (kind = 'administrative') <> (reason_code = 'fraud')
        or (kind = 'port_out') <> (reason_code = 'port_out')""",
    "a fraud is ended early by the operator": """
        select t.* from churn_truth as t join line as l on l.line = t.subscription_id
        where cause = 'fraud' and (kind <> 'administrative' or leave_date - l.activated > 100)""",
}

_IMPOSSIBLE: Final = {
    "usage lies within the line's life": """
        select u.line, u.day, u.clock, l.activated_at, e.event_at from usage as u
        left join line as l using (line)
        left join ended as e using (line)
        where l.line is null or u.day + cast(u.clock as time) < l.activated_at
        or u.day + cast(u.clock as time) >= e.event_at""",
    "recharges lie within the line's life, and are of prepaid lines": """
        select r.subscription_id, r.recharged_at from ocs_recharge as r
        join line as l on l.line = r.subscription_id
        left join ended as e using (line)
        where r.recharged_at < l.activated_at or r.recharged_at >= e.event_at
        or l.payment_type <> 'prepaid'""",
    "contacts lie within the line's life": """
        select c.subscription_id, c.started_at from cc_interaction as c
        join line as l on l.line = c.subscription_id
        left join ended as e using (line)
        where c.started_at < l.activated_at or c.started_at >= e.event_at""",
    "a suspended line makes no calls": """
        select u.line, u.day, u.clock, s.event_at from usage as u
        join (
            select line, to_status, event_at,
                lead(event_at) over (partition by line order by event_at) as until
            from step
        ) as s on s.line = u.line and s.to_status = 'suspended'
        where u.outgoing and u.day > cast(s.event_at as date)
        and (s.until is null or u.day < cast(s.until as date))""",
    "nobody talks with a number that is no longer in use, nor with his own": """
        select u.line, u.day, n.line, n.until from usage as u
        join (
            select distinct s.msisdn, s.subscription_id as line, least(
                coalesce(t.leave_date, e.day), coalesce(e.day, t.leave_date)
            ) as until, coalesce(e.reason_code, '') = 'port_out' as ported
            from bss_subscription as s
            left join ended as e on e.line = s.subscription_id
            left join churn_truth as t using (subscription_id)
        ) as n on n.msisdn = u.other_number
        where u.line = n.line or (u.connected and u.day > n.until and not n.ported)""",
    "a card in use has a main line in use, which is not younger, of the same account": """
        select c.line, c.activated_at, m.line, m.activated_at, e.event_at from line as c
        join line as m on m.line = c.secondary_of_id
        left join ended as e on e.line = m.line
        where c.activated_at < m.activated_at or c.account_id <> m.account_id
        or (c.status_code <> 'terminated' and e.line is not null)""",
    "customers are of age when they begin": """
        select c.customer_id, p.birth_date, c.since_date from crm_customer as c
        join crm_party_individual as p using (party_id)
        where p.birth_date + interval 18 year > c.since_date + 1""",
    "a line holds one plan at a time, and none after its end": """
        select * from (
            select *, lead(start_at) over (partition by subscription_id order by start_at) as next
            from (
                select subscription_id, start_at, max(end_at) as end_at
                from bss_subscription_offering where role = 'main' group by all
            )
        ) join line as l on l.line = subscription_id
        where next is not null and (end_at is null or end_at > next)
        or next is null and (end_at is null) <> (l.status_code <> 'terminated')""",
    "bills of an account follow each other without a gap": """
        select * from (
            select *, lag(period_end) over (partition by account_id order by period_end) as before
            from (select distinct account_id, period_start, period_end from bil_bill)
        ) where before <> period_start""",
    "holdings and ports lie within the line's life": """
        select h.subscription_id, h.offering_id, h.start_at, h.end_at
        from bss_subscription_offering as h
        join line as l on l.line = h.subscription_id
        left join ended as e using (line)
        where h.start_at < l.activated_at or h.end_at > e.event_at or h.end_at < h.start_at
        union all
        select p.line, p.port_id, p.requested_at, p.completed_at from port as p
        join line as l using (line) left join ended as e using (line)
        where p.requested_at < l.activated_at or p.requested_at > e.event_at
        or p.completed_at > e.event_at""",
    "a bill is of an account with a postpaid line in use in its period": """
        select b.bill_id, b.period_start, b.period_end from bil_bill as b where not exists (
            select 1 from line as l left join ended as e using (line)
            where l.account_id = b.account_id and l.payment_type = 'postpaid'
            and l.activated <= b.period_end and coalesce(e.day, b.period_start) >= b.period_start
        )""",
    "payments come after their account's first bill": """
        select p.payment_id from bil_payment as p where not exists (
            select 1 from bil_bill as b where b.account_id = p.account_id
            and b.bill_date <= p.paid_at
        )""",
    "nothing of a line is recorded before the line is": """
        select e.subscription_id, e.event_at from bss_subscription_status_event as e
        where e.recorded_at < e.event_at and e.to_status <> 'active'
        union all
        select t.subscription_id, t.created_at from cc_trouble_ticket as t
        where t.updated_at < t.created_at""",
}
