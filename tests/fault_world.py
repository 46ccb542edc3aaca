"""A small operator and warehouse, saved before each stage of a day, to kill stages of and compare.

A **scenario** is what happens next: a new day; the same day again after the operator corrected it; three
days at once; that correction as a backfill; a rebuild of the compute file. Its undisturbed run is made once,
command by command, and the whole state is saved before each, so that a trial costs one and not a night.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

import fault_state
import psycopg
from conftest import SECRETS
from fault_forks import Command, Ended, Forks
from fault_operator import FIRST, LAST, NEXT, make_corrected, make_operator
from fault_state import State

from keepline.embedded import EmbeddedPostgres
from keepline.failpoint import VARIABLE
from keepline.settings import PROJECT_DIR, Settings

# The tasks of the daily DAG, in its order. The report reads the release and changes nothing.
STAGES = tuple(
    tuple(words.split())
    for words in re.findall(r'verb="(.+?)"', (PROJECT_DIR / "dags/keepline_daily.py").read_text())
    if words != "report"
)
HOME, STORE = "home", "trial"
# Not of the pipeline, or made anew from the rest.
NOT_SAVED = {"data_docs", "reports", "lease.lock", "extract.lock", "compute.tmp"}
# Everything of yesterday is cleaned up today, so that there is a clean-up to kill.
RELEASES_KEPT = 1


@dataclass
class Scenario:
    """Commands to run one after the other, and how their undisturbed run went.

    Attributes:
        name: what happens, in words.
        commands: the words of each command.
        source: which of the two sources they read.
        begins: the scenario that it begins after, or `BASE`.
        passed: how often each command passed each failpoint.
        readers_before: what readers saw before the first one.
        readers_after: what they saw after the last one.
    """

    name: str
    commands: Sequence[tuple[str, ...]]
    source: str
    begins: str
    passed: list[Mapping[str, int]] = field(default_factory=list)
    readers_before: State = field(default_factory=dict)
    readers_after: State = field(default_factory=dict)

    def saved(self, number: int) -> str:
        """Name of what is saved before a command; after the last one there is one more."""
        return f"{self.name.replace(' ', '_')}_{number}"

    @property
    def end(self) -> str:
        """Name of what is saved after the last command."""
        return self.saved(len(self.commands))


def _day(first: date, last: date | None = None) -> tuple[str, ...]:
    if last is None:
        return ("--date", first.isoformat())
    return ("--from", first.isoformat(), "--to", (last + timedelta(days=1)).isoformat())


def daily(window: Sequence[str], *accept: str) -> list[tuple[str, ...]]:
    """Return the commands of the daily DAG for a window."""
    return [(*words, *window, *(accept if words[0] == "extract" else ())) for words in STAGES]


BASE = "base"
ACCEPT = ("--accept-changed", "INC-1")
SCENARIOS = (
    Scenario("a new day", daily(_day(NEXT)), "first", BASE),
    Scenario("a corrected day", daily(_day(NEXT), *ACCEPT), "corrected", "a new day"),
    Scenario("three days", daily(_day(NEXT, NEXT + timedelta(days=2))), "corrected", BASE),
    Scenario("a rebuild", [("rebuild",)], "first", "a new day"),
)
# The same correction by one command, which runs all the others.
BACKFILL = Scenario(
    "a backfill",
    [("extract", *_day(NEXT), *ACCEPT), ("backfill", *_day(NEXT))],
    "corrected",
    "a new day",
)


@dataclass(frozen=True)
class Kill:
    """Which command of a scenario is killed where, and how often before it may run to its end."""

    scenario: str
    number: int
    failpoint: str
    nth: int
    times: int = 1


class World:
    """One warehouse at one place, which any saved state can be put into."""

    def __init__(self, folder: Path, server: EmbeddedPostgres) -> None:
        self.folder = folder
        self._server = server
        # Databases of one server: a world per test file, so that no name is taken twice.
        self._prefix = f"w{os.getpid()}_{folder.name.replace('-', '_')}_"
        self.settings = Settings(
            home=folder / HOME, store_dsn=server.dsn(self._database(STORE)), **SECRETS
        )
        self._forks: Forks | None = None
        self._ready: dict[str, Scenario] = {}
        self._states: dict[str, State] = {}

    def __enter__(self) -> World:
        make_operator(self.folder, self._server, self._database("first"))
        make_corrected(self._server, self._database("first"), self._database("corrected"))
        self._forks = Forks(self.folder / "said", self.environment())
        self._forks.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._forks.__exit__()
        with self._admin() as admin:
            for (name,) in admin.execute(
                "select datname from pg_database where starts_with(datname, %s)", [self._prefix]
            ).fetchall():
                admin.execute(f'drop database "{name}" with (force)')
        # A gigabyte, and pytest keeps the folders of three runs.
        shutil.rmtree(self.folder)

    # -- running ---------------------------------------------------------------------------------

    def start(
        self, words: Sequence[str], source: str = "first", failpoint: str = "", **more: str
    ) -> Command:
        """Start a command against one of the two sources."""
        environment = {**self.environment(source), VARIABLE: failpoint or "nowhere", **more}
        return self._forks.start(words, environment)

    def run(self, words: Sequence[str], source: str = "first", **more: str) -> Ended:
        """Run a command to its end, which must be a good one."""
        ended = self.start(words, source, **more).wait()
        assert ended.code == 0, (
            f"keepline {' '.join(words)} ended with {ended.code}\n{ended.output}"
        )
        return ended

    def environment(self, source: str = "first") -> dict[str, str]:
        """Return the whole environment of a command."""
        own = {
            "KEEPLINE_HOME": str(self.settings.home),
            "KEEPLINE_STORE_DSN": self.settings.store_dsn.get_secret_value(),
            "KEEPLINE_RELEASES_KEPT": str(RELEASES_KEPT),
            "KEEPLINE_DEMO_DSN": self._server.dsn(
                self._database(source), "extractor", SECRETS["extractor_password"]
            ),
            "KEEPLINE_DEMO_DROPS": str(self.folder / f"drops_{source}"),
            **{f"KEEPLINE_{name.upper()}": secret for name, secret in SECRETS.items()},
        }
        outside = {k: v for k, v in os.environ.items() if not k.startswith("KEEPLINE_")}
        return {**outside, **own}

    # -- scenarios -------------------------------------------------------------------------------

    def scenario(self, name: str) -> Scenario:
        """Return a scenario whose undisturbed run is saved; makes it when it is asked for first."""
        if name not in self._ready:
            found = next(each for each in (*SCENARIOS, BACKFILL) if each.name == name)
            scenario = replace(found, passed=[])
            self._begin(scenario)
            scenario.readers_before = fault_state.readers(self.settings)
            for number, words in enumerate(scenario.commands):
                self.save(scenario.saved(number))
                scenario.passed.append(self.run(words, scenario.source).passed)
            self.save(scenario.end)
            scenario.readers_after = fault_state.readers(self.settings)
            # Else a reader could not tell the old release from the new one.
            assert scenario.commands[-1][0] != "publish" or (
                scenario.readers_before != scenario.readers_after
            )
            self._ready[name] = scenario
        return self._ready[name]

    def expected(self, scenario: Scenario, number: int) -> State:
        """Return what the warehouse holds after a command of the undisturbed run; puts that in place."""
        name = scenario.saved(number + 1)
        if name not in self._states:
            self.restore(name)
            self._states[name] = self.state()
        return self._states[name]

    def _begin(self, scenario: Scenario) -> None:
        if scenario.begins == BASE:
            self._base  # noqa: B018 - made when it is asked for first
            self.restore(BASE)
        else:
            self.restore(self.scenario(scenario.begins).end)

    @cached_property
    def _base(self) -> None:
        """The history is loaded and its last day published."""
        self.begin_anew()
        self.run(("migrate",))
        history = _day(FIRST, LAST)
        for stage in STAGES:
            if stage[0] in ("extract", "load") or stage[-1] == "core":
                self.run((*stage, *history))
            elif stage[0] != "check":
                self.run((*stage, *_day(LAST)))
        self.save(BASE)

    def begin_anew(self) -> None:
        """Put an empty warehouse in place."""
        shutil.rmtree(self.settings.operator_home, ignore_errors=True)
        with self._admin() as admin:
            self._drop(admin, STORE)
            admin.execute(f'create database "{self._database(STORE)}" template template0')

    def kill(self, failpoint: str, seed: int) -> Kill:
        """Return the seed-th way to be killed at a place, in an order that looks random and is not.

        Seed 0 is one of a new day, if that passes the place. When there are no more ways, the first ones
        come again, killed once more before they may end.
        """
        first = self._ways(failpoint, SCENARIOS[:1])
        if seed == 0 and first:
            return first[0]
        ways = [way for way in self._ways(failpoint, SCENARIOS) if way not in first[:1]] or first
        again, at = divmod(seed - bool(first), len(ways))
        return replace(ways[at], times=again + 1)

    def _ways(self, failpoint: str, scenarios: Sequence[Scenario]) -> list[Kill]:
        ways = [
            Kill(scenario.name, number, failpoint, nth)
            for scenario in scenarios
            for number, passed in enumerate(self.scenario(scenario.name).passed)
            for nth in range(1, passed.get(failpoint, 0) + 1)
        ]
        random.Random(failpoint).shuffle(ways)  # noqa: S311
        return ways

    # -- saving ----------------------------------------------------------------------------------

    def state(self) -> State:
        """Return all that the warehouse holds."""
        return fault_state.whole(self.settings)

    def save(self, name: str) -> None:
        """Keep the state under a name."""
        self._copy(self.settings.operator_home, self.folder / "saved" / name)
        with self._admin() as admin:
            self._drop(admin, name)
            self._clone(admin, STORE, name)

    def restore(self, name: str) -> None:
        """Put a saved state in place."""
        self._copy(self.folder / "saved" / name, self.settings.operator_home)
        with self._admin() as admin:
            self._drop(admin, STORE)
            self._clone(admin, name, STORE)

    def _copy(self, source: Path, target: Path) -> None:
        """Copy a warehouse's files; those that are never written to are linked, not copied."""
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        linked = [source / name for name in fault_state.FOLDERS if (source / name).exists()]
        subprocess.run(["cp", "-al", *linked, target], check=True)
        others = [
            path for path in source.iterdir() if path not in linked and path.name not in NOT_SAVED
        ]
        if others:
            subprocess.run(["cp", "-a", *others, target], check=True)

    def _database(self, name: str) -> str:
        return self._prefix + name

    def _drop(self, admin: psycopg.Connection, name: str) -> None:
        admin.execute(f'drop database if exists "{self._database(name)}" with (force)')

    def _clone(self, admin: psycopg.Connection, source: str, target: str) -> None:
        # A command that was killed a moment ago may still have a connection there.
        admin.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s",
            [self._database(source)],
        )
        admin.execute(
            f'create database "{self._database(target)}" template "{self._database(source)}"'
        )

    @contextmanager
    def _admin(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self._server.dsn("postgres"), autocommit=True) as connection:
            yield connection
