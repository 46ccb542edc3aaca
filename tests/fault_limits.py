"""What a machine can run out of while a command works: disk, memory, connections, locks."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

STOPS_WITHIN_S = 120
ROOMY = "4g"


class SmallDisk:
    """A tmpfs that can be made as small as what is in it; a context manager.

    Args:
        folder: becomes the disk.
    """

    def __init__(self, folder: Path, size: str = ROOMY) -> None:
        self.folder = folder
        self._size = size

    def __enter__(self) -> SmallDisk:
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            pytest.skip("only root may mount a small disk")
        said = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self._size},mode=755", "tmpfs", self.folder],
            check=False,
            capture_output=True,
            text=True,
        )
        if said.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {said.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", self.folder], check=True)
        with suppress(OSError):  # what lay there before is still there
            self.folder.rmdir()

    @contextmanager
    def nearly_full(self, left_kb: int) -> Iterator[None]:
        """Leave so much room and no more, for the length of a `with` block."""
        usage = os.statvfs(self.folder)
        used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
        self._resize(f"{used // 1024 + left_kb}k")
        try:
            yield
        finally:
            self._resize(self._size)

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True)


def wait_until_it_stops(pid: int) -> bool:
    """Wait for a process that suspends itself; False if it ended instead."""
    deadline = time.monotonic() + STOPS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return False
        if state in "TZ":
            return state == "T"
        time.sleep(0.01)
    raise AssertionError(f"process {pid} neither stops nor ends")


def take_memory_away(pid: int, left_mb: int) -> None:
    """Let a process have no more address space than it has, and a little."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + left_mb * 2**20
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))


def cut_connections(dsn: str, names: str) -> int:
    """End the sessions whose application name is like that; returns how many there were."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        return len(
            admin.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where application_name like %s and pid <> pg_backend_pid()",
                [names],
            ).fetchall()
        )
