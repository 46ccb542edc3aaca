"""Spark gives what DuckDB gives, row by row; a killed build leaves what was there.

Deselected unless asked for (`make test-spark`): a session and the models take minutes.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import models_ml_rows as made
import pandas as pd
import pytest
from conftest import SECRETS
from engines import ON_SPARK, run_unit_tests
from test_dbt_core import D2, D3, WHOLE, Warehouse, half_a_year
from test_parity import Rows, differences, rows, tables

from keepline.build import build
from keepline.compute import compute_for
from keepline.errors import BadDataError
from keepline.settings import PROJECT_DIR, Settings
from keepline.window import Window
from models_ml.churn import batch
from models_ml.churn.parameters import choose_params
from models_ml.churn.reasons import Catalogue
from models_ml.churn.registry import champion_version, load_model_set
from models_ml.churn.scoring import Stamps, score_parts
from models_ml.churn.snapshot import read_parts

pytestmark = ON_SPARK
LAST = WHOLE.last_date


@pytest.fixture(scope="module", autouse=True)
def _one_session() -> Iterator[None]:
    """End the session with the tests of this file."""
    yield
    from keepline.compute import spark_session

    spark_session.stop()


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home in which an operator's landing lies."""
    settings = Settings(home=tmp_path_factory.mktemp("landed"), **SECRETS)
    Warehouse(settings).land(half_a_year())
    return settings.landing_dir


def world(folder: Path, landing: Path, engine: str, **more: Any) -> Settings:
    """Return settings of a home with that landing."""
    settings = Settings(home=folder / engine, compute=engine, **more, **SECRETS)
    settings.operator_home.mkdir(parents=True)
    shutil.copytree(landing, settings.landing_dir)
    return settings


def run(settings: Settings, window: Window) -> None:
    """Load a window and build every layer for it, features as of its last day."""
    warehouse = Warehouse(settings)
    compute_for(settings).load(warehouse.contract, window)
    asked = {"as_of_dates": [str(window.last_date)], "known_on": str(window.last_date)}
    build(settings, "all", window, asked)


def contents(settings: Settings) -> dict[str, Rows]:
    """Return the rows of every table that dbt or a model stage writes."""
    return {name: rows(settings, name) for name in tables(settings)}


def differing(expected: dict[str, Rows], found: dict[str, Rows]) -> dict[str, list[str]]:
    """Return some of the rows that differ, by table."""
    return {
        name: unequal
        for name in expected.keys() | found.keys()
        if (unequal := differences(expected.get(name, []), found.get(name, [])))
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, landed: Path) -> dict[str, Rows]:
    """Return what DuckDB makes of the landing."""
    settings = world(tmp_path_factory.mktemp("duckdb"), landed, "duckdb")
    run(settings, WHOLE)
    return contents(settings)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, landed: Path) -> Settings:
    """Return a home in which Spark has built everything."""
    settings = world(tmp_path_factory.mktemp("spark"), landed, "spark")
    run(settings, WHOLE)
    return settings


def test_every_table_is_that_of_duckdb(built: Settings, expected: dict[str, Rows]) -> None:
    found = contents(built)

    assert differing(expected, found) == {}
    assert len(found) > 40


def test_a_window_that_became_empty_is_emptied(
    built: Settings, expected: dict[str, Rows], tmp_path: Path
) -> None:
    warehouse, window = Warehouse(built), Window(D3, LAST + timedelta(days=1))
    gone = built.landing_dir / "cdr_voice" / f"load_date={D3}"
    shutil.move(gone, tmp_path / "gone")
    warehouse.run(Window.day(D3))
    days = warehouse.rows("select distinct load_date from core.fct_usage_daily")
    assert D3 not in {day for (day,) in days}

    shutil.move(tmp_path / "gone", gone)
    warehouse.run(window)
    assert differing(expected, contents(built)) == {}


