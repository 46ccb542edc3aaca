"""Cases of the fault catalogue that are extracted together, and what came of each load date."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import SECRETS
from extract_source import Extraction

from keepline.embedded import EmbeddedPostgres
from keepline.extract import IncompleteError, extract_window
from keepline.settings import Settings
from keepline.window import Window


class Catalogue:
    """One extraction of an operator file of the test, asked day by day."""

    def __init__(self, settings: Settings, source: Extraction) -> None:
        self.settings = settings
        self.results: dict[str, Any] = {}
        self.source = source
        self._findings: list[Any] = []

    def deliver(self, name: str, content: bytes) -> None:
        """Put a file below the folder of the operator."""
        path = self.source.drops / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def extract(self, first: date, after: date | None = None) -> None:
        """Extract a window; what is held is remembered."""
        window = Window(first, after or first + timedelta(days=1))
        try:
            results, self._findings = extract_window(self.settings, window), []
        except IncompleteError as error:
            results, self._findings = list(error.results), list(error.findings)
        self.results = {result.table_name: result for result in results if result.provided}

    def codes(self, day: date) -> list[str]:
        """Return why a day was held."""
        return [finding.code for finding in self._findings if finding.load_date == day]

    def balance(self, day: date, table: str = "cdr_voice") -> tuple[int, int, Any, int, bool]:
        """Return the counts of a day: physical, loaded, quarantined by code, skipped, and if they agree."""
        row = next(r for r in self.results[table].reconciliations if r.load_date == day)
        quarantined = dict(row.quarantined_rows)
        return row.physical_rows, row.loaded_rows, quarantined, row.skipped_rows, row.balanced

    def landed(
        self, day: date, columns: str = "*", where: str = "true", table: str = "cdr_voice"
    ) -> list[tuple[Any, ...]]:
        """Return rows of a day's partition, in its order."""
        path = self.settings.landing_dir / table / f"load_date={day}" / "part-0.parquet"
        if not path.exists():
            return []
        return duckdb.sql(f"select {columns} from read_parquet('{path}') where {where}").fetchall()

    def quarantined(self, day: date, table: str = "cdr_voice") -> list[tuple[Any, ...]]:
        """Return reason, column, line and file of a day's rows in quarantine."""
        path = self.settings.quarantine_dir / table / f"load_date={day}" / "rows.parquet"
        if not path.exists():
            return []
        return duckdb.sql(
            f"select reason_code, column_name, line_no, source_file from read_parquet('{path}')"
        ).fetchall()


@contextlib.contextmanager
def catalogue(postgres: EmbeddedPostgres, folder: Path, operator: str) -> Iterator[Catalogue]:
    """Make a store, a home and a folder of files for an operator."""
    database = f"test_{uuid.uuid4().hex[:12]}"
    postgres.ensure_database(database)
    settings = Settings(home=folder / "home", store_dsn=postgres.dsn(database), **SECRETS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        source = Extraction(settings, folder, monkeypatch)
        source.operator_file.write_text(operator)
        yield Catalogue(settings, source)
