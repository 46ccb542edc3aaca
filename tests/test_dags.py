"""The DAG files: what all of them promise, and which day a run is for."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow_process import airflow_process

from keepline.airflow import POOL
from keepline.errors import EXIT_CODES, SourceUnavailableError
from keepline.settings import PROJECT_DIR

DAGS_DIR = PROJECT_DIR / "dags"
DAILY = [
    *("extract", "load", "check", "build_core", "build_features", "score", "build_marts"),
    *("stage", "audit", "publish", "report"),
]
HEAVY = {"pandas", "numpy", "duckdb", "dbt", "great_expectations", "lightgbm"}


# -- run in Airflow's process ------------------------------------------------------------------------


def parsed() -> dict[str, Any]:
    """Parse the folder as Airflow does and tell what is there, in plain values."""
    before = set(sys.modules)
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.serialized_objects import DagSerialization

    def bag() -> BundleDagBag:
        return BundleDagBag(dag_folder=str(DAGS_DIR), bundle_path=DAGS_DIR, bundle_name="dags")

    first, second = bag(), bag()
    return {
        "errors": first.import_errors,
        "heavy": sorted((set(sys.modules) - before) & HEAVY),
        "dags": {dag_id: _facts(dag) for dag_id, dag in first.dags.items()},
        "is_same_twice": all(
            DagSerialization.serialize_dag(dag)
            == DagSerialization.serialize_dag(second.dags[dag_id])
            for dag_id, dag in first.dags.items()
        ),
    }


def _facts(dag: Any) -> dict[str, Any]:
    return {
        "doc": dag.doc_md,
        "file_doc": Path(dag.fileloc).read_text().split('"""')[1],
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "start_date": dag.start_date,
        "tags": sorted(dag.tags),
        "params": sorted(dag.params),
        "commands": {task.task_id: task.command for task in dag.tasks},
        "edges": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
        "outlets": {task.task_id: [a.name for a in task.outlets] for task in dag.tasks},
        "tasks": [
            {
                "owner": task.owner,
                "retries": task.retries,
                "policy": task.retry_policy.serialize(),
                "pool": task.pool,
                "timeout": task.execution_timeout,
            }
            for task in dag.tasks
        ],
    }


def scheduled_days(dag_id: str, first: datetime, last: datetime) -> list[tuple[str, str]]:
    """Return (moment a run starts, its business date) for the runs that the clock makes."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import TimeRestriction
    from keepline_command import business_date

    dags = BundleDagBag(dag_folder=str(DAGS_DIR), bundle_path=DAGS_DIR, bundle_name="dags").dags
    timetable = coerce_to_core_timetable(dags[dag_id].timetable)
    wanted = TimeRestriction(earliest=first, latest=last, catchup=True)
    found, before = [], None
    while info := timetable.next_dagrun_info(
        last_automated_data_interval=before, restriction=wanted
    ):
        before = info.data_interval
        run = SimpleNamespace(
            run_type="scheduled", partition_key=None, data_interval_end=info.data_interval.end
        )
        found.append((info.run_after.isoformat()[:16], str(business_date({}, run))))
    return found


def interval_hours(dag_id: str, first: datetime, last: datetime) -> list[float]:
    """Return how long the data intervals are of the runs that the clock makes."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import TimeRestriction

    dags = BundleDagBag(dag_folder=str(DAGS_DIR), bundle_path=DAGS_DIR, bundle_name="dags").dags
    timetable = coerce_to_core_timetable(dags[dag_id].timetable)
    wanted = TimeRestriction(earliest=first, latest=last, catchup=True)
    found, before = [], None
    while info := timetable.next_dagrun_info(
        last_automated_data_interval=before, restriction=wanted
    ):
        before = info.data_interval
        found.append((before.end - before.start).total_seconds() / 3600)
    return found


def resolve(param: str | None, run: dict[str, Any]) -> date | str:
    from keepline_command import business_date

    known = {"run_type": "manual", "partition_key": None, "data_interval_end": None}
    try:
        return business_date({"business_date": param}, SimpleNamespace(**known | run))
    except ValueError as error:
        return str(error)


def window_of(params: dict[str, Any]) -> str:
    from keepline_command import backfill_window

    try:
        return backfill_window(params)
    except ValueError as error:
        return str(error)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessPoolExecutor]:
    home = tmp_path_factory.mktemp("airflow")
    with airflow_process(home) as process:
        process.submit(sys.path.append, str(DAGS_DIR)).result()
        yield process


