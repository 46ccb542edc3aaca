"""Connections to the store: the PostgreSQL that holds releases, the vault and the control tables."""

from __future__ import annotations

import os
import re
import socket
from functools import cache
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import conninfo
from psycopg.rows import TupleRow

from keepline import home
from keepline.embedded import EmbeddedPostgres
from keepline.errors import SourceUnavailableError, UsageError
from keepline.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

READERS = ("bi_reader", "marketing")
# What the server or its client says when a connection ends before the work does.
LOST = re.compile(
    r"server closed the connection|terminating connection|connection .*(closed|failed|refused|lost)"
    r"|could not (receive|send|connect)|no connection to the server|ssl syscall|consuming input failed"
    r"|starting up|shutting down|recovery mode",
    re.IGNORECASE,
)
# Classes of SQLSTATE: connection exceptions; the server shuts down, crashed or is not up yet.
LOST_STATES = ("08", "57P")
LOCK_STATE = "55P03"


def embedded(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded server of these settings, started or not."""
    return EmbeddedPostgres(
        settings.home, settings.store_password.get_secret_value(), settings.store_port
    )


def start_embedded(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded server of these settings, started; made, too, in a home that holds no rows.

    Raises:
        UsageError: rows have landed, but their server is not there.
        SourceUnavailableError: it does not start.
    """
    server = embedded(settings)
    if not server.is_made() and any(settings.landing_dir.glob("*/*=*")):
        raise UsageError(
            f"rows have landed in {settings.landing_dir}, but {server.folder} holds no server, and an empty "
            "one would not fit them. If the home was moved: move it back, run `keepline status`, then move "
            "it again. Else put that folder back from the backup, or begin anew: `keepline clean --yes`"
        )
    server.start()
    return server


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
    if login is not None and login not in READERS:
        raise UsageError(f"no reader {login!r}: choose one of {', '.join(READERS)}")
    own = settings.store_dsn.get_secret_value() or _embedded_dsn(settings)
    own = conninfo.make_conninfo(
        own,
        application_name=application_name(),
        # A session that a person forgot must not hold up a night for ever.
        options=f"-c timezone=UTC -c lock_timeout={settings.lease_wait_s}s",
    )
    if login is None:
        return own
    password = getattr(settings, f"{login}_password").get_secret_value()
    return conninfo.make_conninfo(own, user=login, password=password)


def is_embedded(settings: Settings) -> bool:
    """Tell whether the store is on the embedded server, where all is keepline's own."""
    return not settings.store_dsn.get_secret_value()


def connect_to_logins(settings: Settings) -> psycopg.Connection[TupleRow]:
    """Open a connection in autocommit to where the readers' logins are written down; see `watchdog`.

    Raises:
        SourceUnavailableError: the server cannot be reached.
    """
    if not is_embedded(settings):
        return connect(settings, autocommit=True)
    _embedded_dsn(settings)
    try:
        return psycopg.connect(embedded(settings).dsn("postgres"), autocommit=True)
    except psycopg.OperationalError as error:
        raise SourceUnavailableError(
            f"the embedded server cannot be reached: {_first_line(error)}"
        ) from None


def application_name() -> str:
    """Return what this process is called in `pg_stat_activity`, which also finds it from elsewhere."""
    return f"keepline {os.getpid()}@{socket.gethostname()}"[:63]


@cache
def _embedded_dsn(settings: Settings) -> str:
    """Start the embedded server, once per process: asking it each time costs two processes."""
    server = start_embedded(settings)
    server.ensure_database(settings.store_database)
    server.watch()
    return server.dsn(settings.store_database)


def connect(
    settings: Settings,
    login: str | None = None,
    *,
    autocommit: bool = False,
    confirmed: bool = True,
) -> psycopg.Connection[TupleRow]:
    """Open a connection to the store; see `dsn` for the other arguments.

    Args:
        settings: where the store is.
        login: a reader's login, or None for the pipeline's own.
        autocommit: each statement is a transaction.
        confirmed: look whether the store is this home's own, filled under its keys; readers may not look.

    Raises:
        SourceUnavailableError: the server cannot be reached or refuses the login.
        UsageError: the store belongs to another home or other keys.
    """
    target = dsn(settings, login)
    try:
        connection = psycopg.connect(target, autocommit=autocommit, connect_timeout=10)
        if confirmed and login is None:
            try:
                home.confirm(connection, settings)
                # The caller's transaction begins with the caller's first statement.
                connection.rollback()
            except BaseException:
                connection.close()
                raise
        return connection
    except psycopg.OperationalError as error:
        parts = conninfo.conninfo_to_dict(target)
        raise SourceUnavailableError(
            f"the store at {parts.get('host')}:{parts.get('port')} (database {parts.get('dbname')}, "
            f"login {parts.get('user')}) cannot be reached: {_first_line(error)}. When it is back (or its "
            "address is put right), run the same command again"
        ) from None


def lost(error: BaseException) -> SourceUnavailableError | None:
    """Return what to tell a person when an error says that the store is lost or locked, else None.

    Args:
        error: of psycopg, or of psycopg2, which Great Expectations uses.
    """
    if not type(error).__module__.startswith("psycopg"):
        return None
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state == LOCK_STATE:
        return locked()
    is_lost = state.startswith(LOST_STATES) if state else LOST.search(str(error))
    if not is_lost:
        return None
    return SourceUnavailableError(
        "the connection to the store was lost. What was not committed is undone, readers keep a whole "
        "release, and running the same command again is safe"
    )


def locked() -> SourceUnavailableError:
    """Return what to tell a person when a lock was waited for in vain."""
    return SourceUnavailableError(
        "another session of the store holds a lock that this run needs: `select * from pg_stat_activity"
        " where state like 'idle in transaction%'` shows whose it may be. End it, then run again"
    )


def url(settings: Settings, login: str | None = None) -> URL:
    """Return the store's address as SQLAlchemy's URL, for Great Expectations."""
    from sqlalchemy.engine import URL  # half of what every command would import

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
