"""What PostgreSQL lets a reader's login change for itself is put back, and told, within ten seconds.

No right keeps a login from a new password or from `alter role ... set statement_timeout = 0` for itself,
nor a session from `set statement_timeout = 0`. So somebody looks, every few seconds, for as long as there is
something to hold up: beside the embedded server a process that ends with it, `python -m keepline.watchdog`;
on an operator's own PostgreSQL `keepline watch`, and where that does not run each stage that writes, in a
thread. How much `work_mem` a session has set,
nobody else can see: `statement_timeout` bounds how long it has it.

This module imports little: the process is started by the first command and stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from keepline.errors import SourceUnavailableError

EVERY_S = 2.0
# The server ends a statement by itself; what goes on after this much more has switched that off.
GRACE_S = 4
NAME = "keepline watchdog"
# In the database `postgres` of the embedded server, as logins belong to the server; else in the store.
TABLES = """
create schema if not exists watchdog;
create table if not exists watchdog.reader (
    role_name text primary key,
    settings jsonb not null,
    -- What the server keeps instead of the password; null where the password is not keepline's to set.
    verifier text
);
create table if not exists watchdog.incident (
    incident_id bigint generated always as identity primary key,
    role_name text not null,
    what text not null,
    is_mended boolean not null,
    noticed_at timestamptz not null default now()
)
"""
# The one setting of `roles.yml` that no login may change for itself.
SUPERUSERS = "temp_file_limit"
# What may not be mended is told once in an hour.
REPEAT_AFTER_S = 3600
# What the process takes from its starter's environment: where Python is, and no key.
VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "VIRTUAL_ENV")
START_WITHIN_S = 30

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Incident:
    """What a reader changed for itself.

    Attributes:
        role_name: the login.
        what: in words, without a value.
        is_mended: it was put back; else this login may not.
        noticed_at: when it was seen.
    """

    role_name: str
    what: str
    is_mended: bool
    noticed_at: datetime

    def __str__(self) -> str:
        done = "put right" if self.is_mended else "not put right: the store's login may not"
        return f"the login {self.role_name} {self.what} ({done})"


def remember(
    connection: Connection, role_name: str, settings: Mapping[str, str], verifier: str | None
) -> None:
    """Write down how a reader's login shall be; `look` compares with it from the commit on."""
    connection.execute(
        "insert into watchdog.reader values (%s, %s, %s) on conflict (role_name) do update set"
        " settings = excluded.settings, verifier = excluded.verifier",
        [role_name, json.dumps(settings), verifier],
    )


def apply(connection: Connection, role_name: str, settings: Mapping[str, str]) -> None:
    """Give a login these settings, and none besides that it could have given itself."""
    role = sql.Identifier(role_name)
    for (option,) in connection.execute(
        f"select distinct o.name {_OWN} where a.rolname = %s and o.name <> all(%s)",
        [role_name, list(settings)],
    ).fetchall():
        connection.execute(sql.SQL("alter role {} reset {}").format(role, sql.Identifier(option)))
    for option, value in settings.items():
        parts = sql.SQL(", ").join(sql.Literal(part) for part in value.split(", "))
        connection.execute(
            sql.SQL("alter role {} set {} = {}").format(role, sql.Identifier(option), parts)
        )


def look(connection: Connection, *, everywhere: bool) -> list[Incident]:
    """Put right what the readers' logins changed for themselves, once, and write down what that was.

    Args:
        connection: in autocommit, of the store's own login, to where `TABLES` are.
        everywhere: all databases of the server are keepline's, not this one alone.
    """
    known = connection.execute("select to_regclass('watchdog.reader') is not null").fetchone()
    if known != (True,):
        return []
    found = [*_settings(connection, everywhere), *_passwords(connection), *_sessions(connection)]
    for one in found:
        connection.execute(
            "insert into watchdog.incident (role_name, what, is_mended) select %(role)s, %(what)s, %(mended)s"
            " where %(mended)s or not exists (select from watchdog.incident where role_name = %(role)s"
            " and what = %(what)s and noticed_at > now() - make_interval(secs => %(again)s))",
            {
                "role": one.role_name,
                "what": one.what,
                "mended": one.is_mended,
                "again": REPEAT_AFTER_S,
            },
        )
    return found


