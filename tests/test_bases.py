"""Movement, RFM and the features say of one day who is in service, and they name the same lines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from engines import Engine
from warehouse import Row, Rows, Warehouse, at
from warehouse_rows import FIRST_DAY, call, days, small_operator, subscription

# On PostgreSQL it takes minutes; every change compares both engines in test_parity.
pytestmark = pytest.mark.deep(on="postgres")

MONTH_END = date(2026, 3, 31)
LATER = date(2026, 4, 20)
SINCE = {"activated_at": at(date(2025, 6, 1))}


def told(line: str, day: date, status_code: str = "active", **values: Any) -> Row:
    """Return a version of a line, recorded on its load date."""
    return subscription(
        line, day, **{"status_code": status_code, "status_at": at(day), **SINCE, **values}
    )


def ended(line: str, day: date, on: date, **values: Any) -> Row:
    """Return a version that ends a line on a day."""
    return told(line, day, "terminated", status_at=at(on), terminated_at=at(on), **values)


def listed(day: date, lines: list[str]) -> list[Row]:
    """Return the key list of a day: the lines that the source still has at the end of it."""
    return [
        {"table_name": "subscription", "key_text": line, "listed_at": at(day, 12)}
        | {"event_date": day}
        for line in lines
    ]


def march(day: int) -> date:
    """Return a day of March 2026."""
    return date(2026, 3, day)


def world() -> Rows:
    """Return the small operator with lines whose losses come, go, are late and are taken back.

    Even lines are prepaid: 90 days without a sign of life and they are lost.
    """
    rows: Rows = {"subscription": [], "cdr_voice": [], "source_key": []}
    silent_since = date(2025, 12, 1)

    def begin(line: str, *versions: Row, calls: Iterator[date] | tuple[date, ...] = ()) -> None:
        rows["subscription"] += versions
        rows["cdr_voice"] += [call(line, day, 60) for day in calls]

    begin("s20", told("s20", FIRST_DAY), calls=(silent_since,))
    # Lost on 1 March, and back on the 20th.
    begin("s22", told("s22", FIRST_DAY), calls=(silent_since, march(20)))
    # The sign of February became known after the loss, in March or only in April.
    begin("s24", told("s24", FIRST_DAY), calls=(silent_since,))
    rows["cdr_voice"].append(call("s24", date(2026, 2, 10), 60, load_date=march(25)))
    begin("s26", told("s26", FIRST_DAY), calls=(silent_since,))
    # The silence is over on the last day, and on the day after it.
    begin("s28", told("s28", FIRST_DAY), calls=(MONTH_END - timedelta(days=90),))
    begin("s30", told("s30", FIRST_DAY), calls=(MONTH_END - timedelta(days=89),))
    # Silent and changed: to postpaid, from postpaid, and suspended.
    begin("s32", told("s32", FIRST_DAY), told("s32", march(10), payment_type="postpaid"))
    begin("s33", told("s33", FIRST_DAY), told("s33", march(10), payment_type="prepaid"))
    begin("s34", told("s34", FIRST_DAY, payment_type="hybrid"))
    begin("s35", told("s35", FIRST_DAY), told("s35", march(10), "suspended"))
    # Ended: in time, told late, announced ahead; told after the month.
    begin("s41", told("s41", FIRST_DAY), ended("s41", march(5), march(5)))
    begin("s43", told("s43", FIRST_DAY), ended("s43", march(30), march(3)))
    begin("s45", told("s45", FIRST_DAY), ended("s45", march(20), date(2026, 4, 10)))
    begin("s47", told("s47", FIRST_DAY))
    # Ended and back; ended and never gone; ended twice; ended, and then told of another day.
    begin("s51", told("s51", FIRST_DAY), ended("s51", march(5), march(5)), told("s51", march(12)))
    begin(
        "s53",
        told("s53", FIRST_DAY),
        ended("s53", march(5), march(5)),
        told("s53", march(12), status_at=at(FIRST_DAY)),
    )
    begin(
        "s55",
        told("s55", FIRST_DAY),
        ended("s55", march(5), march(5)),
        told("s55", march(12)),
        ended("s55", march(25), march(24)),
    )
    begin(
        "s57",
        told("s57", FIRST_DAY),
        ended("s57", march(5), march(5)),
        ended("s57", march(15), march(7)),
    )
    # A prepaid line that was lost by silence and then ended; one that ended on its first day.
    begin("s58", told("s58", FIRST_DAY), ended("s58", march(20), march(20)), calls=(silent_since,))
    begin("s59", ended("s59", march(10), march(10), activated_at=at(march(10))))
    # Not activated: created, waiting, activated tomorrow. Created first, activated then.
    begin("s61", told("s61", march(1), "created"))
    begin("s63", told("s63", march(1), "pending_active"))
    begin("s65", told("s65", march(31), activated_at=at(MONTH_END + timedelta(days=1))))
    begin(
        "s67",
        told("s67", march(1), "created", activated_at=at(march(1))),
        told("s67", march(9), activated_at=at(march(9))),
    )
    # Activated on the last day; in service for long, and told of only now.
    begin("s69", told("s69", march(31), activated_at=at(march(31))))
    begin("s71", told("s71", march(1)))
    # Gone from the key lists, and gone and back.
    gone, back = ["s73", "s74"], ["s75", "s76"]
    for line in gone + back:
        begin(line, told(line, FIRST_DAY))
    everyone = sorted({row["subscription_id"] for row in rows["subscription"]})
    rows["source_key"] += listed(march(2), everyone)
    rows["source_key"] += listed(march(14), [x for x in everyone if x not in gone + back])
    rows["source_key"] += listed(march(24), [x for x in everyone if x not in gone])
    for table, table_rows in small_operator().items():
        rows[table] = [*rows.get(table, []), *table_rows]
    return rows


def april() -> Rows:
    """Return what becomes known of March after it, and a life that goes on."""
    return {
        "cdr_voice": [
            call("s26", date(2026, 2, 10), 60, load_date=date(2026, 4, 3)),
            *(call("s1", day, 60) for day in days(date(2026, 4, 1), LATER)),
        ],
        "subscription": [
            ended("s47", date(2026, 4, 5), march(8)),
            told("s43", date(2026, 4, 7), status_at=at(FIRST_DAY)),
            told("s77", date(2026, 4, 4), activated_at=at(march(15))),
        ],
    }


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Warehouse:
    """Return a warehouse of each engine that was built up to the last day of March."""
    home: Path = tmp_path_factory.mktemp(f"bases_{engine['compute']}") / "home"
    warehouse = Warehouse(home, engine)
    warehouse.add_all(world())
    for layer in ("core", "marts"):
        warehouse.build(layer, FIRST_DAY, MONTH_END)
    return warehouse


def alive(warehouse: Warehouse) -> set[str]:
    """Return the lines that the features of the month's last day call alive."""
    return {row["subscription_id"] for row in warehouse.features(MONTH_END) if row["is_alive"]}


