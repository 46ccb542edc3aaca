"""The truth that only tests read: who decides to leave and why, who only seems to, what is broken."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from keepline.simulator import world
from keepline.simulator.arrow import dates, ids
from keepline.simulator.course import Course
from keepline.simulator.population import LEFT, OVERTAKEN, STAYED, UNDER_WAY, Array
from keepline.simulator.rhythm import DAY_S


def write_truth(folder: Path, course: Course, dirty: Sequence[tuple[date, str, str, int]]) -> None:
    """Write the truth of a run.

    `churn_truth.parquet` has a row per line that left, `stay_truth.parquet` one per plan that came
    to nothing (the same signs, and then nothing), `unfinished_truth.parquet` one per plan whose day
    never came (still under way when the run ends, or overtaken by another end of the line: neither
    a loss nor a stay of this history), `base_truth.parquet` one per line ever, and
    `dirty_truth.parquet` the number of broken rows by drop, table and kind.

    Args:
        folder: where to; an earlier truth is removed.
        course: the run.
        dirty: broken rows as (day of the drop, table, kind, rows).
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    p = course.people.plans
    outcome = p.outcome[: p.n]
    pq.write_table(_plans(course, outcome == LEFT), folder / "churn_truth.parquet")
    stayers = _plans(course, outcome == STAYED, last_day="ended_date")
    pq.write_table(
        stayers.drop_columns(["kind", "destination_operator"]), folder / "stay_truth.parquet"
    )
    open_ = np.isin(outcome, [UNDER_WAY, OVERTAKEN])
    unfinished = _plans(course, open_, last_day="planned_date")
    why = _codes(("under_way", "overtaken"), (outcome[open_] == OVERTAKEN).astype(int))
    pq.write_table(
        unfinished.append_column("why", why).drop_columns(["kind", "destination_operator"]),
        folder / "unfinished_truth.parquet",
    )
    pq.write_table(_base(course), folder / "base_truth.parquet")
    columns = [list(c) for c in zip(*dirty, strict=True)] or [[], [], [], []]
    types = (pa.date32(), pa.string(), pa.string(), pa.int64())
    table = pa.table(
        {
            name: pa.array(values, type=kind)
            for name, values, kind in zip(
                ("date", "table_name", "kind", "rows"), columns, types, strict=True
            )
        }
    )
    pq.write_table(table, folder / "dirty_truth.parquet")


def _codes(codes: Sequence[str], at: Array) -> pa.Array:
    return pa.array(codes, type=pa.string()).take(pa.array(at.astype(np.int64), mask=at < 0))


def _plans(course: Course, chosen: Array, last_day: str = "leave_date") -> pa.Table:
    p = course.people.plans
    at = np.flatnonzero(chosen)
    # Who moves away, cannot pay or is cut off goes to nobody in particular.
    nowhere = np.isin(p.cause[at], [world.NON_PAYMENT, world.MOVING, world.FRAUD])
    nowhere &= p.kind[at] != world.PORT_OUT
    return pa.table(
        {
            "subscription_id": ids("S", p.line[at] + 1),
            "cause": _codes(world.CAUSES, p.cause[at]),
            "decided_date": dates(p.plan_from[at], course.start),
            last_day: dates(p.plan_to[at], course.start),
            "kind": _codes(world.KINDS, p.kind[at]),
            "destination_operator": _codes(
                world.OPERATORS, np.where(nowhere, -1, p.destination[at])
            ),
            "shows_signs": pa.array(p.shows[at]),
        }
    )


def _base(course: Course) -> pa.Table:
    s = course.people.lines
    at = np.arange(s.n)
    days = s.activated[at] // DAY_S
    return pa.table(
        {
            "subscription_id": ids("S", at + 1),
            "is_base": pa.array(days < 0),
            "activated_date": dates(days, course.start),
            "payment_type": _codes(("postpaid", "prepaid"), s.prepaid[at].astype(int)),
            "frailty": pa.array(s.frailty[at]),
            "voice_habit": pa.array(s.voice[at]),
            "data_habit": pa.array(s.data[at]),
        }
    )
