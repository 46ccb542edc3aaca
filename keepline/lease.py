"""One writer per operator: a lease with a fencing token.

Whoever writes holds a lock of the store's; the others wait and say for whom. The lock hangs on a
connection, so that a run that dies loses it at once. A run that only stands still (a suspended machine,
a network that comes back) may lose it too without knowing: that is what the token is for. Each new holder
raises it, and nothing is committed under an older one: transactions of the store look at it with `fence`,
files are changed inside `committing`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

import psycopg

from keepline import home, store
from keepline.errors import FencedError, SourceUnavailableError
from keepline.ops import Connection
from keepline.progress import err
from keepline.settings import Settings

# A lock of the lease's own table, on which no reader has a right: an advisory lock anybody may take. Of the
# modes that exclude themselves it is the one beside which rows of the table can be read and changed.
LOCK_MODE = "ShareUpdateExclusiveLock"  # as `pg_locks` writes it
LOCK: LiteralString = "lock table ops.lease in share update exclusive mode"
# Here and not in ops.sql: the first `migrate` holds the lease, too.
TABLE = """
create schema if not exists ops;
create table if not exists ops.lease (
    one boolean primary key default true check (one),
    token bigint not null,
    verb text not null,
    window_text text not null,
    host text not null,
    pid integer not null,
    application_name text not null,
    since_at timestamptz not null,
    is_held boolean not null
)
"""
# A lost machine sends no goodbye: the server asks after 30 s and frees the lock a minute later. A lock of a
# table lasts as long as its transaction, which nothing may end but us (`transaction_timeout` is of 17).
CONNECTION = """
set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3;
set tcp_user_timeout = '60s';
select set_config(name, '0', false) from pg_settings where name in
    ('idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
"""
SAY_AGAIN_S = 60.0
STEP_S = 0.2


@dataclass(frozen=True)
class Holder:
    """Who holds the lease.

    Attributes:
        verb: what it runs, such as `extract`.
        window_text: for which business days; empty when the verb has none.
        host: machine (or container) that it runs on.
        pid: its process there.
        since_at: when it took the lease.
        is_alive: its lock is there; one that was killed has none.
    """

    verb: str
    window_text: str
    host: str
    pid: int
    since_at: datetime
    is_alive: bool

    def told(self, settings: Settings) -> str:
        """Return who that is in words, the time in the operator's zone."""
        since = self.since_at.astimezone(settings.zone)
        what = f"{self.verb} {self.window_text}".strip()
        return f"`{what}` (process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M:%S})"


@contextlib.contextmanager
def hold(settings: Settings, verb: str, window_text: str = "") -> Iterator[None]:
    """Be the operator's one writer for the length of a `with` block; inside another one, go on.

    Args:
        settings: the operator's store, and how long to wait for another writer.
        verb: what to tell those who wait.
        window_text: for which business days, for the same purpose.

    Raises:
        SourceUnavailableError: another run held it for longer than `lease_wait_s`.
        FencedError: another run took over meanwhile.
    """
    global _lease
    if _lease is not None:
        yield
        return
    lease = _Lease(settings, verb, window_text)
    lease.take()
    _lease = lease
    try:
        yield
    except FencedError:
        raise
    except Exception as error:
        # Whatever a run stumbles over after another one took over: that is the reason.
        if fenced := lease.lost():
            raise fenced from error
        raise
    finally:
        _lease = None
        lease.give_back()


@contextlib.contextmanager
def hold_all(every: Sequence[Settings], verb: str) -> Iterator[None]:
    """Hold the leases of several operators at once, to throw away what they have.

    Whose the stores are, and which keys they were filled under, is not asked: that may be why.

    Raises:
        SourceUnavailableError: a run is at work, and did not end within `lease_wait_s`.
    """
    with contextlib.ExitStack() as held:
        for settings in every:
            lease = _Lease(settings, verb, "", confirmed=False)
            lease.take()
            held.callback(lease.give_back)
        yield


def confirm() -> None:
    """Go on only if no other run has taken over.

    Without a lease, as in a program that calls a stage itself, there is nothing to confirm.

    Raises:
        FencedError: another run has.
        SourceUnavailableError: the store cannot be asked.
    """
    if _lease is not None:
        _lease.confirm()


def fence(connection: Connection) -> None:
    """Let this transaction of the store commit only before another run takes over; see `confirm`."""
    if _lease is not None:
        _lease.check(connection.execute("select token from ops.lease for share").fetchone())


@contextlib.contextmanager
def committing() -> Iterator[None]:
    """Change files of the operator's home, or what compute holds, in a `with` block; see `confirm`.

    No other run takes over before its end, not even from a process that stands still in it.
    """
    if _lease is None or _lease.is_committing:
        yield
        return
    with _lease.files():
        _lease.confirm()
        yield


def holder(connection: Connection) -> Holder | None:
    """Return who took the lease last and has not given it back."""
    if store.scalar(connection, "select to_regclass('ops.lease')") is None:
        return None
    row = connection.execute(
        """
        select verb, window_text, host, pid, since_at, exists (
            select from pg_locks as k inner join pg_stat_activity as a on a.pid = k.pid
            where k.relation = 'ops.lease'::regclass and k.mode = %s and k.granted
                and a.datname = current_database() and a.application_name = l.application_name
        )
        from ops.lease as l where is_held
        """,
        [LOCK_MODE],
    ).fetchone()
    return Holder(*row) if row else None


# -- inside --------------------------------------------------------------------------------------


class _Lease:
    """The lease of this process, before, while and after it is held."""

    def __init__(
        self, settings: Settings, verb: str, window_text: str, *, confirmed: bool = True
    ) -> None:
        self.is_committing = False
        self._confirmed = confirmed
        self._settings = settings
        self._verb, self._window_text = verb, window_text
        self._token = 0
        self._connection = self._connect()

    def take(self) -> None:
        """Wait for the lock, then raise the token, so that whoever had it before commits no more."""
        deadline = time.monotonic() + self._settings.lease_wait_s
        try:
            # What others shall see at once is committed beside the transaction that holds the lock.
            with self._connect(autocommit=True) as beside:
                _make_table(beside)
                self._wait_for_lock(deadline)
                if self._confirmed:
                    home.register(beside, self._settings)
                before = holder(beside)
                self._end_what_is_left()
                stuck = (
                    f"{before.told(self._settings)} stands still" if before else "another run is"
                )
                with self.files(deadline, f"{stuck} in the middle of a change"):
                    self._raise_token(beside, deadline)
            _limit(self._connection, self._settings.lease_wait_s)
        except BaseException:
            self._connection.close()
            raise

    def confirm(self) -> None:
        query = "select token from ops.lease"
        try:
            row = self._connection.execute(query).fetchone()
        except psycopg.OperationalError:
            # The server was started again, or the line broke. While the token is ours, nobody came
            # between; the lock is taken again so that others wait.
            self._connection = self._connect()
            self._has_lock(0)
            row = self._connection.execute(query).fetchone()
        self.check(row)

    def lost(self) -> FencedError | None:
        """Return what to tell a person if another run has taken over, as far as that can be asked."""
        try:
            self.confirm()
        except FencedError as fenced:
            return fenced
        except (SourceUnavailableError, psycopg.Error):
            return None
        return None

    def check(self, row: tuple[object, ...] | None) -> None:
        if row is not None and row[0] == self._token:
            return
        with store.connect(self._settings) as connection:
            other = holder(connection)
        by = other.told(self._settings) if other else "another run, which is over"
        raise FencedError(
            f"this `{self._what}` lost its lease while it stood still, to {by}: what it had not "
            "committed by then it leaves undone. Running it again is safe"
        )

    @contextlib.contextmanager
    def files(self, deadline: float = float("inf"), stuck: str = "") -> Iterator[None]:
        """Hold the lock file under which files are changed.

        The system frees it when the process ends, and not before: a run that stands still in the
        middle of a change must be ended, or wake up, before another one takes over.
        """
        self._settings.operator_home.mkdir(parents=True, exist_ok=True)
        with (self._settings.operator_home / "lease.lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._give_up(deadline, stuck)
                    time.sleep(STEP_S)
            self.is_committing = True
            try:
                yield
            finally:
                self.is_committing = False

    def give_back(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._connection.execute(
                "update ops.lease set is_held = false where token = %s", [self._token]
            )
            self._connection.commit()
        self._connection.close()

    @property
    def _what(self) -> str:
        return f"{self._verb} {self._window_text}".strip()

    def _connect(self, *, autocommit: bool = False) -> Connection:
        connection = store.connect(self._settings, autocommit=True, confirmed=self._confirmed)
        connection.execute(CONNECTION)
        connection.autocommit = autocommit
        # Else a database that prefers another level would show the token of the beginning for ever.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    def _wait_for_lock(self, deadline: float) -> None:
        wait_s = 0.01  # the first look
        while not self._has_lock(wait_s):
            other = holder(self._connection)
            self._connection.rollback()
            who = other.told(self._settings) if other else "another run"
            left = self._give_up(deadline, f"{who} is at work")
            err.print(f"{self._verb:<9} waits for {who}, at most {left:.0f} s more", markup=False)
            wait_s = min(SAY_AGAIN_S, left)

    def _has_lock(self, wait_s: float) -> bool:
        """Begin the transaction that holds the lock, if it can be had."""
        try:
            _limit(self._connection, wait_s)
            self._connection.execute(LOCK)
        except psycopg.errors.LockNotAvailable:
            self._connection.rollback()
            return False
        return True

    def _give_up(self, deadline: float, why: str) -> float:
        """Return the seconds left, if any."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise SourceUnavailableError(
                f"`{self._what}` waited {self._settings.lease_wait_s} s in vain: {why}. It works by "
                "itself once that has ended; a process that hangs must be killed"
            )
        return left

    def _end_what_is_left(self) -> None:
        """End the connections of a holder that lost its lock and lives, and with them its locks."""
        self._connection.execute(
            "select pg_terminate_backend(a.pid, 5000) from pg_stat_activity as a inner join ops.lease"
            " as l on l.application_name = a.application_name where l.is_held"
            " and a.datname = current_database() and a.application_name <> %s",
            [store.application_name()],
        )

    def _raise_token(self, beside: Connection, deadline: float) -> None:
        # Whoever looked at the token before its commit comes first.
        _limit(beside, max(deadline - time.monotonic(), 1))
        row = beside.execute(
            """
            insert into ops.lease as l
                (token, verb, window_text, host, pid, application_name, since_at, is_held)
            values (1, %s, %s, %s, %s, %s, now(), true)
            on conflict (one) do update set
                token = l.token + 1, verb = excluded.verb, window_text = excluded.window_text,
                host = excluded.host, pid = excluded.pid, is_held = true,
                application_name = excluded.application_name, since_at = excluded.since_at
            returning token
            """,
            [
                self._verb,
                self._window_text,
                socket.gethostname(),
                os.getpid(),
                store.application_name(),
            ],
        ).fetchone()
        self._token = int(row[0]) if row else 0


def _make_table(connection: Connection) -> None:
    if store.scalar(connection, "select to_regclass('ops.lease')") is not None:
        return
    # Two first runs at once: the one that comes second finds the table made.
    with contextlib.suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
        connection.execute(TABLE)


def _limit(connection: Connection, wait_s: float) -> None:
    """Let a connection wait so long for a lock; 0 would be for ever."""
    connection.execute(
        "select set_config('lock_timeout', %s, false)", [f"{max(1, int(wait_s * 1000))}ms"]
    )


_lease: _Lease | None = None
