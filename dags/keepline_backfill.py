"""Take past business days in again, build again all that was built on them, and publish.

**What it builds.** What `keepline backfill --from --to` builds: the days of the window are extracted,
loaded and checked, then every day from the first of them to the last one that was built is built again
(star schema, features and scores of the scored days, marts), staged, audited and published as one
release. For deliveries that came late or were corrected. A day that was scored keeps its model.

**How to run it again.** Trigger with `{"from": "2026-06-01", "to": "2026-06-04"}`; the last day is out.
Any number of times, in any order, overlapping or not: the tables are the same. It shares one slot with
the daily run, so one waits for the other. The same in a terminal: the command is in the task's log.

**What a failure means.** Readers keep the last release, whatever failed, and running it again is safe.
Exit code 3 (a source or the store could not be reached) is tried again by itself; every other failure
needs a person: the last lines of the log name the table, the day and the code, docs/runbook.md what to do.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG
from keepline_command import BACKFILL_PARAMS, DEFAULTS, TIMEZONE, KeeplineOperator, backfill_window

with DAG(
    dag_id="keepline_backfill",
    # By hand only: which days to repair is a person's decision.
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz=TIMEZONE),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params=BACKFILL_PARAMS,
    user_defined_macros={"backfill_window": backfill_window},
    tags=["keepline", "repair"],
    doc_md=__doc__,
):
    KeeplineOperator(task_id="backfill", verb="backfill", window="{{ backfill_window(params) }}")
