"""Days, months and local hours are those of the calendar, whatever the clock and zone of the machine."""

from __future__ import annotations

import calendar
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from dateutil.relativedelta import relativedelta
from dbt.cli.main import dbtRunner

from keepline.settings import PROJECT_DIR

SHANGHAI = ZoneInfo("Asia/Shanghai")
# Clocks in Shanghai were set forward at midnight on these days: it did not exist.
NO_MIDNIGHT = [
    *(date(1940, 6, 1), date(1941, 3, 15), date(1942, 1, 31), date(1946, 5, 15)),
    *(date(1947, 4, 15), date(1948, 5, 1), date(1949, 5, 1)),
]
DAYS_SQL = """
select
    d,
    {{ month_start('d') }},
    {{ add_days('d', 1) }},
    {{ add_days('d', -90) }},
    {{ add_months('d', 1) }},
    {{ add_months('d', -3) }},
    {{ days_between('d', 'e') }},
    {{ full_months('d', 'e') }}
from pairs order by d, e
"""
INSTANTS_SQL = """
select t, {{ local_date('t') }}, {{ local_hour('t') }}, {{ at_night('t') }} from instants order by t
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return SQL by name as dbt compiles it: two models and the two queries above."""
    home = tmp_path_factory.mktemp("home")
    (home / "demo").mkdir()
    options = [
        *("--project-dir", str(PROJECT_DIR / "dbt_project"), "--target", "duckdb"),
        *("--profiles-dir", str(PROJECT_DIR / "dbt_project")),
        *("--target-path", str(home / "target"), "--log-path", str(home / "logs")),
    ]
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPLINE_HOME", str(home))
        for what in (
            ["--select", "dim_date", "dim_customer"],
            ["--inline", DAYS_SQL],
            ["--inline", INSTANTS_SQL],
        ):
            done = dbtRunner().invoke(["compile", "--quiet", *what, *options])
            assert done.success, done.exception or done.result
            for result in done.result.results:
                name = result.node.name if what[0] == "--select" else what[1]
                found[name] = result.node.compiled_code
    return found


