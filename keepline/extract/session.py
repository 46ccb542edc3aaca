"""One DuckDB connection for an extraction: read-only sources attached, no spilling, safe error texts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
from psycopg import ProgrammingError, conninfo

from keepline.errors import BadDataError, KeeplineError, SourceUnavailableError, UsageError
from keepline.extract.operator import Operator
from keepline.settings import Settings

SOURCE_CONNECTIONS = 2
# What PostgreSQL's client says when the server, the network or the login fails.
LOST = re.compile(
    r"unable to connect|could not connect|connection .* failed|connection refused|server closed"
    r"|terminating connection|could not receive|could not send|no connection to the server|ssl syscall"
    r"|password authentication|timeout expired|starting up|shutting down|connection slots"
    r"|too many (clients|connections)",
    re.IGNORECASE,
)
# Errors of values, whose text quotes the value.
VALUE_ERRORS = (
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    duckdb.ConstraintException,
    duckdb.TypeMismatchException,
    duckdb.IOException,
)


class Session:
    """A DuckDB that reads an operator's sources; a context manager.

    Identifiers and names are in clear in its tables, so that they stay in memory: spilling to disk is
    off (DuckDB cannot encrypt the spill of an in-memory database). Work that does not fit raises
    `duckdb.OutOfMemoryException`, and the caller takes fewer days at once.
    """

    def __init__(self, settings: Settings, operator: Operator) -> None:
        self.settings = settings
        self.operator = operator
        self._attached: dict[str, str] = {}
        self.connection = duckdb.connect(
            config={
                "threads": settings.compute_threads,
                "memory_limit": settings.compute_memory_limit,
                "temp_directory": "",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        # Instants without an offset are the operator's local time; days are its local days.
        self.connection.execute(f"set TimeZone = {literal(settings.timezone)}")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def run(self, sql: str, parameters: list[Any] | None = None) -> duckdb.DuckDBPyConnection:
        """Run keepline's own SQL."""
        return self.connection.execute(sql, parameters or [])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run keepline's own SQL and return its rows."""
        return self.connection.execute(sql).fetchall()

    def columns(self, relation: str) -> dict[str, str]:
        """Return the columns of a relation or SELECT with their DuckDB types."""
        return {str(row[0]): str(row[1]) for row in self.rows(f"describe {relation}")}

    def attach(self, table: str) -> None:
        """Attach the databases that a table's SELECT names, read-only.

        Raises:
            SourceUnavailableError: a database cannot be reached or refuses the login.
            UsageError: its variable is not set or holds no connection string.
        """
        for name in self.operator.connections_of(table):
            if name not in self._attached:
                connection = self.operator.connections[name]
                dsn = self.operator.environment(connection.dsn_env)
                self._attached[name] = ATTACHERS[connection.type](self, name, dsn)

    @contextlib.contextmanager
    def translated(self, table: str) -> Iterator[None]:
        """Turn DuckDB's errors about a table's SELECT into ours, without values or passwords.

        Raises:
            SourceUnavailableError: the connection was lost; running again may do.
            BadDataError: a file that the SELECT names is not there.
            UsageError: the SELECT is wrong.
        """
        try:
            yield
        except (KeeplineError, duckdb.OutOfMemoryException):
            raise
        except duckdb.Error as error:
            where = f"{self.operator.path.name}, table {table}"
            text = str(error)
            if LOST.search(text):
                places = "; ".join(self._attached.values()) or "the source"
                raise SourceUnavailableError(f"{where}: lost the connection to {places}") from None
            if "No files found" in text:
                raise BadDataError(f"{where}: {without_values(error)}") from None
            raise UsageError(f"{where}: {without_values(error)}") from None


def without_values(error: duckdb.Error) -> str:
    """Return the first paragraph of an error text with values and connection strings taken out."""
    text = str(error).split("\n\n")[0].split("\nLINE")[0]
    text = re.sub(r' at "[^"]*(host|password|dbname)=[^"]*"', "", text)
    if isinstance(error, VALUE_ERRORS) and "No files found" not in text:
        text = re.sub(r"'[^']*'|\"[^\"]*\"", "<value>", text)
        text += "; leave casting to keepline, which sets such rows aside with a reason"
    return " ".join(re.sub(r"\d{7,}", "<digits>", text).split())


def literal(text: object) -> str:
    """Return an SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _attach_postgres(session: Session, name: str, dsn: str) -> str:
    variable = session.operator.connections[name].dsn_env
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except ProgrammingError:
        # The error's text would show the string, password and all.
        raise UsageError(f"{variable} is not a PostgreSQL connection string") from None
    options = f"{parts.get('options', '')} -c TimeZone={session.settings.timezone}".strip()
    own = {"application_name": "keepline", "connect_timeout": "10"}
    target = conninfo.make_conninfo(**{**own, **parts, "options": options})  # type: ignore[arg-type]
    place = f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)} (database {parts.get('dbname')})"
    session.run(f"load {literal(_packaged_postgres_scanner())}")
    session.run(f"set pg_connection_limit = {SOURCE_CONNECTIONS}")
    session.run(f"set pg_pool_max_connections = {SOURCE_CONNECTIONS}")
    session.run("set pg_pool_acquire_mode = 'wait'")
    try:
        session.run(f"attach {literal(target)} as {quoted(name)} (type postgres, read_only)")
    except duckdb.Error as error:
        reason = (
            str(error).rsplit("failed: ", 1)[-1].splitlines()[0] if "failed: " in str(error) else ""
        )
        raise SourceUnavailableError(
            f"the operator's database at {place}, from {variable}, cannot be reached: {reason}"
        ) from None
    return place


def _packaged_postgres_scanner() -> Path:
    import duckdb_extension_postgres_scanner as packaged

    return next(Path(str(packaged.__file__)).parent.rglob("*.duckdb_extension"))


# How each kind of database is attached; returns the place that error texts name.
ATTACHERS: dict[str, Callable[[Session, str, str], str]] = {"postgres": _attach_postgres}
