"""Airflow on this machine: a DAG run in the foreground, what is tried again, and the page."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from keepline import airflow as local_airflow
from keepline.airflow import local
from keepline.errors import UsageError
from keepline.settings import Settings

# -- what is tried again -----------------------------------------------------------------------------

STUB = """#!/bin/sh
echo "$*" >> {calls}
echo "  $1 works in $KEEPLINE_HOME"
tries=$(grep -c "^$1 " {calls})
case "$1 $tries" in
  "load 1") echo "keepline: the store cannot be reached" >&2; exit 3 ;;
  "publish "*) echo "keepline: 7 rows are wrong" >&2; exit 2 ;;
esac
echo "$1  2026-06-30: 1,234 rows"
echo "a word about $1"
"""


def test_only_what_another_try_can_mend_is_tried_again(tmp_path, monkeypatch):
    # given a store that is away once, and data that stay wrong
    calls = tmp_path / "calls"
    stub = tmp_path / "bin" / "keepline"
    stub.parent.mkdir()
    stub.write_text(STUB.format(calls=calls))
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(local, "COMMANDS_DIR", stub.parent)
    monkeypatch.setattr(local, "RETRY_DELAY_S", 1)
    settings = Settings(home=tmp_path / "home")
    said: list[str] = []

    # when the DAG runs
    code = local_airflow.test_dag(settings, "keepline_daily", date(2026, 6, 30), said.append)

    # then load ran twice, publish once, report never, and the caller gets publish's own code
    assert code == 2
    ran = calls.read_text().splitlines()
    assert [line.split()[0] for line in ran] == [
        *("extract", "load", "load", "check", "build", "build", "score", "build", "stage"),
        *("audit", "publish"),
    ]
    assert ran[4] == "build --layer core --date 2026-06-30"
    # and a person reads one line per try, without Airflow's own talk
    lines = "\n".join(said)
    assert f"      extract works in {settings.home}" in said
    assert " s  2026-06-30: 1,234 rows" in lines
    assert " s  keepline: 7 rows are wrong" in lines
    assert "publish failed, so nothing after it ran; the whole log: " in lines
    tasks = [line for line in said if not line.startswith("    ")][:-1]
    assert [line.split()[0] for line in tasks] == [
        *("extract", "load", "load", "check", "build_core", "build_features", "score"),
        *("build_marts", "stage", "audit", "publish"),
    ]
    assert "    a word about build" in said
    log = Path(said[-1].split("the whole log: ")[1])
    assert "7 rows are wrong" in log.read_text()


def test_a_dag_that_is_not_there_is_said_to_be_airflows_trouble(tmp_path, monkeypatch):
    empty = tmp_path / "empty.db"
    empty.touch()
    monkeypatch.setattr("keepline.airflow.foreground.empty_metadata", lambda _settings: empty)
    said: list[str] = []

    code = local_airflow.test_dag(
        Settings(home=tmp_path), "keepline_nightly", date(2026, 6, 30), said.append
    )

    assert code == 1
    assert "Airflow could not run the DAG" in said[-1]


def test_one_home_runs_one_dag_at_a_time(tmp_path):
    settings = Settings(home=tmp_path)
    with (
        local.only_one(tmp_path / "airflow" / "run.lock"),
        pytest.raises(UsageError, match="another Airflow of keepline"),
    ):
        local_airflow.test_dag(settings, "keepline_daily", date(2026, 6, 30), print)


# -- Airflow on this machine -------------------------------------------------------------------------


def test_another_airflows_variables_stay_out(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production/airflow")
    monkeypatch.setenv("KEEPLINE_OPERATOR", "demo")

    variables = local_airflow.environment(Settings(home=tmp_path), tmp_path / "airflow")

    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in variables
    assert variables["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert variables["KEEPLINE_HOME"] == str(tmp_path)
    assert variables["KEEPLINE_OPERATOR"] == "demo"


def test_make_airflow_shows_the_dags_on_a_page_of_this_machine_only(tmp_path):
    # given a free port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "KEEPLINE_HOME": str(tmp_path), "KEEPLINE_DEMO_DSN": "host=none"}
    process = subprocess.Popen(
        [sys.executable, "-m", "keepline", "airflow", "--port", str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # when it says that it is ready
        said = ""
        while "Ctrl-C ends it" not in said:
            line = process.stdout.readline()
            assert line, f"it ended: {said}"
            said += line

        # then the password that it points to opens the page, and both DAGs are there
        password_file = tmp_path / "airflow" / "standalone" / "passwords.json"
        password = json.loads(password_file.read_text())["admin"]
        assert f"http://127.0.0.1:{port} as admin; the password is in {password_file}" in said
        assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
        body = {"username": "admin", "password": password}
        token = ask(port, "POST", "/auth/token", body=body)["access_token"]
        deadline = time.monotonic() + 60
        dags: list[dict[str, Any]] = []
        while len(dags) < 3 and time.monotonic() < deadline:
            time.sleep(1)
            dags = ask(port, "GET", "/api/v2/dags", token=token)["dags"]
        assert {(dag["dag_id"], dag["is_paused"]) for dag in dags} == {
            ("keepline_backfill", False),
            ("keepline_daily", False),
            ("keepline_training", False),
        }
        pools = ask(port, "GET", "/api/v2/pools", token=token)["pools"]
        assert ("keepline_compute", 1) in {(pool["name"], pool["slots"]) for pool in pools}
        # and nothing runs by the clock, and no password is in a log
        assert ask(port, "GET", "/api/v2/dags/~/dagRuns", token=token)["dag_runs"] == []
        log = (tmp_path / "airflow" / "standalone" / "standalone.log").read_text()
        assert password not in said + log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    # and ending it ends all of it
    assert process.returncode == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def ask(port: int, method: str, path: str, *, body: object = None, token: str = "") -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    return json.load(connection.getresponse())
