"""What Spark has built, as files: one catalogue beside folders of Parquet that never change.

Parquet tables have no transactions, and a metastore of Hive (Derby) starts in many seconds, takes
one writer and knows of a killed run as little as the files do. So the catalogue is a file of our own:
which columns a table has and in which folder each of its periods lies. A build writes new folders
only and ends with a new catalogue, put in the place of the old one at once: a run that was killed at
any moment leaves exactly what was there before it. Spark holds the same catalogue in memory
(`keepline.compute.spark_session`); DuckDB reads the folders without a JVM.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import duckdb

from keepline import lease
from keepline.compute.base import ComputeDamagedError
from keepline.errors import SourceUnavailableError
from keepline.landed_files import OWN_COLUMNS, exact, parts_sql

# Where Spark and DuckDB name a type differently.
SPARK_TYPES = {
    "varchar": "string",
    "text": "string",
    "integer": "int",
    "timestamp": "timestamp_ntz",
}
DUCKDB_TYPES = {
    "string": "varchar",
    "int": "integer",
    "timestamp_ntz": "timestamp",
    "void": "varchar",
}
# Tables that DuckDB writes while it is open, and that nobody misses afterwards.
NOTES = "ops."


@dataclass(frozen=True)
class StoredTable:
    """A table of Parquet files; paths are relative to the operator's home.

    Attributes:
        columns: Spark's type by column, the partition column last.
        folder: where the rows are, if there is no partition column.
        partition: the date column that names a period, or ''.
        periods: folder by period, as an ISO day.
    """

    columns: Mapping[str, str]
    folder: str
    partition: str = ""
    periods: Mapping[str, str] = field(default_factory=dict)

    def with_periods(self, changed: Mapping[str, str | None]) -> StoredTable:
        """Return the table with some periods in other folders, or without them (None)."""
        merged = {**self.periods, **changed}
        return replace(self, periods={k: v for k, v in sorted(merged.items()) if v is not None})


@dataclass(frozen=True)
class Catalog:
    """All tables and views by `schema.name`; a view is Spark's SQL, in the order of making."""

    generation: int = 0
    tables: Mapping[str, StoredTable] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)

    def with_tables(self, changed: Mapping[str, StoredTable]) -> Catalog:
        """Return the catalogue with these tables made or replaced."""
        return replace(self, tables={**self.tables, **changed})


class Warehouse:
    """The catalogue and the folders of one operator.

    Args:
        home: the operator's home; landing is below it, too.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "spark"
        self._file = self.root / "catalog.json"

    @property
    def scratch(self) -> Path:
        """Folder for what Spark writes in this process and nobody needs afterwards."""
        return self.root / "tmp" / str(os.getpid())

    def exists(self) -> bool:
        """Whether anything was ever saved."""
        return self._file.exists()

    def path(self, folder: str) -> Path:
        """Return the absolute path of a folder of the catalogue."""
        return self.home / folder

    def relative(self, path: str) -> str:
        """Return a path, as Spark writes it, relative to the operator's home."""
        return os.path.relpath(re.sub(r"^file:/+", "/", path), self.home)

    def new_folder(self, table: str) -> str:
        """Return the name of a folder that nothing was ever written to."""
        return f"spark/tables/{table.replace('.', '/')}/{uuid.uuid4().hex}"

    def read(self) -> Catalog:
        """Return the catalogue as it was saved last; an empty one before that.

        Raises:
            ComputeDamagedError: the file is not what was saved.
        """
        try:
            document = json.loads(self._file.read_text(encoding="utf-8"))
            tables = {name: StoredTable(**entry) for name, entry in document["tables"].items()}
            return Catalog(document["generation"], tables, document["views"])
        except FileNotFoundError:
            return Catalog()
        except (ValueError, KeyError, TypeError) as error:
            raise ComputeDamagedError(str(self._file), f"it cannot be read: {error}") from error

    def save(self, catalog: Catalog) -> Catalog:
        """Put a catalogue in the place of the one that it was made from, at once.

        Raises:
            SourceUnavailableError: another process has saved one in between.
            FencedError: another run has taken over from this one.
        """
        with lease.committing():
            if self.read().generation != catalog.generation:
                raise SourceUnavailableError(
                    f"{self._file} was changed by another process meanwhile: run again"
                )
            saved = replace(catalog, generation=catalog.generation + 1)
            self.root.mkdir(parents=True, exist_ok=True)
            draft = self._file.with_suffix(f".{os.getpid()}.draft")
            with draft.open("w", encoding="utf-8") as file:
                json.dump(asdict(saved), file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file)
        return saved

    def forget(self) -> int:
        """Remove a catalogue that cannot be read; returns the generation of having none."""
        self._file.unlink(missing_ok=True)
        return Catalog().generation

    def sweep(self) -> None:
        """Remove what the catalogue does not name: old periods, and what a killed run has written."""
        for scratch in self.root.glob("tmp/*"):
            if scratch != self.scratch:
                shutil.rmtree(scratch, ignore_errors=True)
        kept = set()
        for table in self.read().tables.values():
            kept |= {self.path(table.folder)} if not table.partition else set()
            kept |= {self.path(folder) for folder in table.periods.values()}
        for folder in self.root.glob("tables/*/*/*"):
            if folder in kept:
                continue
            inside = [each for each in folder.iterdir() if each in kept]
            if not inside:
                shutil.rmtree(folder)
                continue
            for each in folder.iterdir():
                if each.is_dir() and each not in kept:
                    shutil.rmtree(each)

    def open_in_duckdb(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make a view in DuckDB of every table, with the names that the table has in Spark."""
        for name, table in self.read().tables.items():
            connection.execute(f"create schema if not exists {name.split('.')[0]}")
            if name.startswith(NOTES):
                declared = ", ".join(f"{c} {_duckdb_type(t)}" for c, t in table.columns.items())
                connection.execute(f"create table {name} ({declared})")
                continue
            connection.execute(f"create view {name} as {self._select(table)}")

    def _select(self, table: StoredTable) -> str:
        if table.partition:
            folders = [self.path(folder) for folder in table.periods.values()]
        else:
            folders = [self.path(table.folder)]
        files = [str(file) for folder in folders for file in sorted(folder.glob("*.parquet"))]
        if not files:
            nothing = ", ".join(
                f"cast(null as {_duckdb_type(kind)}) as {column}"
                for column, kind in table.columns.items()
            )
            return f"select {nothing} where false"
        listed = ", ".join("'" + exact(file).replace("'", "''") + "'" for file in files)
        rows = parts_sql(table.partition) if table.partition else OWN_COLUMNS
        return f"select {', '.join(table.columns)} from {rows.replace('?', f'[{listed}]')}"  # noqa: S608


def spark_columns(columns: Mapping[str, str], partition: str = "") -> dict[str, str]:
    """Return Spark's type by column, the partition column last, as Spark keeps it."""
    typed = {name: SPARK_TYPES.get(str(kind), str(kind)) for name, kind in columns.items()}
    last = {partition: typed.pop(partition)} if partition else {}
    return typed | last


def _duckdb_type(kind: str) -> str:
    return DUCKDB_TYPES.get(kind, kind)
