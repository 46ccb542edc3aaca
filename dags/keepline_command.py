"""One `keepline` command as an Airflow task, and the one rule that finds its business day.

Airflow gets three things from here and nothing else: which day a run is about, how a command is
run, and which failures are worth another try. What a command does is in `keepline <verb> --help`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator, ExceptionRetryPolicy, Param, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowException

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import DagRunProtocol

# The operator's zone: business days are its local days, here and in every keepline command.
TIMEZONE = os.environ.get("KEEPLINE_TIMEZONE", "Asia/Shanghai")
# The one exit code that another try can mend; docs/airflow.md lists them all.
RETRY_EXIT_CODE = 3


class CommandFailedError(AirflowException):
    """A command said no; the same command says the same again, so a person must look."""


class UnreachableError(CommandFailedError):
    """A command could not reach a source or the store; another try may."""


DEFAULTS: dict[str, Any] = {
    "owner": "data-platform",
    # How long to wait between tries is the deployment's: [core] default_task_retry_delay.
    "retries": 3,
    "retry_policy": ExceptionRetryPolicy(
        [RetryRule(UnreachableError, RetryAction.RETRY, reason="not reachable, another try may")],
        default=RetryAction.FAIL,
    ),
    "execution_timeout": timedelta(hours=4),
    # One slot: all DAGs write the same DuckDB file, and that takes one writer at a time.
    "pool": "keepline_compute",
}

PARAMS = {
    "business_date": Param(
        None,
        type=["null", "string"],
        format="date",
        description="The business day to run, such as 2026-06-30. A run by hand must say it.",
    )
}
BACKFILL_PARAMS = {
    "from": Param(
        None,
        type=["null", "string"],
        format="date",
        description="The first business day to take in again, such as 2026-06-01.",
    ),
    "to": Param(
        None,
        type=["null", "string"],
        format="date",
        description="The day after the last one, such as 2026-07-01.",
    ),
}

# As `stage`, `audit` and `publish` end their line.
RELEASE = re.compile(r"\brelease (\d+)\b")


def business_date(params: Mapping[str, Any], dag_run: DagRunProtocol) -> date:
    """Return the local business day that a run is about.

    The parameter wins, then the partition key, then the interval of a scheduled or a backfill run:
    the last day that is over when the interval ends. Airflow gives a run by hand an interval too,
    but one around the moment of the click, which says nothing about the day that was meant.

    Raises:
        ValueError: nothing says which day, or what says it is not a day.
    """
    named = params.get("business_date") or dag_run.partition_key
    if named:
        return date.fromisoformat(named)
    if dag_run.run_type in ("scheduled", "backfill") and dag_run.data_interval_end:
        end: datetime = dag_run.data_interval_end
        return end.astimezone(ZoneInfo(TIMEZONE)).date() - timedelta(days=1)
    raise ValueError(
        "this run does not say which business day it is for (a run by hand has no day of its own): "
        'trigger it with {"business_date": "2026-06-30"}'
    )


def backfill_window(params: Mapping[str, Any]) -> str:
    """Return the options that name the window of a backfill, as `keepline backfill` takes them.

    Raises:
        ValueError: a day is missing, is no day, or the window holds none.
    """
    first, last = params.get("from"), params.get("to")
    if not first or not last:
        raise ValueError(
            "this run does not say which business days it is for: trigger it with "
            '{"from": "2026-06-01", "to": "2026-07-01"} (the last day is out)'
        )
    window = date.fromisoformat(first), date.fromisoformat(last)
    if window[0] >= window[1]:
        raise ValueError(f"from {window[0]} to {window[1]} holds no day: the last day is out")
    return f"--from {window[0]} --to {window[1]}"


class KeeplineOperator(BaseOperator):
    """Run `keepline <verb>` for a business day or a window, the same command as in a terminal."""

    template_fields: Sequence[str] = ("command", "day")
    ui_color = "#dbeafe"

    def __init__(
        self,
        *,
        verb: str,
        window: str | None = None,
        release_of: str | None = None,
        **options: Any,  # noqa: ANN401 - what BaseOperator takes
    ) -> None:
        """Run a verb.

        Args:
            verb: the words behind `keepline`.
            window: a template of the options that name the days; None is the run's business day.
            release_of: the task before whose release this one is about; where it told none, the command
                takes the one that was staged last for the days.
            options: those of every operator.
        """
        super().__init__(**options)
        self.day = "" if window else "{{ business_date(params, dag_run) }}"
        self.command = f"keepline {verb} {window or f'--date {self.day}'}"
        if release_of:
            told = f"ti.xcom_pull(task_ids='{release_of}')"
            self.command += f"{{% if {told} %}} --release {{{{ {told} }}}}{{% endif %}}"
        self.hook = SubprocessHook()

    def execute(self, context: Context) -> int | None:
        """Run the command and judge its exit code.

        Returns:
            The number of the release that the command's last line tells of, for the tasks after it.

        Raises:
            UnreachableError: exit code 3.
            CommandFailedError: any other code but 0, or there is no `keepline` here.
        """
        words = shlex.split(self.command)
        if shutil.which(words[0]) is None:
            raise CommandFailedError("no `keepline` on this worker's PATH: install the project")
        # In the worker's own folder, so that relative paths in the environment mean what they mean
        # in a terminal; Airflow's habit is an empty temporary folder.
        result = self.hook.run_command(words, cwd=str(Path.cwd()))
        if result.exit_code == RETRY_EXIT_CODE:
            raise UnreachableError(f"`{self.command}` could not reach a source or the store")
        if result.exit_code != 0:
            raise CommandFailedError(
                f"`{self.command}` ended with exit code {result.exit_code}; its last lines say why"
            )
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"business_date": self.day}
        release = RELEASE.search(result.output)
        return int(release[1]) if release else None

    def on_kill(self) -> None:
        """Stop the command when its task is stopped."""
        running = self.hook.sub_process
        if running is not None and running.poll() is None:
            self.hook.send_sigterm()  # type: ignore[no-untyped-call]
