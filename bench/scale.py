"""A business day at growing sizes: seconds and peak memory of every stage.

    python -m bench.scale                                     scale factors 0.01 and 0.1 of 9 days
    python -m bench.scale --lines 100000 1000000 --days 90    scale factors 1 and 10: hours

Scale factor 1 is 100,000 subscriptions with 90 days. The simulator's lines make about 4.8 call records a
day, so that this is 43 million records; the days can be cut to what the disk holds, because a business
day costs by its own rows (bench/daily_window.py). Each stage is a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .alone import Run
from .business_day import FACTOR_DAYS, FACTOR_LINES, STAGES, Operator, simulate, trained_models
from .row import Row, as_table, workplace

AIM_MB = 4096.0
# What a day may cost at most when it has so many times the rows.
AIM_GROWTH = 1.0


@dataclass(frozen=True)
class Size:
    """A business day at one size.

    Attributes:
        lines: subscriptions.
        days: length of the history.
        day_rows: rows that a business day extracts.
        simulated_s: seconds of the simulator, for history and mornings.
        history: stages of the history.
        stages: by stage, its run in each business day.
        bytes_by_place: what the history takes on disk.
    """

    lines: int
    days: int
    day_rows: int
    simulated_s: float
    history: Mapping[str, Run]
    stages: Mapping[str, Sequence[Run]]
    bytes_by_place: Mapping[str, int]

    @property
    def factor(self) -> float:
        """Scale factor by subscriptions."""
        return self.lines / FACTOR_LINES

    @property
    def seconds(self) -> dict[str, float]:
        """Median seconds by stage."""
        return {
            verb: statistics.median(run.seconds for run in runs)
            for verb, runs in self.stages.items()
        }

    @property
    def peak_mb(self) -> float:
        """The most memory that one process took, history included."""
        all_runs = [run for runs in self.stages.values() for run in runs]
        return max(run.peak_mb for run in [*all_runs, *self.history.values()])

    @property
    def day_s(self) -> float:
        """Seconds of the day."""
        return sum(self.seconds.values())


def measure(lines: Sequence[int], days: int, rounds: int, engine: str = "duckdb") -> list[Row]:
    """Run business days at several sizes, smallest first.

    Args:
        lines: subscriptions of each size.
        days: length of the history, the same for all.
        rounds: business days at each size.
        engine: compute engine.
    """
    with workplace("scale") as (folder, server):
        models = trained_models(folder / "trained", server)
        sizes = []
        for count in sorted(lines):
            home = folder / f"lines{count}"
            began = time.perf_counter()
            operator = simulate(home, server, count, days, rounds, compute=engine)
            simulated_s = time.perf_counter() - began
            sizes.append(_run(operator, models, count, days, rounds, simulated_s))
            shutil.rmtree(home)
    return _rows(sizes, engine)


def _run(
    operator: Operator, models: Path, lines: int, days: int, rounds: int, simulated_s: float
) -> Size:
    history = operator.bring_history(models)
    taken = {
        "drops": _bytes(operator.drops),
        "landing": _bytes(operator.settings.landing_dir),
        "compute": operator.settings.compute_path.stat().st_size
        if operator.settings.compute_path.exists()
        else 0,
    }
    runs = [operator.run_day(number) for number in range(rounds)]
    stages = {verb: [run[verb] for run in runs] for verb in STAGES}
    rows = int(statistics.median(run.rows for run in stages["extract"]))
    return Size(lines, days, rows, simulated_s, history, stages, taken)


def _cpu_s(runs: Sequence[Run]) -> float:
    return statistics.median(float(run.more["cpu_s"]) for run in runs)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _rows(sizes: Sequence[Size], engine: str) -> list[Row]:
    rows = []
    for size in sizes:
        stages = ", ".join(
            f"{verb} {seconds:.1f} s ({_cpu_s(size.stages[verb]):.1f} of a core)"
            f" {max(run.peak_mb for run in size.stages[verb]):,.0f} MB"
            for verb, seconds in size.seconds.items()
        )
        history = ", ".join(
            f"{verb} {run.seconds:.0f} s ({_cpu_s([run]):.0f})"
            for verb, run in size.history.items()
        )
        disk = ", ".join(
            f"{place} {taken / 1e6:,.0f} MB" for place, taken in size.bytes_by_place.items()
        )
        rows.append(
            Row(
                name="business day by size",
                size=f"{size.lines:,} lines (SF {size.factor:g}), {size.day_rows:,} rows a day",
                measured=f"keepline on {engine}",
                against="4 GiB of memory",
                ratio=size.peak_mb / AIM_MB,
                aim=1.0,
                peak_mb=size.peak_mb,
                aim_mb=AIM_MB,
                seconds=size.day_s,
                note=f"{stages}. History of {size.days} days: simulated in {size.simulated_s:.0f} s,"
                f" {history}; {disk}.",
            )
        )
    for small, large in itertools.pairwise(sizes):
        rows.append(
            Row(
                name="growth of a business day",
                size=f"SF {small.factor:g} to SF {large.factor:g}",
                measured=f"keepline on {engine}",
                against="as many times the seconds as rows",
                ratio=large.day_s / small.day_s / (large.day_rows / small.day_rows),
                aim=AIM_GROWTH,
                seconds=large.day_s,
                note=f"{large.day_rows / small.day_rows:.1f} times the rows took"
                f" {large.day_s / small.day_s:.1f} times the seconds.",
            )
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    factors = [FACTOR_LINES // 100, FACTOR_LINES // 10]
    parser.add_argument("--lines", type=int, nargs="+", default=factors)
    parser.add_argument("--days", type=int, default=FACTOR_DAYS // 10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--engine", default="duckdb")
    print(as_table(measure(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
