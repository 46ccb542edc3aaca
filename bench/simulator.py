"""How fast the simulated operator is written, against the limit `gzip -1 of the same bytes`.

    python -m bench.simulator                       60,000 lines, 3 days, one core
    python -m bench.simulator --lines 3000 --days 400

One thread on one core lives through the days, writes the drops (CSV, gzip, checksums, manifest) and
turns the rows of the databases into Arrow. The limit compresses the same bytes and does nothing else.
Seconds are those that the core worked, so that a busy machine does not change them much.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
import zlib
from datetime import date, timedelta
from pathlib import Path

from keepline.simulator.arrow import to_arrow
from keepline.simulator.course import Course
from keepline.simulator.drops import COMPRESSION_LEVEL, Mediation, compress, write_drop

START = date(2026, 1, 1)
SEED = 1
TARGET_ROWS_S = 300_000


def measure(lines: int, days: int) -> tuple[float, float, float, int, int]:
    """Live through a run once.

    Returns:
        Seconds to found the operator, to live its days, and at the limit; call records; their bytes.
    """
    began = time.process_time()
    course, mediation = Course(lines, SEED, START), Mediation(SEED, START)
    founded = time.process_time() - began
    lived = limit = 0.0
    rows = size = 0
    with tempfile.TemporaryDirectory() as folder:
        life = course.days(days)
        for k in range(days):
            began = time.process_time()
            day = next(life)
            drops = mediation.hand_over(day)
            write_drop(Path(folder), START + timedelta(days=k), drops)
            for table, columns in day.rows.items():
                to_arrow(table, columns, START)
            middle = time.process_time()
            for drop in drops:
                compress(drop.content)
            lived += middle - began
            limit += time.process_time() - middle
            rows += sum(drop.rows for drop in drops)
            size += sum(len(drop.content) for drop in drops)
    return founded, lived, limit, rows, size


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=int, default=60_000)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    # The last of the cores that we may use: a busy machine's first one serves interrupts.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    runs = [measure(given.lines, given.days) for _ in range(given.repeat)]
    rows, size = runs[0][3:]
    founded, lived, limit = (statistics.median(run[k] for run in runs) for k in range(3))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{given.lines:,} lines, {given.days} days, one core, median of {given.repeat}")
    print(
        f"  call records               {rows:>12,}   {size / rows:.0f} bytes each before compression"
    )
    print(f"  founding the operator      {founded:>12.2f} s")
    print(f"  living and writing         {lived:>12.2f} s   {rows / lived:,.0f} records/s")
    print(
        f"  limit: gzip -{COMPRESSION_LEVEL} (zlib {zlib.ZLIB_RUNTIME_VERSION})"
        f"{limit:>13.2f} s   {rows / limit:,.0f} records/s"
    )
    print(f"  ratio to the limit         {lived / limit:>12.2f}")
    print(f"  peak memory                {memory:>12,} MB")
    verdict = "met" if rows / lived >= TARGET_ROWS_S else "MISSED"
    print(f"  target {TARGET_ROWS_S:,} records/s: {verdict}")


if __name__ == "__main__":
    main()