def incidents(connection: Connection, days: int) -> list[Incident]:
    """Return what was found in the last days, the newest first."""
    known = connection.execute("select to_regclass('watchdog.incident') is not null").fetchone()
    if known != (True,):
        return []
    rows = connection.execute(
        "select role_name, what, is_mended, noticed_at from watchdog.incident"
        " where noticed_at > now() - make_interval(days => %s) order by incident_id desc",
        [days],
    ).fetchall()
    return [Incident(*row) for row in rows]


@contextlib.contextmanager
def watching(connect: Callable[[], Connection]) -> Iterator[None]:
    """Look every few seconds for the length of a `with` block, in a thread; it never stops the block.

    Args:
        connect: opens a connection as `look` needs it.
    """
    ended = threading.Event()

    def rounds() -> None:
        while not ended.is_set():
            # Whatever is wrong with the store, the stage itself says.
            with contextlib.suppress(Exception), connect() as connection:
                while not ended.is_set():
                    if not _others(connection):
                        look(connection, everywhere=False)
                    ended.wait(EVERY_S)
            ended.wait(EVERY_S)

    thread = threading.Thread(target=rounds, name=NAME, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=GRACE_S)


def watch(connect: Callable[[], Connection], say: Callable[[str], None]) -> bool:
    """Look until the process ends; a store that is away is waited for.

    Args:
        connect: opens a connection as `look` needs it.
        say: is told what was found, what cannot be mended once in an hour.

    Returns:
        False, at once: another process looks already.
    """
    is_away = False
    told: dict[str, float] = {}
    while True:
        with contextlib.suppress(psycopg.Error, SourceUnavailableError), connect() as connection:
            connection.execute(
                "select set_config('application_name', %s, false)", [f"{NAME} {os.getpid()}"]
            )
            if _others(connection):
                return False
            if is_away:
                say("the store is back")
            is_away = False
            while True:
                for one in look(connection, everywhere=False):
                    if one.is_mended or time.monotonic() > told.get(str(one), 0):
                        told[str(one)] = time.monotonic() + REPEAT_AFTER_S
                        say(str(one))
                time.sleep(EVERY_S)
        if not is_away:
            say(f"the store cannot be looked at: tried again every {EVERY_S:.0f} s")
        is_away = True
        time.sleep(EVERY_S)


def start_beside(dsn: str, server_pid: int, log: Path) -> None:
    """See to it that a process watches the embedded server until it ends.

    Args:
        dsn: of its database `postgres`, as its administrator.
        server_pid: the server's first process.
        log: file that the process writes to.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        if _others(connection):
            return
    package = str(Path(__file__).resolve().parents[1])
    kept = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    # A machine that has no room for one more process has other worries, and `doctor` says that none is there.
    with (
        contextlib.suppress(OSError, subprocess.SubprocessError),
        log.open("a", encoding="utf-8") as output,
    ):
        subprocess.run(
            [sys.executable, "-m", "keepline.watchdog"],
            # Not as an argument: everybody may read those.
            input=json.dumps({"dsn": dsn, "server_pid": server_pid}),
            text=True,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**kept, "PYTHONPATH": package},
            start_new_session=True,
            timeout=START_WITHIN_S,
            check=False,
        )


def is_watched(connection: Connection) -> bool:
    """Tell whether a process watches the server."""
    return _others(connection)


# -- inside --------------------------------------------------------------------------------------


# The settings of each login, for all databases, that it may change for itself.
_OWN: LiteralString = """
    from pg_roles as a
    inner join pg_db_role_setting as s on s.setrole = a.oid and s.setdatabase = 0
    cross join lateral unnest(s.setconfig) as c
    cross join lateral (select split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)) as o (name, value)
    inner join pg_settings as p on p.name = o.name and p.context in ('user', 'backend')
