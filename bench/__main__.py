"""Every row of the benchmark, one after the other, into one table and one plot.

    python -m bench                             sizes for minutes (`make bench`)
    python -m bench --full                      sizes of an operator (`make bench-full`, an hour)
    python -m bench --only extract load         some rows, printed and not written

Writes the section `stages` of bench/README.md (`stages-full` with --full) and the plot beside it. A row
that fails is told in the table, the others still run, and the exit code is 1. The section is written after
each row, so that a run that is stopped leaves what it has measured, and says what is missing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from keepline.embedded import EmbeddedPostgres
from keepline.settings import PROJECT_DIR

from .plot import draw
from .results import write_section
from .row import Row, as_table

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Measurement:
    """A module of this folder whose `measure` returns rows, and the sizes that it takes."""

    module: str
    quick: Mapping[str, Any]
    full: Mapping[str, Any]


MEASUREMENTS = (
    Measurement("extract", {"rows": 1_000_000}, {"rows": 10_000_000}),
    Measurement("load", {"rows": 1_000_000}, {"rows": 10_000_000}),
    Measurement("publish", {"rows": 500_000}, {"rows": 1_000_000}),
    Measurement("reaggregation", {"rows": 5_000_000}, {"rows": 30_000_000}),
    Measurement("scoring", {"rows": 100_000}, {"rows": 1_000_000}),
    Measurement("overhead", {"lines": 100}, {"lines": 100, "rounds": 3}),
    Measurement(
        "daily_window",
        {"lines": 200, "days": 100, "rounds": 3},
        {"lines": 1500, "days": 200, "rounds": 5},
    ),
    Measurement(
        "usual_stack",
        {"lines": 2000, "days": 90, "rounds": 1},
        {"lines": 20_000, "days": 90, "rounds": 1},
    ),
    Measurement(
        "scale",
        {"lines": (1000, 10_000), "days": 9, "rounds": 1},
        {"lines": (100_000, 1_000_000), "days": 9, "rounds": 1},
    ),
    Measurement(
        "many",
        {"partitions": 2000, "releases": 100, "parts": 500, "rounds": 1},
        {"partitions": 10_000, "releases": 1000, "parts": 2000, "rounds": 3},
    ),
)
PACKAGES = ("duckdb", "lightgbm", "pyarrow", "dbt-core", "apache-airflow", "great-expectations")
RIVALS = ("connectorx", "dlt", "pandas")


def run(
    measurements: Sequence[Measurement],
    *,
    full: bool,
    tell: Callable[[Sequence[Row], Sequence[Measurement]], None],
) -> bool:
    """Measure; returns whether each measurement came to its end.

    Args:
        measurements: what to measure.
        full: at which of their sizes.
        tell: called after each of them with the rows so far and what is still to be measured.
    """
    rows: list[Row] = []
    whole = True
    for number, measurement in enumerate(measurements, start=1):
        began = time.perf_counter()
        sizes = measurement.full if full else measurement.quick
        try:
            module = importlib.import_module(f"bench.{measurement.module}")
            found: list[Row] = module.measure(**sizes)
        except Exception as error:
            traceback.print_exc()
            whole = False
            size = ", ".join(f"{name} {value}" for name, value in sizes.items())
            note = f"FAILED: {str(error).splitlines()[0][:300] if str(error) else type(error).__name__}"
            found = [Row(measurement.module, size, "keepline", "", None, note=note)]
        rows += found
        print(
            f"{measurement.module}: {time.perf_counter() - began:.0f} s\n{as_table(found)}\n",
            flush=True,
        )
        tell(rows, measurements[number:])
    return whole


def _surroundings(command: str, seconds: float) -> str:
    lock = (PROJECT_DIR / "requirements-bench.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    server = EmbeddedPostgres(HERE, "")._binaries() / "postgres"
    said = subprocess.run([str(server), "--version"], capture_output=True, text=True, check=True)
    versions.append(f"PostgreSQL {said.stdout.split()[-1]}")
    versions += [f"{name} {locked[name]}" for name in RIVALS]
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cores = len(os.sched_getaffinity(0))
    return (
        f"`{command}`, {seconds / 60:.0f} minutes; {cores} cores"
        f" ({model[1] if model else platform.machine()}), load of the machine in the last 15 minutes"
        f" {os.getloadavg()[2]:.1f}; Python {platform.python_version()},"
        f" {', '.join(versions)}. Medians of rounds in turns; each contender in a process of its own, imports"
        " not counted; peak MB is the most memory that it held."
    )


def main() -> None:
    """Measure, print, and write bench/README.md and the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the sizes of an operator")
    parser.add_argument(
        "--only", nargs="+", choices=[one.module for one in MEASUREMENTS], metavar="ROW"
    )
    given = parser.parse_args()
    began = time.perf_counter()
    wanted = [one for one in MEASUREMENTS if given.only is None or one.module in given.only]

    def tell(rows: Sequence[Row], missing: Sequence[Measurement]) -> None:
        if given.only is not None:
            return
        name, plot = ("stages-full", "stages-full.svg") if given.full else ("stages", "stages.svg")
        draw(rows, HERE / plot)
        command = "make bench-full" if given.full else "make bench"
        text = [_surroundings(command, time.perf_counter() - began)]
        if missing:
            text.append(f"Stopped before: {', '.join(one.module for one in missing)}.")
        text += [as_table(rows), f"![each figure by its aim]({plot})"]
        write_section(name, "\n\n".join(text))

    whole = run(wanted, full=given.full, tell=tell)
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
