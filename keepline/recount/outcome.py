"""What a recount found: one line per hop, and where it does not agree with the hop before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from keepline.window import Window

Figures = Mapping[str, int]
ROWS = "rows"


@dataclass(frozen=True)
class Difference:
    """One place at which two hops do not agree.

    Attributes:
        hop: `source`, `landing`, `raw`, `facts` or `release`: the one that is wrong, or behind.
        table: contract table, or the table in compute or in the store.
        day: load date, or the period of a table without load dates, or None for a whole table.
        told: what differs and by how much, counts and totals alone.
        command: what to type next.
    """

    hop: str
    table: str
    day: date | None
    told: str
    command: str

    def __str__(self) -> str:
        place = f"{self.hop}, {self.table}" + (f", {self.day}" if self.day else "")
        return f"{place}: {self.told}"


@dataclass
class Hop:
    """One hop, recounted.

    Attributes:
        name: see `Difference.hop`.
        told: what was counted.
        differences: where it does not agree.
        damaged_parts: parts of the store whose rows are not those that were written.
    """

    name: str
    told: str = ""
    differences: list[Difference] = field(default_factory=list)
    damaged_parts: list[int] = field(default_factory=list)


def first_difference(hops: Iterable[Hop]) -> Difference | None:
    """Return the difference that the others may follow from: of the first hop, then the first day."""
    for hop in hops:
        if hop.differences:
            return min(hop.differences, key=by_day)
    return None


def by_day(found: Difference) -> date:
    """The order of differences: the earliest day first, whole tables before all."""
    return found.day or date.min


def compared(
    expected: Figures, found: Figures, names: tuple[str, str], measures: Sequence[str] | None = None
) -> str:
    """Say how two sets of figures differ, or ''.

    Args:
        expected: figures of the hop before.
        found: figures of this hop.
        names: what the two are called.
        measures: the figures to compare; None means all of `expected`.
    """
    said = []
    for name in expected if measures is None else measures:
        was, now = expected.get(name, 0), found.get(name, 0)
        if was != now:
            more = f"{abs(now - was):,} {'more' if now > was else 'less'}"
            said.append(f"{name} {was:,} in {names[0]}, {now:,} in {names[1]} ({more})")
    return "; ".join(said[:2]) + (f" and {len(said) - 2} further totals" if len(said) > 2 else "")


def over(window: Window | date) -> str:
    """Return the options that name a day or a window."""
    if isinstance(window, Window) and window.from_date != window.last_date:
        return f"--from {window.from_date} --to {window.to_date}"
    return f"--date {window.from_date if isinstance(window, Window) else window}"
