"""What a release to come has in common with the one that readers see, and what is new in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

from psycopg import sql

from keepline.ops import Connection
from keepline.release.copying import Content
from keepline.release.published import DAY, PublishedTable
from keepline.window import Window

Period = date | None


class Part(NamedTuple):
    """A part of the release to come that readers do not see yet.

    Attributes:
        table: its table.
        period: day or first day of the month; None for a table's whole copy.
        content: what compute holds of it.
        part_id: its number in the store, 0 while it has none.
    """

    table: PublishedTable
    period: Period
    content: Content
    part_id: int = 0

    @property
    def leaf(self) -> str:
        """Return the partition that holds it: one of its own, or that of the period's month or year."""
        if self.period is None:
            return f"{self.table.name}__p{self.part_id}"
        return f"{self.table.name}__{self.period:{'%Y%m' if self.table.kind == DAY else '%Y'}}"

    @property
    def bound(self) -> sql.Composed:
        """Return which rows its partition takes."""
        if self.period is None:
            return sql.SQL("in ({})").format(sql.Literal(self.part_id))
        if self.table.kind == DAY:
            first = self.period.replace(day=1)
            last = (first + timedelta(days=31)).replace(day=1)
        else:
            first = self.period.replace(month=1, day=1)
            last = first.replace(year=first.year + 1)
        return sql.SQL("from ({}) to ({})").format(sql.Literal(first), sql.Literal(last))


@dataclass(frozen=True)
class Plan:
    """The parts of the release to come, as the difference from what readers see.

    Attributes:
        shown_release_id: the release that readers see, or None.
        shown: ids of its parts.
        gone: of these, the ones that the release to come does not have.
        kept: how many of them stay, by table.
        reused: parts that readers do not see now and that the store has from another release.
        new: parts that must be copied.
    """

    shown_release_id: int | None
    shown: frozenset[int]
    gone: Sequence[int]
    kept: Counter[str]
    reused: Sequence[Part]
    new: Sequence[Part]

    @property
    def part_ids(self) -> set[int]:
        """Return the ids of all parts that the store has already."""
        return {*self.shown.difference(self.gone), *(part.part_id for part in self.reused)}


def compare(
    connection: Connection,
    tables: Iterable[PublishedTable],
    contents: Mapping[str, Mapping[Period, Content]],
    window: Window,
) -> Plan:
    """Compare what compute holds, by table and period, with the release that readers see.

    A long history has thousands of parts, of which a day changes a few: nothing is made of the others.
    """
    rows = connection.execute(
        "select p.table_name, p.period, p.part_id, p.shape, p.rows, p.content, c.release_id"
        " from ctl.current_release as c"
        " inner join ctl.release_part as rp on rp.release_id = c.release_id"
        " inner join ctl.part as p on p.part_id = rp.part_id"
    ).fetchall()
    shown = {row[:2]: row[2:6] for row in rows}
    stay: set[int] = set()
    kept: Counter[str] = Counter()
    changed = []
    by_name = {table.name: table for table in tables}
    for name, table in by_name.items():
        for period, content in contents[name].items():
            found = shown.get((name, period))
            if found and found[1:] == (table.shape, content.rows, content.hash):
                stay.add(found[0])
                kept[name] += 1
            else:
                changed.append(Part(table, period, content))
    for (name, period), (part_id, *_) in shown.items():
        if name not in by_name or period is None or period in contents[name]:
            continue
        # Compute has no rows of it: readers keep it unless the window was to replace it.
        if not _touches(by_name[name], period, window):
            stay.add(part_id)
            kept[name] += 1
    changed.sort(key=lambda part: part.period or date.min)
    known = _known(connection, changed)
    ids = frozenset(row[2] for row in rows)
    return Plan(
        shown_release_id=rows[0][6] if rows else None,
        shown=ids,
        gone=sorted(ids - stay),
        kept=kept,
        reused=[part for part in known if part.part_id],
        new=[part for part in known if not part.part_id],
    )


def find_same(connection: Connection, plan: Plan, window: Window) -> int | None:
    """Return the release that has just these parts for this window, if it still counts.

    That is the one that readers see, or the newest one while it waits to be audited and published.
    """
    if plan.new:
        return None
    row = connection.execute(
        """
        select r.release_id
        from ctl.release as r
        where r.from_date = %s and r.to_date = %s
            and (
                r.release_id = %s
                or (
                    r.status in ('staged', 'audited', 'rejected')
                    and r.release_id = (select max(n.release_id) from ctl.release as n)
                )
            )
            and (
                select array_agg(rp.part_id order by rp.part_id) from ctl.release_part as rp
                where rp.release_id = r.release_id
            ) = %s::integer[]
        """,
        [window.from_date, window.to_date, plan.shown_release_id, sorted(plan.part_ids)],
    ).fetchone()
    return None if row is None else int(row[0])


def _known(connection: Connection, parts: Sequence[Part]) -> list[Part]:
    """Number the parts that the store has from a release that readers do not see now."""
    rows = connection.execute(
        "select table_name, period, shape, rows, content, part_id from ctl.part"
        " where table_name = any(%s) and (period is null or period = any(%s)) order by part_id",
        [
            sorted({part.table.name for part in parts}),
            sorted({part.period for part in parts if part.period}),
        ],
    ).fetchall()
    known = {tuple(row[:5]): row[5] for row in rows}
    return [
        part._replace(
            part_id=known.get((part.table.name, part.period, part.table.shape, *part.content), 0)
        )
        for part in parts
    ]


def _touches(table: PublishedTable, period: date, window: Window) -> bool:
    if table.kind == DAY:
        return window.from_date <= period < window.to_date
    return window.from_date.replace(day=1) <= period < window.to_date