@pytest.fixture(params=["UTC", "Asia/Shanghai", "America/New_York"])
def engine(request: pytest.FixtureRequest) -> Iterator[duckdb.DuckDBPyConnection]:
    """Return an engine whose session is in some zone."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(f"set TimeZone = '{request.param}'")
    connection.execute("attach ':memory:' as compute")
    connection.execute("create schema compute.staging")
    connection.execute("create schema compute.core")
    yield connection
    connection.close()


@pytest.mark.case(75)
def test_days_and_months_are_those_of_the_calendar(
    compiled: dict[str, str], engine: duckdb.DuckDBPyConnection
) -> None:
    # Every day from 2023 to 2028 with a leap day between, each beside ends of months and of years. In one
    # query: an engine to which thirty days are a month answers both with the same day.
    days = [date(2023, 12, 1) + timedelta(days=n) for n in range(1900)]
    ends = [date(2024, 2, 29), date(2026, 2, 28), date(2027, 1, 31), date(2028, 12, 31)]
    engine.execute("create table pairs (d date, e date)")
    engine.execute(
        "insert into pairs select unnest(?::date[]), e from (select unnest(?::date[]) as e)",
        [days, ends],
    )

    rows = engine.execute(compiled[DAYS_SQL]).fetchall()

    expected = [
        (
            d,
            d.replace(day=1),
            d + timedelta(days=1),
            d - timedelta(days=90),
            d + relativedelta(months=1),
            d - relativedelta(months=3),
            (e - d).days,
            (e.year - d.year) * 12 + e.month - d.month - (e.day < d.day),
        )
        for d in days
        for e in ends
    ]
    assert rows == expected


@pytest.mark.case(75)
def test_the_calendar_has_every_day_once_with_its_week_month_and_quarter(
    compiled: dict[str, str], engine: duckdb.DuckDBPyConnection
) -> None:
    engine.execute(
        "create table compute.staging.stg_ref__holiday"
        " (holiday_date date, name text, workday_flag boolean, updated_at timestamp, load_date date)"
    )

    rows = engine.execute(
        "select date_day, year, quarter, month_start, month_name, day_of_week, is_weekend,"
        f" days_in_month from ({compiled['dim_date']}) order by 1"
    ).fetchall()

    first, end = date(2010, 1, 1), date(2041, 1, 1)
    assert rows == [
        (
            d,
            d.year,
            (d.month + 2) // 3,
            d.replace(day=1),
            calendar.month_name[d.month],
            d.isoweekday(),
            d.isoweekday() >= 6,
            calendar.monthrange(d.year, d.month)[1],
        )
        for d in (first + timedelta(days=n) for n in range((end - first).days))
    ]


@pytest.mark.case(74)
def test_an_instant_belongs_to_its_local_day_to_the_last_microsecond(
    compiled: dict[str, str], engine: duckdb.DuckDBPyConnection
) -> None:
    microsecond = timedelta(microseconds=1)
    # Around the local midnight (16:00 UTC) of ordinary days, ends of years, leap days and changed clocks.
    days = [date(2026, 6, 30), date(2024, 2, 29), date(2025, 12, 31), date(1986, 5, 4)]
    days += [date(1991, 9, 15), *NO_MIDNIGHT]
    hours = [datetime.combine(d, time(hour)) for d in days for hour in (14, 15, 16, 17)]
    instants = sorted(t + shift for t in hours for shift in (-microsecond, 0 * microsecond))
    engine.execute("create table instants (t timestamp)")
    engine.executemany("insert into instants values (?)", [[t] for t in instants])

    rows = engine.execute(compiled[INSTANTS_SQL]).fetchall()

    local = [t.replace(tzinfo=UTC).astimezone(SHANGHAI) for t in instants]
    assert rows == [
        (t, there.date(), there.hour, int(there.hour == 23 or there.hour < 7))
        for t, there in zip(instants, local, strict=True)
    ]


@pytest.mark.case(72, 73)
def test_a_birth_date_is_the_same_day_in_every_zone(
    compiled: dict[str, str], engine: duckdb.DuckDBPyConnection
) -> None:
    # The years of summer time in Shanghai, when a midnight of +09 is a day before in +08; and the days
    # that had no midnight. A date that is a date, and never an instant, does not notice.
    summer = [date(1986, 5, 1) + timedelta(days=n) for n in range(1970)]
    births = {f"c{n:04}": birth for n, birth in enumerate([*summer, *NO_MIDNIGHT])}
    for table, columns in {
        "staging.stg_crm__customer": "customer_id text, party_id text, customer_class text, "
        "customer_tier text, group_customer_id text, key_person_flag boolean, campus_flag boolean, "
        "since_date date, status text, province_code text, updated_at timestamp, load_date date",
        "staging.stg_crm__party_individual": "party_id text, gender text, birth_date date, "
        "marital_status text, employment_status text, id_no_hash text, updated_at timestamp, "
        "load_date date",
        "core.set_aside": "reason_code text, column_name text, key_text text, load_date date",
        "core.key_change": "table_name text, key_text text, change_code text, listed_at timestamp, "
        "load_date date",
    }.items():
        engine.execute(f"create table compute.{table} ({columns})")
    known = (datetime.combine(date(2026, 1, 1), time()), date(2026, 1, 1))
    engine.executemany(
        "insert into compute.staging.stg_crm__customer (customer_id, party_id, since_date,"
        " updated_at, load_date) values (?, ?, ?, ?, ?)",
        [[key, key, birth, *known] for key, birth in births.items()],
    )
    engine.executemany(
        "insert into compute.staging.stg_crm__party_individual (party_id, birth_date, updated_at,"
        " load_date) values (?, ?, ?, ?)",
        [[key, birth, *known] for key, birth in births.items()],
    )

    rows = engine.execute(
        "select customer_id, birth_date, birth_year, since_date, valid_from, typeof(birth_date)"
        f" from ({compiled['dim_customer']}) where customer_id <> 'UNKNOWN' order by 1"
    ).fetchall()

    assert rows == [(key, b, b.year, b, b, "DATE") for key, b in sorted(births.items())]


CLOCKS = re.compile(
    r"current_date|current_timestamp|localtimestamp|\bnow\s*\(|getdate|sysdate|today\s*\(|run_started_at"
    r"|modules\.datetime|random\s*\(|\buuid\s*\(",
    re.IGNORECASE,
)


@pytest.mark.case(76)
def test_no_model_asks_the_clock() -> None:
    files = [
        path
        for folder in ("models", "macros", "tests")
        for path in (PROJECT_DIR / "dbt_project" / folder).rglob("*.sql")
    ]

    assert len(files) > 100
    assert [path.name for path in files if CLOCKS.search(path.read_text())] == []


BUILD = """
import sys
from datetime import date
from pathlib import Path
sys.path.insert(0, {tests!r})
from warehouse import Warehouse
from warehouse_rows import small_operator
warehouse = Warehouse(Path({home!r}))
warehouse.add_all(small_operator())
warehouse.build("core", date(2026, 3, 1), date(2026, 3, 31))
"""


@pytest.mark.deep
@pytest.mark.case(76)
@pytest.mark.skipif(shutil.which("faketime") is None, reason="Debian's faketime is not installed")
def test_a_clock_that_is_wrong_changes_nothing(tmp_path: Path) -> None:
    tables: dict[str, dict[str, list[tuple[Any, ...]]]] = {}
    for shift in ("-1h", "+1d"):
        home = tmp_path / shift.strip("+-")
        script = BUILD.format(tests=str(PROJECT_DIR / "tests"), home=str(home))
        subprocess.run(["faketime", "-f", shift, sys.executable, "-c", script], check=True)
        with duckdb.connect(str(home / "demo" / "compute.duckdb"), read_only=True) as connection:
            tables[shift] = {
                name: connection.execute(f"select * from core.{name} order by all").fetchall()
                for (name,) in connection.execute(
                    "select table_name from duckdb_tables() where schema_name = 'core'"
                ).fetchall()
            }

    assert tables["-1h"] == tables["+1d"]
    assert len(tables["-1h"]["fct_usage_daily"]) > 0
