"""Train the churn models once a week, on what was known and matured at the end of the week.

**What it builds.** One new model version per payment type, with its card and its metrics. It is
used by the next daily run if it passed its own checks; else the model in use stays.

**How to run it again.** Clear the task, or trigger with `{"business_date": "2026-06-28"}`; the same
day gives the same model. A backfill of past weeks is possible but rarely wanted. The same in a
terminal: `keepline train --date 2026-06-28`.

**What a failure means.** Scores go on with the model in use; nothing that readers see changes. Exit
code 3 (the store could not be reached) is tried again by itself, any other needs a person: the last
lines of the log say what was missing or which check of the model failed.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, CronDataIntervalTimetable
from keepline_command import DEFAULTS, PARAMS, TIMEZONE, KeeplineOperator, business_date

with DAG(
    dag_id="keepline_training",
    # Monday morning, after the daily run of Sunday; both share the pool, so they never overlap.
    schedule=CronDataIntervalTimetable("0 6 * * 1", timezone=TIMEZONE),
    start_date=pendulum.datetime(2026, 1, 1, tz=TIMEZONE),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params=PARAMS,
    user_defined_macros={"business_date": business_date},
    tags=["keepline", "weekly"],
    doc_md=__doc__,
):
    KeeplineOperator(task_id="train", verb="train")
