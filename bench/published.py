"""One published table for the rows `load` and `publish`: store, compute that holds it, and the limit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo

from keepline import release, store
from keepline.build import parse
from keepline.compute import compute_for
from keepline.embedded import EmbeddedPostgres
from keepline.release.published import from_store
from keepline.settings import Settings

from .alone import Clock
from .row import settings_for

# A value of each type that differs from row to row; `n` counts the rows.
VALUES = {
    "text": "'v' || (n * 7919 + {c}) % 1000",
    "bigint": "(n * 7919 + {c}) % 100000",
    "integer": "cast((n * 7919 + {c}) % 1000 as integer)",
    "date": "date '2026-01-01' + cast((n + {c}) % 365 as integer)",
    "timestamp without time zone": "timestamp '2026-01-01' + to_seconds(n)",
    "boolean": "(n + {c}) % 7 = 0",
    "double precision": "((n * 7919 + {c}) % 100003) / 100003",
}


class Published:
    """A store migrated for one model of the project, and the rows that compute holds of it."""

    def __init__(self, folder: Path, server: EmbeddedPostgres, model: str) -> None:
        self.settings: Settings = settings_for(folder, server)
        self.server = server
        manifest = json.loads(parse(self.settings).read_text())
        manifest["nodes"] = {
            key: node for key, node in manifest["nodes"].items() if node["name"] == model
        }
        own = folder / "manifest.json"
        own.write_text(json.dumps(manifest))
        release.migrate(self.settings, own)
        with store.connect(self.settings) as connection:
            (self.table,) = from_store(connection)
        self._types = {
            name: column["data_type"]
            for node in manifest["nodes"].values()
            for name, column in node["columns"].items()
        }

    def fill(self, period: date, rows: int) -> None:
        """Put rows of a period into compute, beside those of other periods, as a build does."""
        table = self.table
        columns = ", ".join(f'"{name}" {self._types[name]}' for name in table.column_names)
        values = ", ".join(self._value(n) for n in range(len(table.columns)))
        with compute_for(self.settings).connection() as duck:
            duck.execute(f"create schema if not exists {table.relation.split('.')[0]}")
            duck.execute(f"create table if not exists {table.relation} ({columns})")
            duck.execute("create schema if not exists ops")
            duck.execute(
                "create table if not exists ops.period_content"
                " (relation varchar, shape varchar, period date, rows bigint, content varchar)"
            )
            duck.execute(
                f"insert into {table.relation} select {values} from range({rows}) as t(n)".replace(
                    "{period}", period.isoformat()
                )
            )

    def _value(self, number: int) -> str:
        column = self.table.columns[number]
        if column.name == self.table.period:
            return "date '{period}'"
        if column.name == "subscription_id":
            return "'S' || lpad(cast(n as varchar), 10, '0')"
        kind = column.store_type
        made = f"(n * 7919 + {number}) % 100003" if kind.startswith("numeric") else VALUES[kind]
        return made.replace("{c}", str(number))

    def keep_copy(self, leaf: str, rows: int) -> dict[str, Any]:
        """Copy a filled partition to a table of its own; returns what the limit needs to pipe it."""
        with psycopg.connect(self.server.dsn("store"), autocommit=True) as connection:
            connection.execute("create schema if not exists bench")
            connection.execute("drop table if exists bench.given")
            connection.execute(f"create table bench.given as select * from store.{leaf}".encode())
            connection.execute("vacuum analyze bench.given")
        dsn = self.server.dsn("store")
        parts = conninfo.conninfo_to_dict(dsn)
        words = " ".join(f"{key}={value}" for key, value in parts.items())
        return {"psql": str(self.server._binaries() / "psql"), "dsn": words, "rows": rows}


def limit(given: Mapping[str, Any], clock: Clock) -> int:
    """Pipe the rows as binary COPY out of one table into a new one of the same server."""
    psql = [given["psql"], "--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", given["dsn"]]
    with psycopg.connect(given["dsn"], autocommit=True) as connection:
        connection.execute("drop table if exists bench.taken")
        connection.execute("checkpoint")
    with clock:
        out = subprocess.Popen(
            [*psql, "-c", "copy bench.given to stdout (format binary)"], stdout=subprocess.PIPE
        )
        into = ["--single-transaction", "-c", "create table bench.taken (like bench.given)"]
        subprocess.run(
            [*psql, *into, "-c", "copy bench.taken from stdin (format binary)"],
            stdin=out.stdout,
            check=True,
        )
        assert out.wait() == 0
    with psycopg.connect(given["dsn"]) as connection:
        found = connection.execute("select count(*) from bench.taken").fetchone()
    return int(found[0]) if found else 0
