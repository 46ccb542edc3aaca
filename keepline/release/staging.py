"""`keepline stage`: copy what is to be published into the store, as a release no reader can see.

Each published table is split into parts: its whole copy (kind state) or one per period (day, month).
A part is written once and never changed; a release is a list of parts. Parts are compared by content
with those that the store has, so that only what changed is copied, however old the period, and an
identical run copies nothing. All of a stage is one transaction: a stage that dies leaves nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from importlib.metadata import version
from typing import NamedTuple

import psycopg
from psycopg import sql

from keepline import lease, store
from keepline.compute import compute_for
from keepline.errors import BadDataError, SourceUnavailableError
from keepline.failpoint import reach
from keepline.ops import Connection
from keepline.progress import Update
from keepline.release import retention
from keepline.release.copying import Content, Copier
from keepline.release.migration import WRITER_LOCK
from keepline.release.published import DAY, PublishedTable, from_store
from keepline.settings import Settings
from keepline.window import Window

Period = date | None


@dataclass(frozen=True)
class TableReport:
    """What a stage did with one table.

    Attributes:
        table_name: name in the store.
        rows_copied: rows of the parts that were new.
        parts_copied: parts that were new.
        parts_reused: parts that the store had already.
    """

    table_name: str
    rows_copied: int
    parts_copied: int
    parts_reused: int


@dataclass(frozen=True)
class StageReport:
    """What a stage did.

    Attributes:
        release_id: the release that shows the window's results, invisible until it is published.
        window: load dates that it was staged for.
        is_new: False when a release with just these rows for this window was there already.
        is_current: readers see this release already, so that publishing it changes nothing.
        tables: one report per published table.
        seconds: how long it took.
    """

    release_id: int
    window: Window
    is_new: bool
    is_current: bool
    tables: tuple[TableReport, ...]
    seconds: float

    @property
    def rows(self) -> int:
        """Rows copied."""
        return sum(table.rows_copied for table in self.tables)


class _Part(NamedTuple):
    """A part of the release to come; `content` is None when the store has its rows already."""

    table: PublishedTable
    period: Period
    part_id: int
    content: Content | None = None

    @property
    def leaf(self) -> str:
        """The partition that holds it: one of its own, or that of the period's month or year."""
        if self.period is None:
            return f"{self.table.name}__p{self.part_id}"
        return f"{self.table.name}__{self.period:{'%Y%m' if self.table.kind == DAY else '%Y'}}"

    @property
    def bound(self) -> sql.Composed:
        """Which rows its partition takes."""
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
class _Shown:
    """The release that readers see: id, shape, rows and content of its parts by table and period."""

    release_id: int | None
    parts: Mapping[tuple[str, Period], tuple[int, str, int, str]]

    @cached_property
    def part_ids(self) -> set[int]:
        return {part[0] for part in self.parts.values()}


def stage(settings: Settings, window: Window, progress: Update | None = None) -> StageReport:
    """Copy what compute holds into the store under a new release, which no reader can see.

    The release shows what compute holds now. Periods outside the window that compute no longer has
    stay as readers have them; periods inside the window that became empty go.

    Args:
        settings: where compute and the store are.
        window: load dates that the release is for.
        progress: called with (table, tables done, tables in all).

    Raises:
        UsageError: the store was never migrated, or compute lacks a published model.
        BadDataError: compute's rows cannot be stored as the contract says.
        SourceUnavailableError: compute or the store is in use or out of reach.
    """
    started = time.perf_counter()
    with store.connect(settings, autocommit=True) as connection:
        _wait_for_other_stages(connection)
        tables = from_store(connection)
        with compute_for(settings).connection() as duck:
            copier = Copier(duck, connection)
            contents = {table.name: copier.contents(table) for table in tables}
            shown = _shown(connection)
            parts = _compare(connection, shown, tables, contents, window)
            release_id = _find_same(connection, shown, window, parts)
            is_new = release_id is None
            if release_id is not None:
                with connection.transaction():
                    lease.fence(connection)
                    _stage_again(connection, release_id)
            else:
                release_id = _numbers(connection, "ctl.release", "release_id", 1)[0]
                parts = _numbered(connection, parts)
                copier.attach(store.dsn(settings))
                with copier.transaction():
                    _copy(copier, connection, parts, progress)
                    _register(copier, shown, release_id, window, parts)
                    reach("stage.registered")
                reach("stage.committed")
                copier.analyze()
        current = store.scalar(connection, "select release_id from ctl.current_release")
        report = StageReport(
            release_id,
            window,
            is_new,
            current == release_id,
            _count(tables, parts),
            time.perf_counter() - started,
        )
    retention.clean(settings)
    return report


