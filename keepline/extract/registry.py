"""The file registry: which bytes every load date of a table landed from, so that none counts twice.

It knows dated files only. A file whose name has no date is a standing list that its owner may change
at any time; the manifests in landing name its checksum. A file that was held is not registered: what
replaces it needs no ticket.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

import psycopg
from psycopg.rows import TupleRow

from keepline import ops, store
from keepline.errors import SourceUnavailableError, UsageError
from keepline.extract.files import SourceFile
from keepline.extract.verdict import Finding
from keepline.settings import Settings

# By the two indexes: what a day costs does not depend on the history.
KNOWN = """
select load_date, name, sha256, rows from ops.source_file
where table_name = %(table)s and (load_date = any(%(days)s) or sha256 = any(%(sums)s))
"""
ACCEPTED = """
select load_date, from_sha256, to_sha256 from ops.source_file_change
where table_name = %(table)s and load_date = any(%(days)s)
"""
ACCEPT = """
insert into ops.source_file_change (table_name, load_date, from_sha256, to_sha256, ticket)
values (%s, %s, %s, %s, %s) on conflict do nothing
"""
LANDED = """
insert into ops.source_file as f (table_name, load_date, file_set, name, sha256, bytes, rows, ticket)
values (%s, %s, %s, %s, %s, %s, %s, %s)
on conflict (table_name, load_date) do update set
    file_set = excluded.file_set, name = excluded.name, sha256 = excluded.sha256,
    bytes = excluded.bytes, rows = excluded.rows, ticket = excluded.ticket, landed_at = now()
where (f.file_set, f.name, f.sha256) <> (excluded.file_set, excluded.name, excluded.sha256)
"""


class Registry:
    """The registry in the store, asked table by table; a context manager.

    Args:
        settings: where the store is.
        ticket: under which files may replace other ones of the same load date; empty allows none.
    """

    def __init__(self, settings: Settings, ticket: str = "") -> None:
        self._settings = settings
        self._ticket = ticket.strip()
        self._connection: psycopg.Connection[TupleRow] | None = None
        self._changed: dict[date, str] = {}

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def findings(self, table: str, files: Sequence[SourceFile]) -> list[Finding]:
        """Compare a table's files with what landed before, and with each other.

        Args:
            table: contract table.
            files: its files in the order of their days.

        Raises:
            UsageError: the store has no registry yet.
            SourceUnavailableError: the store cannot be reached.
        """
        days = {file.load_date: file for file in files if file.load_date is not None}
        self._changed = {}
        if not days:
            return []
        asked = {"table": table, "days": list(days), "sums": [file.sha256 for file in files]}
        with self._store() as connection:
            known = connection.execute(KNOWN, asked).fetchall()
            accepted = set(connection.execute(ACCEPTED, asked).fetchall())
        before = {day: (sha256, rows) for day, _, sha256, rows in known}
        # A file without records is the same every day.
        origin = {sha256: (day, name) for day, name, sha256, rows in known if rows}
        found = []
        for day, file in days.items():
            first_day, first_name = origin.setdefault(file.sha256, (day, file.name))
            sha256, rows = before.get(day, (file.sha256, 0))
            if first_day != day and file.records:
                same = f"It is {first_name} of {first_day}. Ask for the file of {day}."
                found.append(Finding("DUP_FILE", file.name, same, day))
            elif sha256 == file.sha256:
                continue
            elif self._ticket or (day, sha256, file.sha256) in accepted:
                self._changed[day] = sha256
            else:
                change = (
                    f"{rows} records then, {file.records} now. If this is a correction: keepline "
                    f"backfill --date {day} --table {table} --accept-changed TICKET"
                )
                found.append(Finding("FILE_CHANGED", file.name, change, day))
        return found

    def accept(self, table: str, files: Iterable[SourceFile]) -> None:
        """Record the ticket of files that replace others, before they land.

        A run that is killed while they land is then mended by a plain one.
        """
        changes = [
            (table, file.load_date, self._changed[file.load_date], file.sha256, self._ticket)
            for file in files
            if self._ticket and file.load_date in self._changed
        ]
        if changes:
            with self._store() as connection, connection.cursor() as cursor:
                cursor.executemany(ACCEPT, changes)

    def landed(
        self,
        table: str,
        files: Iterable[SourceFile],
        days: Sequence[date],
        batches: Mapping[date, ops.LandedBatch],
    ) -> None:
        """Record what has landed on some days, and from which files; the same again changes nothing."""
        rows = [
            (
                table,
                file.load_date,
                file.file_set,
                file.name,
                file.sha256,
                file.size,
                file.records,
                self._ticket if file.load_date in self._changed else "",
            )
            for file in files
            if file.load_date is not None
        ]
        with self._store() as connection:
            ops.record_landed(connection, table, days, batches)
            if rows:
                with connection.cursor() as cursor:
                    cursor.executemany(LANDED, rows)

    @contextlib.contextmanager
    def _store(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """One transaction, over a connection that is opened when it is first needed."""
        try:
            if self._connection is None:
                self._connection = store.connect(self._settings, autocommit=True)
            with self._connection.transaction():
                yield self._connection
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            raise UsageError(
                "the store has no file registry yet: run `keepline migrate` first"
            ) from None
        except psycopg.OperationalError:
            raise SourceUnavailableError(
                "lost the connection to the store's file registry"
            ) from None
