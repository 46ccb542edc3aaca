"""PostgreSQL as compute engine: one database, rebuildable from landing.

It is a database of its own, because the store has schemas `ops`, `mart`, ... too. dbt works in the
server; keepline looks at it through a DuckDB in memory that has the database attached, so that what
keepline asks is written once for all engines, and Parquet goes in as one binary COPY.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
from psycopg import conninfo, pq, sql

from keepline import lease, store
from keepline.compute import postgres_database
from keepline.compute.attach import attach_postgres
from keepline.compute.base import ComputeDamagedError
from keepline.compute.exporting import export
from keepline.compute.limits import duckdb_limits
from keepline.compute.postgres_database import Connection
from keepline.contract import LOAD_DATE, Contract, Table
from keepline.errors import BadDataError, KeeplineError, SourceUnavailableError
from keepline.failpoint import reach
from keepline.landed_files import (
    OWN_COLUMNS,
    OlderContractError,
    columns_sql,
    exact,
    parts_sql,
    whole_parts,
)
from keepline.progress import Update
from keepline.settings import Settings
from keepline.window import Window

# What DuckDB calls the attached database.
CATALOG = "compute"
# dbt takes care that the value of a variable of such a name gets into no log and no file.
PASSWORD_VARIABLE = "DBT_ENV_SECRET_COMPUTE_PASSWORD"  # noqa: S105
SQL_TYPES = {"double": "double precision", "varchar": "text"}
# What PostgreSQL says of its files when they are not what it wrote.
DAMAGED = re.compile(
    r"invalid page in block|could not read block|missing chunk number|unexpected chunk number"
    r"|contains unexpected zero page|could not access status of transaction",
    re.IGNORECASE,
)
# A sample of a tenth of the usual: good enough to plan with, and read in milliseconds.
ANALYZE_TARGET = 10


class PostgresCompute:
    """A PostgreSQL database; see `keepline.compute.base.Compute`.

    Args:
        settings: where the database is, and how much memory and how many threads keepline's own
            DuckDB may take beside it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._landing_dir = settings.landing_dir
        self._config = duckdb_limits(settings)

    @property
    def place(self) -> str:
        """Where the contents are; without a password."""
        return postgres_database.place(self._settings)

    def exists(self) -> bool:
        """Whether the database holds a raw table; asking makes nothing."""
        connection = postgres_database.connect_if_there(self._settings)
        if connection is None:
            return False
        with connection:
            return bool(_raw_columns(connection))

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a DuckDB whose default catalog is the database, for the length of a `with` block.

        Raises:
            SourceUnavailableError: the server cannot be reached, or went away.
            ComputeDamagedError: what the database holds cannot be read.
            FencedError: another run has taken over from this one.
        """
        with lease.committing():
            postgres_database.ensure(self._settings)
            duck = duckdb.connect(config=self._config)
            try:
                duck.execute("set TimeZone = 'UTC'")
                self._attach(duck)
                yield duck
            except duckdb.Error as error:
                if clearer := self._clearer(error):
                    raise clearer from None
                raise
            finally:
                # A transaction that is left open when its server is gone would take the process along.
                _roll_back(duck)
                duck.close()

    @contextmanager
    def _server(self) -> Iterator[Connection]:
        """Open a connection of our own in autocommit, for what DuckDB has no words for."""
        with lease.committing(), postgres_database.connect(self._settings) as connection:
            yield connection

    def _attach(self, duck: duckdb.DuckDBPyConnection) -> None:
        try:
            attach_postgres(duck, postgres_database.dsn(self._settings), CATALOG)
            duck.execute(f"use {CATALOG}")
        except duckdb.Error:
            # Its text holds the connection string.
            raise SourceUnavailableError(
                f"{self.place} cannot be reached: run again when it can"
            ) from None

    def _clearer(self, error: BaseException) -> KeeplineError | None:
        return self.damage(error) or self.refusal(str(error))

    def refusal(self, text: str) -> SourceUnavailableError | None:
        """Return what to tell a person when an error's text says that the server is out of reach."""
        if "lock timeout" in text:
            return store.locked()
        if store.LOST.search(text):
            return SourceUnavailableError(
                f"the connection to {self.place} was lost. What was not committed is undone, and "
                "running the same command again is safe"
            )
        return None

    def damage(self, error: BaseException) -> ComputeDamagedError | None:
        """Return what to tell a person when an error says that the database is damaged, else None."""
        if isinstance(error, ComputeDamagedError) or not DAMAGED.search(str(error)):
            return None
        return ComputeDamagedError(self.place, _told(error))

    def forget_killed(self) -> None:
        """End the sessions of a killed run that still write: a server works on for a client that is gone."""
        connection = postgres_database.connect_if_there(self._settings)
        if connection is None:
            return
        with connection, lease.committing():
            connection.execute(
                "select pg_terminate_backend(a.pid, 5000) from pg_stat_activity as a"
                " where a.datname = current_database() and a.application_name like 'keepline %%'"
                " and a.application_name <> %s and exists (select from pg_locks as l where"
                " l.pid = a.pid and l.locktype = 'relation' and l.mode like '%%Exclusive%%')",
                [store.application_name()],
            )

    def load(
        self,
        contract: Contract,
        window: Window,
        progress: Update | None = None,
        tables: Iterable[str] | None = None,
    ) -> dict[str, int]:
        """Replace the window's load dates in `raw`; only the window's files are looked at."""
        wanted = set(contract if tables is None else tables)
        rows = {}
        # Every table is made, also one that is not wanted: each staging view needs its own.
        with self._server() as connection:
            _make_raw_tables(connection, contract, self.place)
        with self.connection() as duck, self._server() as connection:
            for done, table in enumerate(contract.values(), start=1):
                if table.name in wanted:
                    rows[table.name] = self._load_table(duck, table, window)
                    reach("load.committed")
                if progress:
                    progress(table.name, done, len(contract))
            _analyze(connection, [f"raw.{name}" for name, count in rows.items() if count])
        return rows

    def _load_table(self, duck: duckdb.DuckDBPyConnection, table: Table, window: Window) -> int:
        folder = self._landing_dir / table.name
        # In the order of the days, which is the order that raw is read in later.
        files = [
            str(file)
            for day in window.days()
            for file in whole_parts(folder / f"{LOAD_DATE}={day}")
        ]
        names = ", ".join(column.name for column in table.landed_columns)
        inserted: tuple[Any, ...] | None = None
        duck.begin()
        try:
            _run(
                duck,
                f"delete from raw.{table.name} where {LOAD_DATE} >= '{window.from_date}'"  # noqa: S608
                f" and {LOAD_DATE} < '{window.to_date}'",
            )
            reach("load.deleted")
            if files:
                listed = [exact(file) for file in files]
                inserted = duck.execute(
                    f"insert into raw.{table.name} ({names}, load_date) "  # noqa: S608
                    f"select {columns_sql(duck, table, listed)}, load_date"
                    f" from {parts_sql(by_name=True)}",
                    [listed],
                ).fetchone()
            reach("load.inserted")
            duck.commit()
        except OlderContractError as error:
            _roll_back(duck)
            raise BadDataError(
                f"landing of {table.name} for {window} does not fit the contract: {error}; "
                "extract the window again"
            ) from error
        except duckdb.Error as error:
            _roll_back(duck)
            if clearer := self._clearer(error):
                raise clearer from None
            raise BadDataError(
                f"landing of {table.name} for {window} does not fit the contract: "
                f"{_told(error)}; extract the window again"
            ) from error
        return int(inserted[0]) if inserted else 0

    def replace_partition(
        self,
        table: str,
        columns: Mapping[str, str],
        files: Sequence[Path],
        partition_column: str,
        values: Sequence[Any],
    ) -> int:
        """Replace some partitions of a table, which is made when it is missing."""
        names = ", ".join(columns)
        paths = [exact(file) for file in files]
        inserted: tuple[Any, ...] | None = None
        with self._server() as connection:
            _make_table(connection, table, columns, partition_column)
        # DuckDB sees what is there when it comes.
        with self.connection() as duck, self._server() as connection:
            duck.begin()
            try:
                if values:
                    marks = sql.SQL(", ").join(sql.Literal(value) for value in values)
                    named = marks.as_string(connection)
                    _run(duck, f"delete from {table} where {partition_column} in ({named})")  # noqa: S608
                reach("scores.deleted")
                if paths:
                    strangers = duck.execute(
                        f"select count(*) from {OWN_COLUMNS} where {partition_column} is null "  # noqa: S608
                        f"or not list_contains(?, {partition_column})",
                        [paths, list(values)],
                    ).fetchone()
                    if strangers and strangers[0]:
                        raise BadDataError(
                            f"{strangers[0]} rows for {table} have a {partition_column} that is "
                            f"none of {', '.join(str(value) for value in values)}"
                        )
                    inserted = duck.execute(
                        f"insert into {table} ({names}) select {names} from {OWN_COLUMNS}",  # noqa: S608
                        [paths],
                    ).fetchone()
                duck.commit()
            except duckdb.Error as error:
                _roll_back(duck)
                if clearer := self._clearer(error):
                    raise clearer from None
                raise BadDataError(
                    f"rows for {table} do not fit its columns: {_told(error)}"
                ) from error
            except KeeplineError:
                _roll_back(duck)
                raise
            _analyze(connection, [table])
        return int(inserted[0]) if inserted else 0

    def make_tables(self, tables: Mapping[str, Mapping[str, str]]) -> None:
        """Make the tables that are missing, so that models can read them before they are filled."""
        with self._server() as connection:
            for table, columns in tables.items():
                _make_table(connection, table, columns)

    def dbt_environment(self) -> dict[str, str]:
        """Return libpq's own variables, and the password in one whose value dbt writes nowhere."""
        parts = conninfo.conninfo_to_dict(postgres_database.dsn(self._settings))
        password = str(parts.pop("password", ""))
        variables = {
            option.keyword.decode(): option.envvar.decode()
            for option in pq.Conninfo.get_defaults()
            if option.envvar
        }
        told = {variables[key]: str(value) for key, value in parts.items() if key in variables}
        return {**told, PASSWORD_VARIABLE: password}

    def prepare(self) -> None:
        """Do nothing: dbt connects by itself."""

    def release(self) -> None:
        """Close the connections that dbt keeps open in this process."""
        from dbt.adapters.factory import cleanup_connections, reset_adapters

        cleanup_connections()
        reset_adapters()

    def export(self, sql: str, path: Path) -> int:
        """Write the rows of a query to one Parquet file, in the query's order."""
        return export(self.connection(), sql, path)

    def execute(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, if it has any."""
        with self.connection() as connection:
            return connection.execute(sql, parameters).fetchall()

    def apart(self, settings: Settings) -> Settings:
        """Return settings whose compute is a new database beside this one, for a rebuild."""
        return postgres_database.apart(self._settings, settings)

    def take_place(self, settings: Settings) -> None:
        """Let the database that `apart` made take this one's name; the one of before goes."""
        postgres_database.swap(self._settings, settings)

    def drop_apart(self) -> None:
        """Drop what a rebuild made and did not need."""
        postgres_database.drop_apart(self._settings)


def _make_raw_tables(connection: Connection, contract: Contract, place: str) -> None:
    found = _raw_columns(connection)
    for table in contract.values():
        columns = {column.name: column.data_type for column in table.landed_columns}
        columns[LOAD_DATE] = "date"
        if table.name not in found:
            _make_table(connection, f"raw.{table.name}", columns, LOAD_DATE)
            continue
        gained = {c.name for c in table.landed_columns if c.nullable} - set(found[table.name])
        if {*found[table.name], *gained} != set(columns):
            raise BadDataError(
                f"raw.{table.name} in {place} has the columns of an older contract: `keepline rebuild` "
                "makes it anew, landing still holds it all"
            )
        for name in [name for name in columns if name in gained]:
            connection.execute(
                sql.SQL("alter table raw.{} add column {} {}").format(
                    sql.Identifier(table.name), sql.Identifier(name), sql.SQL(columns[name])
                )
            )


def _raw_columns(connection: Connection) -> dict[str, list[str]]:
    rows = connection.execute(
        "select c.relname, array_agg(a.attname::text order by a.attnum) from pg_class as c"
        " inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " where c.relnamespace = to_regnamespace('raw') and c.relkind = 'r' group by 1"
    ).fetchall()
    return dict(rows)


def _make_table(
    connection: Connection, table: str, columns: Mapping[str, str], indexed: str = ""
) -> None:
    """Make a table if it is missing, and an index so that a day's rows are found without the others.

    A B-tree and no BRIN: as fast to a day whatever was replaced before, its planner knows the newest
    day, and on 2 million rows in load order it cost 13 % of the insert.
    """
    schema, name = table.split(".")
    declared = ", ".join(
        f"{column} {SQL_TYPES.get(sql_type, sql_type)}" for column, sql_type in columns.items()
    )
    statements = [
        f"create schema if not exists {schema}",
        f"create table if not exists {table} ({declared})",
    ]
    if indexed:
        statements.append(f"create index if not exists {name}_{indexed} on {table} ({indexed})")
    for statement in statements:
        connection.execute(statement.encode())


def _analyze(connection: Connection, tables: Sequence[str]) -> None:
    """Tell the planner of what was loaded: it takes a day that it has not seen for an empty one."""
    if tables:
        connection.execute(f"set default_statistics_target = {ANALYZE_TARGET}".encode())
        connection.execute(f"analyze {', '.join(tables)}".encode())


def _run(duck: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Run a statement in the server, inside DuckDB's transaction."""
    duck.execute(f"call postgres_execute('{CATALOG}', ?)", [statement])


def _roll_back(duck: duckdb.DuckDBPyConnection) -> None:
    with suppress(
        duckdb.Error
    ):  # there is none, or the server is gone, and the transaction with it
        duck.rollback()


def _told(error: BaseException) -> str:
    # PostgreSQL's context and detail lines quote the row.
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return first.split("CONTEXT:")[0].split("DETAIL:")[0].strip()
