"""Dimensions that keep history say what a person would say who replays the changes day by day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pytest
from dbt.cli.main import dbtRunner
from hypothesis import given
from hypothesis import strategies as st

from keepline.settings import PROJECT_DIR

FIRST_DAY = date(2026, 1, 1)
END_OF_TIME = date(9999, 12, 31)
DAYS = 6

# One change: (entity, hours after the first midnight at which it was recorded, days that it took to
# arrive, value). Few values, so that changes repeat; few hours, so that days are shared.
Change = tuple[str, int, int, str]
changes = st.lists(
    st.tuples(
        st.sampled_from(["E1", "E2"]),
        st.integers(min_value=0, max_value=24 * DAYS - 1),
        st.sampled_from([0, 0, 0, 1, 3]),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=12,
    # An entity's changes differ in their instant: that is the contract's key.
    unique_by=lambda change: (change[0], change[1]),
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the SQL of the two dimensions as dbt compiles it."""
    home = tmp_path_factory.mktemp("home")
    (home / "demo").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPLINE_HOME", str(home))
        done = dbtRunner().invoke(
            [
                *("compile", "--quiet", "--select", "dim_dealer", "dim_customer"),
                *("--project-dir", str(PROJECT_DIR / "dbt_project")),
                *("--profiles-dir", str(PROJECT_DIR / "dbt_project")),
                *("--target-path", str(home / "target"), "--log-path", str(home / "logs")),
            ]
        )
    assert done.success, done.exception or done.result
    return {result.node.name: result.node.compiled_code for result in done.result.results}


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """Return an engine with the empty staging tables that the dimensions read."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("attach ':memory:' as compute")
    connection.execute("create schema compute.staging")
    for table, columns in {
        "stg_chn__dealer": "dealer_id text, name text, type text, level text, province_code text, "
        "city_code text, valid_from date",
        "stg_crm__customer": "customer_id text, party_id text, customer_class text, "
        "customer_tier text, group_customer_id text, key_person_flag boolean, campus_flag boolean, "
        "since_date date, status text, province_code text",
        "stg_crm__party_individual": "party_id text, gender text, birth_date date, "
        "marital_status text, employment_status text, id_no_hash text",
    }.items():
        connection.execute(
            f"create table compute.staging.{table} ({columns}, updated_at timestamp, load_date date)"
        )
    yield connection
    connection.close()


def recorded_at(change: Change) -> datetime:
    return datetime.combine(FIRST_DAY, datetime.min.time()) + timedelta(hours=change[1])


def load_date(change: Change) -> date:
    return recorded_at(change).date() + timedelta(days=change[2])


def fill(engine: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    engine.execute(f"delete from compute.staging.{table}")
    if rows:
        marks = ", ".join(f"({', '.join('?' for _ in row)})" for row in rows)
        engine.execute(
            f"insert into compute.staging.{table} ({', '.join(rows[0])}) values {marks}",
            [value for row in rows for value in row.values()],
        )


def known_on(day: date, feed: list[Change], entity: str) -> str | None:
    """Return the value that is known of an entity at the end of a day: the replay, in Python.

    Batches arrive day by day. Of a batch the change recorded last counts, unless a change that was
    recorded even later had arrived in an earlier batch.
    """
    value: str | None = None
    newest: datetime | None = None
    for batch in sorted({load_date(change) for change in feed}):
        if batch > day:
            break
        arrived = [c for c in feed if c[0] == entity and load_date(c) == batch]
        if arrived:
            last = max(arrived, key=recorded_at)
            if newest is None or recorded_at(last) >= newest:
                value, newest = last[3], recorded_at(last)
    return value


def versions(history: list[tuple[date, Any]]) -> list[tuple[date, date, Any]]:
    """Return (valid_from, valid_to, value) of a value known day by day; None is not known yet."""
    found: list[tuple[date, date, Any]] = []
    for day, value in history:
        if value is None or (found and found[-1][2] == value):
            continue
        if found:
            found[-1] = (found[-1][0], day, found[-1][2])
        found.append((day, END_OF_TIME, value))
    return found


ALL_DAYS = [FIRST_DAY + timedelta(days=n) for n in range(DAYS + 4)]


@given(feed=changes)
def test_any_history_of_changes_gives_the_versions_of_a_replay(
    feed: list[Change], compiled: dict[str, str], engine: duckdb.DuckDBPyConnection
) -> None:
    fill(
        engine,
        "stg_chn__dealer",
        [
            {
                "dealer_id": c[0],
                "level": c[3],
                "updated_at": recorded_at(c),
                "load_date": load_date(c),
            }
            for c in feed
        ],
    )

    rows = engine.execute(
        "select dealer_id, valid_from, valid_to, level, is_current, dealer_key "
        f"from ({compiled['dim_dealer']}) where dealer_id <> 'UNKNOWN' order by 1, 2"
    ).fetchall()

    expected = [
        (entity, valid_from, valid_to, value, valid_to == END_OF_TIME)
        for entity in sorted({change[0] for change in feed})
        for valid_from, valid_to, value in versions(
            [(day, known_on(day, feed, entity)) for day in ALL_DAYS]
        )
    ]
    assert [row[:5] for row in rows] == expected
    assert len({row[5] for row in rows}) == len(rows)


@given(customers=changes, parties=changes)
def test_a_dimension_of_two_feeds_is_the_replay_of_both(
    customers: list[Change],
    parties: list[Change],
    compiled: dict[str, str],
    engine: duckdb.DuckDBPyConnection,
) -> None:
    # The value of a customer's change is its tier; every customer is the person of the same name.
    fill(
        engine,
        "stg_crm__customer",
        [
            {"customer_id": c[0], "party_id": c[0], "customer_tier": c[3]}
            | {"updated_at": recorded_at(c), "load_date": load_date(c)}
            for c in customers
        ],
    )
    fill(
        engine,
        "stg_crm__party_individual",
        [
            {
                "party_id": c[0],
                "gender": c[3],
                "updated_at": recorded_at(c),
                "load_date": load_date(c),
            }
            for c in parties
        ],
    )

    rows = engine.execute(
        "select customer_id, valid_from, valid_to, customer_tier, gender "
        f"from ({compiled['dim_customer']}) where customer_id <> 'UNKNOWN' order by 1, 2"
    ).fetchall()

    def both(day: date, entity: str) -> tuple[str, str | None] | None:
        tier = known_on(day, customers, entity)
        return None if tier is None else (tier, known_on(day, parties, entity))

    expected = [
        (entity, valid_from, valid_to, *value)
        for entity in sorted({change[0] for change in customers})
        for valid_from, valid_to, value in versions([(day, both(day, entity)) for day in ALL_DAYS])
    ]
    assert rows == expected


def test_a_rebuild_gives_the_same_keys(
    compiled: dict[str, str], engine: duckdb.DuckDBPyConnection
) -> None:
    first: list[Change] = [("E1", 1, 0, "a"), ("E1", 30, 0, "b")]
    later: list[Change] = [*first, ("E1", 60, 0, "c"), ("E2", 61, 0, "a")]
    keys = []
    for feed in (first, later):
        fill(
            engine,
            "stg_chn__dealer",
            [
                {"dealer_id": c[0], "level": c[3]}
                | {"updated_at": recorded_at(c), "load_date": load_date(c)}
                for c in feed
            ],
        )
        keys.append(
            set(engine.execute(f"select dealer_key from ({compiled['dim_dealer']})").fetchall())
        )

    assert keys[0] < keys[1]


def test_the_replay_itself_knows_late_changes() -> None:
    feed: list[Change] = [("E1", 5, 3, "late"), ("E1", 30, 0, "newer")]

    assert known_on(date(2026, 1, 2), feed, "E1") == "newer"
    assert known_on(date(2026, 1, 4), feed, "E1") == "newer"
