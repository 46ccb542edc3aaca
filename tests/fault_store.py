"""A store on a server of its own, which a trial may crash, and releases to move into it.

What is published are the small tables of `release_rows`; the commands are real processes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import fault_state
import psycopg
from conftest import SECRETS
from release_rows import DAY_2, Project

from keepline import release, store
from keepline.embedded import EmbeddedPostgres
from keepline.errors import KeeplineError
from keepline.settings import Settings

BACK_WITHIN_S = 60
# What the embedded server's database is called, so that a command without a DSN finds it, too.
DATABASE = "keepline_demo"
LINES = 400


class Shop:
    """A published release, the next one in compute, and what an undisturbed run makes of it.

    Attributes:
        settings: of the commands; `store_dsn` names the server.
        old: what readers see before a trial.
        new: what they see after the next publish.
    """

    def __init__(self, home: Path, server: EmbeddedPostgres, **changed: object) -> None:
        self.server = server
        server.ensure_database(DATABASE)
        self.settings = Settings(
            home=home, store_dsn=server.dsn(DATABASE), releases_kept=1, **SECRETS, **changed
        )
        self.project = Project(self.settings)
        for run in (1, 2):
            self.project.fill_all(run, lines=LINES)
            self.project.publish(DAY_2)
        self.project.fill_all(3, lines=LINES)
        self._kept = home.with_name(f"{home.name}.kept")
        shutil.copy(self.settings.compute_path, self._kept)
        self._clone(DATABASE, "kept")
        self.old = fault_state.readers(self.settings)
        self.run("stage")
        self.audit()
        self.run("publish")
        self.new = fault_state.readers(self.settings)
        self.whole = {**fault_state.control(self.settings), **self.new}
        assert self.old != self.new

    def restore(self) -> None:
        """Put the state before the stage in place."""
        shutil.copy(self._kept, self.settings.compute_path)
        self._clone("kept", DATABASE)

    def forget(self) -> None:
        """Throw away what was kept for `restore`."""
        self._kept.unlink()

    def start(self, verb: str, failpoint: str = "", **more: str) -> Command:
        """Start a command for the day; at a failpoint it stops and can be woken."""
        own = {f"KEEPLINE_{name.upper()}": secret for name, secret in SECRETS.items()}
        own |= {
            "KEEPLINE_HOME": str(self.settings.home),
            "KEEPLINE_STORE_DSN": self.settings.store_dsn.get_secret_value(),
            "KEEPLINE_RELEASES_KEPT": str(self.settings.releases_kept),
            "KEEPLINE_FAILPOINT": f"{failpoint}:1:stop" if failpoint else "nowhere",
        }
        return Command([verb, "--date", str(DAY_2)], {**os.environ, **own, **more})

    def run(self, verb: str, **more: str) -> str:
        """Run a command to its good end; returns what it printed."""
        command = self.start(verb, **more)
        assert command.wait() == 0, command.said
        return command.said

    def audit(self) -> None:
        """Pass the audit; that this is done again changes nothing."""
        report = self.project.stage()
        release.mark_audited(self.settings, report.release_id, passed=True)

    def finish(self) -> list[str]:
        """Run stage and publish again, and return what differs from the undisturbed run."""
        self.run("stage")
        self.audit()
        self.run("publish")
        found = {**fault_state.control(self.settings), **fault_state.readers(self.settings)}
        return fault_state.differences(self.whole, found)

    def readers_see(self) -> str:
        """Return whose release readers see: old, new, or neither."""
        seen = fault_state.readers(self.settings)
        return {str(self.old): "old", str(self.new): "new"}.get(str(seen), "neither")

    def backends(self, pid: int) -> list[int]:
        """Return the server's processes that work for a command."""
        with self.admin() as admin:
            rows = admin.execute(
                "select pid from pg_stat_activity where application_name like %s order by pid",
                [f"keepline {pid}@%"],
            ).fetchall()
        return [row[0] for row in rows]

    @contextmanager
    def admin(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.server.dsn("postgres"), autocommit=True) as connection:
            yield connection

    def wait_until_it_is_back(self) -> None:
        """Wait for a server that starts again by itself."""
        deadline = time.monotonic() + BACK_WITHIN_S
        while True:
            with suppress(KeeplineError), store.connect(self.settings):
                return
            assert time.monotonic() < deadline, "the server does not come back"
            time.sleep(0.05)

    def _clone(self, source: str, target: str) -> None:
        with self.admin() as admin:
            admin.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s",
                [source],
            )
            admin.execute(f"drop database if exists {target} with (force)")
            admin.execute(f"create database {target} template {source}")


class Command:
    """A keepline command as a process."""

    def __init__(self, words: list[str], environment: Mapping[str, str]) -> None:
        self.said = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "keepline", *words],
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self._process.pid

    def wait_until_it_stops(self) -> bool:
        """Wait for the failpoint; False if the command ended without passing it."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return False

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int:
        """Return its exit code; what it printed is in `said`."""
        self.said, _ = self._process.communicate(timeout=300)
        assert "Traceback" not in self.said, self.said
        return self._process.returncode


def postmaster(server: EmbeddedPostgres) -> int:
    """Return the process that started all others of a server."""
    return int((server.folder / "data" / "postmaster.pid").read_text().split()[0])


def sentence(said: str) -> str:
    """Return what a command said when it gave up."""
    found = re.findall(r"^keepline: (.+)$", said, re.MULTILINE)
    assert len(found) == 1, said
    return found[0]
