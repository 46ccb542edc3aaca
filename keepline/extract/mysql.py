"""MySQL and MariaDB as a source."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import duckdb

from keepline.errors import SourceUnavailableError, UsageError
from keepline.extract import database
from keepline.extract.database import Database, may_write, packaged_extension
from keepline.extract.sql import literal, quoted
from keepline.extract.statement import requoted

if TYPE_CHECKING:
    from keepline.extract.session import Session

PORT = 3306
WORD = re.compile(r"(\w+)\s*=\s*(\"(?:[^\"\\]|\\.)*\"|\S+)")
# Privileges that only read; every other one is refused.
READING = {
    *("USAGE", "SELECT", "SHOW VIEW", "SHOW DATABASES", "PROCESS"),
    *("REPLICATION CLIENT", "BINLOG MONITOR", "SLAVE MONITOR", "REPLICA MONITOR"),
}
# A login sees its own statements and may end them.
RUNNING = (
    "select id from information_schema.processlist where id <> connection_id() and command <> 'Sleep'"
    " and user = substring_index(current_user(), '@', 1)"
)
GRANT = re.compile(r"GRANT (?P<privileges>.+?) ON (?P<object>\S+) TO ", re.IGNORECASE)
SETTINGS = {
    "mysql_pool_size": database.CONNECTIONS,
    "mysql_pool_acquire_mode": "'wait'",
    "mysql_pool_connection_idle_timeout_millis": database.IDLE_S * 1000,
    # A TINYINT(1) may hold 5, which as a boolean would be 1.
    "mysql_tinyint1_as_boolean": "false",
    # MySQL's word for no date, '0000-00-00'; dates such as 2026-06-00 are counted, see `lost_dates`.
    "mysql_incomplete_dates_as_nulls": "true",
}


class MySQL(Database):
    """MySQL and MariaDB.

    Times come without a zone: DATETIME as it stands, TIMESTAMP in the zone of the connection, which is the
    operator's. A login cannot limit its own statements here, so keepline's own clock ends them by KILL.
    """

    nul_bytes = True
    one_snapshot = False

    def attach(self, session: Session, name: str, dsn: str) -> str:
        """Attach it read-only; see `Database.attach`."""
        variable = session.operator.connections[name].dsn_env
        place = _place(dsn)
        session.run(f"load {literal(packaged_extension('mysql_scanner'))}")
        for setting, value in SETTINGS.items():
            session.run(f"set {setting} = {value}")
        try:
            self._attach(session, name, dsn, variable, place)
        except duckdb.InvalidInputException:
            # The error's text shows a part of the string.
            raise UsageError(
                f"{variable} is not a MySQL connection string: "
                "host=... port=3306 user=... password=... database=..."
            ) from None
        except duckdb.Error as error:
            raise SourceUnavailableError(
                f"the operator's database at {place}, from {variable}, cannot be reached: {_reason(error)}"
            ) from None
        return place

    def stopper(self, session: Session, name: str) -> Callable[[], None]:
        """Return what kills the running statements of the login, which is keepline's own."""
        dsn = session.operator.environment(session.operator.connections[name].dsn_env)

        def kill() -> None:
            with contextlib.suppress(duckdb.Error), duckdb.connect() as other:
                other.execute(f"load {literal(packaged_extension('mysql_scanner'))}")
                # Not read-only for DuckDB, which else refuses the word; the login may only read.
                other.execute(f"attach {literal(dsn)} as source (type mysql)")
                running = other.execute(
                    f"from mysql_query('source', {literal(RUNNING)})"
                ).fetchall()
                for (number,) in running:
                    other.execute(f"call mysql_execute('source', 'kill {int(number)}')")

        return kill

    def instant(self, at: datetime) -> str:
        """No type of MySQL carries a zone."""
        return self.local(at)

    def own_words(self, name: str, sql: str) -> str | None:
        """MySQL quotes names otherwise."""
        return requoted(super().own_words(name, sql) or "", "`")

    def asked(self, name: str, sql: str) -> str:
        """Return the SELECT that has MySQL run a statement."""
        return f"select * from mysql_query({literal(name)}, {literal(sql)})"

    def local_day(self, cursor: str, cursor_type: str, zone: str) -> str | None:
        """Return the day; the connection is in the operator's zone already."""
        del zone
        possible = f"x.{cursor} >= '1899-12-31' and x.{cursor} <= '9999-12-31 23:59:59.999999'"
        day = f"case when {possible} then date(x.{cursor}) end"
        return day if cursor_type in ("TIMESTAMP", "DATE") else None

    def total(self, column: str) -> str:
        """Return the exact total as text."""
        return f"cast(sum(cast(x.{column} as decimal(65, 6))) as char)"

    def lost_dates(self, columns: Iterable[str]) -> str:
        """Count dates such as 2026-06-00, which a server that is not strict keeps."""
        parts = [
            f"coalesce(sum(x.{name} > 0 and (month(x.{name}) = 0 or dayofmonth(x.{name}) = 0)), 0)"
            for name in columns
        ]
        return f"cast({' + '.join(parts) or '0'} as signed)"

    # -- inside ----------------------------------------------------------------------------------

    def _attach(self, session: Session, name: str, dsn: str, variable: str, place: str) -> None:
        zone = session.settings.timezone
        for wanted in (zone, _offset(session)):
            if wanted is None:
                raise UsageError(
                    f"the server at {place} does not know the zone {zone}, whose clock is changed in summer: "
                    "load its time zones with mysql_tzinfo_to_sql"
                )
            session.run(f"set mysql_session_time_zone = {literal(wanted)}")
            try:
                session.run(f"attach {literal(dsn)} as {quoted(name)} (type mysql, read_only)")
                self._refuse_writing(session, name, variable, place)
                return
            except duckdb.Error as error:
                if "unknown or incorrect time zone" not in str(error).lower():
                    raise
                session.run(f"detach database if exists {quoted(name)}")

    def _refuse_writing(self, session: Session, name: str, variable: str, place: str) -> None:
        for (line,) in session.rows(self.asked(name, "show grants")):
            found = GRANT.match(str(line))
            if found is None:
                continue
            words = re.sub(r"\([^)]*\)", "", found["privileges"]).upper().split(",")
            more = sorted({word.strip() for word in words} - READING)
            if more:
                raise may_write(
                    variable,
                    place,
                    f"has {', '.join(more)} on {found['object']}",
                    "CREATE USER keepline_reader@'%' IDENTIFIED BY '...' WITH MAX_USER_CONNECTIONS 3; "
                    "GRANT SELECT ON shop.* TO keepline_reader@'%';",
                )


def _offset(session: Session) -> str | None:
    """The operator's distance from UTC when it is the same in winter and in summer, such as +08:00."""
    zone = session.settings.zone
    offsets = {datetime(2026, month, 1, tzinfo=zone).strftime("%z") for month in range(1, 13)}
    text = offsets.pop()
    return f"{text[:3]}:{text[3:]}" if not offsets else None


def _place(dsn: str) -> str:
    """The address without login and password."""
    if "://" in dsn:
        try:
            parts = urlsplit(dsn)
            host, port, name = parts.hostname, parts.port, parts.path.strip("/")
        except ValueError:
            host, port, name = None, None, ""
    else:
        words = {key.lower(): value.strip('"') for key, value in WORD.findall(dsn)}
        host, port = words.get("host"), words.get("port")
        name = words.get("database") or words.get("db") or ""
    return f"{host or 'localhost'}:{port or PORT} (database {name})"


def _reason(error: duckdb.Error) -> str:
    """What the server said, without the connection string in front of it."""
    return str(error).split("\n")[0].rsplit('": ', 1)[-1].split(". Attempted host")[0]