def test_unit_tests_pass(built: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    compute_for(built).prepare()

    passed, failed = run_unit_tests(built, monkeypatch, "core", "features", "marts")

    assert failed == []
    assert passed > 30


def test_a_killed_build_leaves_what_was_there(built: Settings, expected: dict[str, Rows]) -> None:
    before = contents(built)
    words = [sys.executable, "-c", BUILD_ALL, str(LAST)]

    for passing in (20, 90):
        environment = {**environment_of(built), "KEEPLINE_FAILPOINT": f"build.node:{passing}"}
        killed = subprocess.run(words, env=environment, check=False, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
        assert differing(before, contents(built)) == {}

    compute_for(built).forget_killed()
    run(built, Window.day(LAST))
    assert differing(expected, contents(built)) == {}


BUILD_ALL = """
import sys
from datetime import date
from keepline.build import build
from keepline.settings import Settings
from keepline.window import Window
day = sys.argv[1]
asked = {"as_of_dates": [day], "known_on": day}
build(Settings.load(), "all", Window.day(date.fromisoformat(day)), asked, progress=print)
"""


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(PROJECT_DIR),
        "KEEPLINE_HOME": str(settings.home),
        "KEEPLINE_COMPUTE": settings.compute,
        **{f"KEEPLINE_{name.upper()}": value for name, value in SECRETS.items()},
    }


def test_landing_that_breaks_the_contract_is_not_loaded(built: Settings) -> None:
    part = built.landing_dir / "payment" / f"load_date={D2}" / "part-0.parquet"
    part.parent.mkdir(parents=True)
    pd.DataFrame({"payment_id": ["p1"]}).to_parquet(part)
    compute = compute_for(built)
    contract = Warehouse(built).contract
    try:
        with pytest.raises(BadDataError, match=r"_manifest\.json is missing"):
            compute.load(contract, Window.day(D2))
        (part.parent / "_manifest.json").write_text(f'{{"sha256": "{digest(part)}"}}')
        with pytest.raises(BadDataError, match=r"landing of payment for .* does not fit"):
            compute.load(contract, Window.day(D2))
    finally:
        shutil.rmtree(part.parent)


def digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_scores_are_those_of_one_process(tmp_path: Path) -> None:
    compare_scores(Settings(home=tmp_path / "home", compute="spark", **SECRETS), tmp_path)


def compare_scores(settings: Settings, folder: Path) -> None:
    """Score an invented snapshot on Spark and in this process, with a model and without."""
    from keepline.commands.spark_scoring import SparkScorer

    told = made.world(folder)
    batch.train(
        told.snapshots, told.labels, told.models_dir, made.CATALOG, made.KNOWN_ON, made.LABEL,
        made.QUICK, risk_params=made.RISK_PARAMS,
    )  # fmt: skip
    models = load_model_set(told.models_dir, champion_version(told.models_dir))
    params = choose_params(made.RISK_PARAMS, made.SCORE_DATE)
    words = Catalogue.from_frame(made.CATALOG)
    stamps = Stamps(made.SCORE_DATE, "f" * 16, "0" * 16)

    read = partial(read_parts, told.score_snapshot)
    for verified in (models, None):
        here = score_parts(read, verified, params, words, stamps)
        there = SparkScorer(settings)(told.score_snapshot, verified, params, words, stamps)
        pd.testing.assert_frame_equal(there, here, rtol=1e-9, atol=0)


@pytest.mark.deep
def test_a_cluster_of_two_workers_gives_the_same(
    tmp_path: Path, landed: Path, expected: dict[str, Rows]
) -> None:
    from keepline.compute import spark_session

    spark_session.stop()
    with cluster(tmp_path) as master:
        settings = world(tmp_path, landed, "spark", spark_master=master)
        run(settings, WHOLE)
        built = tasks_by_executor(settings)
        compare_scores(settings, tmp_path)
        scored = tasks_by_executor(settings)
        spark_session.stop()

    assert differing(expected, contents(settings)) == {}
    assert len(built) == 2
    assert min(built.values()) > 0
    assert all(scored[executor] > tasks for executor, tasks in built.items())


def tasks_by_executor(settings: Settings) -> dict[str, int]:
    """Return how many tasks each worker's executor has done in the session of this process."""
    from keepline.compute import spark_session

    status = spark_session.session(settings).sparkContext._jsc.sc().statusStore()
    listed = status.executorList(False)
    each = [listed.apply(position) for position in range(listed.size())]
    return {one.id(): one.completedTasks() for one in each if one.id() != "driver"}


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Run a master and two workers as processes on the loopback address."""
    import pyspark

    home = Path(pyspark.__file__).parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONPATH": str(PROJECT_DIR),
        "SPARK_WORKER_DIR": str(folder / "work"),
    }
    master = f"spark://127.0.0.1:{port}"
    deploy = "org.apache.spark.deploy"
    worker = [f"{deploy}.worker.Worker", "--host", "127.0.0.1", "--webui-port", "0"]
    words = [
        [
            f"{deploy}.master.Master",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--webui-port",
            "0",
        ],
        *(
            [*worker, "--cores", "1", "--memory", "1g", "--work-dir", str(folder / name), master]
            for name in ("one", "other")
        ),
    ]
    started = []
    try:
        for number, each in enumerate(words):
            log = (folder / f"spark-{number}.log").open("w")
            started.append(
                subprocess.Popen(
                    [str(home / "bin" / "spark-class"), *each], env=environment, stdout=log,
                    stderr=log, start_new_session=True,
                )
            )  # fmt: skip
            wait_for(port) if number == 0 else None
        yield master
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(240):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.25)
    raise TimeoutError(f"nobody listens on {port}")
