"""Features of an as-of date whose definition in the dictionary is exact."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from itertools import pairwise
from typing import Any

from independent.landed import (
    ONE_DAY,
    Parameters,
    Row,
    Rows,
    by,
    days,
    facts,
    fen,
    full_months,
    half_up,
    known,
    local_day,
    month_of,
    months_later,
    newest_versions,
    six_places,
)
from independent.recount_life import activity, lives, moved, version_on
from independent.recount_revenue import Revenue

MEGABYTE = 1_048_576
YEAR_DAYS = 365

Monthly = dict[str, dict[date, int]]


def features(rows: Rows, as_of: date, definition: Parameters | None = None) -> dict[str, Row]:
    """Return, by subscription, what was known at the end of a day, by both clocks."""
    told = {
        table: [row for row in table_rows if row["event_date"] <= as_of]
        for table, table_rows in known(rows, as_of).items()
    }
    all_lives = lives(told, as_of, definition)
    active, revenue = activity(told), Revenue(told)
    # M-1 has ended on the as-of date, perhaps with it.
    three = [months_later(month_of(as_of + ONE_DAY), -back) for back in (1, 2, 3)]
    voice_out = _monthly(told, "cdr_voice", lambda row: row["duration_s"] * _is_out(row))
    voice = _monthly(told, "cdr_voice", lambda row: row["duration_s"])
    messages = _monthly(told, "cdr_sms", _is_out)
    volume = _monthly(told, "cdr_data", moved)
    recharges = by(
        (row for row in facts(told, "recharge") if not row["reversed_flag"]), "subscription_id"
    )
    suspended = by(facts(told, "subscription_status_event"), "subscription_id")
    holdings = by(told.get("subscription_offering", ()), "subscription_id")
    fees = _fees(told)
    tickets = by(told.get("trouble_ticket", ()), "ticket_id")
    arrears = _arrears(told, as_of)
    heard_of = {
        row["subscription_id"]
        for table in ("cdr_voice", "cdr_sms", "cdr_data", "recharge", "bill_line", "interaction")
        for row in told.get(table, ())
        if (as_of - row["event_date"]).days < YEAR_DAYS
    }

    def mean(of: Monthly, name: str, unit: int) -> Any:
        return six_places(Fraction(sum(of[name][month] for month in three), 3 * unit))

    def slope(of: Monthly, name: str, unit: int) -> Any:
        # The straight line through three points climbs as its ends do.
        return six_places(Fraction(of[name][three[0]] - of[name][three[2]], 2 * unit))

    def since(found: list[date]) -> int | None:
        return min(
            ((as_of - day).days for day in found if (as_of - day).days < YEAR_DAYS), default=None
        )

    def within(day: date | None, length: int) -> bool:
        return day is not None and 0 <= (as_of - day).days < length

    found = {}
    for name, life in all_lives.items():
        if any(end.reason == "deleted" and end.known_on <= as_of < end.until for end in life.ends):
            continue  # the lists of the day lack it
        begun = local_day(life.versions[-1]["activated_at"])
        changes = _plan_changes(holdings.get(name, []), fees)
        recharged = recharges.get(name, [])
        recent = [row for row in recharged if within(row["event_date"], 90)]
        opened = [
            versions[0]
            for versions in tickets.values()
            if versions[0].get("subscription_id") == name
            and within(local_day(versions[0]["created_at"]), 90)
        ]
        found[name] = {
            "payment_type": version_on(life.versions, as_of)["payment_type"],
            "known_flag": name in heard_of,
            "is_alive": life.in_service(as_of),
            "tenure_days": (as_of - begun).days if begun else None,
            "full_months_on_net": full_months(begun, as_of) if begun else None,
            "days_since_activity": since(list(active.get(name, {}))),
            "arpu_m1": revenue.own_of(name, three[0]),
            "arpu_avg3m": half_up(Fraction(revenue.own_of(name, *three), 3)),
            "mou_out_avg3m": mean(voice_out, name, 60),
            "mou_slope3m": slope(voice, name, 60),
            "sms_out_avg3m": mean(messages, name, 1),
            "data_mb_avg3m": mean(volume, name, MEGABYTE),
            "data_slope3m": slope(volume, name, MEGABYTE),
            "recharge_cnt_90d": len(recent),
            "recharge_amt_90d": sum(fen(row["paid_amt"]) for row in recent),
            "days_since_recharge": since([row["event_date"] for row in recharged]),
            "plan_changes_180d": sum(within(day, 180) for day, _ in changes),
            "plan_downgrade_90d": sum(within(day, 90) and cheaper for day, cheaper in changes),
            "suspended_days_180d": _suspended_days(suspended.get(name, []), as_of, 180),
            "complaints_90d": len(opened),
            "arrears_amt": arrears.get(life.versions[-1].get("account_id") or "", 0),
        }
    return found


def _is_out(row: Row) -> int:
    return int(row["direction"] == "out")


def _monthly(rows: Rows, table: str, measure: Callable[[Row], int]) -> Monthly:
    found: Monthly = defaultdict(lambda: defaultdict(int))
    for row in facts(rows, table):
        found[row["subscription_id"]][month_of(row["event_date"])] += measure(row)
    return found


def _fees(rows: Rows) -> dict[str, int]:
    offerings = by(rows.get("product_offering", ()), "offering_id")
    return {
        name: fen(newest_versions(told)[-1].get("monthly_fee_amt"))
        for name, told in offerings.items()
    }


def _plan_changes(holdings: list[Row], fees: dict[str, int]) -> list[tuple[date | None, bool]]:
    """Return the days on which the main plan changed, and whether to a cheaper one."""
    mains = [
        newest_versions(told)[-1]
        for told in by(
            (row for row in holdings if row["role"] == "main"), "offering_id", "start_at"
        ).values()
    ]
    mains.sort(key=lambda row: (row["start_at"], row["updated_at"]))
    return [
        (
            local_day(after["start_at"]),
            fees.get(after["offering_id"], 0) < fees.get(before["offering_id"], 0),
        )
        for before, after in pairwise(mains)
        if after["offering_id"] != before["offering_id"]
    ]


def _suspended_days(events: list[Row], as_of: date, length: int) -> int:
    """Return the days of a window at whose end the line was suspended."""
    told = sorted(
        enumerate(events), key=lambda row: (row[1]["event_at"], row[1]["recorded_at"], row[0])
    )
    state_at_end = {row["event_date"]: row["to_status"] for _, row in told}
    count, state = 0, None
    for day in days(min(state_at_end, default=as_of), as_of):
        state = state_at_end.get(day, state)
        count += state == "suspended" and (as_of - day).days < length
    return count


def _arrears(rows: Rows, as_of: date) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for told in by(rows.get("bill", ()), "bill_id").values():
        bill = newest_versions(told)[-1]
        if bill.get("due_date") and bill["due_date"] < as_of:
            found[bill["account_id"]] += fen(bill["remaining_amt"])
    return found