# -- inside --------------------------------------------------------------------------------------


def _wait_for_other_stages(connection: Connection) -> None:
    """Hold the lock that all writers share, until the connection closes or this process dies."""
    connection.execute("set lock_timeout = '15min'")
    try:
        connection.execute("select pg_advisory_lock(%s)", [WRITER_LOCK])
    except psycopg.errors.LockNotAvailable:
        raise SourceUnavailableError(
            "another stage has been writing to the store for 15 minutes: stage again later"
        ) from None


def _shown(connection: Connection) -> _Shown:
    rows = connection.execute(
        "select p.table_name, p.period, p.part_id, p.shape, p.rows, p.content, c.release_id"
        " from ctl.current_release as c"
        " inner join ctl.release_part as rp on rp.release_id = c.release_id"
        " inner join ctl.part as p on p.part_id = rp.part_id"
    ).fetchall()
    return _Shown(rows[0][6] if rows else None, {row[:2]: row[2:6] for row in rows})


def _compare(
    connection: Connection,
    shown: _Shown,
    tables: Iterable[PublishedTable],
    contents: dict[str, dict[Period, Content]],
    window: Window,
) -> list[_Part]:
    """List the parts of the release to come; those that must be copied have the id 0."""
    parts: list[_Part] = []
    for table in tables:
        held = contents[table.name]
        for period, content in sorted(held.items(), key=lambda item: item[0] or date.min):
            found = shown.parts.get((table.name, period))
            if found and found == (found[0], table.shape, content.rows, content.hash):
                parts.append(_Part(table, period, found[0]))
            else:
                parts.append(_Part(table, period, 0, content))
    by_name = {table.name: table for table in tables}
    parts += [
        _Part(by_name[name], period, found[0])
        for (name, period), found in shown.parts.items()
        if name in by_name
        and period is not None
        and period not in contents[name]
        and not _touches(by_name[name], period, window)
    ]
    return _known(connection, parts)


def _known(connection: Connection, parts: list[_Part]) -> list[_Part]:
    """Take what readers do not see now from what they saw once, where the store still has it."""
    new = [part for part in parts if part.content is not None]
    rows = connection.execute(
        "select table_name, period, shape, rows, content, part_id from ctl.part"
        " where table_name = any(%s) and (period is null or period = any(%s)) order by part_id",
        [sorted({part.table.name for part in new}), sorted({p.period for p in new if p.period})],
    ).fetchall()
    known = {tuple(row[:5]): row[5] for row in rows}
    found = []
    for part in parts:
        if part.content is not None:
            key = (part.table.name, part.period, part.table.shape, *part.content)
            if key in known:
                part = _Part(part.table, part.period, known[key])
        found.append(part)
    return found


def _touches(table: PublishedTable, period: date, window: Window) -> bool:
    if table.kind == DAY:
        return window.from_date <= period < window.to_date
    return window.from_date.replace(day=1) <= period < window.to_date


