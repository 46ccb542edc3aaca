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
from keepline.simulator.population import Array
from keepline.simulator.rhythm import DAY_S


def write_truth(folder: Path, course: Course, dirty: Sequence[tuple[date, str, str, int]]) -> None:
    """Write the truth of a run.

    `churn_truth.parquet` has a row per line that leaves, `stay_truth.parquet` one per plan that came
    to nothing (the same signs, and then nothing), `base_truth.parquet` one per line ever, and
    `dirty_truth.parquet` the number of broken rows by drop, table and kind.

    Args:
        folder: where to; an earlier truth is removed.
        course: the run.
        dirty: broken rows as (day of the drop, table, kind, rows).
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plans = {name: np.concatenate(parts) for name, parts in course.plans.items()}
    going = ~plans["stays"]
    pq.write_table(
        _plans(course, {n: v[going] for n, v in plans.items()}), folder / "churn_truth.parquet"
    )
    stayers = _plans(course, {n: v[~going] for n, v in plans.items()})
    stayers = stayers.rename_columns(
        ["ended_date" if name == "leave_date" else name for name in stayers.column_names]
    ).drop_columns(["kind", "destination_operator"])
    pq.write_table(stayers, folder / "stay_truth.parquet")
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


def _plans(course: Course, plans: dict[str, Array]) -> pa.Table:
    # Who moves away, cannot pay or is cut off goes to nobody in particular.
    known = np.isin(plans["cause"], [world.NON_PAYMENT, world.MOVING, world.FRAUD])
    destination = np.where(known & (plans["kind"] != world.PORT_OUT), -1, plans["destination"])
    return pa.table(
        {
            "subscription_id": ids("S", plans["line"] + 1),
            "cause": _codes(world.CAUSES, plans["cause"]),
            "decided_date": dates(plans["plan_from"], course.start),
            "leave_date": dates(plans["plan_to"], course.start),
            "kind": _codes(world.KINDS, plans["kind"]),
            "destination_operator": _codes(world.OPERATORS, destination),
            "shows_signs": pa.array(plans["shows"]),
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
