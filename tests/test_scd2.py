"""Dimensions that keep history say what a person would say who replays the changes day by day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pytest
from dbt.cli.main import dbtRunner
from hypothesis import given, settings
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
    """Return the SQL of the models as dbt compiles it."""
    home = tmp_path_factory.mktemp("home")
    (home / "demo").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPLINE_HOME", str(home))
        done = dbtRunner().invoke(
            [
                *("compile", "--quiet", "--select", "dim_dealer", "dim_customer", "key_change"),
                *("--target", "duckdb"),
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
    connection.execute("create schema compute.core")
    for table, columns in {
        "set_aside": "reason_code text, column_name text, key_text text",
        "key_change": "table_name text, key_text text, change_code text, listed_at timestamp",
    }.items():
        connection.execute(f"create table compute.core.{table} ({columns}, load_date date)")
    for table, columns in {
        "stg_chn__dealer": "dealer_id text, name text, type text, level text, province_code text, "
        "city_code text, valid_from date",
        "stg_crm__customer": "customer_id text, party_id text, customer_class text, "
        "customer_tier text, group_customer_id text, key_person_flag boolean, campus_flag boolean, "
        "since_date date, status text, province_code text",
        "stg_crm__party_individual": "party_id text, gender text, birth_date date, "
        "marital_status text, employment_status text, id_no_hash text",
        "stg_crm__billing_account": "account_id text",
        "stg_bss__subscription": "subscription_id text",
    }.items():
        connection.execute(
            f"create table compute.staging.{table} ({columns}, updated_at timestamp, load_date date)"
        )
    connection.execute(
        "create table compute.staging.stg_ref__source_key"
        " (table_name text, key_text text, listed_at timestamp, load_date date)"
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
    """Return (valid_from, valid_to, value) of a value known day by day; None has no version."""
    found: list[tuple[date, date, Any]] = []
    before: Any = None
    for day, value in history:
        if value != before and before is not None:
            found[-1] = (found[-1][0], day, before)
        if value is not None and value != before:
            found.append((day, END_OF_TIME, value))
        before = value
    return found


ALL_DAYS = [FIRST_DAY + timedelta(days=n) for n in range(DAYS + 4)]


@pytest.mark.case(58, 60)
@settings(max_examples=settings.default.max_examples // 5)
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


# One customer: its changes, those of the person behind it, and the lists that have it, by number.
History = tuple[list[Change], list[Change], frozenset[int]]


def change_lists(most: int) -> st.SearchStrategy[list[Change]]:
    """Return changes of one entity, which differ in their instant; some arrive late."""
    return st.lists(
        st.tuples(
            st.just(""),
            st.integers(min_value=0, max_value=24 * DAYS - 1),
            st.sampled_from([0, 0, 0, 1, 3]),
            st.sampled_from(["a", "b", "c"]),
        ),
        max_size=most,
        unique_by=lambda change: change[1],
    )


histories = st.tuples(
    change_lists(6), change_lists(3), st.frozensets(st.integers(min_value=0, max_value=DAYS + 2))
)
# A list is written at a quarter past an hour of a day: changes of the day are in it or come too late.
lists_of_keys = st.dictionaries(
    st.integers(min_value=0, max_value=DAYS + 2), st.sampled_from([1, 12, 23]), max_size=5
)


def listing_at(day: int, hour: int) -> datetime:
    midnight = datetime.combine(FIRST_DAY + timedelta(days=day), datetime.min.time())
    return midnight + timedelta(hours=hour, minutes=15)


def replay(history: History, lists: dict[int, int]) -> list[tuple[date, Any]]:
    """Return what is known of a customer at the end of each day, None when nothing or when it is gone.

    A list that lacks it closes it, if the list before had it or if a change since that list told of
    it. A list that has it again opens it, and so does a change recorded after the list that closed it.
    """
    changed, person, listed = history
    gone_at: datetime | None = None
    before: int | None = None
    known: list[tuple[date, Any]] = []
    for number, day in enumerate(ALL_DAYS):
        arrived = [change for change in changed if load_date(change) == day]
        if number in lists:
            written = listing_at(number, lists[number])
            if before is not None and number not in listed:
                written_before = listing_at(before, lists[before])
                told = any(
                    load_date(change) <= day
                    and recorded_at(change) <= written
                    and (
                        load_date(change) > ALL_DAYS[before] or recorded_at(change) > written_before
                    )
                    for change in changed
                )
                if before in listed or told:
                    gone_at = max(written, gone_at or written)
            elif before is not None and before not in listed:
                gone_at = None
            before = number
        if gone_at is not None and any(recorded_at(change) > gone_at for change in arrived):
            gone_at = None
        tier = known_on(day, changed, "")
        value = None if tier is None or gone_at is not None else (tier, known_on(day, person, ""))
        known.append((day, value))
    return known


PACK = 20


@pytest.mark.case(58, 60, 62, 63)
def test_histories_with_deletions_give_the_versions_of_a_replay(
    compiled: dict[str, str],
    engine: duckdb.DuckDBPyConnection,
    tally: Callable[[str, int, int], None],
) -> None:
    # Many histories in one build, each of a customer of its own: a query costs more than its rows.
    compared = 0

    @settings(max_examples=settings.default.max_examples // PACK)
    @given(pack=st.lists(histories, min_size=PACK, max_size=PACK), lists=lists_of_keys)
    def compare(pack: list[History], lists: dict[int, int]) -> None:
        nonlocal compared
        # Somebody is always there: a list without keys would be no list.
        keys = [f"C{number:02}" for number in range(len(pack))]
        fill(
            engine,
            "stg_crm__customer",
            [
                {"customer_id": key, "party_id": key, "customer_tier": change[3]}
                | {"updated_at": recorded_at(change), "load_date": load_date(change)}
                for key, history in zip(keys, pack, strict=True)
                for change in history[0]
            ],
        )
        fill(
            engine,
            "stg_crm__party_individual",
            [
                {"party_id": key, "gender": change[3]}
                | {"updated_at": recorded_at(change), "load_date": load_date(change)}
                for key, history in zip(keys, pack, strict=True)
                for change in history[1]
            ],
        )
        fill(
            engine,
            "stg_ref__source_key",
            [
                {"table_name": "customer", "key_text": key, "listed_at": listing_at(day, hour)}
                | {"load_date": FIRST_DAY + timedelta(days=day)}
                for day, hour in lists.items()
                for key in [
                    "always there",
                    *(k for k, history in zip(keys, pack, strict=True) if day in history[2]),
                ]
            ],
        )
        engine.execute("delete from compute.core.key_change")
        engine.execute(
            f"insert into compute.core.key_change by name select * from ({compiled['key_change']})"
        )

        rows = engine.execute(
            "select customer_id, valid_from, valid_to, customer_tier, gender, is_current"
            f" from ({compiled['dim_customer']}) where customer_id <> 'UNKNOWN' order by 1, 2"
        ).fetchall()

        expected = [
            (key, valid_from, valid_to, *value, valid_to == END_OF_TIME)
            for key, history in zip(keys, pack, strict=True)
            for valid_from, valid_to, value in versions(replay(history, lists))
        ]
        assert rows == expected
        compared += len(pack)

    try:
        compare()
    finally:
        engine.execute("delete from compute.core.key_change")
    tally("histories", compared, compared)


def test_the_replay_itself_knows_gaps() -> None:
    there: History = ([("", 1, 0, "a")], [], frozenset({0, 2, 3}))

    known = versions(replay(there, {0: 23, 1: 23, 2: 23, 3: 23}))

    first, gone, back = (FIRST_DAY + timedelta(days=n) for n in range(3))
    assert known == [(first, gone, ("a", None)), (back, END_OF_TIME, ("a", None))]


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
