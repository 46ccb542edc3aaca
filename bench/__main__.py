"""Every row of the benchmark, one after the other, into one table and one plot.

    python -m bench                             sizes for minutes (`make bench`)
    python -m bench --full                      sizes of an operator (`make bench-full`, hours)
    python -m bench --only extract load         some rows anew; the others stay as they were measured

Keeps what each measurement found in stages.json (stages-full.json with --full) and makes of it the section
of that name of bench/README.md and the plot beside it, after each measurement: a run that is stopped leaves
what it has measured, and the page says what is missing. A measurement that fails is told in the table, the
others still run, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
    Measurement("reaggregation", {"rows": 30_000_000}, {"rows": 30_000_000}),
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
        {"lines": 25_000, "days": 90, "rounds": 1},
    ),
    Measurement(
        "scale",
        {"lines": (1000, 10_000), "days": 9, "rounds": 1},
        {"lines": (100_000, 1_000_000), "days": 5, "rounds": 1},
    ),
    Measurement(
        "many",
        {"partitions": 2000, "releases": 100, "parts": 500, "rounds": 1},
        {"partitions": 10_000, "releases": 1000, "parts": 2000, "rounds": 3},
    ),
)
PACKAGES = ("duckdb", "lightgbm", "pyarrow", "dbt-core", "apache-airflow", "great-expectations")
RIVALS = ("connectorx", "dlt", "pandas")


class Findings:
    """What each measurement found last, in a file; the page and the plot are made of it.

    Args:
        full: at the sizes of an operator.
    """

    def __init__(self, *, full: bool) -> None:
        self._name = "stages-full" if full else "stages"
        self._command = "make bench-full" if full else "make bench"
        self._path = HERE / f"{self._name}.json"
        self._found: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            self._found = json.loads(self._path.read_text(encoding="utf-8"))

    def keep(self, module: str, rows: Sequence[Row], seconds: float) -> None:
        """Put what a measurement found in the place of what it found before, and write the page."""
        self._found[module] = {
            "measured_on": datetime.now(UTC).date().isoformat(),
            "minutes": round(seconds / 60, 1),
            "load": round(os.getloadavg()[2], 1),
            "surroundings": _surroundings(),
            "rows": [dataclasses.asdict(row) for row in rows],
        }
        self._found = {
            m.module: self._found[m.module] for m in MEASUREMENTS if m.module in self._found
        }
        text = json.dumps(self._found, indent=1, ensure_ascii=False)
        self._path.write_text(text + "\n", encoding="utf-8")
        all_rows = [Row(**row) for one in self._found.values() for row in one["rows"]]
        plot = f"{self._name}.svg"
        draw(all_rows, HERE / plot)
        page = [*self._told(), as_table(all_rows), f"![each figure by its aim]({plot})"]
        write_section(self._name, "\n\n".join(page))

    def _told(self) -> list[str]:
        """Return when and where all was measured, and what was not."""
        by_place: dict[str, list[str]] = {}
        for module, one in self._found.items():
            said = (
                f"{module} ({one['measured_on']}, {one['minutes']:g} minutes, load {one['load']:g})"
            )
            by_place.setdefault(one["surroundings"], []).append(said)
        told = [
            f"`{self._command}`. Medians of rounds in turns; each contender in a process of its own, imports"
            " not counted; peak MB is the most memory that it held. The load is that of the machine in the"
            " 15 minutes before the end, the measurement itself in it."
        ]
        told += [f"{place}: {', '.join(modules)}." for place, modules in by_place.items()]
        missing = [m.module for m in MEASUREMENTS if m.module not in self._found]
        if missing:
            told.append(f"Not measured yet: {', '.join(missing)}.")
        return told


def run(measurements: Sequence[Measurement], findings: Findings, *, full: bool) -> bool:
    """Measure; returns whether each measurement came to its end.

    Args:
        measurements: what to measure.
        findings: gets what each of them found.
        full: at which of their sizes.
    """
    whole = True
    for measurement in measurements:
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
        seconds = time.perf_counter() - began
        print(f"{measurement.module}: {seconds:.0f} s\n{as_table(found)}\n", flush=True)
        findings.keep(measurement.module, found, seconds)
    return whole


def _surroundings() -> str:
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
        f"{cores} cores ({model[1] if model else platform.machine()}), Python {platform.python_version()},"
        f" {', '.join(versions)}"
    )


def main() -> None:
    """Measure, print, and write bench/README.md and the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the sizes of an operator")
    names = [one.module for one in MEASUREMENTS]
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="ROW", help=f"of {', '.join(names)}"
    )
    given = parser.parse_args()
    wanted = [one for one in MEASUREMENTS if given.only is None or one.module in given.only]
    whole = run(wanted, Findings(full=given.full), full=given.full)
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
