"""From the simulation's integers to the values that the operator's systems hold."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from keepline.simulator.population import Array
from keepline.simulator.rhythm import NEVER
from keepline.simulator.schema import TABLES, Column

UTC_OFFSET_S: Final = 8 * 3600
"""The operator lives in one time zone without summer time."""


def to_arrow(table: str, rows: dict[str, Any], start: date) -> pa.Table:
    """Turn arrays of integers into the table's values, without a loop over rows.

    Args:
        table: `schema.table`.
        rows: one array per column. Days and instants count from local midnight of `start`.
        start: first day of the history.

    Returns:
        An Arrow table in the operator's column order; instants in UTC, money in yuan.
    """
    return pa.table({c.name: _values(c, np.asarray(rows[c.name]), start) for c in TABLES[table]})


def dates(days: Array, start: date) -> pa.Array:
    """Days since `start` as dates, NEVER as null."""
    epoch = (start - date(1970, 1, 1)).days
    return pa.array((days + epoch).astype(np.int32), mask=days == NEVER).cast(pa.date32())


def ids(letter: str, numbers: Array) -> pa.Array:
    """Running numbers as ids, negative ones as null."""
    digits = pa.array(numbers, mask=numbers < 0).cast(pa.string())
    return pc.binary_join_element_wise(letter, pc.utf8_lpad(digits, 9, padding="0"), "")


def _values(column: Column, values: Array, start: date) -> pa.Array:
    if column.kind == "text":
        return pa.array(values, type=pa.string())
    if column.kind == "flag":
        return pa.array(values.astype(bool))
    numbers = values.astype(np.int64)
    if column.kind == "instant":
        local = datetime(start.year, start.month, start.day, tzinfo=UTC)
        midnight = int((local - timedelta(seconds=UTC_OFFSET_S)).timestamp())
        instants = pa.array(numbers + midnight, mask=numbers == NEVER)
        return instants.cast(pa.timestamp("s", tz="UTC"))
    if column.kind == "day":
        return dates(numbers, start)
    if column.kind == "fen":
        return pa.array(numbers / 100.0, mask=numbers == NEVER).cast(pa.decimal128(18, 2))
    if column.kind == "int":
        return pa.array(numbers.astype(np.int32), mask=numbers < 0)
    if column.kind == "code":
        return pa.array(column.codes, type=pa.string()).take(pa.array(numbers, mask=numbers < 0))
    return ids(column.letter, numbers)
