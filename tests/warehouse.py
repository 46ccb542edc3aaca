"""A small warehouse whose raw tables tests fill row by row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import engines
import pyarrow as pa
from conftest import SECRETS

from keepline.build import build
from keepline.compute import compute_for
from keepline.contract import Contract, load_contract
from keepline.settings import Settings
from keepline.window import Window

Row = dict[str, Any]
Rows = dict[str, list[Row]]


@contextmanager
def models_alone() -> Iterator[None]:
    """Let dbt leave out data tests: half of the time of a small build, where what it holds is compared."""
    name = "DBT_RESOURCE_TYPES"
    before = os.environ.get(name)
    os.environ[name] = "model seed"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


class Warehouse:
    """An empty compute engine whose raw tables tests fill with the columns that matter to them.

    dbt parses the project once per home and process: a test file does well to keep to one per engine.
    """

    def __init__(self, home: Path, engine: engines.Engine | None = None) -> None:
        self.settings = Settings(home=home, **SECRETS, **(engine or {}))
        self.contract: Contract = load_contract(self.settings.dbt_dir)
        self.compute = compute_for(self.settings)
        engines.forget(self.settings)
        # An empty landing makes every raw table.
        self.compute.load(self.contract, Window.day(date(2000, 1, 1)))

    def add(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows to a raw table; what is not given is empty.

        `load_date` defaults to `event_date` and `updated_at` to the noon of `load_date`.
        """
        wanted = [column.name for column in self.contract[table].landed_columns]
        filled = [_filled(row, wanted) for row in rows]
        columns = [*wanted, "load_date"]
        table_rows = pa.table({name: [row.get(name) for row in filled] for name in columns})
        with self.compute.connection() as connection:
            connection.register("new_rows", table_rows)
            connection.execute(
                f"insert into raw.{table} ({', '.join(columns)}) select * from new_rows"
            )

    def add_all(self, rows: Rows) -> None:
        """Append the rows of several tables."""
        for table, table_rows in rows.items():
            if table_rows:
                self.add(table, table_rows)

    def build(
        self, layer: str, first: date, last: date, *, full_refresh: bool = False, **variables: Any
    ) -> None:
        """Build a layer for the load dates from `first` to `last`, both included, without data tests."""
        window = Window(first, last + timedelta(days=1))
        with models_alone():
            build(self.settings, layer, window, variables, full_refresh=full_refresh)

    def features(self, *as_of_dates: date) -> list[Row]:
        """Build the features of some days and return those of the first one, sorted."""
        days = [day.isoformat() for day in as_of_dates]
        self.build("features", as_of_dates[-1], as_of_dates[-1], as_of_dates=days)
        return self.rows(
            "select * from features.feat_subscription_asof "
            f"where as_of_date = date '{as_of_dates[0]}' order by subscription_id"
        )

    def rows(self, sql: str) -> list[Row]:
        """Return the rows of a query as dictionaries."""
        with self.compute.connection() as connection:
            return connection.sql(sql).to_arrow_table().to_pylist()

    def save(self) -> None:
        """Keep a copy of all that the warehouse holds."""
        engines.save(self.settings)

    def restore(self) -> None:
        """Go back to the copy."""
        engines.restore(self.settings)


def at(day: date, hour: int = 4) -> datetime:
    """Return an hour of a day in UTC; 4 is noon in Shanghai."""
    return datetime.combine(day, time(hour))


def _filled(row: Mapping[str, Any], columns: Sequence[str]) -> Row:
    load_date = row.get("load_date") or row["event_date"]
    filled = {"load_date": load_date, **row}
    for column in ("updated_at", "received_at", "recorded_at"):
        if column in columns and column not in filled:
            filled[column] = at(load_date, 10)
    unknown = sorted(set(filled) - {*columns, "load_date"})
    assert not unknown, f"no such columns: {', '.join(unknown)}"
    return filled
