"""Spark as compute engine: Parquet in folders, landing read in place, dbt in a session of this process.

Only building and scoring start a JVM. Loading makes the landed days known to the catalogue and copies
nothing; what keepline itself asks, DuckDB reads from the same folders.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from keepline import lease
from keepline.compute.base import ComputeDamagedError
from keepline.compute.duckdb import SQL_TYPES
from keepline.compute.exporting import export
from keepline.compute.limits import duckdb_limits
from keepline.compute.spark_warehouse import StoredTable, Warehouse, spark_columns
from keepline.contract import LOAD_DATE, Contract, Table
from keepline.errors import BadDataError, SourceUnavailableError
from keepline.failpoint import reach
from keepline.landed_files import OWN_COLUMNS, exact, whole_parts
from keepline.progress import Update
from keepline.settings import Settings
from keepline.window import Window

# What DuckDB and Spark say of a Parquet file that is not what was written.
DAMAGED = re.compile(
    r"not a parquet file|no magic bytes|too small to be a parquet file|tprotocolexception"
    r"|could not read enough bytes from file \S*/spark/|CANNOT_READ_FILE",
    re.IGNORECASE,
)
UNREACHABLE = re.compile(
    r"all masters are unresponsive|master removed our application|SparkContext was shut down"
    r"|stopped SparkContext|Could not connect to",
    re.IGNORECASE,
)


class SparkCompute:
    """The engine that grows to a cluster; see `keepline.compute.base.Compute`.

    Args:
        settings: where the folders are, which master computes, and what DuckDB may take to read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.warehouse = Warehouse(settings.operator_home)
        self.place = str(self.warehouse.root)
        self._config = duckdb_limits(settings)

    def exists(self) -> bool:
        """Whether there is a catalogue."""
        return self.warehouse.exists()

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a DuckDB in memory with a view of every table, for the length of a `with` block.

        What a stage notes in `ops` is forgotten at its end: a period is hashed each time.

        Raises:
            ComputeDamagedError: the catalogue or a file is not what was written.
            FencedError: another run has taken over from this one.
        """
        with lease.committing(), duckdb.connect(config=self._config) as connection:
            connection.execute("set TimeZone = 'UTC'")
            # DuckDB 1.5 looks for a folder's date in the statistics of its files, and crashes.
            connection.execute("set disabled_optimizers = 'statistics_propagation'")
            try:
                self.warehouse.open_in_duckdb(connection)
            except duckdb.Error as error:
                raise self.damage(error) or ComputeDamagedError(
                    self.place, _first_line(error)
                ) from error
            yield connection

    def forget_killed(self) -> None:
        """Remove the folders that a killed run has written and no catalogue names."""
        with lease.committing():
            self.warehouse.sweep()

    def damage(self, error: BaseException) -> ComputeDamagedError | None:
        """Return what to tell a person when an error says that a file is damaged, else None."""
        if isinstance(error, ComputeDamagedError):
            return error
        if DAMAGED.search(str(error)):
            return ComputeDamagedError(self.place, _first_line(error))
        return None

    def refusal(self, text: str) -> SourceUnavailableError | None:
        """Return what to tell a person when an error's text says that the cluster cannot be had."""
        if not UNREACHABLE.search(text):
            return None
        return SourceUnavailableError(
            f"Spark at {self._settings.spark_master} is out of reach: run again when it is there"
        )

    def dbt_environment(self) -> dict[str, str]:
        """Return nothing: dbt takes the session that `prepare` made."""
        return {}

    def apart(self, settings: Settings) -> Settings:
        """Return the settings as they are: another home is another catalogue."""
        return settings

    def take_place(self, settings: Settings) -> None:
        """Let what was built in another home be here: its folders move, then the catalogue is replaced."""
        other = Warehouse(settings.operator_home)
        built = other.read()
        for folder in other.root.glob("tables/*/*/*"):
            place = self.warehouse.path(other.relative(str(folder)))
            place.parent.mkdir(parents=True, exist_ok=True)
            folder.replace(place)
        try:
            before = self.warehouse.read().generation
        except ComputeDamagedError:
            before = self.warehouse.forget()
        self.warehouse.save(replace(built, generation=before))

    def drop_apart(self) -> None:
        """Do nothing: what was not taken goes with the other home."""

    def load(
        self,
        contract: Contract,
        window: Window,
        progress: Update | None = None,
        tables: Iterable[str] | None = None,
    ) -> dict[str, int]:
        """Let the window's load dates in `raw` be what landing holds of them; nothing is copied.

        A day of landing is whole (its file is the one of its manifest) when it is loaded, and is what
        it was then as long as nobody extracts it again.
        """
        wanted = set(contract if tables is None else tables)
        catalog = self.warehouse.read()
        changed: dict[str, StoredTable] = {}
        rows: dict[str, int] = {}
        with duckdb.connect(config=self._config) as connection:
            for done, table in enumerate(contract.values(), start=1):
                stored = self._raw_table(table, catalog.tables.get(f"raw.{table.name}"))
                if table.name in wanted:
                    days, rows[table.name] = self._landed_days(connection, table, window)
                    outside = {day: None for day in stored.periods if _within(day, window)}
                    stored = stored.with_periods({**outside, **days})
                    reach("load.inserted")
                changed[f"raw.{table.name}"] = stored
                if progress:
                    progress(table.name, done, len(contract))
        self.warehouse.save(catalog.with_tables(changed))
        reach("load.committed")
        return rows

    def _raw_table(self, table: Table, known: StoredTable | None) -> StoredTable:
        columns = {column.name: column.data_type for column in table.landed_columns}
        declared = spark_columns({**columns, LOAD_DATE: "date"}, LOAD_DATE)
        if known is None:
            folder = self._settings.landing_dir / table.name
            return StoredTable(declared, self.warehouse.relative(str(folder)), LOAD_DATE)
        if list(known.columns) != list(declared):
            raise BadDataError(
                f"raw.{table.name} has the columns of an older contract: remove {self.place} and "
                "load every window again, landing still holds it all"
            )
        return known

    def _landed_days(
        self, connection: duckdb.DuckDBPyConnection, table: Table, window: Window
    ) -> tuple[dict[str, str], int]:
        """Return the folders of the window's landed days, and how many rows they hold."""
        folder = self._settings.landing_dir / table.name
        parts = {
            str(day): part
            for day in window.days()
            for part in whole_parts(folder / f"{LOAD_DATE}={day}")
        }
        if not parts:
            return {}, 0
        files = [exact(part) for part in parts.values()]
        wanted = {
            column.name: SQL_TYPES.get(column.data_type, column.data_type)
            for column in table.landed_columns
        }
        try:
            found = connection.execute(
                "select name, list(distinct coalesce(duckdb_type, type)), count(distinct file_name)"
                " from parquet_schema(?) where num_children is null group by name",
                [files],
            ).fetchall()
            counted = connection.execute(
                "select sum(num_rows) from parquet_file_metadata(?)", [files]
            ).fetchone()
        except duckdb.Error as error:
            raise self._unfit(table, window, _first_line(error)) from error
        kinds = {name: (types, count) for name, types, count in found}
        for name, kind in wanted.items():
            types, count = kinds.get(name, ([], 0))
            if count != len(files) or [str(one).lower() for one in types] != [kind]:
                told = f"column {name} should be {kind}, found {', '.join(types) or 'nothing'}"
                raise self._unfit(table, window, told)
        days = {day: self.warehouse.relative(str(part.parent)) for day, part in parts.items()}
        return days, int(counted[0]) if counted and counted[0] else 0

    def _unfit(self, table: Table, window: Window, reason: str) -> BadDataError:
        return BadDataError(
            f"landing of {table.name} for {window} does not fit the contract: {reason}; "
            "extract the window again"
        )

    def replace_partition(
        self,
        table: str,
        columns: Mapping[str, str],
        files: Sequence[Path],
        partition_column: str,
        values: Sequence[Any],
    ) -> int:
        """Replace some partitions of a table, which is made when it is missing."""
        catalog = self.warehouse.read()
        stored = catalog.tables.get(table) or self._new_table(table, columns)
        if not stored.partition:
            # Made empty by `make_tables`, which does not know by what it is partitioned.
            typed = spark_columns(columns, partition_column)
            stored = StoredTable(typed, self.warehouse.new_folder(table), partition_column)
        folder = f"spark/tables/{table.replace('.', '/')}/{uuid.uuid4().hex}"
        written: dict[str, str | None] = {str(value): None for value in values}
        rows = 0
        reach("scores.deleted")
        if files:
            paths = [exact(path) for path in files]
            names = ", ".join(name for name in stored.columns if name != partition_column)
            with duckdb.connect(config=self._config) as connection:
                found = connection.execute(
                    f"select cast({partition_column} as varchar), count(*) from {OWN_COLUMNS}"  # noqa: S608
                    " group by 1",
                    [paths],
                ).fetchall()
                strangers = sum(count for value, count in found if value not in written)
                if strangers:
                    raise BadDataError(
                        f"{strangers} rows for {table} have a {partition_column} that is "
                        f"none of {', '.join(str(value) for value in values)}"
                    )
                for value, count in found:
                    place = f"{folder}/{partition_column}={value}"
                    self.warehouse.path(place).mkdir(parents=True)
                    connection.execute(
                        f"copy (select {names} from read_parquet($files, hive_partitioning = false)"  # noqa: S608
                        f" where cast({partition_column} as varchar) = $value)"
                        f" to '{_quoted(self.warehouse.path(place))}/part-0.parquet'"
                        " (format parquet, compression zstd)",
                        {"files": paths, "value": value},
                    )
                    written[value] = place
                    rows += count
        self.warehouse.save(catalog.with_tables({table: stored.with_periods(written)}))
        return rows

    def make_tables(self, tables: Mapping[str, Mapping[str, str]]) -> None:
        """Make the tables that are missing, so that models can read them before they are filled."""
        catalog = self.warehouse.read()
        missing = {
            name: self._new_table(name, columns)
            for name, columns in tables.items()
            if name not in catalog.tables
        }
        if missing:
            self.warehouse.save(catalog.with_tables(missing))

    def _new_table(self, name: str, columns: Mapping[str, str]) -> StoredTable:
        return StoredTable(spark_columns(columns), self.warehouse.new_folder(name))

    def prepare(self) -> None:
        """Make the session that dbt takes, and let it know every table."""
        from keepline.compute import spark_session

        catalog = self.warehouse.read()
        spark = spark_session.session(self._settings)
        spark_session.register(spark, self.warehouse, catalog)

    def release(self) -> None:
        """Keep what dbt has made: from here on it is there, also for DuckDB and for other processes."""
        from dbt.adapters.factory import reset_adapters

        from keepline.compute import spark_session

        reset_adapters()
        catalog = self.warehouse.read()
        spark = spark_session.session(self._settings)
        made = spark_session.read_back(spark, self.warehouse, catalog)
        if made != catalog:
            self.warehouse.save(made)

    def export(self, sql: str, path: Path) -> int:
        """Write the rows of a query to one Parquet file, whole or not at all, and count them."""
        return export(self.connection(), sql, path)

    def execute(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query of DuckDB's SQL and return its rows."""
        with self.connection() as connection:
            return connection.execute(sql, parameters).fetchall()


def _within(day: str, window: Window) -> bool:
    return str(window.from_date) <= day < str(window.to_date)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]
