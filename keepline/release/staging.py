"""`keepline stage`: copy what is to be published into the store, as a release no reader can see.

Each published table is split into parts: its whole copy (kind state) or one per period (day, month).
A part is written once and never changed; a release is a list of parts. Parts are compared by content
with those that the store has, so that only what changed is copied, however old the period, and an
identical run copies nothing. All of a stage is one transaction: a stage that dies leaves nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import psycopg
from psycopg import sql

from keepline import lease, store
from keepline.compute import compute_for
from keepline.errors import BadDataError, SourceUnavailableError
from keepline.failpoint import reach
from keepline.ops import Connection
from keepline.progress import Update
from keepline.release import retention
from keepline.release.comparing import Part, Plan, compare, find_same
from keepline.release.copying import Copier
from keepline.release.migration import WRITER_LOCK
from keepline.release.published import PublishedTable, from_store
from keepline.settings import Settings
from keepline.window import Window


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
    with store.connect(settings, autocommit=True) as connection, store.connect(settings) as alone:
        tables = from_store(connection)
        _wait_for_other_stages(alone)
        with compute_for(settings).connection() as duck:
            copier = Copier(duck, connection)
            contents = {table.name: copier.contents(table) for table in tables}
            plan = compare(connection, tables, contents, window)
            release_id = find_same(connection, plan, window)
            is_new = release_id is None
            if release_id is not None:
                with connection.transaction():
                    lease.fence(connection)
                    _stage_again(connection, release_id)
            else:
                release_id = _numbers(connection, "ctl.release", "release_id", 1)[0]
                plan = _numbered(connection, plan)
                copier.attach(store.dsn(settings))
                with copier.transaction():
                    _copy(copier, connection, plan.new, progress)
                    _register(copier, release_id, window, plan)
                    reach("stage.registered")
                reach("stage.committed")
                copier.analyze()
        current = store.scalar(connection, "select release_id from ctl.current_release")
        report = StageReport(
            release_id,
            window,
            is_new,
            current == release_id,
            _count(tables, plan),
            time.perf_counter() - started,
        )
    retention.clean(settings)
    return report


# -- inside --------------------------------------------------------------------------------------


def _wait_for_other_stages(connection: Connection) -> None:
    """Hold the lock that all writers share, until the connection closes or this process dies."""
    connection.execute("set idle_in_transaction_session_timeout = 0")
    connection.execute("set lock_timeout = '15min'")
    try:
        connection.execute(WRITER_LOCK)
    except psycopg.errors.LockNotAvailable:
        raise SourceUnavailableError(
            "another stage has been writing to the store for 15 minutes: stage again later"
        ) from None


def _stage_again(connection: Connection, release_id: int) -> None:
    """A rejected release is audited anew: the gates may have changed."""
    connection.execute(
        "update ctl.release set staged_at = now(), staging_no = nextval('ctl.release_staging'),"
        " status = case status when 'rejected' then 'staged' else status end where release_id = %s",
        [release_id],
    )


def _numbers(connection: Connection, table: str, column: str, count: int) -> list[int]:
    rows = connection.execute(
        "select nextval(pg_get_serial_sequence(%s, %s)) from generate_series(1, %s)",
        [table, column, count],
    ).fetchall()
    return [int(row[0]) for row in rows]


def _numbered(connection: Connection, plan: Plan) -> Plan:
    numbers = iter(_numbers(connection, "ctl.part", "part_id", len(plan.new)))
    return replace(plan, new=[part._replace(part_id=next(numbers)) for part in plan.new])


def _copy(
    copier: Copier, connection: Connection, parts: Sequence[Part], progress: Update | None
) -> None:
    """Write the new parts, one COPY per partition."""
    leaves: dict[str, list[Part]] = {}
    for part in parts:
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
        expected = sum(part.content.rows for part in members)
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


def _register(copier: Copier, release_id: int, window: Window, plan: Plan) -> None:
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
    copier.execute(
        sql.SQL(
            "insert into ctl.part (part_id, table_name, period, leaf, rows, content, shape)"
            " overriding system value select * from unnest({}::integer[], {}::text[], {}::date[],"
            " {}::text[], {}::bigint[], {}::text[], {}::text[])"
        ).format(
            literal([part.part_id for part in plan.new]),
            literal([part.table.name for part in plan.new]),
            literal([part.period for part in plan.new]),
            literal([part.leaf for part in plan.new]),
            literal([part.content.rows for part in plan.new]),
            literal([part.content.hash for part in plan.new]),
            literal([part.table.shape for part in plan.new]),
        )
    )
    # The parts that readers see already, most of a long history, are not sent from here once more.
    added = [*plan.reused, *plan.new]
    copier.execute(
        sql.SQL(
            "insert into ctl.release_part (release_id, table_name, period, part_id)"
            " select {}, table_name, period, part_id from ctl.release_part"
            " where release_id = {} and part_id <> all ({}::integer[])"
            " union all select {}, * from unnest({}::text[], {}::date[], {}::integer[])"
        ).format(
            release,
            literal(plan.shown_release_id),
            literal(plan.gone),
            release,
            literal([part.table.name for part in added]),
            literal([part.period for part in added]),
            literal([part.part_id for part in added]),
        )
    )


def _count(tables: Iterable[PublishedTable], plan: Plan) -> tuple[TableReport, ...]:
    rows: Counter[str] = Counter()
    copied = Counter(part.table.name for part in plan.new)
    reused = Counter(part.table.name for part in plan.reused)
    for part in plan.new:
        rows[part.table.name] += part.content.rows
    return tuple(
        TableReport(name, rows[name], copied[name], reused[name] + plan.kept[name])
        for name in (table.name for table in tables)
    )
