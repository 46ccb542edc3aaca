"""The gate `landed` knows a bad batch by its profile, and keeps quiet while it knows too little."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from landing_days import LAST, ROWS, Landing

from expectations import runner
from expectations.gates import load_gate
from keepline.contract import VOLUMES, Contract, load_contract
from keepline.errors import BadDataError, CheckCrashedError
from keepline.settings import PROJECT_DIR
from keepline.window import Window


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(PROJECT_DIR / "dbt_project")


@pytest.fixture
def landing(tmp_path, contract) -> Landing:
    return Landing(tmp_path, contract)


def broken(results) -> set[str]:
    return {result.column_name for result in runner.critical_failures(results)}


def test_usual_batches_pass_and_each_expectation_is_answered(landing):
    landing.fill("cdr_voice")
    landing.fill("interaction")
    landing.fill("subscription")

    results = landing.run()

    assert [result for result in results if not result.success] == []
    assert len(results) == 27
    assert {result.severity for result in results if result.suite == "landed_call_records"} == {
        "critical",
        "warning",
    }
    assert (landing.settings.data_docs_dir / "landed" / "index.html").exists()


@pytest.mark.parametrize(
    ("rows", "values", "manifest", "column"),
    [
        (ROWS * 6 // 10, {}, {}, "rows_ratio"),
        (ROWS * 16 // 10, {}, {}, "rows_ratio"),
        (ROWS, {"duration_s": "1000 * (1 + n % 60)"}, {}, "value_ratio"),
        (ROWS, {"charge_amt": "case when n % 4 = 0 then 50 else 0 end"}, {}, "value_ratio"),
        (ROWS, {"duration_s": "0"}, {}, "constant_columns"),
        (ROWS, {"cell_id": "null"}, {}, "null_share_rise"),
        (ROWS, {"event_date": "{day} + 1"}, {}, "early_rows"),
        (ROWS, {}, {"physical_rows": ROWS + 1}, "unaccounted_rows"),
        (
            ROWS,
            {},
            {"physical_rows": ROWS + 29, "quarantined": {"BAD_DATE": 29}},
            "quarantined_share",
        ),
    ],
    ids=[
        "40 % less",
        "60 % more",
        "another unit",
        "yuan for fen",
        "a constant measure",
        "missing values",
        "the future",
        "a lost row",
        "too many quarantined",
    ],
)
def test_a_strange_batch_is_stopped(landing, rows, values, manifest, column):
    landing.fill("cdr_voice")
    landing.land("cdr_voice", LAST, rows, values, **manifest)

    results = landing.run()

    assert broken(results) == {column}
    (failure,) = runner.critical_failures(results)
    assert f"cdr_voice {LAST}" in failure.observed


def test_a_handful_of_bad_rows_in_a_small_batch_is_not_stopped(landing):
    # given more than 1 %, and not more rows than the contract allows
    landing.fill("cdr_voice")
    said = {"physical_rows": ROWS + 20, "quarantined": {"BAD_DATE": 20}}

    landing.land("cdr_voice", LAST, ROWS, {}, **said)

    assert broken(landing.run()) == set()


def test_a_day_that_did_not_come_is_stopped(landing):
    landing.fill("cdr_voice")
    shutil.rmtree(landing.settings.landing_dir / "cdr_voice" / f"load_date={LAST}")

    assert "rows_when_expected" in broken(landing.run())


def test_a_hole_in_a_history_is_stopped(landing):
    landing.fill("cdr_voice")
    hole = LAST - timedelta(days=9)
    landing.land("cdr_voice", hole, 0)

    results = landing.run(Window(LAST - timedelta(days=30), LAST + timedelta(days=1)))

    assert broken(results) == {"rows_when_expected", "rows_ratio"}
    assert all(f"{hole}: 0" in failure.observed for failure in runner.critical_failures(results))


def test_a_province_that_sends_nothing_is_stopped(landing):
    landing.fill("interaction")
    landing.land("interaction", LAST, ROWS, {"served_province": "'v' || n % 6"})

    assert broken(landing.run()) == {"missing_provinces"}


def test_a_charge_that_is_mostly_nothing_may_be_nothing_on_a_day(landing):
    landing.fill("cdr_voice")
    landing.land("cdr_voice", LAST, ROWS, {"charge_amt": "0"})

    assert broken(landing.run()) == set()


def test_with_little_history_nothing_is_compared(landing):
    landing.fill("cdr_voice", days=10)
    landing.land("cdr_voice", LAST, 3 * ROWS, {"duration_s": "0", "cell_id": "null"})

    results = [result for result in landing.run() if result.table_name == "call_records"]
    not_judged = {result.column_name for result in results if result.severity == "info"}

    assert broken(results) == set()
    assert not_judged >= {"rows_ratio", "value_ratio", "constant_columns", "null_share_rise"}


def test_few_rows_are_not_judged_by_their_number(landing):
    landing.fill("cdr_voice", rows=15)
    landing.land("cdr_voice", LAST, 3)

    assert broken(landing.run()) == set()


def test_an_operator_without_a_table_is_told_so(landing):
    landing.fill("subscription")

    results = [result for result in landing.run() if result.table_name == "call_records"]

    assert {result.observed for result in results} == {"not judged: nothing has ever landed"}


def test_a_wide_window_is_judged_by_its_last_day(landing):
    landing.fill("cdr_voice", days=60)
    landing.land("cdr_voice", LAST - timedelta(days=7), 5 * ROWS)

    window = Window(LAST - timedelta(days=59), LAST + timedelta(days=1))
    profile = landing.profile(window)

    assert len(profile) == 60
    assert profile["rows_ratio"].notna().sum() == 1
    assert broken(landing.run(window)) == set()


def test_the_profile_holds_no_value_of_a_row(landing):
    landing.fill("cdr_voice")
    landing.land("cdr_voice", LAST, ROWS, {"msisdn_hash": "'secret'", "cell_id": "null"})

    results = landing.run()
    docs = [
        path.read_text(errors="replace")
        for path in (landing.settings.data_docs_dir / "landed").rglob("*.html")
    ]

    assert docs
    assert not [text for text in [str(results), *docs] if "secret" in text]


def test_a_manifest_that_cannot_be_read_is_named(landing):
    landing.fill("cdr_voice", days=3)
    path = landing.settings.landing_dir / "cdr_voice" / f"load_date={LAST}" / "_manifest.json"
    path.write_text('{"rows": 3}')

    with pytest.raises(BadDataError, match=r"_manifest\.json cannot be read.*extract cdr_voice"):
        landing.run()


@pytest.mark.parametrize("asked", ["[cdr_voice]", "{volume: usages}", "{column: x}", "all"])
def test_tables_that_the_contract_has_no_word_for_are_a_crash(landing, tmp_path, asked):
    folder = tmp_path / "gates"
    folder.mkdir()
    (folder / "suites").symlink_to(Path(runner.__file__).parent / "suites")
    (folder / "gates.yml").write_text(
        f"landed: [{{check: x, suite: landed_events, tables: {asked}}}]\n"
    )

    with pytest.raises(CheckCrashedError, match=r"there are no tables .*those of {'base': True}"):
        runner.run_landed(landing.settings, landing.contract, Window.day(LAST), folder)


def test_every_volume_but_that_of_references_has_a_check():
    any_table = load_contract(PROJECT_DIR / "dbt_project")["bill"]
    contract = {volume: replace(any_table, volume=volume) for volume in VOLUMES}

    judged = {name for check in load_gate("landed", contract=contract) for name in check.tables}

    assert judged == set(VOLUMES) - {"reference"}


def test_an_installed_spark_does_not_end_the_process_that_checks(tmp_path):
    # Given a PySpark as it is where gRPC is missing: its Connect ends a process without a main file.
    connect = tmp_path / "pyspark" / "sql" / "connect"
    connect.mkdir(parents=True)
    for package in (connect.parent.parent, connect.parent):
        (package / "__init__.py").write_text(
            "def __getattr__(name):\n    return type(name, (), {})\n"
        )
    (connect / "__init__.py").write_text("import sys\n\nsys.exit(0)\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    # When such a process opens a gate.
    script = "from expectations.engine import Engine; Engine(); print('open')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    # Then it is open, and the process lives.
    assert done.stdout == "open\n", done.stderr