def named(warehouse: Warehouse, sql: str) -> set[str]:
    """Return the lines of a query, each of which is there once."""
    rows = [row["subscription_id"] for row in warehouse.rows(sql)]
    assert len(rows) == len(set(rows))
    return set(rows)


def test_three_bases_are_one(warehouse):
    month = "month_start = date '2026-03-01'"
    closing = named(
        warehouse,
        f"select subscription_id from core.fct_subscription_month where {month} and closing_flag",
    )
    (movement,) = warehouse.rows(
        f"select sum(closing) as closing from marts.mart_subscriber_movement where {month}"
    )
    rfm = named(warehouse, f"select subscription_id from marts.mart_rfm_month where {month}")

    assert closing == {
        *("s1", "s2", "s3", "s4", "s5", "s6", "s7"),
        # Back, never silent for long enough, or not lost by silence.
        *("s22", "s24", "s30", "s32", "s33", "s34", "s35"),
        # The end is to come or is not known; back, or never gone.
        *("s45", "s47", "s51", "s53"),
        *("s67", "s69", "s71", "s75", "s76"),
    }
    assert movement["closing"] == len(closing)
    assert alive(warehouse) == closing
    assert rfm == closing


def test_what_becomes_known_later_changes_no_base_that_was_told_as_known_then(warehouse):
    then = alive(warehouse)
    warehouse.add_all(april())
    warehouse.build("core", MONTH_END + timedelta(days=1), LATER)

    assert alive(warehouse) == then
    # The month as known now is another one: that is what its columns say.
    now = named(
        warehouse,
        "select subscription_id from core.fct_subscription_month"
        " where month_start = date '2026-03-01' and closing_flag",
    )
    assert now - then == {"s26", "s43", "s77"}
    assert then - now == {"s30", "s47"}
