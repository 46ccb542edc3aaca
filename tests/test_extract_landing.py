"""Landing: whole days, the same bytes for the same rows, and nothing in between."""

from __future__ import annotations

import shutil
from datetime import timedelta

import duckdb
import pytest
from extract_source import DAY, Extraction, call, calls

from keepline import home
from keepline.contract import load_contract
from keepline.extract import aside, table
from keepline.extract.session import Session
from keepline.settings import Settings
from keepline.window import Window

DAYS = [DAY - timedelta(days=n) for n in (2, 1, 0)]
WINDOW = Window(DAYS[0], DAY + timedelta(days=1))


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


@pytest.fixture
def delivered(extraction):
    """An operator that delivered three days, one bad row on each."""
    for number, day in enumerate(DAYS):
        lines = [*calls(200 + number, day), call(900, day, direction="up")]
        extraction.mediation.deliver(lines, day)
    return extraction


def test_landing_has_the_contracts_columns_and_types(delivered):
    delivered.run(WINDOW)

    calls_table = load_contract(delivered.settings.dbt_dir)["cdr_voice"]
    path = next(delivered.settings.landing_dir.glob("cdr_voice/*/part-0.parquet"))
    found = duckdb.sql(f"describe select * from read_parquet('{path}', hive_partitioning = false)")
    names = {"text": "VARCHAR", "decimal(18,2)": "DECIMAL(18,2)"}
    assert [row[:2] for row in found.fetchall()] == [
        (c.name, names.get(c.data_type, c.data_type.upper())) for c in calls_table.landed_columns
    ]


def test_rows_land_in_the_order_of_their_time(delivered):
    delivered.mediation.deliver(list(reversed(calls(200))))

    delivered.run()

    times = delivered.landed(columns="start_at, usage_id")
    assert times == sorted(times)


@pytest.mark.parametrize("span_rows", [30, 450])
def test_how_many_rows_are_sorted_at_once_does_not_show(delivered, monkeypatch, span_rows):
    # Given calls of many hours, a bad row and a copy among them
    hours = [call(n, start_at=f"{DAY} {n % 9:02d}:{n % 60:02d}:00+08:00") for n in range(300)]
    delivered.mediation.deliver([*hours, hours[7], call(900, direction="up")])
    delivered.run(WINDOW)
    at_once = delivered.files()
    shutil.rmtree(delivered.settings.operator_home)

    # When a day is cut into its hours, and the days are not taken together
    monkeypatch.setattr(aside, "SPAN_ROWS", span_rows)
    delivered.run(WINDOW)

    assert delivered.files() == at_once
    assert len(delivered.landed(columns="usage_id")) == 200 + 201 + 300


def test_the_lines_of_one_file_are_numbered_as_they_pass(extraction, monkeypatch):
    # Given a bad row, whose line is looked for
    plans = []
    run = Session.run

    def explained(self, sql, *parameters):
        if sql.startswith(f"create or replace temp table {table.LOOKED} "):
            plans.append(run(self, f"explain (format json) {sql}").fetchall()[0][1])
        return run(self, sql, *parameters)

    monkeypatch.setattr(Session, "run", explained)
    extraction.mediation.deliver([*calls(20), call(900, direction="up")])

    extraction.run()

    # Then no step of it holds the file: two million records of a day would not fit
    assert extraction.quarantined("reason_code, line_no") == [("UNKNOWN_CODE", 22)]
    (plan,) = plans
    assert '"STREAMING_WINDOW"' in plan
    assert '"WINDOW"' not in plan


def test_a_wide_window_gives_the_same_bytes_as_day_by_day(delivered):
    delivered.run(WINDOW)
    wide = delivered.files()
    shutil.rmtree(delivered.settings.operator_home)

    for day in reversed(DAYS):
        delivered.run(day)

    assert delivered.files() == wide
    assert len(wide) == 3 * 3  # data and manifest of landing, rows of quarantine


def test_running_again_changes_no_byte_and_touches_no_partition(delivered):
    delivered.run(WINDOW)
    before = delivered.files()
    stamps = [p.stat().st_mtime_ns for p in delivered.settings.landing_dir.rglob("*.parquet")]

    delivered.run(WINDOW)

    assert delivered.files() == before
    assert stamps == [
        p.stat().st_mtime_ns for p in delivered.settings.landing_dir.rglob("*.parquet")
    ]


