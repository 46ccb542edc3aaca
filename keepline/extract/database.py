"""What the kinds of databases differ in: how they are attached, and how they count and sum by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from keepline.errors import UsageError
from keepline.extract.statement import select_of

if TYPE_CHECKING:
    from keepline.extract.session import Session

# At most this many connections to a source, and no transaction longer than this.
CONNECTIONS = 2
TIMEOUT_S = 300
# A connection that nobody uses is closed.
IDLE_S = 30
CONNECT_S = 10


class Database:
    """A kind of database; the words below are those of PostgreSQL, which DuckDB shares.

    Attributes:
        nul_bytes: whether its texts may hold a NUL byte.
        one_snapshot: whether DuckDB's reading and the database's own count see one state of it.
        sums_text: whether a measure is summed at the source although DuckDB reads it as text.
        sends_text: whether it can be asked for numbers as text, which DuckDB reads exactly.
        schema: what DuckDB takes for the schema of a table that is named without one; empty where the
            database itself takes the same.
    """

    nul_bytes = False
    one_snapshot = True
    sums_text = False
    sends_text = False
    schema = ""

    def attach(self, session: Session, name: str, dsn: str) -> str:
        """Attach a database read-only and return its place, for messages.

        Raises:
            SourceUnavailableError: it cannot be reached or refuses the login.
            UsageError: the connection string is none, or the login may write.
        """
        raise NotImplementedError

    def stopper(self, session: Session, name: str) -> Callable[[], None]:
        """Return what ends, from another thread, the statement that runs now.

        Nothing for a server that does so by itself: a DuckDB that is interrupted while its connection dies
        can take the process with it.
        """
        del session, name
        return lambda: None

    def instant(self, at: datetime) -> str:
        """Return a local time, of whole seconds, for `{from_at}` and `{to_at}`, so that an index serves."""
        return f"timestamptz '{at.isoformat(sep=' ')}'"

    def local(self, at: datetime) -> str:
        """Return a local time without its zone, for `{from_local}` and `{to_local}`."""
        return f"timestamp '{at:%Y-%m-%d %H:%M:%S}'"

    def day(self, at: datetime) -> str:
        """Return a day for `{from_date}` and `{to_date}`."""
        return f"date '{at:%Y-%m-%d}'"

    def own_words(self, name: str, sql: str) -> str | None:
        """Return a SELECT as the database itself reads it; None when it would mean something else."""
        return select_of(sql).without_connection(name, self.schema)

    def asked(self, name: str, sql: str) -> str:
        """Return the SELECT by which DuckDB has the database run a statement."""
        raise NotImplementedError

    def local_day(self, cursor: str, cursor_type: str, zone: str) -> str | None:
        """Return the local day of a load cursor of the relation `x`; None when its type does not say it.

        Args:
            cursor: name of the column.
            cursor_type: its type in DuckDB.
            zone: the operator's zone as an SQL literal.
        """
        return (
            DAY_TYPES[cursor_type].format(cursor=cursor, zone=zone)
            if cursor_type in DAY_TYPES
            else None
        )

    def total(self, column: str) -> str:
        """Return the exact total of a column of the relation `x` as text."""
        return f"cast(sum(cast(x.{column} as numeric)) as text)"

    def lost_dates(self, columns: Iterable[str]) -> str:
        """Return how many dates of the relation `x` DuckDB cannot read and takes for no value."""
        del columns
        return "0"


# The local day of a load cursor, in words that DuckDB and PostgreSQL share; none outside the years that
# the rules accept.
_POSSIBLE = (
    "isfinite(x.{cursor}) and {instant} >= timestamptz '1899-12-31 00:00:00+00'"
    " and {instant} < timestamptz '10000-01-01 00:00:00+00' and {day} <= date '9999-12-31'"
)
_DAY = f"case when {_POSSIBLE} then {{day}} end"
# Type -> the instant, and its local day.
_CURSORS = {
    "TIMESTAMP WITH TIME ZONE": ("x.{cursor}", "cast(x.{cursor} at time zone {zone} as date)"),
    "TIMESTAMP": ("(x.{cursor} at time zone {zone})", "cast(x.{cursor} as date)"),
    "DATE": ("(cast(x.{cursor} as timestamp) at time zone {zone})", "x.{cursor}"),
}
DAY_TYPES = {
    kind: _DAY.replace("{instant}", instant).replace("{day}", day)
    for kind, (instant, day) in _CURSORS.items()
}


def packaged_extension(name: str) -> Path:
    """Return the file of a DuckDB extension that is installed as a Python package."""
    package = import_module(f"duckdb_extension_{name}")
    return next(Path(str(package.__file__)).parent.rglob("*.duckdb_extension"))


def may_write(variable: str, place: str, rights: str, statements: str) -> UsageError:
    """Return the error about a login that has more rights than reading.

    Args:
        variable: where its connection string is.
        place: the database.
        rights: what it may do, such as "is a superuser".
        statements: SQL that makes a login that may only read.
    """
    return UsageError(
        f"the login in {variable} for {place} {rights}; keepline reads a source only with a login that may"
        f" do nothing else. Make one, and put it into {variable}: {statements}"
    )


def rows_are_hidden(table: str) -> str:
    """Return what is wrong when a server's row security hides rows of a table from the login."""
    return (
        f"row security of the table {table} may hide rows from keepline's login, so that no count would"
        " be one of all rows. Let the login see all of them: ALTER ROLE keepline_reader BYPASSRLS"
    )
