"""What every compute engine can do; dbt does the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import duckdb

from keepline.contract import Contract
from keepline.errors import BadDataError, SourceUnavailableError
from keepline.progress import Update
from keepline.settings import Settings
from keepline.window import Window


class ComputeDamagedError(BadDataError):
    """What an engine holds cannot be read any more; landing still holds all that was in it."""

    def __init__(self, place: str, reason: str) -> None:
        self.place, self.reason = place, reason
        super().__init__(
            f"{place} is damaged ({reason}). Nothing is lost, and readers keep the last release: "
            "`keepline rebuild` makes it anew from landing"
        )


class Compute(Protocol):
    """An engine that holds `raw` and everything that dbt builds from it.

    Its contents can be rebuilt from landing at any time; it is never the only copy of anything.
    Whatever the engine, DuckDB reads it: what keepline itself asks is written once, in DuckDB's SQL.
    """

    @property
    def place(self) -> str:
        """Where the contents are, for people."""
        ...

    def exists(self) -> bool:
        """Whether anything was ever loaded; asking makes nothing."""
        ...

    def connection(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open, for the length of a `with` block, a DuckDB in which `core.dim_customer` is that table.

        Raises:
            SourceUnavailableError: the engine is in use by another process, or out of reach.
            BadDataError: its contents are damaged.
            FencedError: another run has taken over from this one.
        """
        ...

    def forget_killed(self) -> None:
        """Drop what a killed run left half done; call it before anything else is asked."""
        ...

    def damage(self, error: BaseException) -> ComputeDamagedError | None:
        """Return what to tell a person when an error says that the contents are damaged, else None."""
        ...

    def refusal(self, text: str) -> SourceUnavailableError | None:
        """Return what to tell a person when an error's text says that the engine cannot be had now.

        It may be in use by another process, or out of reach.
        """
        ...

    def load(
        self,
        contract: Contract,
        window: Window,
        progress: Update | None = None,
        tables: Iterable[str] | None = None,
    ) -> dict[str, int]:
        """Replace the window's load dates in `raw` by what landing holds of them.

        Args:
            contract: the tables, with their columns and types.
            window: load dates to replace; a day without landed rows ends up empty.
            progress: called after each table.
            tables: names of the tables to load, or None for all.

        Returns:
            Rows loaded by table name.

        Raises:
            BadDataError: landing does not hold what the contract says.
            SourceUnavailableError: the engine is in use by another process.
        """
        ...

    def replace_partition(
        self,
        table: str,
        columns: Mapping[str, str],
        files: Sequence[Path],
        partition_column: str,
        values: Sequence[Any],
    ) -> int:
        """Replace some partitions of a table by the rows of Parquet files.

        The table is made when it is missing, so that models that read it can be built before
        anything was written.

        Args:
            table: `schema.name`.
            columns: data type by column, in the table's order.
            files: Parquet files with these columns; none leaves the partitions empty.
            partition_column: column whose values name a partition.
            values: the partitions to replace; every row of the files belongs to one of them.

        Returns:
            Rows written.

        Raises:
            BadDataError: a row belongs to a partition that was not named.
        """
        ...

    def make_tables(self, tables: Mapping[str, Mapping[str, str]]) -> None:
        """Make the tables that are missing: data type by column, by `schema.name`."""
        ...

    def dbt_environment(self) -> dict[str, str]:
        """Return what profiles.yml reads from the environment besides keepline's own settings."""
        ...

    def prepare(self) -> None:
        """Get ready for dbt to run in this process."""
        ...

    def release(self) -> None:
        """Let go of what dbt holds of the engine in this process, after dbt has run."""
        ...

    def export(self, sql: str, path: Path) -> int:
        """Write the rows of a query to one Parquet file, whole or not at all, and count them."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement of DuckDB's SQL and return its rows, if it has any."""
        ...

    def apart(self, settings: Settings) -> Settings:
        """Return settings with a new and empty place for a rebuild; what a killed one left is gone.

        Args:
            settings: the operator's, with another home.
        """
        ...

    def take_place(self, settings: Settings) -> None:
        """Let what was built with the settings of `apart` take this place, in one move."""
        ...

    def drop_apart(self) -> None:
        """Drop what `apart` made and `take_place` did not take."""
        ...
