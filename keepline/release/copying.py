"""Rows from DuckDB into PostgreSQL, as one transaction of one connection.

DuckDB's own PostgreSQL extension writes them: it streams binary COPY from the process that holds the
data, as fast as PostgreSQL takes it (bench/). The same connection makes the partitions and records
the release, so that all of it is there at once or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import NamedTuple

import duckdb
import psycopg
from psycopg import sql

from keepline import lease, store
from keepline.compute.attach import attach_postgres
from keepline.errors import BadDataError, SourceUnavailableError, UsageError
from keepline.ops import Connection
from keepline.release.published import PublishedTable
from keepline.release.tables import STORE


class Content(NamedTuple):
    """What a part holds, without its rows: their count, and a hash that their order does not change."""

    rows: int
    hash: str


class Copier:
    """Reads candidate tables from DuckDB and writes their parts to the store.

    Args:
        duck: DuckDB that reads compute.
        connection: of the store, only asked how SQL is quoted and whether the store still lives.
    """

    def __init__(self, duck: duckdb.DuckDBPyConnection, connection: Connection) -> None:
        self._duck = duck
        self._connection = connection
        self._new_leaves: list[str] = []

    def contents(self, table: PublishedTable) -> dict[date | None, Content]:
        """Return what compute holds of a table, by period (None for kind state).

        What a stage found of a period is noted in compute until a build replaces the period (see the
        macro `replace_rows`), so that a daily stage reads the day and not the history.

        Raises:
            UsageError: the model was not built.
            BadDataError: rows have no period, so that they belong to no part.
        """
        try:
            if table.period is None:
                return self._hashed(table, "cast(null as date)", "")
            held, new = self._noted(table, table.period)
            if new:
                within = f"where {_quoted(table.period)} between ? and ? group by 1"
                found = self._hashed(table, _quoted(table.period), within, [min(new), max(new)])
                self._note(table, found)
                held |= found
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            raise UsageError(
                f"compute does not hold {table.relation} as its contract says "
                f"({_first_line(error)}): build the layer, then stage again"
            ) from None
        return held

    def _hashed(
        self, table: PublishedTable, period: str, grouped: str, values: Sequence[date] = ()
    ) -> dict[date | None, Content]:
        columns = ", ".join(_quoted(name) for name in table.column_names)
        # A sum, unlike an xor, also changes when a row comes twice. Another version of DuckDB may hash
        # otherwise: then everything is copied once more, and no reader sees a difference.
        rows = self._duck.execute(
            f"select {period}, count(*), cast(sum(hash({columns})) as varchar)"  # noqa: S608
            f" from {table.relation} {grouped}",
            list(values),
        ).fetchall()
        return {row[0]: Content(row[1], row[2] or "0") for row in rows}

    def _noted(
        self, table: PublishedTable, period: str
    ) -> tuple[dict[date | None, Content], list[date]]:
        """Return what was noted of the periods that have rows, and the periods that changed since."""
        counted = (
            f"select {_quoted(period)} as period, count(*) as rows from {table.relation} group by 1"  # noqa: S608
        )
        rows = self._duck.execute(
            f"select held.period, held.rows, noted.content from ({counted}) as held"  # noqa: S608
            " left join ops.period_content as noted on noted.relation = ? and noted.shape = ?"
            " and noted.period = held.period and noted.rows = held.rows",
            [table.relation, table.shape],
        ).fetchall()
        if any(row[0] is None for row in rows):
            raise BadDataError(
                f"{table.relation} has rows without {period}: they belong to no period"
            )
        noted = {day: Content(count, content) for day, count, content in rows if content}
        return noted, [day for day, _, content in rows if not content]

    def _note(self, table: PublishedTable, found: Mapping[date | None, Content]) -> None:
        days = list(found)
        self._duck.execute(
            "delete from ops.period_content where relation = ? and list_contains(?, period)",
            [table.relation, days],
        )
        self._duck.execute(
            "insert into ops.period_content (relation, shape, period, rows, content)"
            " select ?, ?, unnest(?), unnest(?), unnest(?)",
            [
                table.relation,
                table.shape,
                days,
                [found[day].rows for day in days],
                [found[day].hash for day in days],
            ],
        )

    def attach(self, dsn: str) -> None:
        """Connect DuckDB to the store; see `attach_postgres`."""
        try:
            attach_postgres(self._duck, dsn, "store_pg", STORE)
        except duckdb.Error:
            raise SourceUnavailableError("DuckDB cannot reach the store: stage again") from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything that is written in a `with` block becomes visible at its end, or never.

        Raises:
            BadDataError: a row cannot be stored; the message holds none of its values.
            SourceUnavailableError: the store went away.
        """
        self._duck.begin()
        try:
            yield
            # Two connections, one moment: nobody takes over between the look and the commit.
            with self._connection.transaction():
                lease.fence(self._connection)
                self._duck.commit()
        except BaseException as error:
            self._roll_back()
            if isinstance(error, duckdb.Error):
                raise self._explained(error) from None
            raise

    def make_leaf(self, table: PublishedTable, leaf: str) -> None:
        """Make a partition that is not attached yet, so that it is filled without an index."""
        self.execute(
            sql.SQL("create table {} (like {})").format(
                sql.Identifier(STORE, leaf), sql.Identifier(STORE, table.name)
            )
        )
        self._new_leaves.append(leaf)

    def attach_leaf(self, table: PublishedTable, leaf: str, bound: sql.Composable) -> None:
        """Make a filled partition part of its table; readers are not held up."""
        self.execute(
            sql.SQL("alter table {} attach partition {} for values {}").format(
                sql.Identifier(STORE, table.name), sql.Identifier(STORE, leaf), bound
            )
        )

    def forget_catalogue(self) -> None:
        """Let DuckDB see the partitions that were made in this transaction."""
        self._duck.execute("call pg_clear_cache()")

    def copy(self, table: PublishedTable, leaf: str, parts: Mapping[date | None, int]) -> int:
        """Copy parts of a table, given as part id by period, into a partition; returns the rows."""
        names = [_quoted(name) for name in table.column_names]
        into = f"insert into store_pg.{_quoted(leaf)} (part_id, {', '.join(names)})"
        columns = ", ".join(f"t.{name}" for name in names)
        if len(parts) == 1:
            ((period, part_id),) = parts.items()
            # Nothing to sort, which is a fifth of the time: the usual night.
            which = f"where t.{_quoted(table.period)} = ?" if table.period else ""
            query = f"{into} select {part_id}, {columns} from {table.relation} as t {which}"  # noqa: S608
            row = self._duck.execute(query, [period] if table.period else []).fetchone()
        else:
            # Sorted, so that a period's rows lie together and reading a day reads few pages.
            query = (
                f"{into} select p.part_id, {columns} from {table.relation} as t "  # noqa: S608
                "inner join (select unnest(?) as period, unnest(?) as part_id) as p "
                f"on t.{_quoted(str(table.period))} = p.period order by p.part_id"
            )
            row = self._duck.execute(query, [list(parts), list(parts.values())]).fetchone()
        return int(row[0]) if row else 0

    def execute(self, statement: sql.Composable) -> None:
        """Run a statement in the store, inside the transaction."""
        text = statement.as_string(self._connection)
        self._duck.execute("call postgres_execute('store_pg', ?)", [text])

    def analyze(self) -> None:
        """Tell PostgreSQL's planner about the partitions that were made; call it after the commit."""
        if self._new_leaves:
            leaves: Sequence[sql.Identifier] = [
                sql.Identifier(STORE, leaf) for leaf in self._new_leaves
            ]
            # A tenth of the usual sample: good enough to plan with, and a fifth of the stage saved.
            self._connection.execute("set default_statistics_target = 10")
            self._connection.execute(sql.SQL("analyze {}").format(sql.SQL(", ").join(leaves)))

    def _roll_back(self) -> None:
        try:
            self._duck.rollback()
        except duckdb.Error:
            return  # The store is gone, and the transaction with it.

    def _explained(self, error: duckdb.Error) -> BadDataError | SourceUnavailableError:
        gone = SourceUnavailableError("the store went away while it was written: stage again")
        if store.LOST.search(str(error)):
            return gone
        if "lock timeout" in str(error):
            return store.locked()
        try:
            self._connection.execute("select 1")
        except psycopg.Error:
            return gone
        # PostgreSQL's context and detail lines quote the row.
        text = _first_line(error).split("CONTEXT:")[0].split("DETAIL:")[0].strip()
        return BadDataError(f"compute's rows cannot be stored as the contract says: {text}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
