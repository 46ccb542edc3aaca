"""One DuckDB connection for an extraction: read-only sources attached, no spilling, safe error texts."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import duckdb

from keepline import room
from keepline.errors import BadDataError, KeeplineError, SourceUnavailableError, UsageError
from keepline.extract import database
from keepline.extract.database import Database, rows_are_hidden
from keepline.extract.mysql import MySQL
from keepline.extract.operator import Operator
from keepline.extract.postgres import Postgres
from keepline.extract.rules import SteadyClock
from keepline.extract.sql import literal as literal
from keepline.extract.sql import path_literal as path_literal
from keepline.extract.sql import quoted as quoted
from keepline.extract.sqlite import SQLite
from keepline.landed_files import exact
from keepline.settings import Settings
from keepline.window import Window

# A new kind of database is an entry here and in `operator.Connection.type`.
DATABASES: dict[str, Database] = {"postgres": Postgres(), "mysql": MySQL(), "sqlite": SQLite()}
# What a client says when the server, the network or the login fails.
LOST = re.compile(
    r"unable to connect|could not connect|can't connect|failed to connect to|connection .* failed"
    r"|connection refused|server closed|terminating connection|could not receive|could not send"
    r"|no connection to the server|lost connection|gone away|connection was killed|ssl syscall"
    r"|password authentication|timeout expired|lock timeout|starting up|shutting down|connection slots"
    r"|too many (clients|connections)|connection pool timeout|unable to open database|database is locked",
    re.IGNORECASE,
)
# What a server says when it ends a statement that takes too long.
TOO_SLOW = re.compile(
    r"statement timeout|transaction timeout|idle-in-transaction timeout|max_statement_time|maximum"
    r" (statement )?execution time|query execution was interrupted",
    re.IGNORECASE,
)
# What PostgreSQL says of a table whose rows are not all for this login.
HIDDEN_ROWS = re.compile(r"affected by row-level security policy for table \"([^\"]*)\"")
# Where text is that was decoded into memory.
MEMORY_FILES = "/proc/self/fd"
# The only setting that a locked DuckDB may still change; PostgreSQL alone knows it.
TEXT_PROTOCOL = "pg_use_text_protocol"
# Errors of values, whose text quotes the value.
VALUE_ERRORS = (
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    duckdb.ConstraintException,
    duckdb.TypeMismatchException,
    duckdb.IOException,
)


class TooSlowError(SourceUnavailableError):
    """A source did not give a window within the time that a transaction may take; fewer days may do."""


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
        self._locked = False
        self.connection = self._open()

    def _open(self) -> duckdb.DuckDBPyConnection:
        settings = self.settings
        connection = duckdb.connect(
            config={
                "threads": settings.compute_threads,
                "memory_limit": settings.compute_memory_limit,
                "temp_directory": "",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
                "python_enable_replacements": False,
            }
        )
        # Instants without an offset are the operator's local time; days are its local days.
        connection.execute(f"set TimeZone = {literal(settings.timezone)}")
        return connection

    def _open_again(self) -> None:
        """What is locked stays locked: other sources need another DuckDB."""
        self.connection.close()
        self._attached, self._locked = {}, False
        self.connection = self._open()

    def _lock(self) -> None:
        """From now on nothing is reached but what is attached, and files below the file's folders.

        The parser has read the operator's SELECT, and this holds even where it was mistaken.
        """
        folders = [MEMORY_FILES]
        for name in self.operator.files:
            with contextlib.suppress(UsageError):
                folder = str(self.operator.folder(name))
                folders += {folder, exact(folder)}
        listed = ", ".join(literal(folder) for folder in folders)
        self.run(f"set allowed_directories = [{listed}]")
        self.run("set enable_external_access = false")
        self.run(f"set allowed_configs = [{literal(TEXT_PROTOCOL)}]")
        self.run("set lock_configuration = true")
        self._locked = True

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

    def steady_clock(self, window: Window) -> SteadyClock | None:
        """Return what the operator's clock is ahead of UTC from two days before a window to two after it.

        None when the clock was changed meanwhile.
        """
        first, last = window.from_date - timedelta(days=2), window.to_date + timedelta(days=2)
        hours = f"timestamptz '{first} 00:00:00', timestamptz '{last} 00:00:00', interval 1 hour"
        ((from_us, to_us, least, most),) = self.rows(
            "select min(epoch_us(instant)), max(epoch_us(instant)), min(ahead), max(ahead) from ("
            " select instant, epoch_us(cast(instant as timestamp)) - epoch_us(instant) as ahead"
            f" from generate_series({hours}) as hours(instant))"
        )
        return SteadyClock(from_us, to_us, least) if least == most else None

    def attach(self, table: str) -> None:
        """Attach the databases that a table's SELECT names, read-only, and close the door behind them.

        What was staged before is gone when other databases are needed.

        Raises:
            SourceUnavailableError: a database cannot be reached or refuses the login.
            UsageError: its variable is not set or holds no connection string.
        """
        wanted = self.operator.connections_of(table)
        if self._locked and self._attached.keys() >= set(wanted):
            return
        if self._locked:
            self._open_again()
        for name in wanted:
            self.attach_database(name)
        self._lock()

    def attach_database(self, name: str) -> str:
        """Attach one database, once, and return its place; see `attach`."""
        if name not in self._attached:
            if self._locked:
                self._open_again()
            dsn = self.operator.environment(self.operator.connections[name].dsn_env)
            self._attached[name] = self.database(name).attach(self, name, dsn)
        return self._attached[name]

    def _detach(self, name: str) -> str:
        with contextlib.suppress(duckdb.Error):
            self.run(f"detach {quoted(name)}")
        return self._attached.pop(name)

    def database(self, name: str) -> Database:
        """Return the kind of a connection."""
        return DATABASES[self.operator.connections[name].type]

    @contextlib.contextmanager
    def transaction(self, table: str) -> Iterator[None]:
        """Run a table's statements in one transaction, which sees one state of the source.

        Servers end what takes longer than `database.TIMEOUT_S` by themselves where a login can ask for
        that; this clock ends it for the others.

        Raises:
            TooSlowError: it took longer.
        """
        expired = threading.Event()

        def stop() -> None:
            expired.set()
            for end in stoppers:
                end()

        self.run("begin")
        timer: threading.Timer | None = None
        try:
            names = self.operator.connections_of(table)
            stoppers = [self.database(name).stopper(self, name) for name in names]
            timer = threading.Timer(database.TIMEOUT_S, stop)
            timer.daemon = True
            timer.start()
            yield
            self.run("commit")
        except BaseException as error:
            with contextlib.suppress(duckdb.Error):
                self.run("rollback")
            if not isinstance(error, duckdb.Error):
                raise
            if expired.is_set() or TOO_SLOW.search(str(error)):
                # What was ended may keep its place in DuckDB's pool: the next try gets new connections.
                places = ", ".join(self._detach(name) for name in names)
                raise TooSlowError(
                    f"{self.operator.path.name}, table {table}: {places or 'the source'} needs more than "
                    f"{database.TIMEOUT_S} s, and no transaction of keepline's may take longer. Is there an "
                    "index on the column that the SELECT compares with the window?"
                ) from None
            raise
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()

    @contextlib.contextmanager
    def translated(self, table: str) -> Iterator[None]:
        """Turn DuckDB's errors about a table's SELECT into ours, without values or passwords.

        Raises:
            SourceUnavailableError: the connection was lost; running again may do.
            BadDataError: a file that the SELECT names is not there.
            UsageError: the SELECT is wrong, or the login does not see every row.
        """
        try:
            with memory_told():
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
                raise BadDataError(f"{where}: {self.told(table, error)}") from None
            if hidden := HIDDEN_ROWS.search(text):
                raise UsageError(f"{where}: {rows_are_hidden(hidden[1])}") from None
            raise UsageError(f"{where}: {self.told(table, error)}") from None

    def told(self, table: str, error: duckdb.Error) -> str:
        """Return what an error says, without what stands in a file."""
        source = self.operator.tables[table]
        return without_values(error, None if source.file is None else source.sql)


@contextlib.contextmanager
def memory_told() -> Iterator[None]:
    """Raise DuckDB's own error of too little memory where it came as another.

    A commit that failed, a thread that could not be started, Arrow's, which is an OSError.
    """
    try:
        yield
    except (duckdb.Error, OSError, RuntimeError, MemoryError) as error:
        if not room.is_memory(error):
            raise
        room.memory_ran_out.set()
        if isinstance(error, duckdb.OutOfMemoryException | MemoryError):
            raise
        raise duckdb.OutOfMemoryException(str(error)) from None


def without_values(error: duckdb.Error, known: str | None = None) -> str:
    """Return the first paragraph of an error text with values and connection strings taken out.

    Args:
        error: of DuckDB.
        known: text whose words may be quoted, where others could be those of a file; None where only names
            of a database can be quoted.
    """
    # A reader of CSV quotes the line that it stopped at.
    text = re.split("\nOriginal Line:|\nPossible fixes|\n\n|\nLINE", str(error))[0]
    text = re.sub(r' at "[^"]*(host|password|dbname)=[^"]*"', "", text)
    is_value = isinstance(error, VALUE_ERRORS) and "No files found" not in text
    if known is not None:
        # Names of a header that are like the one that was looked for.
        text = re.split(r"\n\s*(?:Candidate|Did you mean)", text)[0]

    def shown(quote: re.Match[str]) -> str:
        foreign = known is not None and quote[0][1:-1].lower() not in known.lower()
        return "<value>" if is_value or (foreign and "No files found" not in text) else quote[0]

    text = re.sub(r"'[^']*'|\"[^\"]*\"", shown, text)
    if is_value:
        text += "; leave casting to keepline, which sets such rows aside with a reason"
    return " ".join(re.sub(r"\d{7,}", "<digits>", text).split())
