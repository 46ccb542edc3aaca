"""Connections to the store: the PostgreSQL that holds releases, the vault and the control tables."""

from __future__ import annotations

from functools import cache
from typing import LiteralString

import psycopg
from psycopg import conninfo
from psycopg.rows import TupleRow
from sqlalchemy.engine import URL

from keepline.embedded import EmbeddedPostgres
from keepline.errors import SourceUnavailableError, UsageError
from keepline.settings import Settings

READERS = ("bi_reader", "marketing")


def embedded(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded server of these settings, started or not."""
    return EmbeddedPostgres(
        settings.home, settings.store_password.get_secret_value(), settings.store_port
    )


def dsn(settings: Settings, login: str | None = None) -> str:
    """Return the store's connection string; it holds a password, so never print it.

    The embedded server is started and the operator's database created when they are not there.

    Args:
        settings: where the store is.
        login: a reader's login (`bi_reader`, `marketing`); None is the pipeline's own.

    Raises:
        SourceUnavailableError: the embedded server does not start.
        UsageError: the login has no password here.
    """
    own = settings.store_dsn.get_secret_value() or _embedded_dsn(settings)
    if login is None:
        return own
    if login not in READERS:
        raise UsageError(f"no reader {login!r}: choose one of {', '.join(READERS)}")
    password = getattr(settings, f"{login}_password").get_secret_value()
    return conninfo.make_conninfo(own, user=login, password=password)


@cache
def _embedded_dsn(settings: Settings) -> str:
    """Start the embedded server, once per process: asking it each time costs two processes."""
    server = embedded(settings)
    server.start()
    server.ensure_database(settings.store_database)
    return server.dsn(settings.store_database)


def connect(
    settings: Settings, login: str | None = None, *, autocommit: bool = False
) -> psycopg.Connection[TupleRow]:
    """Open a connection to the store; see `dsn` for the arguments.

    Raises:
        SourceUnavailableError: the server cannot be reached or refuses the login.
    """
    target = dsn(settings, login)
    try:
        return psycopg.connect(
            target,
            autocommit=autocommit,
            connect_timeout=10,
            application_name="keepline",
            options="-c timezone=UTC",
        )
    except psycopg.OperationalError as error:
        parts = conninfo.conninfo_to_dict(target)
        raise SourceUnavailableError(
            f"the store at {parts.get('host')}:{parts.get('port')} (database {parts.get('dbname')}, "
            f"login {parts.get('user')}) cannot be reached: {_first_line(error)}"
        ) from None


def url(settings: Settings, login: str | None = None) -> URL:
    """Return the store's address as SQLAlchemy's URL, for Great Expectations."""
    parts = conninfo.conninfo_to_dict(dsn(settings, login))
    return URL.create(
        "postgresql+psycopg2",
        username=str(parts["user"]),
        password=str(parts.get("password", "")),
        host=str(parts["host"]),
        port=int(parts.get("port") or 5432),
        database=str(parts["dbname"]),
    )


def scalar(connection: psycopg.Connection[TupleRow], query: LiteralString) -> object:
    """Return the first value of the first row of a query, or None without rows."""
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