@pytest.fixture(scope="module")
def found(airflow: ProcessPoolExecutor) -> dict[str, Any]:
    return airflow.submit(parsed).result()


# -- what all DAGs promise ---------------------------------------------------------------------------


PARAMS = {
    "keepline_daily": ["business_date"],
    "keepline_training": ["business_date"],
    "keepline_backfill": ["from", "to"],
}


def test_the_folder_parses_to_the_three_dags(found):
    assert found["errors"] == {}
    assert set(found["dags"]) == set(PARAMS)


def test_dag_files_import_airflow_only():
    allowed = {*sys.stdlib_module_names, "airflow", "pendulum", "keepline_command"}
    for path in DAGS_DIR.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", ())]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "."]
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert {name.split(".")[0] for name in names} <= allowed, path.name


def test_parsing_loads_nothing_heavy(found):
    assert found["heavy"] == []


def test_parsing_twice_gives_the_same_dags(found):
    assert found["is_same_twice"]


@pytest.mark.parametrize("dag_id", PARAMS)
def test_every_dag_keeps_the_policy(found, dag_id):
    dag = found["dags"][dag_id]

    assert dag["doc"] == dag["file_doc"]
    for words in ("What it builds", "How to run it again", "What a failure means"):
        assert words in dag["doc"]
    assert "keepline" in dag["tags"]
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1
    assert dag["start_date"] == datetime(2025, 12, 31, 16, tzinfo=UTC)
    assert dag["params"] == PARAMS[dag_id]
    for task in dag["tasks"]:
        assert task["owner"] == "data-platform"
        assert task["retries"] == 3
        assert task["pool"] == POOL[0]
        assert task["timeout"] is not None
        assert task["policy"]["default"] == "fail"
        assert [rule["action"] for rule in task["policy"]["rules"]] == ["retry"]


def release_of(task: str) -> str:
    """Return how a task of the daily DAG takes over the release of the one before it."""
    before = {"audit": "stage", "publish": "audit"}.get(task)
    told = f"ti.xcom_pull(task_ids='{before}')"
    return f"{{% if {told} %}} --release {{{{ {told} }}}}{{% endif %}}" if before else ""


@pytest.mark.parametrize(
    ("said", "handed"),
    [
        ("stage     2026-06-30: 7 rows in 6.6 s, 1 rows/s  release 12", "--release 12"),
        ("audit     2026-06-30: 5.6 s  release 12: 52 of 52 checks passed", "--release 12"),
        ("something else", ""),
    ],
)
def test_the_release_is_handed_from_task_to_task(airflow, tmp_path, said, handed):
    command = tmp_path / "keepline"
    command.write_text(f"#!/bin/sh\necho '{said}'\n")
    command.chmod(0o755)

    rendered = airflow.submit(handed_on, str(tmp_path)).result()

    assert rendered.split() == ["keepline", "audit", "--date", "2026-06-30", *handed.split()]


def handed_on(folder: str) -> str:
    """Run the task `stage` with the `keepline` of a folder, and return the command of the task after it."""
    import os

    from airflow.dag_processing.dagbag import BundleDagBag
    from keepline_command import business_date

    bag = BundleDagBag(dag_folder=str(DAGS_DIR), bundle_path=DAGS_DIR, bundle_name="dags")
    daily = bag.dags["keepline_daily"]
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{path}"
    try:
        release = daily.get_task("stage").execute({})
    finally:
        os.environ["PATH"] = path
    template = daily.get_template_env().from_string(daily.get_task("audit").command)
    return template.render(
        ti=SimpleNamespace(xcom_pull=lambda task_ids: release if task_ids == "stage" else None),
        params={"business_date": "2026-06-30"},
        dag_run=None,
        business_date=business_date,
    )


def test_the_daily_dag_is_a_chain_of_keepline_commands(found):
    daily = found["dags"]["keepline_daily"]
    day = "{{ business_date(params, dag_run) }}"

    assert daily["edges"] == {
        task: [after] if after else []
        for task, after in zip(DAILY, [*DAILY[1:], None], strict=True)
    }
    layers = {"build_core": "core", "build_features": "features", "build_marts": "marts"}
    assert daily["commands"] == {
        task: f"keepline build --layer {layers[task]} --date {day}"
        if task in layers
        else f"keepline {task} --date {day}{release_of(task)}"
        for task in DAILY
    }
    assert {task: names for task, names in daily["outlets"].items() if names} == {
        "publish": ["keepline_release"]
    }


def test_the_training_dag_is_one_command(found):
    day = "{{ business_date(params, dag_run) }}"

    assert found["dags"]["keepline_training"]["commands"] == {
        "train": f"keepline train --date {day}"
    }


