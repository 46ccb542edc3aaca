"""Where the records of a CSV file stand: the physical line on which each begins, as an editor shows it.

DuckDB counts records. A line end between quotes and a blank line are lines and no records, so that the
two differ from there on. Quote and line end are never a part of another character in the encodings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
        starts, lines = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        offset, line, is_open = 0, 1, False
        for piece in _whole_lines(text):
            marks = np.frombuffer(piece, dtype=np.uint8)
            ends = np.flatnonzero(marks == LINE_END)
            quotes = np.flatnonzero(marks == QUOTE)
            # An odd number of quotes before a line end: it stands between two of them.
            inside = (np.searchsorted(quotes, ends) + is_open) % 2 == 1
            begins = ends[~inside] + 1
            numbers = line + 1 + np.arange(len(ends))[~inside]
            if not is_open:
                begins, numbers = np.append(0, begins), np.append(line, numbers)
            # What begins behind the last line end is of the next piece.
            begins, numbers = begins[begins < len(marks)], numbers[begins < len(marks)]
            following = marks[np.minimum(begins + 1, len(marks) - 1)]
            blank = marks[begins] == LINE_END
            blank |= (marks[begins] == RETURN) & (following == LINE_END)
            starts.append(begins[~blank] + offset)
            lines.append(numbers[~blank])
            offset += len(marks)
            line += len(ends)
            is_open = (len(quotes) + is_open) % 2 == 1
        self.starts: Numbers = np.concatenate(starts)
        self.lines: Numbers = np.concatenate(lines)

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


def _whole_lines(text: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text in pieces that end with a line."""
    rest: list[bytes] = []
    for chunk in text:
        head, end, tail = chunk.rpartition(b"\n")
        if end:
            yield b"".join([*rest, head, end])
            rest = []
        if tail:
            rest.append(tail)
    if rest:
        yield b"".join(rest)
