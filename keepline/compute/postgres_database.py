"""The database of the PostgreSQL engine: where it is, how it is made, and how another takes its place."""

from __future__ import annotations

import psycopg
from psycopg import conninfo, sql
from psycopg.rows import TupleRow
from pydantic import SecretStr

from keepline import store
from keepline.errors import SourceUnavailableError, UsageError
from keepline.settings import Settings

# PostgreSQL's defaults are those of a server for many short queries: four megabytes for a sort. Compiling a
# query of two hundred columns takes longer than running it. And of the rows of a CTE that joins CTEs the
# planner knows nothing: it takes them for one, and loops over many thousands where hashing takes a second.
# What has no other way, such as a range, loops all the same.
PLANNING = "-c jit=off -c work_mem=128MB -c enable_nestloop=off"

Connection = psycopg.Connection[TupleRow]
# Ends of the names of databases that are there during a rebuild only.
APART, OLD = "_rebuild", "_old"


def dsn(settings: Settings) -> str:
    """Return the connection string of the compute database; it holds a password, so never print it.

    Without `KEEPLINE_COMPUTE_DSN` it is a database on the store's server, which is started if need be.
    """
    given = settings.compute_dsn.get_secret_value()
    own = given or conninfo.make_conninfo(
        store.dsn(settings), dbname=f"{settings.operator}_compute", options=""
    )
    options = conninfo.conninfo_to_dict(own).get("options") or ""
    return conninfo.make_conninfo(
        own,
        application_name=store.application_name(),
        # A session that a person forgot must not hold up a night for ever. What the connection string
        # says itself comes last, and counts.
        options=f"-c timezone=UTC -c lock_timeout={settings.lease_wait_s}s {PLANNING} {options}",
    )


def place(settings: Settings) -> str:
    """Return where the database is, for people."""
    parts = conninfo.conninfo_to_dict(dsn(settings))
    return f"PostgreSQL database {parts.get('dbname')} at {parts.get('host')}:{parts.get('port') or 5432}"


def connect_if_there(settings: Settings) -> Connection | None:
    """Open a connection in autocommit, or return None when there is no such database.

    Raises:
        SourceUnavailableError: the server cannot be reached or refuses the login.
    """
    return _connect(settings, dsn(settings))


def connect(settings: Settings) -> Connection:
    """Open a connection in autocommit; the database is made when it is missing.

    Raises:
        SourceUnavailableError: the server cannot be reached or refuses the login.
        UsageError: the database is missing and the login may not make it.
    """
    connection = connect_if_there(settings)
    if connection is not None:
        return connection
    with _server(settings) as server:
        _make(server, _name(settings))
    made = connect_if_there(settings)
    if made is None:
        raise SourceUnavailableError(f"{place(settings)} was dropped as soon as it was made")
    return made


def ensure(settings: Settings) -> None:
    """Make the database when it is missing; see `connect`."""
    connect(settings).close()


def apart(settings: Settings, others: Settings) -> Settings:
    """Make an empty database beside the compute database; return `others`, pointing to it."""
    drop_apart(settings)
    name = _name(settings) + APART
    with _server(settings) as server:
        _make(server, name)
    target = conninfo.make_conninfo(_given(settings), dbname=name)
    return others.model_copy(update={"compute_dsn": SecretStr(target)})


def swap(settings: Settings, new: Settings) -> None:
    """Give the new database the name of the compute database, in one transaction; the old one goes."""
    name, new_name = _name(settings), _name(new)
    with _server(settings) as server:
        for each in (name, new_name):
            server.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s",
                [each],
            )
        with server.transaction():
            if _is_there(server, name):
                _rename(server, name, name + OLD)
            _rename(server, new_name, name)
    drop_apart(settings)


def drop_apart(settings: Settings) -> None:
    """Drop what a rebuild left, finished or killed."""
    name = _name(settings)
    with _server(settings) as server:
        for each in (name + APART, name + OLD):
            server.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(each))
            )


# -- inside ----------------------------------------------------------------------------------------


def _given(settings: Settings) -> str:
    """The connection string as a setting would have it: without what `dsn` adds to a session."""
    return settings.compute_dsn.get_secret_value() or conninfo.make_conninfo(
        dsn(settings), options="", application_name=""
    )


def _name(settings: Settings) -> str:
    return str(conninfo.conninfo_to_dict(dsn(settings)).get("dbname"))


def _connect(settings: Settings, target: str) -> Connection | None:
    try:
        return psycopg.connect(target, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        # libpq gives no SQLSTATE for a connection that was refused.
        if f'database "{_name(settings)}" does not exist' in str(error):
            return None
        raise SourceUnavailableError(
            f"{place(settings)} cannot be reached: {str(error).strip().splitlines()[0]}"
        ) from None


def _server(settings: Settings) -> Connection:
    """Connect to the server's own database, from which others are made, renamed and dropped."""
    target = conninfo.make_conninfo(dsn(settings), dbname="postgres")
    connection = _connect(settings, target)
    if connection is None:
        raise SourceUnavailableError(f"the server of {place(settings)} has no database postgres")
    return connection


def _make(server: Connection, name: str) -> None:
    try:
        server.execute(
            sql.SQL("create database {} template template0 encoding 'UTF8'").format(
                sql.Identifier(name)
            )
        )
        # Readers have no business there, not even with locks and temporary tables.
        server.execute(
            sql.SQL("revoke all on database {} from public").format(sql.Identifier(name))
        )
    except psycopg.errors.DuplicateDatabase:
        return
    except psycopg.errors.InsufficientPrivilege:
        login = server.info.user
        raise UsageError(
            f"there is no database {name}, and {login} may not make it: as an administrator, `create "
            f'database "{name}" owner "{login}"`, or `alter role "{login}" createdb`, which '
            "`keepline rebuild` needs, too"
        ) from None


def _is_there(server: Connection, name: str) -> bool:
    found = server.execute("select 1 from pg_database where datname = %s", [name])
    return found.fetchone() is not None


def _rename(server: Connection, old: str, new: str) -> None:
    server.execute(
        sql.SQL("alter database {} rename to {}").format(sql.Identifier(old), sql.Identifier(new))
    )
