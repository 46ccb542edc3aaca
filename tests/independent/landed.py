"""Landed rows: days, order, repeats, and the parameters that the operator has set."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Rows = dict[str, list[Row]]

SEEDS = Path(__file__).parents[2] / "dbt_project" / "seeds"
ONE_DAY = timedelta(days=1)
# The operator's clock (KEEPLINE_TIMEZONE, Asia/Shanghai): no summer time.
AHEAD_OF_UTC = timedelta(hours=8)
FOREVER = date(9999, 12, 31)
# Contract columns that say when a row was recorded, and default to its load date.
RECORDED = ("updated_at", "received_at", "recorded_at")
KEYS = {
    "cdr_voice": ("usage_id",),
    "cdr_sms": ("usage_id",),
    "cdr_data": ("usage_id",),
    "recharge": ("recharge_id",),
    "payment": ("payment_id",),
    "bill_line": ("bill_id", "line_no"),
    "subscription_status_event": ("event_id",),
}
LOOK_BACK_DAYS = 7
LIST_DAYS = 31


def local_day(instant: datetime | None) -> date | None:
    """Return the operator's day of an instant in UTC."""
    return None if instant is None else (instant + AHEAD_OF_UTC).date()


def complete(rows: Rows) -> Rows:
    """Return rows with their load dates and times of recording, as they land."""
    done: Rows = {}
    for table, table_rows in rows.items():
        done[table] = []
        for row in table_rows:
            load_date = row.get("load_date") or row["event_date"]
            recorded = dict.fromkeys(RECORDED, datetime.combine(load_date, time(10)))
            done[table].append({**recorded, **row, "load_date": load_date})
    return _outlived(done)


def _outlived(rows: Rows) -> Rows:
    """Move a version that a list of the same day, made after it, does not name to the next list that does.

    At the end of its own day it is gone. The first list after a gap is compared with nothing.
    """
    lists = by(
        (row for row in rows.get("source_key", ()) if row["table_name"] == "subscription"),
        "load_date",
    )
    named = {day: {row["key_text"] for row in keys} for day, keys in lists.items()}

    def holds_from(row: Row) -> date:
        day, name = row["load_date"], row["subscription_id"]
        if (
            day not in lists
            or name in named[day]
            or row["updated_at"] >= lists[day][0]["listed_at"]
            or not any(0 < (day - before).days <= LIST_DAYS for before in lists)
        ):
            return day
        return min(
            (later for later in lists if later > day and name in named[later]), default=FOREVER
        )

    if "subscription" not in rows:
        return rows
    moved = [row | {"load_date": holds_from(row)} for row in rows["subscription"]]
    later = by(rows["subscription"], "subscription_id")
    counted = [
        row
        for row, told in zip(moved, rows["subscription"], strict=True)
        if row["load_date"] == told["load_date"]
        or (
            row["load_date"] < FOREVER
            and not any(
                told["load_date"] < other["load_date"] <= row["load_date"]
                for other in later[row["subscription_id"]]
            )
        )
    ]
    return {**rows, "subscription": counted}


def known(rows: Rows, day: date) -> Rows:
    """Return what was known on a day."""
    return {
        table: [row for row in table_rows if row["load_date"] <= day]
        for table, table_rows in rows.items()
    }


def facts(rows: Rows, table: str) -> list[Row]:
    """Return the rows of a table of events without those that had come before.

    A key that came in one of the seven load dates before is a repeat.
    """
    key = KEYS[table]
    came: dict[tuple[Any, ...], set[date]] = defaultdict(set)
    for row in rows.get(table, ()):
        came[tuple(row[name] for name in key)].add(row["load_date"])
    return [
        row
        for row in rows.get(table, ())
        if not any(
            timedelta() < row["load_date"] - day <= LOOK_BACK_DAYS * ONE_DAY
            for day in came[tuple(row[name] for name in key)]
        )
    ]


def by(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    """Return rows by the values of columns; of one column by its value alone."""
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        key = tuple(row[name] for name in names)
        found[key if len(key) > 1 else key[0]].append(row)
    return found


def newest_versions(rows: Iterable[Row]) -> list[Row]:
    """Return the versions of one key that count, in order.

    Of several versions of a load date the one that was recorded last counts; one that was recorded
    before another that was already known changes nothing.
    """
    counted: list[Row] = []
    for _, versions in sorted(by(rows, "load_date").items()):
        last = max(versions, key=lambda row: row["updated_at"])
        if not counted or last["updated_at"] >= counted[-1]["updated_at"]:
            counted.append(last)
    return counted


def version_on(versions: Sequence[Row], day: date) -> Row:
    """Return the version that holds on a day; before the first one the first."""
    return [versions[0], *(row for row in versions if row["load_date"] <= day)][-1]


def fen(yuan: Any) -> int:
    """Return an amount in the smallest unit."""
    return int(Decimal(str(yuan or 0)) * 100)


def half_up(value: Fraction | Decimal) -> int:
    """Return the nearest whole number, of two the one away from zero."""
    if isinstance(value, Fraction):
        sign = -1 if value < 0 else 1
        return sign * int((abs(value) * 2 + 1) // 2)
    return int(value.quantize(Decimal(1), ROUND_HALF_UP))


def six_places(value: Fraction | None) -> Decimal | None:
    """Return a ratio with the six decimals of a published one."""
    return None if value is None else Decimal(half_up(value * 10**6)) / 10**6


def days(first: date, last: date) -> Iterator[date]:
    """Yield the days from first to last, both included."""
    while first <= last:
        yield first
        first += ONE_DAY


def month_of(day: date) -> date:
    """Return the first day of a day's month."""
    return day.replace(day=1)


def months_later(month: date, count: int) -> date:
    """Return the first day of the month that is some months later, or earlier."""
    number = month.year * 12 + month.month - 1 + count
    return date(number // 12, number % 12 + 1, 1)


def last_day(month: date) -> date:
    """Return the last day of a month given by its first."""
    return months_later(month, 1) - ONE_DAY


def full_months(begin: date, day: date) -> int:
    """Return the full months from a day to the end of another: one is full on the same day."""
    end = day + ONE_DAY
    months = (end.year - begin.year) * 12 + end.month - begin.month
    return months - (end.day < begin.day)


class Parameters:
    """Dated parameters: the rows of a seed, read as text."""

    def __init__(self, rows: Iterable[dict[str, str]]) -> None:
        self.rows = list(rows)

    @classmethod
    def of_seed(cls, name: str) -> Parameters:
        """Return the parameters of a seed of the project."""
        return cls(seed_rows(name))

    def on(self, day: date) -> list[dict[str, str]]:
        """Return the rows that are valid on a day."""
        return [
            row
            for row in self.rows
            if date.fromisoformat(row["valid_from"]) <= day < date.fromisoformat(row["valid_to"])
        ]

    def get(self, key: str, scope: str, day: date) -> Fraction | None:
        """Return the value of a key for a scope on a day, nothing where none is set."""
        found = [row for row in self.on(day) if (row["key"], row["scope"]) == (key, scope)]
        return Fraction(found[0]["value"]) if found else None

    def scopes(self, key: str) -> set[str]:
        """Return for whom a key is set."""
        return {row["scope"] for row in self.rows if row["key"] == key}


def seed_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a seed of the project."""
    with (SEEDS / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))
