"""Where the records of a CSV file stand: the physical line on which each begins, as an editor shows it.

DuckDB counts records. A line end between quotes and a blank line are lines and no records, so that the
two differ from there on. Quote and line end are never a part of another character in the encodings.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

QUOTE, LINE_END, RETURN = b'"'[0], b"\n"[0], b"\r"[0]

Numbers = NDArray[np.int64]


class Places:
    """The records of one file, its header the first of them.

    Attributes:
        starts: first byte of each record.
        lines: physical line of each record, from 1.
    """

    def __init__(self, text: Iterable[bytes]) -> None:
        """Look through a text; its pieces may be cut anywhere."""
        ends, lines = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        returns = [np.empty(0, bool)]
        offset, line, is_open, last = 0, 1, False, 0
        for piece in text:
            marks = np.frombuffer(piece, dtype=np.uint8)
            found = np.flatnonzero(marks == LINE_END)
            quotes = np.flatnonzero(marks == QUOTE)
            # An odd number of quotes before a line end: it stands between two of them.
            outside = (np.searchsorted(quotes, found) + is_open) % 2 == 0
            before = np.append(marks[-1:] * 0 + last, marks[:-1]).astype(np.uint8)
            ends.append(found[outside] + offset)
            lines.append(line + 1 + np.flatnonzero(outside))
            returns.append(before[found[outside]] == RETURN)
            offset += len(marks)
            line += len(found)
            is_open = (len(quotes) + is_open) % 2 == 1
            last = int(marks[-1]) if len(marks) else last
        end = np.concatenate(ends)
        starts, numbers = np.append(0, end + 1), np.append(1, np.concatenate(lines))
        length = np.append(end, offset) - starts
        # Nothing, or a carriage return alone; behind the last line end there may be nothing as well.
        blank = (length == 0) | ((length == 1) & np.append(np.concatenate(returns), False))
        self.starts: Numbers = starts[~blank]
        self.lines: Numbers = numbers[~blank]

    def at(self, positions: Iterable[int]) -> Numbers:
        """Return the records, from 0, in which these bytes stand."""
        wanted = np.fromiter(positions, np.int64)
        return np.maximum(np.searchsorted(self.starts, wanted, side="right") - 1, 0)

    def shifts(self, unread: Numbers) -> tuple[Numbers, Numbers]:
        """Return from which record on the line of a record is its number plus how many.

        Args:
            unread: records, from 0, that are not numbered.

        Returns:
            Numbers of records, from 1 and without the header, and what is to be added from each on.
        """
        kept = np.ones(len(self.lines), bool)
        kept[unread] = False
        kept[:1] = False
        lines = self.lines[kept]
        numbers = np.arange(1, len(lines) + 1)
        ahead = lines - numbers
        changed = np.flatnonzero(np.diff(ahead, prepend=-1))
        return numbers[changed], ahead[changed]
