"""Take in one business day of the operator and publish it as one release.

**What it builds.** `extract` copies what the operator recorded that day to landing, `load` brings
it to the compute engine, `check` asks whether the batch looks like a normal day. `build_core`,
`build_features`, `score` and `build_marts` make the star schema, the indicators, the churn scores
and the marts. `stage` copies the candidate to the store where no reader sees it, `audit` checks it
there, `publish` shows it to all readers at once, `report` writes the morning report.

**How to run it again.** Each task is one `keepline` command that replaces what it made for its
business day and nothing else: clear any task (with the ones after it) as often as you like. One day
by hand: trigger with `{"business_date": "2026-06-30"}`. Many days: an Airflow backfill of this DAG.
The same in a terminal: the command is in the task's log and under *Rendered templates*.

**What a failure means.** Readers keep the last release, whatever failed. Exit code 3 (a source or
the store could not be reached) is tried again by itself; every other failure needs a person and is
not tried again: 2 and 5 are about the data, 4 is a check that crashed, 6 a full disk or memory, 64 a
wrong setting, 1 a defect. The last lines of the task's log name the table, the value and the next step.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, chain
from keepline_command import DEFAULTS, PARAMS, TIMEZONE, KeeplineOperator, business_date

# For DAGs of others that want to start when readers see a new day.
RELEASE = Asset(name="keepline_release", uri="keepline://release")

with DAG(
    dag_id="keepline_daily",
    # A whole business day per interval, three hours after it ended; a bare cron string would give
    # an interval without length in Airflow 3.
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone=TIMEZONE),
    start_date=pendulum.datetime(2026, 1, 1, tz=TIMEZONE),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params=PARAMS,
    user_defined_macros={"business_date": business_date},
    tags=["keepline", "daily"],
    doc_md=__doc__,
):
    chain(
        KeeplineOperator(task_id="extract", verb="extract"),
        KeeplineOperator(task_id="load", verb="load"),
        KeeplineOperator(task_id="check", verb="check"),
        KeeplineOperator(task_id="build_core", verb="build --layer core"),
        KeeplineOperator(task_id="build_features", verb="build --layer features"),
        KeeplineOperator(task_id="score", verb="score"),
        KeeplineOperator(task_id="build_marts", verb="build --layer marts"),
        KeeplineOperator(task_id="stage", verb="stage"),
        # Each is about the very release that the task before it made or judged, not about the newest.
        KeeplineOperator(task_id="audit", verb="audit", release_of="stage"),
        KeeplineOperator(task_id="publish", verb="publish", release_of="audit", outlets=[RELEASE]),
        KeeplineOperator(task_id="report", verb="report"),
    )
