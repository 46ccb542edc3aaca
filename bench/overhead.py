"""The fixed overhead of a business day: all that the daily DAG costs when there is next to nothing to do.

    python -m bench.overhead                    one day of 100 lines, 2 rounds
    python -m bench.overhead --lines 50

`keepline run`'s daily part as it is: `airflow dags test keepline_daily`, one `keepline` process per task.
A day without any record would be refused by the gate `landed`, so that it is a day of a tiny operator.
Every Python process says what its imports of each tool cost (bench/trace) and when it began and ended;
the seconds of a process that are no import belong to the tool that its verb uses.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from keepline.settings import Settings

from .row import Row, environment_of, print_rows

AIM_S = 45
DAYS = 100
TRACE_DIR = Path(__file__).with_name("trace")
# Whose work a verb mostly is.
VERBS = {"build": "dbt", "check": "Great Expectations", "audit": "Great Expectations"}
IMPORTS = {"airflow": "Airflow", "dbt": "dbt", "great_expectations": "Great Expectations"}
TOOLS = ("Airflow", "dbt", "Great Expectations", "keepline")
PYTHON = ("python", "keepline", "airflow")


@dataclass(frozen=True)
class Split:
    """Where the seconds of one daily run went.

    Attributes:
        seconds: of the whole.
        work: seconds by tool that are no imports.
        imports: seconds of imports by tool.
        pythons: Python processes.
        others: other processes, by program.
    """

    seconds: float
    work: Mapping[str, float]
    imports: Mapping[str, float]
    pythons: int
    others: Mapping[str, int]


def measure(lines: int = 100, rounds: int = 2) -> list[Row]:
    """Run daily DAGs of a tiny operator, a day per round, and split the last one by tool.

    The first day warms up: it stages the whole history.
    """
    from .small import LAST_DATE, small_operator

    with small_operator("overhead", lines, DAYS, train=False, mornings=rounds) as settings:
        days = [LAST_DATE + timedelta(days=n) for n in range(rounds + 1)]
        splits = [_run(settings, day) for day in days][1:]
        seconds = statistics.median(split.seconds for split in splits)
    middle = min(splits, key=lambda split: abs(split.seconds - seconds))
    return [
        Row(
            *(
                "fixed overhead",
                f"a day of {lines} lines",
                "the daily DAG in Airflow",
                "(a plain figure)",
            ),
            *(seconds, AIM_S),
            unit="s",
            seconds=seconds,
            note=_said(middle),
        )
    ]


def _run(settings: Settings, day: date) -> Split:
    from keepline.airflow import test_dag

    traces = settings.home / "traces"
    shutil.rmtree(traces, ignore_errors=True)
    traces.mkdir()
    before = dict(os.environ)
    os.environ.update(environment_of(settings))
    path = os.pathsep.join([str(TRACE_DIR), *filter(None, [before.get("PYTHONPATH")])])
    os.environ.update(BENCH_TRACE_DIR=str(traces), PYTHONPATH=path)
    lines: list[str] = []
    began = time.time()
    try:
        code = test_dag(settings, "keepline_daily", day, lines.append)
    finally:
        os.environ.clear()
        os.environ.update(before)
    ended = time.time()
    if code != 0:
        raise RuntimeError("\n".join(lines))
    said = [json.loads(path.read_text()) for path in sorted(traces.glob("*.json"))]
    return _split(ended - began, said)


def _split(seconds: float, processes: list[Mapping[str, Any]]) -> Split:
    work = dict.fromkeys(TOOLS, 0.0)
    imports = dict.fromkeys(TOOLS, 0.0)
    others: Counter[str] = Counter()
    commands = 0.0
    for process in processes:
        others.update(
            name
            for name in process["started"]
            if not name.startswith(PYTHON) and name != sys.executable
        )
        spent = {tool: process["imports"][name] for name, tool in IMPORTS.items()}
        for tool, share in spent.items():
            imports[tool] += share
        verb = process["argv"][1] if len(process["argv"]) > 1 else ""
        if "airflow" in Path(process["argv"][0]).parts or verb == "dags":
            continue  # Airflow has what the commands leave.
        libraries = sum(process["imports"].values()) - sum(spent.values())
        imports["keepline"] += libraries
        lasted = process["ended"] - process["began"]
        commands += lasted
        work[VERBS.get(verb, "keepline")] += lasted - sum(spent.values()) - libraries
    work["Airflow"] = seconds - commands - imports["Airflow"]
    return Split(seconds, work, imports, len(processes), others)


def _said(split: Split) -> str:
    parts = [
        f"{tool} {split.work[tool] + split.imports[tool]:.1f} s (imports {split.imports[tool]:.1f})"
        for tool in TOOLS
    ]
    others = ", ".join(f"{count} {name}" for name, count in sorted(split.others.items())) or "none"
    return f"{', '.join(parts)}; {split.pythons} Python processes, others: {others}."


if __name__ == "__main__":
    print_rows(__doc__, measure, lines=100)
