"""PostgreSQL as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

import duckdb
import psycopg
from psycopg import ProgrammingError, conninfo

from keepline.errors import SourceUnavailableError, UsageError
from keepline.extract import database
from keepline.extract.database import (
    Database,
    may_write,
    packaged_extension,
    rows_are_hidden,
)
from keepline.extract.sql import literal, quoted

if TYPE_CHECKING:
    from keepline.extract.session import Session

TRANSACTION_TIMEOUT_SINCE = 170000
# What the login may do to the schemas that are read besides reading them.
WRITABLE: LiteralString = """
select distinct on (number) what from (
    select 1 as number, 'is a superuser' as what
    from pg_catalog.pg_roles where rolname = current_user and rolsuper
    union all
    select 2, format('may change the table %%I.%%I', n.nspname, c.relname)
    from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where lower(n.nspname) = any(%(schemas)s) and c.relkind in ('r', 'p', 'v', 'f', 'm')
        and (
            has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
            or has_any_column_privilege(c.oid, 'INSERT, UPDATE')
        )
    union all
    select 3, format('may create in the schema %%I', n.nspname)
    from pg_catalog.pg_namespace as n
    where lower(n.nspname) = any(%(schemas)s) and has_schema_privilege(n.oid, 'CREATE')
) as found order by number, what
"""
# Tables that are read and of which the login may not see every row.
HIDDEN: LiteralString = """
select format('%%I.%%I', n.nspname, c.relname)
from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where lower(n.nspname || '.' || c.relname) = any(%(tables)s) and c.relkind in ('r', 'p')
    and row_security_active(c.oid)
order by 1
"""


class Postgres(Database):
    """PostgreSQL; the server itself ends what takes too long, and says when it would hide rows."""

    sends_text = True
    schema = "public"

    def attach(self, session: Session, name: str, dsn: str) -> str:
        """Attach it read-only; see `Database.attach`."""
        variable = session.operator.connections[name].dsn_env
        try:
            parts = conninfo.conninfo_to_dict(dsn)
        except ProgrammingError:
            # The error's text would show the string, password and all.
            raise UsageError(f"{variable} is not a PostgreSQL connection string") from None
        place = f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)} (database {parts.get('dbname')})"
        own = {
            "application_name": "keepline",
            "connect_timeout": str(database.CONNECT_S),
            # A network that swallows packets is found out, too.
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "3",
            "tcp_user_timeout": "60000",
        }
        target = conninfo.make_conninfo(**{**own, **parts})  # type: ignore[arg-type]
        try:
            version = self._examine(session, name, target, variable, place)
        except psycopg.OperationalError as error:
            reason = str(error).strip().rsplit("failed: ", 1)[-1].splitlines()[0]
            raise SourceUnavailableError(
                f"the operator's database at {place}, from {variable}, cannot be reached: {reason}"
            ) from None
        options = f"{parts.get('options', '')} {self._options(session, version)}".strip()
        target = conninfo.make_conninfo(target, options=options)
        session.run(f"load {literal(packaged_extension('postgres_scanner'))}")
        for setting, value in (
            ("pg_connection_limit", database.CONNECTIONS),
            ("pg_pool_max_connections", database.CONNECTIONS),
            ("pg_pool_acquire_mode", "'wait'"),
            ("pg_pool_idle_timeout_millis", database.IDLE_S * 1000),
            # By ctid DuckDB reads in parallel, but the whole table however small the window is.
            ("pg_use_ctid_scan", "false"),
        ):
            session.run(f"set {setting} = {value}")
        try:
            session.run(f"attach {literal(target)} as {quoted(name)} (type postgres, read_only)")
        except duckdb.Error as error:
            reason = (
                str(error).rsplit("failed: ", 1)[-1].splitlines()[0]
                if "failed: " in str(error)
                else ""
            )
            raise SourceUnavailableError(
                f"the operator's database at {place}, from {variable}, cannot be reached: {reason}"
            ) from None
        return place

    def asked(self, name: str, sql: str) -> str:
        """Return the SELECT that has PostgreSQL run a statement."""
        return f"select * from postgres_query({literal(name)}, {literal(sql)})"

    def _examine(self, session: Session, name: str, target: str, variable: str, place: str) -> int:
        """Refuse a login that may write, and return the server's version.

        Raises:
            UsageError: the login may write.
            psycopg.OperationalError: the server cannot be reached.
        """
        named = [
            ((found.schema or self.schema).lower(), found.name.lower())
            for table in session.operator.tables
            for found in session.operator.tables_of(table)
            if found.connection.lower() == name.lower()
        ]
        # DuckDB finds a name whatever its case is.
        schemas = sorted({schema for schema, _ in named}) or [self.schema]
        tables = sorted({f"{schema}.{table}" for schema, table in named})
        with psycopg.connect(target, autocommit=True) as connection:
            version = connection.info.server_version
            found = connection.execute(WRITABLE, {"schemas": schemas}).fetchall()
            rights = " and ".join(str(row[0]) for row in found)
            hidden = connection.execute(HIDDEN, {"tables": tables}).fetchall()
        if rights:
            shown = ", ".join(
                schema if schema.isidentifier() else quoted(schema) for schema in schemas
            )
            raise may_write(
                variable,
                place,
                rights,
                "CREATE ROLE keepline_reader LOGIN PASSWORD '...' CONNECTION LIMIT 3; "
                f"GRANT USAGE ON SCHEMA {shown} TO keepline_reader; "
                f"GRANT SELECT ON ALL TABLES IN SCHEMA {shown} TO keepline_reader; "
                f"REVOKE CREATE ON SCHEMA {shown} FROM PUBLIC;",
            )
        if hidden:
            raise UsageError(f"{place}, from {variable}: {rows_are_hidden(str(hidden[0][0]))}")
        return version

    def _options(self, session: Session, version: int) -> str:
        whole = database.TIMEOUT_S * 1000
        options = {
            "TimeZone": session.settings.timezone,
            "default_transaction_read_only": "on",
            # Else a server would leave rows out, and count without them.
            "row_security": "off",
            # As the text protocol's reader expects it.
            "DateStyle": "ISO",
            # Two statements make a transaction: the rows and their count.
            "statement_timeout": whole if version >= TRANSACTION_TIMEOUT_SINCE else whole // 2,
            "lock_timeout": min(whole, 60_000),
            "idle_in_transaction_session_timeout": min(whole, 60_000),
        }
        if version >= TRANSACTION_TIMEOUT_SINCE:
            options["transaction_timeout"] = whole
        return " ".join(f"-c {name}={value}" for name, value in options.items())