"""


def _settings(connection: Connection, everywhere: bool) -> list[Incident]:
    """Put back settings of a login."""
    found_settings: dict[str, dict[str, str]] = defaultdict(dict)
    for role_name, option, value in connection.execute(
        f"select a.rolname, o.name, o.value {_OWN}"
    ).fetchall():
        found_settings[role_name][option] = value
    rows = connection.execute(
        "select r.role_name, r.settings, array(select d.datname from pg_db_role_setting as s"
        " inner join pg_database as d on d.oid = s.setdatabase where s.setrole = a.oid"
        " and (%s or d.datname = current_database()))"
        " from watchdog.reader as r inner join pg_roles as a on a.rolname = r.role_name order by 1",
        [everywhere],
    ).fetchall()
    found = []
    for role_name, settings, databases in rows:
        wanted = {name: value for name, value in settings.items() if name != SUPERUSERS}
        if found_settings[role_name] == wanted and not databases:
            continue
        is_mended = True
        try:
            with connection.transaction():
                for database in databases:
                    connection.execute(
                        sql.SQL("alter role {} in database {} reset all").format(
                            sql.Identifier(role_name), sql.Identifier(database)
                        )
                    )
                apply(connection, role_name, settings)
        except psycopg.errors.InsufficientPrivilege:
            is_mended = False
        found.append(Incident(role_name, "changed its own settings", is_mended, datetime.now(UTC)))
    return found


def _passwords(connection: Connection) -> list[Incident]:
    """Put back passwords, where the login may see what the server keeps of them."""
    may = connection.execute("select has_table_privilege('pg_authid', 'select')").fetchone()
    if may != (True,):
        return []
    rows = connection.execute(
        "select r.role_name, r.verifier from watchdog.reader as r inner join pg_authid as a"
        " on a.rolname = r.role_name where r.verifier is distinct from a.rolpassword"
        " and r.verifier is not null order by 1"
    ).fetchall()
    for role_name, verifier in rows:
        connection.execute(
            sql.SQL("alter role {} password {}").format(
                sql.Identifier(role_name), sql.Literal(verifier)
            )
        )
    now = datetime.now(UTC)
    return [Incident(role_name, "changed its own password", True, now) for role_name, _ in rows]


def _sessions(connection: Connection) -> list[Incident]:
    """End sessions that go on for longer than the limits that their login has been given."""
    rows = connection.execute(
        """
        select a.pid, r.role_name from pg_stat_activity as a
        inner join watchdog.reader as r on r.role_name = a.usename
        where a.state = 'active'
            and clock_timestamp() - a.query_start
                > (r.settings ->> 'statement_timeout')::interval + make_interval(secs => %(grace)s)
            or a.state like 'idle in transaction%%'
            and clock_timestamp() - a.state_change
                > (r.settings ->> 'idle_in_transaction_session_timeout')::interval
                + make_interval(secs => %(grace)s)
            -- Short queries one after the other would hold what a migration changes for ever.
            or clock_timestamp() - a.xact_start
                > (r.settings ->> 'statement_timeout')::interval
                + (r.settings ->> 'idle_in_transaction_session_timeout')::interval
                + make_interval(secs => %(grace)s)
        order by 1
        """,
        {"grace": GRACE_S},
    ).fetchall()
    found = []
    for pid, role_name in rows:
        is_mended = True
        try:
            connection.execute("select pg_terminate_backend(%s)", [pid])
        except psycopg.errors.InsufficientPrivilege:
            is_mended = False
        what = "had a session that went on beyond its time limit"
        found.append(Incident(role_name, what, is_mended, datetime.now(UTC)))
    return found


def _others(connection: Connection) -> bool:
    """Tell whether another connection is a watchdog's; a reader may call itself so, but has another login."""
    row = connection.execute(
        "select exists (select from pg_stat_activity as a where starts_with(a.application_name, %s)"
        " and a.datname = current_database() and a.usename = current_user"
        " and a.pid <> pg_backend_pid() and a.backend_start <= coalesce("
        "  (select m.backend_start from pg_stat_activity as m where m.pid = pg_backend_pid()), now()))",
        [NAME],
    ).fetchone()
    return row == (True,)


def _watch(dsn: str, server_pid: int) -> None:
    """Look until the server has ended; one that crashed and comes up again is watched on."""
    while True:
        try:
            with psycopg.connect(
                dsn,
                autocommit=True,
                connect_timeout=5,
                application_name=f"{NAME} {os.getpid()}",
            ) as connection:
                if _others(connection):
                    return
                while True:
                    for one in look(connection, everywhere=True):
                        _say(str(one))
                    # A server that ends says so on the line.
                    if select.select([connection.fileno()], [], [], EVERY_S)[0]:
                        connection.execute("select 1")
        except psycopg.OperationalError:
            pass
        except psycopg.Error as error:  # a full disk: looked again later
            _say(f"could not look: {error.sqlstate}")
            time.sleep(EVERY_S)
        time.sleep(0.1)
        if not _is_alive(server_pid):
            return


def _say(text: str) -> None:
    sys.stdout.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")
    sys.stdout.flush()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def main() -> None:
    """Begin to watch, and let the process that started it go on."""
    said = json.load(sys.stdin)
    if os.fork() > 0:
        os._exit(0)
    _watch(said["dsn"], said["server_pid"])


if __name__ == "__main__":
    main()
