"""Delimited text at memory speed: rows of fixed-width bytes whose unused bytes go at the end.

A value is looked up in a table of ready texts rather than formatted, so that compression is what
limits the writing of drops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from keepline.simulator.population import Array

PADDED4: Final = [b"%04d" % i for i in range(10_000)]
_GROUPS: Final = np.array([*PADDED4, *(b"%d" % i for i in range(10_000)), b""], dtype="S4")
_PLAIN, _EMPTY = 10_000, 20_000
CLOCK: Final = np.array(
    [b"%02d:%02d:%02d" % (s // 3600, s // 60 % 60, s % 60) for s in range(86_400)], dtype="S8"
)
SECONDS: Final = np.array([b"%d" % i for i in range(86_401)], dtype="S5")
YUAN: Final = np.array([b"%d.%02d" % divmod(i, 100) for i in range(10_000)], dtype="S5")
ZONE: Final = b"+08:00"


def codes(*texts: str) -> Array:
    """A look-up table of codes."""
    return np.array([text.encode() for text in texts])


class Layout:
    """Columns of a file; a column may be made of several parts that stand next to each other."""

    def __init__(self, **columns: tuple[int, ...]) -> None:
        """Describe a file.

        Args:
            **columns: for each column the widths of its parts, bytes.
        """
        self.header = (",".join(columns) + "\n").encode()
        fields: list[tuple[str, str]] = []
        ends: list[str] = []
        for name, widths in columns.items():
            fields += [(f"{name}.{k}", f"S{width}") for k, width in enumerate(widths)]
            ends.append(f"{name}.end")
            fields.append((f"{name}.end", "S1"))
        self.dtype = np.dtype(fields)
        row = np.zeros(1, dtype=self.dtype)
        for end in ends[:-1]:
            row[end] = b","
        row[ends[-1]] = b"\n"
        self._blank = row.view(np.uint8)

    def empty(self, n: int) -> Array:
        """Rows with their delimiters and nothing else."""
        rows = np.empty((n, self.dtype.itemsize), dtype=np.uint8)
        rows[:] = self._blank
        return rows.view(self.dtype)[:, 0]

    def to_bytes(self, parts: Sequence[Array]) -> bytes:
        """The bytes of a file with some rows, header included."""
        return self.header + b"".join(part.tobytes().translate(None, b"\0") for part in parts)


def put_integers(rows: Array, column: str, values: Array) -> None:
    """Write integers from 0 up to 10^12 into a column with parts of widths (4, 4, 4)."""
    rest, low = np.divmod(values, 10_000)
    high, middle = np.divmod(rest, 10_000)
    rows[f"{column}.0"] = _GROUPS[np.where(high > 0, high + _PLAIN, _EMPTY)]
    rows[f"{column}.1"] = _GROUPS[
        np.where(high > 0, middle, np.where(rest > 0, middle + _PLAIN, _EMPTY))
    ]
    rows[f"{column}.2"] = _GROUPS[np.where(rest > 0, low, low + _PLAIN)]


def put_serials(rows: Array, column: str, series: bytes, first: int) -> None:
    """Number the rows: the series' letters, then eight digits from `first`."""
    high, low = np.divmod(np.arange(first, first + len(rows)), 10_000)
    rows[f"{column}.0"] = series
    rows[f"{column}.1"] = _GROUPS[high]
    rows[f"{column}.2"] = _GROUPS[low]


def put_instants(rows: Array, column: str, day: Array | bytes, second: Array) -> None:
    """Write local instants; `day` is the day's text with a space behind it."""
    rows[f"{column}.0"] = day
    rows[f"{column}.1"] = CLOCK[second]
    rows[f"{column}.2"] = ZONE
