"""Collects the rows of a run by the day on which the operator's systems recorded them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keepline.simulator.rhythm import DAY_S
from keepline.simulator.schema import TABLES, recorded_by

Rows = dict[str, Any]


class Sink:
    """Rows in order of `add`; a row recorded on a later day waits for that day.

    So a history that is planned at once (a complaint with its answers, a number's move) is only ever
    visible as far as it has happened, and a shorter run is a prefix of a longer one.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, list[tuple[str, Rows]]] = defaultdict(list)

    def add(self, table: str, **columns: ArrayLike | None) -> None:
        """Add rows; a scalar fills its column.

        Args:
            table: `schema.table`.
            **columns: one array or scalar per column of the table; at least one must be an array.
        """
        arrays = {name: np.atleast_1d(np.asarray(value)) for name, value in columns.items()}
        n = max(len(values) for values in arrays.values())
        if min(len(values) for values in arrays.values()) == 0:
            return
        missing = {c.name for c in TABLES[table]} ^ arrays.keys()
        if missing:
            raise KeyError(f"{table}: columns given and expected differ in {sorted(missing)}")
        rows = {name: np.broadcast_to(v, n) if len(v) != n else v for name, v in arrays.items()}
        days = rows[recorded_by(table)] // DAY_S
        first = int(days[0])
        if (days == first).all():
            self._waiting[first].append((table, rows))
            return
        for day in np.unique(days):
            chosen = days == day
            self._waiting[int(day)].append((table, {k: v[chosen] for k, v in rows.items()}))

    def take(self, day: int) -> dict[str, Rows]:
        """Hand over the rows recorded on `day` or before, table by table."""
        ready: dict[str, list[Rows]] = defaultdict(list)
        for known in sorted(k for k in self._waiting if k <= day):
            for table, rows in self._waiting.pop(known):
                ready[table].append(rows)
        return {table: merged(parts) for table, parts in ready.items()}


def merged(parts: Sequence[Rows]) -> Rows:
    """Rows of one table one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
