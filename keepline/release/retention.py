"""Which releases stay available, and the clean-up of what no release shows any more."""

from __future__ import annotations

from collections import defaultdict
from datetime import date

import psycopg
from psycopg import sql

from keepline import store
from keepline.failpoint import reach
from keepline.ops import Connection
from keepline.release.migration import WRITER_LOCK
from keepline.release.tables import STORE
from keepline.settings import Settings


def clean(settings: Settings) -> int:
    """Retire old releases and remove the rows that only they showed; returns the parts removed.

    Kept are the release that readers see, the newest `releases_kept` published ones, and the newest
    of all while it waits. A part that cannot be removed at once, because a reader holds its table,
    stays until the next clean-up; so does everything while a stage is writing.
    """
    with store.connect(settings) as alone, store.connect(settings, autocommit=True) as connection:
        try:
            alone.execute(WRITER_LOCK + " nowait")
        except psycopg.errors.LockNotAvailable:
            return 0
        _retire(connection, settings.releases_kept)
        reach("clean.retired")
        unused = connection.execute(
            "select table_name, period, leaf, part_id from ctl.part as p where not exists"
            " (select from ctl.release_part as rp where rp.part_id = p.part_id) order by part_id"
        ).fetchall()
        # A drop waits for readers and others wait for it, so it gives up long before they notice.
        connection.execute("set lock_timeout = '50ms'")
        removed = 0
        periods: dict[str, list[tuple[date, int]]] = defaultdict(list)
        for _, period, leaf, part_id in unused:
            if period is None:
                removed += _drop(connection, leaf, part_id)
            else:
                periods[leaf].append((period, part_id))
        return removed + sum(_delete(connection, leaf, gone) for leaf, gone in periods.items())


def _retire(connection: Connection, releases_kept: int) -> None:
    with connection.transaction():
        retired = connection.execute(
            """
            update ctl.release
            set status = 'retired'
            where status <> 'retired'
                and release_id not in (
                    select r.release_id from ctl.release as r where r.status = 'published'
                    order by r.release_id desc limit %s
                )
                and release_id not in (select c.release_id from ctl.current_release as c)
                and release_id <> (select max(r.release_id) from ctl.release as r)
            returning release_id
            """,
            [releases_kept],
        ).fetchall()
        connection.execute(
            "delete from ctl.release_part where release_id = any(%s)",
            [[row[0] for row in retired]],
        )


def _drop(connection: Connection, leaf: str, part_id: int) -> int:
    try:
        with connection.transaction():
            connection.execute(
                sql.SQL("drop table if exists {}").format(sql.Identifier(STORE, leaf))
            )
            reach("clean.dropping")
            connection.execute("delete from ctl.part where part_id = %s", [part_id])
    except psycopg.errors.LockNotAvailable:
        return 0
    reach("clean.dropped")
    return 1


def _delete(connection: Connection, leaf: str, gone: list[tuple[date, int]]) -> int:
    """Delete periods from their partition; readers are not held up by a delete."""
    parts = [part_id for _, part_id in gone]
    with connection.transaction():
        # The period column leads the index; its name is that of the partition's key.
        row = connection.execute(
            "select t.period_column from ctl.published_table as t inner join ctl.part as p"
            " on p.table_name = t.table_name where p.part_id = %s",
            [parts[0]],
        ).fetchone()
        if row is not None:
            connection.execute(
                sql.SQL("delete from {} where {} = any(%s) and part_id = any(%s)").format(
                    sql.Identifier(STORE, leaf), sql.Identifier(row[0])
                ),
                [[period for period, _ in gone], parts],
            )
        connection.execute("delete from ctl.part where part_id = any(%s)", [parts])
    return len(gone)
