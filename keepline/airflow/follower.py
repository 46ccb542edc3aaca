"""Reads the log of `airflow dags test` as it grows and tells a person what each task came to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from keepline.errors import SourceUnavailableError

Log = Callable[[str], None]

# What Airflow and its hook that runs a command write around the command's own lines.
TASK_STARTS = "[DAG TEST] starting task_id="
TASK_ENDS = "[DAG TEST] end task task_id="
COMMAND_STARTS = "Running command: "
COMMAND_ENDS = "Command exited with return code "
HOOK_TALK = ("Tmp dir root location: ", "Output:")


class Follower:
    """One run of one DAG, told line by line.

    Attributes:
        exit_code: exit code of the task that failed last; 0 while all is well.
        is_over: a task failed in a way that another try does not mend.
    """

    def __init__(self, log: Log) -> None:
        """Send one plain line per task, and each task's earlier lines indented, to `log`."""
        self.exit_code = 0
        self.is_over = False
        self._log = log
        self._task_id = ""
        self._verb = ""
        self._started = 0.0
        self._seconds = 0.0
        self._code: int | None = None
        self._summary = ""
        self._held = ""
        self._failed_task = ""
        self._last_error = ""

    def read(self, line: str) -> None:
        """Take one line of Airflow's log, a JSON object."""
        try:
            record = json.loads(line)
            event, logger = str(record["event"]), str(record.get("logger"))
        except (ValueError, KeyError, TypeError):
            self._last_error = line.strip() or self._last_error
            return
        if event.startswith(TASK_STARTS):
            self._task_id = event.removeprefix(TASK_STARTS).split()[0]
            self._summary, self._held, self._code, self._seconds = "", "", None, 0.0
        elif event.startswith(TASK_ENDS):
            self._end_task()
        elif logger.endswith("SubprocessHook"):
            self._read_command(event)
        elif record.get("level") in ("error", "critical"):
            causes = record.get("exception") or [{}]
            self._last_error = str(causes[0].get("exc_value") or event)

    def verdict(self) -> str:
        """Say in one sentence what failed."""
        if self._failed_task:
            return f"{self._failed_task} failed, so nothing after it ran"
        return f"Airflow could not run the DAG: {self._last_error or 'it gave no reason'}"

    def _read_command(self, event: str) -> None:
        if event.startswith(COMMAND_STARTS):
            # ['keepline', 'extract', '--date', '2026-06-30']
            self._verb = event.split("'")[3]
            self._started = time.perf_counter()
        elif event.startswith(COMMAND_ENDS):
            self._seconds = time.perf_counter() - self._started
            self._code = int(event.removeprefix(COMMAND_ENDS))
        elif event.strip() and not event.startswith(HOOK_TALK):
            self._tell_held()
            self._held = event

    def _tell_held(self) -> None:
        # A command sums itself up in a line that begins with its own name. It stands beside the
        # task's name, where a failed command's last line stands too: so the newest line waits.
        if self._held.startswith(f"{self._verb} "):
            self._summary = self._held.removeprefix(self._verb).strip()
        elif self._held:
            self._log(f"    {self._held.rstrip()}")
        self._held = ""

    def _end_task(self) -> None:
        if self._code == 0:
            self._tell_held()
            said = self._summary
        else:
            said = self._held.strip() if self._code is not None else self._last_error
        self._log(f"  {self._task_id:<15}{self._seconds:6.1f} s  {said}".rstrip())
        if self._code == 0:  # also when an earlier try of this task failed
            self.exit_code, self._failed_task = 0, ""
            return
        # No code: no command ran. A negative one is a signal.
        self.exit_code = self._code if self._code is not None and self._code > 0 else 1
        self._failed_task = self._task_id
        self.is_over = self.exit_code != SourceUnavailableError.exit_code
