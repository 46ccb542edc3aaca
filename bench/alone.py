"""A contender in a process of its own: the seconds of its work, and the most memory that it took.

Each repetition is a new process, so that no contender finds what another one has warmed or left behind.
Imports do not count: what a start costs is a row of its own (bench/overhead.py).

This file needs nothing but Python, because rivals run in an environment without keepline.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT_DIR = Path(__file__).resolve().parents[1]
RIVALS_PYTHON = PROJECT_DIR / ".venv-bench" / "bin" / "python"
RIVAL = "rival"


class Clock:
    """Counts the seconds of its `with` blocks; `more` takes what else a contender measures."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.more: dict[str, Any] = {}

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


Contender = Callable[[Mapping[str, Any], Clock], int]


@dataclass(frozen=True)
class Run:
    """What one run of a contender took.

    Attributes:
        seconds: of its work, imports left out.
        peak_mb: most memory that its process, or the largest of those that it started, held at once.
        rows: rows that it moved.
        more: what else it measured.
    """

    seconds: float
    peak_mb: float
    rows: int
    more: Mapping[str, Any]


class ContenderFailedError(Exception):
    """A contender did not come to its end; the text is the last line that it wrote."""


def run_alone(
    module: str,
    contender: str,
    given: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    python: Path | None = None,
) -> Run:
    """Run a contender of a module that calls `serve`, and return what it took.

    Args:
        module: such as `bench.extract`.
        contender: its name there.
        given: what it needs to know, as JSON can hold it.
        environment: its variables; None are those of this process.
        python: interpreter with what it imports; None is this one.

    Raises:
        ContenderFailedError: it failed.
    """
    words = [str(python or sys.executable), "-m", module, "--alone", contender, json.dumps(given)]
    quiet = {"DO_NOT_TRACK": "1", "RUNTIME__DLTHUB_TELEMETRY": "false"}
    if not Path(words[0]).exists():
        raise ContenderFailedError("it is not installed: `make bench` makes .venv-bench")
    done = subprocess.run(
        words,
        cwd=PROJECT_DIR,
        env={**(environment or os.environ), **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ContenderFailedError(f"{contender} ended with {done.returncode}: {said[-1][:300]}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def serve(contenders: Mapping[str, Contender]) -> bool:
    """Run the contender that the command line asks for, and print what it took; False if it asks for none."""
    if sys.argv[1:2] != ["--alone"]:
        return False
    clock = Clock()
    given = json.loads(sys.argv[3])
    rows = contenders[sys.argv[2]](given, clock)
    # What a process inherits of its parent counts in its own rusage, so that a parent is asked for
    # itself in /proc, and for its children only if it has any.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    if sys.argv[2] != "limit":
        peak = max(peak, _own_peak_mb())
    print(
        json.dumps({"seconds": clock.seconds, "peak_mb": peak, "rows": rows, "more": clock.more}),
        flush=True,
    )
    # Some clients end with threads that wait for each other.
    sys.stdout.flush()
    os._exit(0)


def _own_peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
