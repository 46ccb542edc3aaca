"""When the simulated operators of the tests begin, and how their databases are read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psycopg

from keepline.embedded import EmbeddedPostgres
from keepline.simulator import SimulationSummary

START = date(2025, 11, 1)
PASSWORD = "test-extractor"


@dataclass
class Demo:
    """A simulated operator in a database of its own."""

    server: EmbeddedPostgres
    database: str
    drops: Path
    truth: Path
    summary: SimulationSummary

    def admin(self) -> psycopg.Connection:
        return psycopg.connect(self.server.dsn(self.database))

    def reader(self) -> psycopg.Connection:
        return psycopg.connect(self.server.dsn(self.database, "extractor", PASSWORD))

    def all(self, query: str) -> list[tuple]:
        with self.reader() as connection:
            return connection.execute(query).fetchall()
