"""keepline commands as processes that start in milliseconds, can be killed, and are waited for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HANGS_AFTER_S = 600


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus the signal that killed it."""

    words: tuple[str, ...]
    code: int
    output: str
    passed: Mapping[str, int]
    cpu_s: float


class Forks:
    """The process that forks commands; a context manager.

    Args:
        folder: for what the commands print.
        environment: of the process itself, whose settings say which dbt target it reads.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._started = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._said = (folder / "server.txt").open("w")
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fault_server.py"))],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        self._answer()

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._said.close()

    def start(self, words: Sequence[str], environment: Mapping[str, str]) -> Command:
        """Start a command; its environment is just the one given."""
        self._started += 1
        output = self._folder / f"{self._started}.txt"
        order = {"words": list(words), "environment": dict(environment), "output": str(output)}
        pid = self._ask({"do": "start", **order})["pid"]
        return Command(self, tuple(words), pid, output)

    def wait(self, pid: int) -> dict[str, Any]:
        return self._ask({"do": "wait", "pid": pid, "seconds": HANGS_AFTER_S})

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        # What a library prints while it is imported is no answer.
        while line := self._server.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError(f"the forks ended: {(self._folder / 'server.txt').read_text()}")


@dataclass(frozen=True)
class Command:
    """A command that was started."""

    forks: Forks
    words: tuple[str, ...]
    pid: int
    output: Path

    def wait(self) -> Ended:
        """Return how it ended."""
        answer = self.forks.wait(self.pid)
        said = self.output.read_text()
        assert not answer["hangs"], f"{self.words} hangs:\n{said}"
        passed = self.output.with_suffix(".passed")
        counts = json.loads(passed.read_text()) if passed.exists() else {}
        return Ended(self.words, answer["code"], said, counts, answer["cpu_s"])
