"""DuckDB as compute engine: one file, rebuildable from landing.

Each operation opens the file and closes it again: DuckDB lets one process write at a time, and
dbt opens the same file with a configuration of its own.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from keepline import lease
from keepline.compute.base import ComputeDamagedError
from keepline.compute.exporting import export
from keepline.compute.limits import duckdb_limits
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

SQL_TYPES = {"text": "varchar"}
LOCK_WORDS = ("could not set lock", "conflicting lock")
# The log of changes beside the file; the last two exist while it is folded into the file.
LOGS = ("wal", "wal.checkpoint", "wal.recovery")
# What DuckDB says of a file, or of its log, that is not what it wrote.
DAMAGED = re.compile(
    r"corrupt database file|corrupt wal file|not a valid duckdb|replaying wal|serialization error"
    r"|could not read enough bytes from file .*\.duckdb",
    re.IGNORECASE,
)


class DuckDBCompute:
    """The embedded engine; see `keepline.compute.base.Compute`.

    Args:
        settings: where the file is and how much memory and how many threads it may take.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = settings.compute_path
        self.place = str(self._path)
        self._landing_dir = settings.landing_dir
        self._config = duckdb_limits(settings)

    def exists(self) -> bool:
        """Whether there is a file."""
        return self._path.exists()

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for the length of a `with` block.

        Raises:
            SourceUnavailableError: another process holds the file.
            ComputeDamagedError: the file is not what DuckDB wrote.
            FencedError: another run has taken over from this one.
        """
        with lease.committing():
            connection = self._open()
            try:
                connection.execute("set TimeZone = 'UTC'")
                yield connection
                # Closing would do it, too, but keep silent when the disk is full: then what is said to
                # be done would be in the log of changes alone, which `forget_killed` drops.
                connection.execute("checkpoint")
            finally:
                connection.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return duckdb.connect(str(self._path), config=self._config)
        except duckdb.Error as error:
            if DAMAGED.search(str(error)):
                raise ComputeDamagedError(self.place, _first_line(error)) from error
            raise SourceUnavailableError(
                f"{self._path} cannot be opened; another keepline or dbt process may hold it: "
                f"{_first_line(error)}"
            ) from error

    def forget_killed(self) -> None:
        """Drop the log of changes that a killed run left; call it before the file is opened.

        What a stage has finished is in the file. The rest belongs to a stage that runs again, and DuckDB
        cannot be left to read it: it takes a log that was cut, or is another file's, for a good one.
        """
        logs = [self._path.with_name(f"{self._path.name}.{end}") for end in LOGS]
        if not any(log.exists() for log in logs):
            return
        with lease.committing():
            if self._path.exists() and not self._is_free():
                return
            for log in logs:
                log.unlink(missing_ok=True)

    def _is_free(self) -> bool:
        with self._path.open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

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
        with self.connection() as connection:
            connection.execute("create schema if not exists raw")
            # Every table is made, also one that is not wanted: each staging view needs its own.
            for done, table in enumerate(contract.values(), start=1):
                _make_raw_table(connection, table)
                if table.name in wanted:
                    rows[table.name] = self._load_table(connection, table, window)
                    reach("load.committed")
                if progress:
                    progress(table.name, done, len(contract))
        return rows

    def _load_table(
        self, connection: duckdb.DuckDBPyConnection, table: Table, window: Window
    ) -> int:
        folder = self._landing_dir / table.name
        # In the order of the days, which is the order that raw is read in later.
        files = [
            str(file)
            for day in window.days()
            for file in whole_parts(folder / f"{LOAD_DATE}={day}")
        ]
        names = ", ".join(column.name for column in table.landed_columns)
        connection.begin()
        try:
            connection.execute(
                f"delete from raw.{table.name} where load_date >= ? and load_date < ?",  # noqa: S608
                [window.from_date, window.to_date],
            )
            reach("load.deleted")
            inserted: tuple[Any, ...] | None = None
            if files:
                listed = [exact(file) for file in files]
                inserted = connection.execute(
                    f"insert into raw.{table.name} ({names}, load_date) "  # noqa: S608
                    f"select {columns_sql(connection, table, listed)}, load_date"
                    f" from {parts_sql(by_name=True)}",
                    [listed],
                ).fetchone()
            reach("load.inserted")
            connection.commit()
        except (duckdb.Error, OlderContractError) as error:
            connection.rollback()
            if damaged := self.damage(error):
                raise damaged from error
            raise BadDataError(
                f"landing of {table.name} for {window} does not fit the contract: "
                f"{_first_line(error)}; extract the window again"
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
        with self.connection() as connection:
            _make_table(connection, table, columns)
            connection.begin()
            try:
                before = _count(connection, table)
                deleted = 0
                if values:
                    marks = ", ".join("?" for _ in values)
                    row = connection.execute(
                        f"delete from {table} where {partition_column} in ({marks})",  # noqa: S608
                        list(values),
                    ).fetchone()
                    deleted = int(row[0]) if row else 0
                reach("scores.deleted")
                if paths:
                    strangers = connection.execute(
                        f"select count(*) from {OWN_COLUMNS} where {partition_column} is null "  # noqa: S608
                        f"or not list_contains(?, {partition_column})",
                        [paths, list(values)],
                    ).fetchone()
                    if strangers and strangers[0]:
                        raise BadDataError(
                            f"{strangers[0]} rows for {table} have a {partition_column} that is "
                            f"none of {', '.join(str(value) for value in values)}"
                        )
                    connection.execute(
                        f"insert into {table} ({names}) select {names} from {OWN_COLUMNS}",  # noqa: S608
                        [paths],
                    )
                written = _count(connection, table) - before + deleted
                connection.commit()
            except duckdb.Error as error:
                connection.rollback()
                if damaged := self.damage(error):
                    raise damaged from error
                raise BadDataError(
                    f"rows for {table} do not fit its columns: {_first_line(error)}"
                ) from error
            except KeeplineError:
                connection.rollback()
                raise
        return written

    def make_tables(self, tables: Mapping[str, Mapping[str, str]]) -> None:
        """Make the tables that are missing, so that models can read them before they are filled."""
        with self.connection() as connection:
            for table, columns in tables.items():
                _make_table(connection, table, columns)

    def prepare(self) -> None:
        """Do nothing: dbt opens the file by itself."""

    def release(self) -> None:
        """Close what dbt keeps open in this process; its configuration would refuse ours."""
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.adapters.factory import reset_adapters

        reset_adapters()
        environment = DuckDBConnectionManager._ENV
        if environment is not None:
            environment.close()
        DuckDBConnectionManager.close_all_connections()

    def dbt_environment(self) -> dict[str, str]:
        """The profile knows the file by keepline's own settings."""
        return {}

    def refusal(self, text: str) -> SourceUnavailableError | None:
        """Return what to tell a person when an error's text says that another process has the file."""
        if not any(word in text.lower() for word in LOCK_WORDS):
            return None
        return SourceUnavailableError(
            f"{self.place} is held by another process: run again when it has ended"
        )

    def damage(self, error: BaseException) -> ComputeDamagedError | None:
        """Return what to tell a person when an error says that the file is damaged, else None."""
        if isinstance(error, ComputeDamagedError) or not DAMAGED.search(str(error)):
            return None
        return ComputeDamagedError(self.place, _first_line(error))

    def export(self, sql: str, path: Path) -> int:
        """Write the rows of a query to one Parquet file, in the query's order."""
        return export(self.connection(), sql, path)

    def execute(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, if it has any."""
        with self.connection() as connection:
            return connection.execute(sql, parameters).fetchall()

    def apart(self, settings: Settings) -> Settings:
        """Return the settings as they are: another home has another file."""
        return settings

    def take_place(self, settings: Settings) -> None:
        """Put the file of other settings in the place of this one."""
        other = DuckDBCompute(settings)
        # Bring all into the one file that is moved.
        other.execute("checkpoint")
        # The logs first: they belong to the old file and must not be read into the new one.
        for end in LOGS:
            self._path.with_name(f"{self._path.name}.{end}").unlink(missing_ok=True)
        other._path.replace(self._path)

    def drop_apart(self) -> None:
        """The file goes with the folder that it was made in."""


def _make_table(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str]
) -> None:
    declared = ", ".join(f"{name} {sql_type}" for name, sql_type in columns.items())
    connection.execute(f"create schema if not exists {table.split('.')[0]}")
    connection.execute(f"create table if not exists {table} ({declared})")


def _make_raw_table(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    columns = {
        column.name: SQL_TYPES.get(column.data_type, column.data_type)
        for column in table.landed_columns
    }
    columns[LOAD_DATE] = "date"
    _make_table(connection, f"raw.{table.name}", columns)
    found = [
        row[0]
        for row in connection.execute(
            "select column_name from information_schema.columns "
            "where table_schema = 'raw' and table_name = ? order by ordinal_position",
            [table.name],
        ).fetchall()
    ]
    gained = {column.name for column in table.landed_columns if column.nullable} - set(found)
    if {*found, *gained} != set(columns):
        raise BadDataError(
            f"raw.{table.name} has the columns of an older contract: `keepline rebuild` makes it anew, "
            "landing still holds it all"
        )
    for name in [name for name in columns if name in gained]:
        connection.execute(f"alter table raw.{table.name} add column {name} {columns[name]}")


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f"select count(*) from {table}").fetchone()  # noqa: S608
    return int(row[0]) if row else 0


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]
