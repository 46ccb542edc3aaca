"""`keepline migrate`: bring the store's objects up to the dbt contracts and to `roles.yml`."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import LiteralString

import psycopg

from keepline import store
from keepline.errors import SourceUnavailableError, UsageError
from keepline.landed_files import landed_before
from keepline.ops import Connection, LandedBatch, record_landed
from keepline.release import catalogue, rights, tables
from keepline.release.published import PublishedTable, from_manifest, from_store
from keepline.settings import Settings

SQL_DIR = Path(__file__).with_name("sql")
# Stage, clean-up and migration exclude each other with this lock, which lasts as long as its transaction;
# publish needs none, and is not held up by it. Readers may only select from the table, and so not take it.
WRITER_LOCK: LiteralString = "lock table ctl.current_release in share update exclusive mode"


@dataclass(frozen=True)
class MigrationReport:
    """What a migration did: tables that it made or changed, tables that no model publishes any more."""

    changed: tuple[str, ...]
    withdrawn: tuple[str, ...]


def migrate(settings: Settings, manifest_path: Path, *, has_ended: bool = False) -> MigrationReport:
    """Make or change the reader-facing tables, views, roles and control tables.

    Safe to run again: what is as it should be is not touched, so that no reader waits. All or
    nothing: a migration that fails leaves the store as it was.

    Args:
        settings: where the store is, and the readers' passwords.
        manifest_path: dbt's manifest.json.
        has_ended: the operator's systems give no further days, so that nothing is too old by the clock.

    Raises:
        UsageError: a contract broke what readers rely on, or the login lacks a right.
        SourceUnavailableError: the store cannot be reached, or a reader holds a table for too long.
    """
    published = from_manifest(manifest_path)
    roles = rights.load_roles()
    with store.connect(settings) as connection:
        try:
            # Readers that come while a table is changed wait for us, so we never wait long for one.
            connection.execute("set local lock_timeout = '1s'")
            # `create ... if not exists` says what exists already; nobody needs to read that.
            connection.execute("set local client_min_messages = warning")
            had_record = _has_table(connection, "ops.landed_batch")
            for name in ("ops.sql", "ctl.sql"):
                connection.execute((SQL_DIR / name).read_bytes())
            connection.execute(WRITER_LOCK)
            if not had_record:
                _begin_record(settings, connection)
            _say_how_old(connection, settings, roles, has_ended)
            rights.make_roles(connection, settings, roles)
            changed = _change_tables(connection, published, rights.readers(roles))
            withdrawn = _withdraw(connection, published)
            rights.set_grants(connection, from_store(connection, with_withdrawn=True), roles)
        except psycopg.errors.LockNotAvailable:
            raise SourceUnavailableError(
                "a stage or a reader's long query holds the store's tables: migrate again later"
            ) from None
    return MigrationReport(tuple(changed), tuple(withdrawn))


def _has_table(connection: Connection, name: str) -> bool:
    row = connection.execute("select to_regclass(%s)", [name]).fetchone()
    return row is not None and row[0] is not None


def _begin_record(settings: Settings, connection: Connection) -> None:
    """Put on record what an older version landed, as far as its balances agree.

    A balance that says that rows landed where no folder is, is kept, so that the loss is found; a folder
    with another number of rows is not, so that nothing is loaded from it.
    """
    balances = connection.execute(
        "select table_name, load_date, loaded_rows, balanced from ops.reconciliation"
    ).fetchall()
    known: dict[str, dict[date, tuple[int, bool]]] = defaultdict(dict)
    for table, day, rows, is_balanced in balances:
        known[table][day] = (rows, is_balanced)
    for table, days in known.items():
        batches = {}
        there = landed_before(settings.landing_dir, table)
        for day, (rows, is_balanced) in days.items():
            batch = there.get(day)
            # Of a day that was held, what landed before stays, and its number of rows is not known.
            if batch is not None and (batch.rows == rows or not is_balanced):
                batches[day] = batch
            elif is_balanced and rows:
                batches[day] = LandedBatch(rows, None)
        record_landed(connection, table, list(days), batches)


def _say_how_old(
    connection: Connection, settings: Settings, roles: list[rights.Role], has_ended: bool
) -> None:
    """Write down whose clock counts, and how old may be what a reader sees."""
    path = settings.dbt_dir / "seeds" / "param_threshold.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["scope"] == "ALL"]
    keys = {role.max_age for role in roles} - {None}
    if missing := keys - {row["key"] for row in rows}:
        raise UsageError(
            f"{path} has no {', '.join(sorted(map(str, missing)))}, which roles.yml names"
        )
    connection.execute("delete from ctl.max_age")
    connection.execute("delete from ctl.operator")
    connection.execute(
        "insert into ctl.operator (timezone, has_ended) values (%s, %s)",
        [settings.timezone, has_ended],
    )
    for row in rows:
        if row["key"] in keys:
            connection.execute(
                "insert into ctl.max_age values (%s, %s, %s, %s)",
                [row["key"], row["value"], row["valid_from"], row["valid_to"]],
            )


def _change_tables(
    connection: Connection, published: list[PublishedTable], readers: tables.Readers
) -> list[str]:
    """Touch just the tables whose contract changed or that are not guarded as they were."""
    known: dict[str, str] = dict(
        connection.execute(
            "select table_name, definition from ctl.published_table where not is_withdrawn"
        ).fetchall()
    )
    was_published = connection.execute(
        "select 1 from ctl.release where published_at is not null limit 1"
    ).fetchone()
    unguarded = catalogue.unguarded(connection, published, readers)
    changed = []
    for table in published:
        definition = tables.definition(table, readers)
        if known.get(table.name) == definition and table.name not in unguarded:
            continue
        tables.bring_up_to_date(connection, table, readers, may_rebuild=was_published is None)
        _record(connection, table, definition)
        changed.append(table.name)
    return changed


def _record(connection: Connection, table: PublishedTable, definition: str) -> None:
    connection.execute("delete from ctl.published_table where table_name = %s", [table.name])
    connection.execute(
        "insert into ctl.published_table (table_name, model, relation, reader_schema, kind,"
        " period_column, columns, policy, definition)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            table.name,
            table.model,
            table.relation,
            table.reader_schema,
            table.kind,
            table.period,
            json.dumps([[column.name, column.store_type] for column in table.columns]),
            catalogue.conditions(connection, table.name),
            definition,
        ],
    )


def _withdraw(connection: Connection, published: list[PublishedTable]) -> list[str]:
    """Drop what no model publishes any more, once no release that can be shown has rows of it."""
    connection.execute(
        "update ctl.published_table set is_withdrawn = true where table_name <> all(%s)",
        [[table.name for table in published]],
    )
    rows = connection.execute(
        "select t.table_name, t.reader_schema, exists (select from ctl.release_part as rp"
        " where rp.table_name = t.table_name) from ctl.published_table as t where is_withdrawn"
        " order by 1"
    ).fetchall()
    for name, reader_schema, is_needed in rows:
        if not is_needed:
            tables.drop(connection, name, reader_schema)
            connection.execute("delete from ctl.part where table_name = %s", [name])
            connection.execute("delete from ctl.published_table where table_name = %s", [name])
    return [name for name, _, _ in rows]
