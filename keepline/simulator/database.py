"""The operator's databases in PostgreSQL: schemas, bulk loading by COPY, and the login that may only read."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg import sql

from keepline.simulator.arrow import to_arrow
from keepline.simulator.schema import TABLES, recorded_by
from keepline.simulator.sink import Rows, merged

SCHEMAS: Final = ("crm", "bss", "bil", "ocs", "cc", "npd", "chn", "ref")
READER: Final = "extractor"
_FLUSH_ROWS: Final = 50_000


def _name(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


class OperatorDatabase:
    """Loads one run in one transaction: until `close`, everybody else sees what was there before."""

    def __init__(self, dsn: str, start: date) -> None:
        """Connect and empty the operator's schemas.

        Args:
            dsn: connection string of an admin of the operator's database.
            start: first day of the history.
        """
        self._start = start
        self._connection = psycopg.connect(dsn)
        self._waiting: dict[str, list[Rows]] = defaultdict(list)
        self._waiting_rows: dict[str, int] = defaultdict(int)
        self.rows: dict[str, int] = dict.fromkeys(TABLES, 0)
        for schema in SCHEMAS:
            name = sql.Identifier(schema)
            self._execute(sql.SQL("drop schema if exists {} cascade").format(name))
            self._execute(sql.SQL("create schema {}").format(name))
        for table, columns in TABLES.items():
            body = sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.pg_type)) for c in columns
            )
            self._execute(sql.SQL("create table {} ({})").format(_name(table), body))

    def add(self, rows: dict[str, Rows]) -> None:
        """Add rows, table by table; they are sent when there are enough of them."""
        for table, columns in rows.items():
            self._waiting[table].append(columns)
            self._waiting_rows[table] += len(next(iter(columns.values())))
            if self._waiting_rows[table] >= _FLUSH_ROWS:
                self._flush(table)

    def close(self, password: str) -> None:
        """Send what is left, add the indexes that extraction asks for, and let the reader in.

        Args:
            password: password of the reader.
        """
        for table in TABLES:
            self._flush(table)
            column = sql.Identifier(recorded_by(table))
            self._execute(sql.SQL("create index on {} ({})").format(_name(table), column))
        self._grant(password)
        self._connection.commit()
        self._connection.autocommit = True
        self._execute(sql.SQL("analyze"))
        self._connection.close()

    def abandon(self) -> None:
        """Leave the database as it was before."""
        self._connection.close()

    # -- inside ----------------------------------------------------------------------------------

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        self._connection.execute(statement)

    def _flush(self, table: str) -> None:
        parts = self._waiting.pop(table, [])
        if not parts:
            return
        content = to_arrow(table, merged(parts), self._start)
        self.rows[table] += content.num_rows
        self._waiting_rows[table] = 0
        target = pa.BufferOutputStream()
        options: Any = pa.csv.WriteOptions(include_header=False)
        pa.csv.write_csv(content, target, options)
        columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in TABLES[table])
        copy = sql.SQL("copy {} ({}) from stdin (format csv)").format(_name(table), columns)
        with self._connection.cursor().copy(copy) as stream:
            stream.write(target.getvalue())

    def _grant(self, password: str) -> None:
        role = sql.Identifier(READER)
        found = self._connection.execute("select 1 from pg_roles where rolname = %s", [READER])
        verb = sql.SQL("alter" if found.fetchone() else "create")
        secret = sql.Literal(password)
        self._execute(
            sql.SQL("{} role {} with login nosuperuser nocreatedb nocreaterole password {}").format(
                verb, role, secret
            )
        )
        self._execute(sql.SQL("alter role {} set default_transaction_read_only = on").format(role))
        self._execute(sql.SQL("revoke create on schema public from public"))
        database = sql.Identifier(self._connection.info.dbname)
        # The warehouse's readers live in the same server in the demo; the operator's systems are not theirs.
        self._execute(sql.SQL("revoke all on database {} from public").format(database))
        self._execute(sql.SQL("grant connect on database {} to {}").format(database, role))
        for schema in SCHEMAS:
            name = sql.Identifier(schema)
            self._execute(sql.SQL("grant usage on schema {} to {}").format(name, role))
            self._execute(
                sql.SQL("grant select on all tables in schema {} to {}").format(name, role)
            )
