"""One DAG, one business day, in the foreground: `airflow dags test`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from datetime import date
from typing import IO

from keepline.airflow.follower import Follower, Log
from keepline.airflow.local import (
    AIRFLOW,
    METADATA,
    empty_metadata,
    end,
    environment,
    home_of,
    only_one,
    stoppable,
)
from keepline.settings import Settings


def test_dag(
    settings: Settings,
    dag_id: str,
    business_date: date,
    log: Log,
    params: Mapping[str, str] | None = None,  # noqa: PT028 - not a test
) -> int:
    """Run one DAG for one business day with `airflow dags test`.

    The metadata database is a fresh one each time: what ran is told by `ops.stage_run`, and nothing
    that an interrupted run left behind can reach the next one.

    Args:
        settings: the operator and its home.
        dag_id: such as `keepline_daily`.
        business_date: local business day, passed as the DAG's parameter.
        log: takes one plain line for people at a time: one per task, with its seconds.
        params: the DAG's parameters where it takes others than the business date.

    Returns:
        0, or the exit code of the command that failed, or 1 when Airflow itself did.

    Raises:
        UsageError: another run works in this home.
        AirflowBrokenError: the metadata database cannot be made.
    """
    home = home_of(settings)
    raw_log = home / "logs" / dag_id / f"{business_date}.log"
    raw_log.parent.mkdir(parents=True, exist_ok=True)
    with only_one(home / "run.lock"), stoppable(), raw_log.open("w", encoding="utf-8") as raw:
        airflow_home = home / "run"
        shutil.rmtree(airflow_home, ignore_errors=True)
        airflow_home.mkdir()
        shutil.copyfile(empty_metadata(settings), airflow_home / METADATA)
        conf = json.dumps(params or {"business_date": business_date.isoformat()})
        process = subprocess.Popen(  # noqa: S603
            [*AIRFLOW, "dags", "test", dag_id, "--conf", conf],
            env=environment(settings, airflow_home),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C must reach the running command through Airflow, which alone knows it.
            start_new_session=True,
        )
        follower = Follower(log)
        try:
            code = _follow(process, raw, follower)
        finally:
            end(process, within_s=3)
    if code != 0:
        log(f"  {follower.verdict()}; the whole log: {raw_log}")
    return code


def _follow(process: subprocess.Popen[str], raw: IO[str], follower: Follower) -> int:
    for line in process.stdout or ():
        raw.write(line)
        follower.read(line)
        if follower.is_over:
            # Airflow would now mark the tasks that will not run, a second each, in a metadata
            # database that the next run throws away.
            process.kill()
            break
    return follower.exit_code or min(process.wait(), 1)
