"""A telecom operator that never existed, for demonstrations, tests and benchmarks.

It has what an operator has (CRM, billing, online charging, a contact centre, call records in daily
drops), people who leave for reasons that show in what they do, and a folder with the truth that no
pipeline may read.

Nothing here knows keepline, and the pipeline does not know that its operator is simulated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from keepline.simulator.arrow import to_arrow
from keepline.simulator.course import Course
from keepline.simulator.database import OperatorDatabase
from keepline.simulator.drops import Drop, DropWriter, Mediation, clear
from keepline.simulator.schema import SYSTEMS
from keepline.simulator.truth import write_truth

Progress = Callable[[str, int, int], None]

__all__ = ["SYSTEMS", "OperatorDay", "SimulationSummary", "generate", "simulate"]


@dataclass(frozen=True)
class SimulationSummary:
    """What a run made. Days are the operator's local days; the history ends where the mornings begin."""

    subscribers: int
    lines_ever: int
    first_day: date
    last_history_day: date
    last_day: date
    usage_records: int
    drop_bytes: int
    table_rows: dict[str, int]
    dirty_rows: int
    monthly_churn: float
    """Share of the lines in use that left in a month, mean over the history."""
    seconds: float


@dataclass(frozen=True)
class OperatorDay:
    """One day as the operator's systems hold it: rows by table, and the drop that mediation hands over."""

    date: date
    tables: dict[str, pa.Table]
    drops: list[Drop]


def generate(*, subscribers: int, days: int, seed: int, start: date) -> Iterator[OperatorDay]:
    """Live through the operator's days without writing anything.

    Args:
        subscribers: lines in use on the first day.
        days: days to live.
        seed: the same seed gives the same days, however many are asked for.
        start: first day.

    Yields:
        The days in order.
    """
    course, mediation = Course(subscribers, seed, start), Mediation(seed, start)
    for day in course.days(days):
        tables = {name: to_arrow(name, rows, start) for name, rows in day.rows.items()}
        yield OperatorDay(day.date, tables, mediation.hand_over(day))


def simulate(
    dsn: str,
    drops_dir: Path,
    truth_dir: Path,
    *,
    subscribers: int,
    days: int,
    seed: int,
    start: date,
    mornings: int = 30,
    progress: Progress | None = None,
    extractor_password: str,
) -> SimulationSummary:
    """Make an operator: its databases, its drops of call records, and the truth about who leaves.

    The schemas of an earlier run are replaced in one transaction, its drops and its truth before that.

    Args:
        dsn: connection string of an admin of the operator's database, which must exist.
        drops_dir: folder for the drops, one folder per day.
        truth_dir: folder for the hidden truth.
        subscribers: lines in use on the first day.
        days: length of the history, days.
        seed: the same seed gives the same operator; the history does not depend on `mornings`.
        start: first day of the history, operator's local day.
        mornings: further days that are already there, so that later daily runs find something.
        progress: called with (day, done, total) after each day.
        extractor_password: password of the login `extractor`, which may only read.

    Returns:
        What was made.

    Raises:
        ValueError: a size is not positive.
        psycopg.Error: the database refused something; it is then as it was before.
    """
    if subscribers < 10 or days < 1 or mornings < 0:
        raise ValueError(
            f"subscribers={subscribers}, days={days}, mornings={mornings}: at least 10, 1 and 0 are needed"
        )
    began = time.perf_counter()
    clear(drops_dir)
    database = OperatorDatabase(dsn, start)
    writer = DropWriter(drops_dir)
    course, mediation = Course(subscribers, seed, start), Mediation(seed, start)
    records = 0
    try:
        for day in course.days(days + mornings):
            drops = mediation.hand_over(day)
            records += sum(drop.rows for drop in drops)
            writer.put(day.date, drops)
            database.add(day.rows)
            if progress is not None:
                progress(day.date.isoformat(), day.day + 1, days + mornings)
        database.close(extractor_password)
    finally:
        writer.close()
        database.abandon()
    write_truth(truth_dir, course, mediation.dirty)
    return SimulationSummary(
        subscribers=subscribers,
        lines_ever=course.people.lines.n,
        first_day=start,
        last_history_day=start + timedelta(days=days - 1),
        last_day=start + timedelta(days=days + mornings - 1),
        usage_records=records,
        drop_bytes=writer.bytes_written,
        table_rows=dict(database.rows),
        dirty_rows=sum(count for *_, count in mediation.dirty),
        monthly_churn=course.monthly_churn(days),
        seconds=time.perf_counter() - began,
    )