def test_the_order_of_the_records_in_a_file_does_not_matter(delivered):
    delivered.run(WINDOW)
    before = delivered.manifest(DAYS[0])["sha256"]

    delivered.mediation.deliver(calls(200, DAYS[0])[::-1], DAYS[0])
    delivered.run(DAYS[0], ticket="T-1")

    assert delivered.manifest(DAYS[0])["sha256"] == before


def test_a_day_that_became_empty_is_emptied(delivered):
    delivered.run(WINDOW)
    delivered.mediation.deliver([], DAYS[1])

    result = delivered.run(DAYS[1], ticket="T-1")["cdr_voice"]

    assert {row[0] for row in delivered.landed(columns="load_date")} == {DAYS[0], DAYS[2]}
    assert {row[0] for row in delivered.quarantined("load_date")} == {DAYS[0], DAYS[2]}
    assert [(b.load_date, b.loaded_rows) for b in result.reconciliations] == [(DAYS[1], 0)]


def test_days_outside_the_window_are_not_touched(delivered):
    delivered.run(WINDOW)
    before = delivered.files()
    delivered.mediation.deliver(calls(5, DAYS[1]), DAYS[1])

    delivered.run(DAYS[1], ticket="T-1")

    changed = {name for name, content in delivered.files().items() if before.get(name) != content}
    assert changed == {
        f"landing/cdr_voice/load_date={DAYS[1]}/{name}"
        for name in ("part-0.parquet", "_manifest.json")
    }


def test_every_day_of_the_window_has_its_balance(delivered):
    result = delivered.run(WINDOW)["cdr_voice"]

    assert [
        (b.load_date, b.physical_rows, b.loaded_rows, dict(b.quarantined_rows), b.balanced)
        for b in result.reconciliations
    ] == [
        (day, 201 + number, 200 + number, {"UNKNOWN_CODE": 1}, True)
        for number, day in enumerate(DAYS)
    ]


def test_the_manifest_tells_what_the_partition_holds(delivered):
    delivered.run(WINDOW)

    said = delivered.manifest(DAYS[0])

    assert {name: said[name] for name in ("rows", "physical_rows", "quarantined", "sums")} == {
        "rows": 200,
        "physical_rows": 201,
        "quarantined": {"UNKNOWN_CODE": 1},
        "sums": {"duration_s": sum(10 + n for n in range(200)), "charge_fen": 200 * 15},
    }
    assert said["source"]["file"] == f"{DAYS[0]}/cdr_voice.csv.gz"
    assert said["keys"] == {"version": 1, **home.fingerprints(delivered.settings)}


def test_what_a_killed_run_left_behind_does_no_harm(delivered):
    delivered.run(WINDOW)
    before = delivered.files()
    left = delivered.settings.landing_dir / "cdr_voice" / ".incoming-1" / "load_date=2026-06-29"
    left.mkdir(parents=True)
    (left / "part-0.parquet").write_bytes(b"half a file")

    delivered.run(WINDOW)

    assert delivered.files() == before


def test_a_killed_replacement_is_mended_by_the_next_run(delivered):
    delivered.run(WINDOW)
    before = delivered.files()
    part = delivered.settings.landing_dir / "cdr_voice" / f"load_date={DAY}" / "part-0.parquet"
    part.write_bytes(b"moved, but its manifest was not")

    delivered.run(WINDOW)

    assert delivered.files() == before


def test_memory_that_is_too_small_for_the_window_is_met_with_fewer_days_at_once(
    settings, tmp_path, monkeypatch
):
    def run(home, **limits):
        own = Settings(**{**settings.model_dump(), "home": home, **limits})
        extraction = Extraction(own, home, monkeypatch)
        for day in DAYS:
            extraction.mediation.deliver(calls(30_000, day), day)
        extraction.run(WINDOW)
        return extraction.files()

    for name in ("roomy", "tight"):
        (tmp_path / name).mkdir()

    assert run(tmp_path / "tight", compute_memory_limit="60MB") == run(tmp_path / "roomy")