def test_the_backfill_dag_is_one_command(found):
    assert found["dags"]["keepline_backfill"]["commands"] == {
        "backfill": "keepline backfill {{ backfill_window(params) }}"
    }


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"from": "2026-06-01", "to": "2026-07-01"}, "--from 2026-06-01 --to 2026-07-01"),
        ({"from": "2026-06-01"}, 'trigger it with {"from": '),
        ({"from": None, "to": None}, 'trigger it with {"from": '),
        ({"from": "2026-06-02", "to": "2026-06-02"}, "holds no day"),
        ({"from": "2026-06-01; rm -rf /", "to": "2026-06-02"}, "rm -rf"),
    ],
)
def test_a_backfill_names_its_window_or_fails_with_a_sentence(airflow, params, said):
    assert said in airflow.submit(window_of, params).result()


def test_the_dags_and_the_commands_agree_on_the_code_that_means_try_again(airflow):
    assert airflow.submit(_retry_exit_code).result() == SourceUnavailableError.exit_code


def _retry_exit_code() -> int:
    from keepline_command import RETRY_EXIT_CODE

    return RETRY_EXIT_CODE


# -- which business day a run is for -----------------------------------------------------------------

# 03:00 on 1 July in Shanghai.
THREE_IN_THE_MORNING = datetime(2026, 6, 30, 19, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("param", "run", "day"),
    [
        ("2026-06-30", {"run_type": "manual"}, date(2026, 6, 30)),
        # the parameter wins over everything
        ("2026-05-01", {"run_type": "scheduled", "partition_key": "2026-06-01"}, date(2026, 5, 1)),
        (None, {"run_type": "manual", "partition_key": "2026-06-01"}, date(2026, 6, 1)),
        (None, {"run_type": "scheduled", "data_interval_end": THREE_IN_THE_MORNING}, date(2026, 6, 30)),
        (None, {"run_type": "backfill", "data_interval_end": THREE_IN_THE_MORNING}, date(2026, 6, 30)),
        # midnight ends the day before
        (
            None,
            {"run_type": "scheduled", "data_interval_end": datetime(2026, 6, 30, 16, tzinfo=UTC)},
            date(2026, 6, 30),
        ),
    ],
)  # fmt: skip
def test_a_run_knows_its_business_day(airflow, param, run, day):
    assert airflow.submit(resolve, param, run).result() == day


@pytest.mark.case(93)
@pytest.mark.parametrize(
    ("param", "run", "message"),
    [
        # Airflow gives a run by hand an interval around the moment of the click
        (None, {"data_interval_end": THREE_IN_THE_MORNING}, 'trigger it with {"business_date"'),
        (None, {"run_type": "asset_triggered"}, "does not say which business day"),
        # a scheduled run without an interval
        (None, {"run_type": "scheduled"}, "does not say which business day"),
        ("30.06.2026", {}, "30.06.2026"),
        ("2026-06-30; rm -rf /", {}, "rm -rf"),
    ],
)
def test_a_run_that_does_not_know_its_day_fails_with_a_sentence(airflow, param, run, message):
    assert message in airflow.submit(resolve, param, run).result()


@pytest.mark.case(93)
def test_an_interval_is_a_whole_local_day_and_never_empty(airflow):
    first, last = datetime(2026, 6, 27, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)

    lengths = airflow.submit(interval_hours, "keepline_daily", first, last).result()

    assert lengths == [24.0] * 4


def test_the_clock_gives_each_day_once_after_it_ended(airflow):
    first, last = datetime(2026, 6, 27, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)

    assert airflow.submit(scheduled_days, "keepline_daily", first, last).result() == [
        ("2026-06-28T19:00", "2026-06-28"),  # 03:00 on the 29th in Shanghai
        ("2026-06-29T19:00", "2026-06-29"),
        ("2026-06-30T19:00", "2026-06-30"),
        ("2026-07-01T19:00", "2026-07-01"),
    ]


def test_the_clock_trains_on_sundays(airflow):
    first, last = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 20, tzinfo=UTC)

    assert airflow.submit(scheduled_days, "keepline_training", first, last).result() == [
        ("2026-06-14T22:00", "2026-06-14"),  # Monday 06:00 in Shanghai
        ("2026-06-21T22:00", "2026-06-21"),
    ]


def test_the_page_on_airflow_explains_every_exit_code():
    page = (PROJECT_DIR / "docs" / "airflow.md").read_text()

    for code in EXIT_CODES:
        assert f"| {code} |" in page
