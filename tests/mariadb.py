"""A throw-away MariaDB from Debian's package, on a free port of the loopback address."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import duckdb
from leftovers import open_name

from keepline.extract.database import packaged_extension

UNPRIVILEGED_USER = "nobody"
SCRIPTS = Path("/usr/share/mysql")
MISSING = "needs MariaDB's server: sudo apt-get install mariadb-server-core"
# No disk flushes, little memory: nobody pulls the plug on a test.
OPTIONS = (
    *("--no-defaults", "--skip-name-resolve", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M"),
    *("--innodb-flush-log-at-trx-commit=0", "--bind-address=127.0.0.1"),
)  # fmt: skip
ADMIN, READER, PASSWORD = "root", "reader", "rea'der"


def program() -> str | None:
    """Return the path of the server, or None when it is not installed."""
    path = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return path if path and (SCRIPTS / "mysql_system_tables.sql").exists() else None


class MariaDB:
    """A server; `run` speaks to it as its admin, `dsn` is what keepline gets."""

    def __init__(self) -> None:
        # Short and reachable for the unprivileged user, which pytest's folders are not.
        self.folder = Path(tempfile.mkdtemp(prefix=open_name("mariadb")))
        self.data = self.folder / "data"
        self.data.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._user = UNPRIVILEGED_USER if os.geteuid() == 0 else None
        if self._user is not None:
            self.folder.chmod(0o755)
            shutil.chown(self.data, self._user, "nogroup")
        self._bootstrap()
        self._start()

    def _process(self, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        command = [str(program()), *OPTIONS, f"--datadir={self.data}", *arguments]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", user=self._user,
                group="nogroup" if self._user else None, **options,
            )  # fmt: skip

    def _bootstrap(self) -> None:
        # What mariadb-install-db does, without the programs that it needs besides.
        names = ("system_tables", "performance_tables", "system_tables_data")
        script = "create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\n" + "\n".join(
            (SCRIPTS / f"mysql_{name}.sql").read_text() for name in names
        )
        process = self._process("--bootstrap", stdin=subprocess.PIPE)
        process.communicate(script.encode(), timeout=60)
        assert process.returncode == 0, (self.folder / "log").read_text()[-2000:]

    def _start(self) -> None:
        self._server = self._process(
            f"--port={self.port}", f"--socket={self.data}/s", f"--pid-file={self.data}/pid",
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(200):
            try:
                self._admin = duckdb.connect()
                self._admin.execute(f"load '{packaged_extension('mysql_scanner')}'")
                self._admin.execute(f"attach '{self.dsn(ADMIN, '', 'mysql')}' as db (type mysql)")
                return
            except duckdb.Error:
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def dsn(self, user: str = READER, password: str = PASSWORD, database: str = "shop") -> str:
        """Return a connection string of DuckDB's form."""
        secret = f' password="{password}"' if password else ""
        return f"host=127.0.0.1 port={self.port} user={user}{secret} database={database}"

    def run(self, *statements: str) -> None:
        """Run statements as the admin."""
        for statement in statements:
            self._admin.cursor().execute("call mysql_execute('db', $1)", [statement])

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return the rows of a query of the admin's."""
        return self._admin.cursor().execute("from mysql_query('db', $1)", [query]).fetchall()

    def remove(self) -> None:
        """Stop the server and throw its files away."""
        self._admin.close()
        self._server.send_signal(signal.SIGKILL)
        self._server.wait()
        shutil.rmtree(self.folder)
