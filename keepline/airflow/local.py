"""What every Airflow of this machine needs: an environment, a metadata database, one at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from keepline.errors import KeeplineError, UsageError
from keepline.settings import PROJECT_DIR, Settings

DAGS_DIR = PROJECT_DIR / "dags"
AIRFLOW = (sys.executable, "-m", "airflow")
# Where this very installation has its `keepline`, whatever else is on the PATH.
COMMANDS_DIR = Path(sys.executable).parent
METADATA = "airflow.db"
# What a local Airflow waits before another try; production keeps Airflow's five minutes.
RETRY_DELAY_S = 5
SILENT = {
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "SCARF_NO_ANALYTICS": "true",
}


class AirflowBrokenError(KeeplineError):
    """Airflow itself could not do its work; the message names the log."""


def home_of(settings: Settings) -> Path:
    """Return the folder of everything that Airflow keeps on this machine."""
    return settings.home / "airflow"


def environment(settings: Settings, airflow_home: Path) -> dict[str, str]:
    """Return the environment that makes Airflow a quiet, local one with only keepline's DAGs.

    Variables of another Airflow on this machine are left out: one that names its metadata database
    would send these runs there.

    Args:
        settings: passed on, with the paths made absolute.
        airflow_home: folder of the metadata database and of Airflow's own files.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {
        **own,
        **SILENT,
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_DIR),
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": str(RETRY_DELAY_S),
        "AIRFLOW__CORE__DEFAULT_TIMEZONE": settings.timezone,
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        # One JSON object per line: what tells Airflow's own talk from the commands' lines.
        "AIRFLOW__LOGGING__JSON_LOGS": "True",
        "KEEPLINE_HOME": str(settings.home),
        "KEEPLINE_TIMEZONE": settings.timezone,
        "PATH": os.pathsep.join((str(COMMANDS_DIR), os.environ.get("PATH", ""))),
        "PYTHONUNBUFFERED": "1",
    }


def empty_metadata(settings: Settings) -> Path:
    """Return a migrated, empty metadata database; made once per version of Airflow.

    Raises:
        AirflowBrokenError: Airflow cannot make one.
    """
    home = home_of(settings)
    path = home / f"empty-{version('apache-airflow-core')}.db"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as draft:
            with (home / "migrate.log").open("w", encoding="utf-8") as raw:
                command(["db", "migrate"], environment(settings, Path(draft)), raw)
            (Path(draft) / METADATA).replace(path)
    return path


def command(words: Sequence[str], variables: Mapping[str, str], raw: IO[str]) -> None:
    """Run one `airflow` command to its end, its output into an open log.

    Raises:
        AirflowBrokenError: it failed.
    """
    done = subprocess.run(  # noqa: S603
        [*AIRFLOW, *words], env=variables, stdout=raw, stderr=raw, check=False
    )
    if done.returncode != 0:
        raise AirflowBrokenError(
            f"`airflow {' '.join(words)}` ended with exit code {done.returncode}: see {raw.name}"
        )


def end(process: subprocess.Popen[str], within_s: float) -> None:
    """End a process that leads a session of its own, and all that it started there.

    Args:
        process: perhaps gone already.
        within_s: seconds that it gets to end by itself before it is killed.
    """
    deadline = time.monotonic() + within_s
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.1)
    finally:  # also for the impatient, who press Ctrl-C twice
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock file.

    Raises:
        UsageError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another Airflow of keepline works below {path.parent}: wait for it or stop it"
            ) from None
        yield


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let `kill` end the work like Ctrl-C does, so that no child outlives it."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
