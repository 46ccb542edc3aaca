"""DuckDB connected to a PostgreSQL: the packaged extension, and no password in a statement."""

from __future__ import annotations

from pathlib import Path

import duckdb
from psycopg import conninfo

# Word of a connection string -> word of DuckDB's secret.
SECRET_PARTS = {
    "host": "host",
    "port": "port",
    "dbname": "database",
    "user": "user",
    "password": "password",
}


def attach_postgres(
    duck: duckdb.DuckDBPyConnection, dsn: str, name: str, schema: str | None = None
) -> None:
    """Attach a PostgreSQL database under a name; the password goes into no statement that can be logged.

    Args:
        duck: DuckDB to attach it to.
        dsn: libpq connection string.
        name: what DuckDB calls the database from then on; a plain word.
        schema: the only schema that DuckDB looks at, or None for all.

    Raises:
        duckdb.Error: the server cannot be reached; the text may hold the connection string.
    """
    import duckdb_extension_postgres_scanner as packaged

    extension = next(Path(packaged.__file__).parent.rglob("*.duckdb_extension"))
    duck.execute(f"load {_literal(str(extension))}")
    parts = {key: str(value) for key, value in conninfo.conninfo_to_dict(dsn).items()}
    secret = ", ".join(
        f"{word} {_literal(parts.pop(key))}" for key, word in SECRET_PARTS.items() if key in parts
    )
    rest = conninfo.make_conninfo(**parts)
    only = f", schema {_literal(schema)}" if schema else ""
    duck.execute(f"create or replace secret keepline_{name} (type postgres, {secret})")
    duck.execute(f"attach {_literal(rest)} as {name} (type postgres, secret keepline_{name}{only})")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