def _find_same(
    connection: Connection, shown: _Shown, window: Window, parts: list[_Part]
) -> int | None:
    """Return the release that has just these parts for this window, if it still counts.

    That is the one that readers see, or the newest one while it waits to be audited and published.
    """
    wanted = {part.part_id for part in parts}
    if 0 in wanted:
        return None
    candidates = connection.execute(
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
        """,
        [window.from_date, window.to_date, shown.release_id],
    ).fetchall()
    for (release_id,) in candidates:
        if wanted == _part_ids(connection, shown, release_id):
            return int(release_id)
    return None


def _part_ids(connection: Connection, shown: _Shown, release_id: int) -> set[int]:
    if release_id == shown.release_id:
        return shown.part_ids
    rows = connection.execute(
        "select part_id from ctl.release_part where release_id = %s", [release_id]
    ).fetchall()
    return {row[0] for row in rows}


def _stage_again(connection: Connection, release_id: int) -> None:
    """A rejected release is audited anew: the gates may have changed."""
    connection.execute(
        "update ctl.release set staged_at = now(),"
        " status = case status when 'rejected' then 'staged' else status end where release_id = %s",
        [release_id],
    )


def _numbers(connection: Connection, table: str, column: str, count: int) -> list[int]:
    rows = connection.execute(
        "select nextval(pg_get_serial_sequence(%s, %s)) from generate_series(1, %s)",
        [table, column, count],
    ).fetchall()
    return [int(row[0]) for row in rows]


def _numbered(connection: Connection, parts: list[_Part]) -> list[_Part]:
    new = [part for part in parts if part.content is not None]
    numbers = iter(_numbers(connection, "ctl.part", "part_id", len(new)))
    return [
        part if part.content is None else part._replace(part_id=next(numbers)) for part in parts
    ]


def _copy(
    copier: Copier, connection: Connection, parts: list[_Part], progress: Update | None
) -> None:
    """Write the new parts, one COPY per partition."""
    leaves: dict[str, list[_Part]] = {}
    for part in parts:
        if part.content is not None:
            leaves.setdefault(part.leaf, []).append(part)
    present = {
        row[0]
        for row in connection.execute(
            "select relname from pg_class where relnamespace = 'store'::regnamespace and relispartition"
        ).fetchall()
    }
    for leaf, members in leaves.items():
        if leaf not in present:
            copier.make_leaf(members[0].table, leaf)
    copier.forget_catalogue()
    for done, (leaf, members) in enumerate(leaves.items(), start=1):
        table = members[0].table
        expected = sum(part.content.rows for part in members if part.content)
        copied = copier.copy(table, leaf, {part.period: part.part_id for part in members})
        reach("stage.copied")
        if copied != expected:
            raise BadDataError(
                f"{table.relation} held {expected} rows of {leaf} and gave {copied}: something "
                "changes it while it is staged; stage again when the build is over"
            )
        if leaf not in present:
            copier.attach_leaf(table, leaf, members[0].bound)
        if progress:
            progress(table.name, done, len(leaves))


def _register(
    copier: Copier, shown: _Shown, release_id: int, window: Window, parts: list[_Part]
) -> None:
    release, literal = sql.Literal(release_id), sql.Literal
    copier.execute(
        sql.SQL(
            "insert into ctl.release (release_id, status, from_date, to_date, code_version)"
            " overriding system value values ({}, 'staged', {}, {}, {})"
        ).format(
            release,
            literal(window.from_date),
            literal(window.to_date),
            literal(version("keepline")),
        )
    )
    new = [(part, part.content) for part in parts if part.content is not None]
    copier.execute(
        sql.SQL(
            "insert into ctl.part (part_id, table_name, period, leaf, rows, content, shape)"
            " overriding system value select * from unnest({}::integer[], {}::text[], {}::date[],"
            " {}::text[], {}::bigint[], {}::text[], {}::text[])"
        ).format(
            literal([part.part_id for part, _ in new]),
            literal([part.table.name for part, _ in new]),
            literal([part.period for part, _ in new]),
            literal([part.leaf for part, _ in new]),
            literal([content.rows for _, content in new]),
            literal([content.hash for _, content in new]),
            literal([part.table.shape for part, _ in new]),
        )
    )
    # The parts that readers see already, most of a long history, are not sent from here once more.
    before = shown.part_ids
    gone = before.difference(part.part_id for part in parts)
    added = [part for part in parts if part.part_id not in before]
    copier.execute(
        sql.SQL(
            "insert into ctl.release_part (release_id, table_name, period, part_id)"
            " select {}, table_name, period, part_id from ctl.release_part"
            " where release_id = {} and part_id <> all ({}::integer[])"
            " union all select {}, * from unnest({}::text[], {}::date[], {}::integer[])"
        ).format(
            release,
            literal(shown.release_id),
            literal(sorted(gone)),
            release,
            literal([part.table.name for part in added]),
            literal([part.period for part in added]),
            literal([part.part_id for part in added]),
        )
    )


def _count(tables: Iterable[PublishedTable], parts: list[_Part]) -> tuple[TableReport, ...]:
    rows: Counter[str] = Counter()
    copied: Counter[str] = Counter()
    total = Counter(part.table.name for part in parts)
    for part in parts:
        if part.content is not None:
            rows[part.table.name] += part.content.rows
            copied[part.table.name] += 1
    return tuple(
        TableReport(name, rows[name], copied[name], total[name] - copied[name])
        for name in (table.name for table in tables)
    )
