"""A landing folder that the tests of the gate `landed` fill day by day."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import duckdb
from conftest import SECRETS

from expectations import landed, runner
from keepline.contract import Contract, Table
from keepline.settings import Settings
from keepline.window import Window

LAST = date(2026, 6, 30)
ROWS = 300
# A value of each type that varies from row to row; n is the row's number.
VALUES = {
    "text": "'v' || n % 7",
    "integer": "1 + n % 60",
    "bigint": "1000 + n % 500",
    "decimal(18,2)": "case when n % 4 = 0 then 0.50 + n % 3 else 0 end",
    "date": "{day}",
    "timestamp": "{day} + interval (n) minute",
    "boolean": "n % 2 = 0",
}


class Landing:
    """A landing folder that a test fills day by day."""

    def __init__(self, home: Path, contract: Contract) -> None:
        self.settings = Settings(home=home, **SECRETS)
        self.contract = contract

    def fill(self, name: str, days: int = 40, rows: int = ROWS) -> None:
        """Land the same number of rows on each of the days up to the last one."""
        for back in range(days):
            self.land(name, LAST - timedelta(days=back), rows)

    def land(
        self,
        name: str,
        day: date,
        rows: int,
        values: Mapping[str, str] | None = None,
        **manifest: object,
    ) -> None:
        """Land one day; `values` are SQL expressions of columns, `manifest` what it says instead."""
        table: Table = self.contract[name]
        folder = self.settings.landing_dir / name / f"load_date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        literal = f"date '{day}'"
        columns = ", ".join(
            f"cast({(values or {}).get(column.name, VALUES[column.data_type]).format(day=literal)}"
            f" as {'varchar' if column.data_type == 'text' else column.data_type}) as {column.name}"
            for column in table.landed_columns
        )
        duckdb.sql(
            f"copy (select {columns} from range({rows}) as r (n)) to '{folder}/part-0.parquet'"
        )
        said = {
            "rows": rows,
            "physical_rows": rows,
            "quarantined": {},
            "skipped_rows": 0,
            "sums": {},
        }
        (folder / "_manifest.json").write_text(json.dumps(said | manifest))

    def run(self, window: Window | None = None):
        return runner.run_landed(self.settings, self.contract, window or Window.day(LAST))

    def profile(self, window: Window | None = None):
        return landed.profile(self.settings, self.contract, window or Window.day(LAST))
