"""Subscriptions by month, and the movement of the base."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from typing import Any

from independent.landed import (
    ONE_DAY,
    Parameters,
    Row,
    Rows,
    facts,
    full_months,
    last_day,
    month_of,
    months_later,
    version_on,
)
from independent.recount_life import Life, activity, moved
from independent.recount_revenue import Revenue

MIGRATES = ("province_code", "brand_code", "payment_type")
CELL = (*MIGRATES, "activation_channel")
COUNTS = ("opening", "gross_adds", "win_backs", "churn", "churn_first_published", "closing")


def months(first: date, known_until: date) -> Iterator[date]:
    """Yield the months from that of the first business date to the one that runs."""
    month = month_of(first)
    while month <= known_until:
        yield month
        month = months_later(month, 1)


def is_whole(month: date, first: date, known_until: date) -> bool:
    """Say whether a month has ended and lies in the record from its first day on."""
    return month >= first and last_day(month) <= known_until


def delivered_until(rows: Rows) -> date:
    """Return the newest load date of activity; before all days where none has been delivered."""
    loads = (
        day for of_line in activity(rows).values() for known in of_line.values() for day in known
    )
    return max(loads, default=date.min)


def is_settled(month: date, payment_type: str, known_until: date, delivered: date) -> bool:
    """Say whether the losses of a month have had time to become known.

    The words do not say of which day N and the bound are; they are those of the month's last day.
    """
    ends = last_day(month)
    silence = Parameters.of_seed("param_churn_definition").get(
        "inactivity_days", payment_type, ends
    )
    late = Parameters.of_seed("param_threshold").get("late_bound_days", "ALL", ends)
    told = ends + int((silence or 0) + (late or 0)) * ONE_DAY
    return told <= known_until and (silence is None or told <= delivered)


def subscription_months(
    rows: Rows, lives: dict[str, Life], revenue: Revenue, first: date, known_until: date
) -> list[Row]:
    """Return the rows of `fct_subscription_month`."""
    active, usage = activity(rows), _usage(rows)
    found = []
    for month in months(first, known_until):
        closes = min(last_day(month), known_until)
        for name, life in lives.items():
            counts = _counts(life, month, closes)
            if not any(counts.values()):
                continue
            version = version_on(life.versions, closes)
            before = version_on(life.versions, month - ONE_DAY)
            activated = life.activated_on()
            found.append(
                {"subscription_id": name, "month_start": month, **counts}
                | {
                    column: version.get(column)
                    for column in ("customer_id", *CELL, "offering_id", "dealer_id")
                }
                | {
                    f"opening_{column}": before.get(column) if counts["opening_flag"] else None
                    for column in MIGRATES
                }
                | {
                    "is_whole_month": is_whole(month, first, known_until),
                    "tenure_months": full_months(activated, closes) if activated else None,
                    "active_days": sum(month_of(day) == month for day in active.get(name, ())),
                    **{what: usage[name, month][what] for what in MEASURES},
                    "own_revenue_fen": revenue.own.get((name, month), 0),
                    "third_party_fen": revenue.third.get((name, month), 0),
                    "recharge_fen": revenue.recharged.get((name, month), 0),
                }
            )
    return found


def _counts(life: Life, month: date, closes: date) -> dict[str, Any]:
    activated = life.activated_on()
    of_month = [loss for loss in life.losses if month <= loss.event_date <= closes]
    counted = [loss for loss in life.losses if loss.outcome != "corrected"]
    return {
        "opening_flag": life.in_service(month - ONE_DAY),
        "gross_add_flag": activated is not None and month <= activated <= closes,
        "win_back_cnt": sum(
            month <= (loss.returned_date or date.min) <= closes for loss in counted
        ),
        "churn_cnt": sum(loss in of_month for loss in counted),
        "churn_first_published_cnt": len(of_month),
        "closing_flag": life.in_service(closes),
    }


MEASURES = ("voice_out_s", "voice_in_s", "sms_out_cnt", "volume_bytes")


def _usage(rows: Rows) -> dict[tuple[str, date], Counter[str]]:
    found: dict[tuple[str, date], Counter[str]] = defaultdict(Counter)
    for row in facts(rows, "cdr_voice"):
        of_month = found[row["subscription_id"], month_of(row["event_date"])]
        of_month[f"voice_{row['direction']}_s"] += row["duration_s"]
    for row in facts(rows, "cdr_sms"):
        of_month = found[row["subscription_id"], month_of(row["event_date"])]
        of_month["sms_out_cnt"] += row["direction"] == "out"
    for row in facts(rows, "cdr_data"):
        of_month = found[row["subscription_id"], month_of(row["event_date"])]
        of_month["volume_bytes"] += moved(row)
    return found


def movement(of_months: list[Row]) -> dict[tuple[Any, ...], Counter[str]]:
    """Return the counts of `subscriber_movement` by month, province, brand, payment and channel."""
    cells: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in of_months:
        there = _cell(row, row)
        here = _cell(row, {name: row[f"opening_{name}"] for name in MIGRATES})
        if row["opening_flag"]:
            cells[here]["opening"] += 1
            if here != there:
                cells[here]["migration_out"] += 1
                cells[there]["migration_in"] += 1
        cells[there].update(
            gross_adds=int(row["gross_add_flag"]),
            win_backs=row["win_back_cnt"],
            churn=row["churn_cnt"],
            churn_first_published=row["churn_first_published_cnt"],
            closing=int(row["closing_flag"]),
        )
    return cells


def _cell(row: Row, values: Row) -> tuple[Any, ...]:
    told = {"activation_channel": row["activation_channel"], **values}
    return (row["month_start"], *(told[name] or "UNKNOWN" for name in CELL))
