"""The core layer holds what landed, however the windows came: landing rows -> load -> build -> rows."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from conftest import SECRETS
from engines import Engine, forget, run_unit_tests
from warehouse import models_alone

from keepline import build as build_module
from keepline import parts
from keepline.build import BuildFailedError, build
from keepline.compute import compute_for
from keepline.contract import Column, load_contract
from keepline.errors import BadDataError, UsageError
from keepline.ops import ModelRun
from keepline.release.published import from_manifest
from keepline.settings import Settings
from keepline.window import Window

# The days with batches, and windows that cover them and the days between.
D1, D2, D3, D4, D5 = (
    date.fromisoformat(day)
    for day in ("2026-01-01", "2026-01-02", "2026-02-10", "2026-04-02", "2026-04-20")
)
WINDOWS = [Window(D1, D2), Window(D2, D3), Window(D3, D5), Window.day(D5)]
WHOLE = Window(D1, D5 + timedelta(days=1))


class Warehouse:
    """An operator's landing and compute engine, empty at first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.contract = load_contract(settings.dbt_dir)
        self.compute = compute_for(settings)

    def land(self, rows: list[tuple[str, date, dict[str, Any]]]) -> None:
        """Write rows (table, load date, values) as extraction does; left-out columns get a default."""
        batches = defaultdict(list)
        for table, load_date, values in rows:
            batches[table, load_date].append(values)
        with duckdb.connect() as connection:
            for (table, load_date), batch in batches.items():
                columns = self.contract[table].landed_columns
                folder = self.settings.landing_dir / table / f"load_date={load_date}"
                folder.mkdir(parents=True, exist_ok=True)
                declared = ", ".join(
                    f"{column.name} {column.data_type.replace('text', 'varchar')}"
                    for column in columns
                )
                connection.execute(f"create or replace table batch ({declared})")
                connection.executemany(
                    f"insert into batch values ({', '.join('?' for _ in columns)})",
                    [
                        [values.get(column.name, default(column, load_date)) for column in columns]
                        for values in batch
                    ],
                )
                connection.execute(f"copy batch to '{folder / 'part-0.parquet'}' (format parquet)")
                seal(folder)

    def run(self, window: Window, *, full_refresh: bool = False, tested: bool = False) -> None:
        """Load and build a window, with dbt's data tests where they are asked for."""
        self.compute.load(self.contract, window)
        with nullcontext() if tested else models_alone():
            build(self.settings, "core", window, full_refresh=full_refresh)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.compute.execute(sql)

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every core table, in an order that does not depend on storage."""
        tables = self.rows(
            "select table_name from information_schema.tables where table_schema = 'core'"
        )
        return {name: self.rows(f"select * from core.{name} order by all") for (name,) in tables}

    def forget(self) -> None:
        """Drop what compute holds; landing stays."""
        forget(self.settings)

    def clear(self) -> None:
        self.forget()
        shutil.rmtree(self.settings.landing_dir, ignore_errors=True)


def seal(partition: Path) -> None:
    """Write what load and build ask of a manifest: the checksum of the file, and its rows."""
    part = partition / "part-0.parquet"
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    rows = pq.read_metadata(part).num_rows
    (partition / "_manifest.json").write_text(json.dumps({"sha256": digest, "rows": rows}))


def default(column: Column, load_date: date) -> Any:
    if column.nullable:
        return None
    if column.codes:
        return column.codes[0]
    return {"text": "x", "date": load_date, "timestamp": load_date, "boolean": False}.get(
        column.data_type, column.minimum or 0
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Settings:
    """Return settings that the tests of an engine share, so that dbt parses the project once."""
    return Settings(home=tmp_path_factory.mktemp(engine["compute"]), **SECRETS, **engine)


@pytest.fixture
def warehouse(home: Settings) -> Iterator[Warehouse]:
    warehouse = Warehouse(home)
    warehouse.clear()
    yield warehouse
    warehouse.clear()


def subscription(load_date: date, subscription_id: str, **values: Any) -> Any:
    known = {"status_code": "active", "brand_code": "red", "activated_at": date(2025, 6, 1)}
    return (
        "subscription",
        load_date,
        known | {"subscription_id": subscription_id, "updated_at": load_date} | values,
    )


def call(load_date: date, subscription_id: str, usage_id: str, **values: Any) -> Any:
    known = {"status": "completed", "direction": "out", "duration_s": 60, "other_prefix": "131"}
    return (
        "cdr_voice",
        load_date,
        known | {"subscription_id": subscription_id, "usage_id": usage_id} | values,
    )


def half_a_year() -> list[tuple[str, date, dict[str, Any]]]:
    """Return what an operator with six lines delivers on five days.

    `steady` calls on every day; `quiet` is lost by silence and comes back; `late` is silent but for
    a call of January that arrives in February; `leaver` changes brand and is terminated with a date
    of the month before; `joiner` becomes known in April, activated in March.
    """
    return [
        ("operator", D1, {"operator_code": "OWN", "own_flag": True, "updated_at": D1}),
        ("number_range", D1, {"prefix": "131", "operator_code": "OWN", "valid_from": D1}),
        subscription(D1, "steady", payment_type="postpaid"),
        subscription(D1, "quiet", payment_type="prepaid"),
        subscription(D1, "late", payment_type="prepaid"),
        subscription(D1, "leaver", payment_type="postpaid"),
        subscription(D3, "leaver", payment_type="postpaid", brand_code="blue"),
        subscription(
            D4,
            "leaver",
            payment_type="postpaid",
            brand_code="blue",
            status_code="terminated",
            terminated_at=date(2026, 3, 30),
            termination_reason_code="price",
        ),
        subscription(D5, "joiner", payment_type="prepaid", activated_at=date(2026, 3, 20)),
        *(call(day, "steady", f"s{day}") for day in (D1, D2, D3, D4, D5)),
        call(D1, "quiet", "q1"),
        call(D5, "quiet", "q2"),
        call(D1, "late", "l1"),
        call(D3, "late", "l2", event_date=date(2026, 1, 10)),
        call(D5, "joiner", "j1", event_date=date(2026, 3, 25)),
        ("recharge", D1, {"recharge_id": "r1", "subscription_id": "quiet", "paid_amt": 53}),
        ("bill", D3, {"bill_id": "b1", "account_id": "a1", "updated_at": D3}),
        ("bill_line", D3, {"bill_id": "b1", "line_no": 1, "subscription_id": "steady"}
         | {"tax_excl_amt": 29.5, "billed_date": D3}),
    ]  # fmt: skip


@pytest.mark.deep(on="postgres")
def test_a_year_of_windows_gives_one_answer(warehouse: Warehouse) -> None:
    warehouse.land(half_a_year())
    warehouse.run(WHOLE, tested=True)
    whole = warehouse.contents()

    # What the rows say.
    assert warehouse.rows(
        "select subscription_id, definition_code, event_date, confirmed_date, revoked_date"
        " from core.fct_churn_event order by 1"
    ) == [
        ("late", "INACTIVITY_90", date(2026, 1, 11), date(2026, 4, 10), None),
        ("leaver", "TERMINATION", date(2026, 3, 30), D4, None),
        ("quiet", "INACTIVITY_90", D2, date(2026, 4, 1), D5),
    ]
    assert warehouse.rows(
        "select cast(month_start as varchar)[:7], count(*) filter (opening_flag),"
        " count(*) filter (gross_add_flag), sum(win_back_cnt)::int, sum(churn_cnt)::int,"
        " count(*) filter (closing_flag) from core.fct_subscription_month group by 1 order by 1"
    ) == [
        ("2026-01", 4, 0, 0, 2, 2),
        ("2026-02", 2, 0, 0, 0, 2),
        ("2026-03", 2, 1, 0, 1, 2),
        # The quiet one is back.
        ("2026-04", 2, 0, 1, 0, 3),
    ]
    assert warehouse.rows(
        "select event_date, load_date, net_type, duration_s from core.fct_usage_daily"
        " where subscription_id = 'late' order by 1"
    ) == [(D1, D1, "onnet", 60), (date(2026, 1, 10), D3, "onnet", 60)]
    assert warehouse.rows("select tax_excl_fen, account_id from core.fct_bill_line") == [
        (2950, "a1")
    ]

    # A window of it again changes nothing.
    warehouse.run(WINDOWS[2])
    assert differences(whole, warehouse.contents()) == {}

    # Window by window and out of order; the first day brings the reference data.
    warehouse.forget()
    for number in (0, 3, 1, 2):
        warehouse.run(WINDOWS[number])
    assert differences(whole, warehouse.contents()) == {}

    # From nothing but what is loaded, with the window of one day.
    warehouse.run(WINDOWS[3], full_refresh=True)
    assert differences(whole, warehouse.contents()) == {}


@pytest.mark.deep(on="postgres")
def test_a_window_that_memory_does_not_hold_gives_the_tables_of_one(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    if warehouse.settings.compute != build_module.CUT:
        pytest.skip("servers and clusters spill by themselves: their windows are not cut")
    warehouse.land(half_a_year())
    warehouse.compute.load(warehouse.contract, WHOLE)
    with models_alone():
        at_once = build(warehouse.settings, "core", WHOLE)
    whole = warehouse.contents()
    assert parts.parts_that_fit(warehouse.settings, WHOLE) == [WHOLE]

    # As much memory as two rows take: each day with rows begins a part.
    limit = warehouse.settings.model_copy(update={"compute_memory_limit": "1GiB"})
    monkeypatch.setattr(parts, "BYTES_PER_ROW", 2**29)
    cut = parts.parts_that_fit(limit, WHOLE)
    assert [part.from_date for part in cut] == [D1, D2, D3, D4, D5]
    assert (cut[0].from_date, cut[-1].to_date) == (WHOLE.from_date, WHOLE.to_date)
    assert all(one.to_date == next_one.from_date for one, next_one in itertools.pairwise(cut))

    # Over what is there, and all from nothing with the window of one day.
    with models_alone():
        in_parts = build(limit, "core", WHOLE)
    assert differences(whole, warehouse.contents()) == {}
    assert {run.model for run in in_parts} == {run.model for run in at_once}
    assert rows_of(in_parts) == rows_of(at_once)
    with models_alone():
        build(limit, "core", WINDOWS[3], full_refresh=True)
    assert differences(whole, warehouse.contents()) == {}
    # Killed between two of its parts, and begun again.
    warehouse.forget()
    warehouse.compute.load(warehouse.contract, WHOLE)
    with monkeypatch.context() as killed:
        killed.setattr(build_module, "parts_that_fit", lambda *_: [cut[0], None])
        with pytest.raises(AttributeError):
            build(limit, "core", WINDOWS[3])
    with models_alone():
        build(limit, "core", WINDOWS[3])
    assert differences(whole, warehouse.contents()) == {}


def rows_of(results: list[ModelRun]) -> dict[str, int]:
    """Return what each model wrote that replaces load dates."""
    return {run.model: run.rows for run in results if run.model.startswith("fct_") and run.rows}


def differences(
    expected: dict[str, list[tuple[Any, ...]]], found: dict[str, list[tuple[Any, ...]]]
) -> dict[str, list[Any]]:
    """Return the rows that only one side has, by table; empty when all tables are equal."""
    tables = sorted(expected.keys() | found.keys())
    unequal = {t: (expected.get(t, []), found.get(t, [])) for t in tables}
    return {
        table: sorted(map(str, set(left) ^ set(right)))
        or ["the same rows, another number of times"]
        for table, (left, right) in unequal.items()
        if left != right
    }


@pytest.mark.deep(on="postgres")
def test_a_window_that_became_empty_is_emptied(warehouse: Warehouse) -> None:
    warehouse.land(
        [
            ("operator", D1, {"operator_code": "OWN", "own_flag": True}),
            subscription(D1, "s1"),
            call(D1, "s1", "v1"),
            call(D2, "s1", "v2"),
        ]
    )
    warehouse.run(Window(D1, D3))
    assert warehouse.rows("select count(*) from core.fct_usage_daily") == [(2,)]

    shutil.rmtree(warehouse.settings.landing_dir / "cdr_voice" / f"load_date={D2}")
    warehouse.run(Window.day(D2))

    for table in ("fct_usage_daily", "fct_activity_daily"):
        assert warehouse.rows(f"select load_date from core.{table}") == [(D1,)]
    # The window reached into February, whether or not anything landed in it.
    assert warehouse.rows(
        "select active_days from core.fct_subscription_month order by month_start"
    ) == [(1,), (0,)]


@pytest.mark.deep(on="postgres")
def test_a_month_in_which_nothing_was_built_is_there_all_the_same(warehouse: Warehouse) -> None:
    may = date(2026, 5, 1)
    warehouse.land(
        [
            ("operator", D1, {"operator_code": "OWN", "own_flag": True}),
            subscription(D1, "s1", payment_type="postpaid"),
            call(D1, "s1", "v1"),
            call(may, "s1", "v2"),
        ]
    )

    warehouse.run(Window(D1, D3))
    warehouse.run(Window.day(may))

    months = warehouse.rows("select month_start from core.fct_subscription_month order by 1")
    assert months[-1] == (may,)
    assert len(months) == 12 * (may.year - D1.year) + may.month - D1.month + 1


def test_a_build_says_which_model_broke_and_why(warehouse: Warehouse) -> None:
    with pytest.raises(UsageError, match="no layer 'cores': choose one of"):
        build(warehouse.settings, "cores", Window.day(D1))

    # Nothing was loaded: there is no raw table to read.
    with pytest.raises(BuildFailedError, match=r'model stg_.*"raw\.\w+" does not exist') as failure:
        build(warehouse.settings, "core", Window.day(D1))
    assert {run.status for run in failure.value.results} >= {"error", "skipped"}


def test_a_data_test_that_finds_rows_stops_the_build(warehouse: Warehouse) -> None:
    warehouse.land([("payment", D1, {"payment_id": "p1"}), ("payment", D1, {"payment_id": "p1"})])
    warehouse.compute.load(warehouse.contract, Window.day(D1))

    with pytest.raises(BuildFailedError, match="well_formed_fct_payment"):
        build(warehouse.settings, "core", Window.day(D1))


def test_landing_that_breaks_the_contract_is_not_loaded(warehouse: Warehouse) -> None:
    warehouse.land([("payment", D1, {"payment_id": "p1"})])
    warehouse.compute.load(warehouse.contract, Window.day(D1))
    folder = warehouse.settings.landing_dir / "payment" / f"load_date={D1}"
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (select 'p2' as payment_id) to '{folder / 'part-0.parquet'}' (format parquet)"
        )
    seal(folder)

    with pytest.raises(BadDataError, match="landing of payment for 2026-01-01 does not fit"):
        warehouse.compute.load(warehouse.contract, Window.day(D1))
    # The rows that were there stay.
    assert warehouse.rows("select payment_id from raw.payment") == [("p1",)]


@pytest.mark.parametrize("lost", ["part-0.parquet", "_manifest.json", "a byte"])
def test_a_landing_file_that_was_damaged_is_not_loaded(warehouse: Warehouse, lost: str) -> None:
    warehouse.land([("payment", D1, {"payment_id": "p1"})])
    warehouse.compute.load(warehouse.contract, Window.day(D1))
    folder = warehouse.settings.landing_dir / "payment" / f"load_date={D1}"
    if lost == "a byte":
        part = folder / "part-0.parquet"
        part.write_bytes(part.read_bytes().replace(b"p1", b"p2", 1))
    else:
        (folder / lost).unlink()

    with pytest.raises(
        BadDataError, match=r"landing of payment 2026-01-01 is damaged: .*extract --date 2026-01-01"
    ):
        warehouse.compute.load(warehouse.contract, Window.day(D1))
    assert warehouse.rows("select payment_id from raw.payment") == [("p1",)]


def test_partitions_are_replaced_whole_and_no_others(warehouse: Warehouse) -> None:
    columns = {"score_date": "date", "subscription_id": "varchar"}
    compute = warehouse.compute
    file = warehouse.settings.operator_home / "scores.parquet"

    def scores(day: date, *ids: str) -> None:
        values = ", ".join(f"(date '{day}', '{one}')" for one in ids)
        compute.export(f"select * from (values {values}) as t (score_date, subscription_id)", file)

    scores(D1, "s1", "s2")
    assert compute.replace_partition("ml.score", columns, [file], "score_date", [D1]) == 2
    scores(D2, "s1")
    assert compute.replace_partition("ml.score", columns, [file], "score_date", [D2]) == 1
    with pytest.raises(
        BadDataError, match=r"1 rows for ml\.score have a score_date that is none of"
    ):
        compute.replace_partition("ml.score", columns, [file], "score_date", [D1])
    assert compute.replace_partition("ml.score", columns, [], "score_date", [D1]) == 0

    assert warehouse.rows("select * from ml.score") == [(D2, "s1")]


def test_no_published_column_is_personal(warehouse: Warehouse) -> None:
    warehouse.run(Window.day(D1))
    path = build_module.parse(warehouse.settings)
    nodes = json.loads(path.read_text())["nodes"]
    pii = {
        (node["name"], column["name"]): column["config"]["meta"]["pii"]
        for node in nodes.values()
        for column in node.get("columns", {}).values()
        if "pii" in column.get("config", {}).get("meta", {})
    }
    assert pii["dim_customer", "birth_date"] == "personal"

    published = {
        (table.model, column) for table in from_manifest(path) for column in table.column_names
    }

    assert {pii.get(column) for column in published} == {None, "masked"}
    # A pseudonym is called a hash: none may have lost its mark.
    assert [column for column in published if column[1].endswith("_hash")] == []
    assert ("dim_customer", "birth_date") not in published
    assert ("dim_customer", "birth_year") in published


def test_unit_tests_of_the_core_pass(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    # dbt asks the tables that a unit test replaces for their columns.
    warehouse.run(Window.day(D1))

    passed, said = run_unit_tests(warehouse.settings, monkeypatch, "core")

    assert said == []
    assert passed >= 14
