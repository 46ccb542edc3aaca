"""A day of the whole warehouse, stage by stage: overtaken, out of disk or memory, cut off, locked out."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fault_state
import psycopg
import pytest
from fault_limits import (
    STOPS_WITHIN_S,
    SmallDisk,
    cut_connections,
    take_memory_away,
    wait_until_it_stops,
)
from fault_world import STAGES, World

from keepline import lease
from keepline.errors import BadDataError, OutOfRoomError

TRY_AGAIN, FULL, HELD, LOADER_ENDED = 3, OutOfRoomError.exit_code, BadDataError.exit_code, 127
DAY = "a new day"
VERBS = [" ".join(stage) for stage in STAGES]


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path_factory.mktemp("disk")) as made:
        yield made


@pytest.fixture(scope="module")
def world(postgres, disk, tmp_path_factory) -> Iterator[World]:
    with World(disk.folder / "world", postgres) as made:
        # What commands print goes elsewhere: else it could not be said that the disk is full.
        made._forks._folder = tmp_path_factory.mktemp("said")
        made.scenario(DAY)
        yield made


class Trial:
    """One stage of the day, from the state that it begins with.

    Attributes:
        code: the exit code of the disturbed command.
        said: what it printed.
    """

    def __init__(self, world: World, verb: str) -> None:
        self.world = world
        self.scenario = world.scenario(DAY)
        self.number = VERBS.index(verb)
        self.words = self.scenario.commands[self.number]
        self.expected = world.expected(self.scenario, self.number)
        world.restore(self.scenario.saved(self.number))
        self.code, self.said = 0, ""
        self.pids: list[int] = []

    def start(self, failpoint: str = "", **more: str):
        command = self.world.start(self.words, self.scenario.source, failpoint, **more)
        self.pids.append(command.pid)
        return command

    def end(self, command) -> None:
        ended = command.wait()
        self.code, self.said = ended.code, ended.output
        assert "Traceback" not in self.said, self.said

    def differing(self) -> list[str]:
        """Run the stage again; return what differs from the undisturbed run, and what readers saw wrong."""
        seen = fault_state.readers(self.world.settings)
        wrong = seen not in (self.scenario.readers_before, self.scenario.readers_after)
        self.world.run(self.words, self.scenario.source)
        return [*(["readers saw a mixture"] * wrong), *self.unlike()]

    def unlike(self) -> list[str]:
        """Return how the warehouse differs from that after an undisturbed run of the stage."""
        settings = self.world.settings
        differing = fault_state.differences(self.expected, self.world.state())
        return [*differing, *fault_state.last_runs_failed(settings)]

    def sessions(self, pid: int) -> int:
        return cut_connections(
            self.world.settings.store_dsn.get_secret_value(), f"keepline {pid}@%"
        )


@pytest.fixture
def begin(world) -> Iterator[Callable[[str], Trial]]:
    """Return a function that begins a trial of a verb; what still stands still at the end is ended."""
    trials: list[Trial] = []

    def begin(verb: str) -> Trial:
        trials.append(Trial(world, verb))
        return trials[-1]

    yield begin
    for pid in [pid for trial in trials for pid in trial.pids]:
        if Path(f"/proc/{pid}").exists() and wait_until_it_stops(pid):
            os.kill(pid, signal.SIGKILL)


def points(quick: list, deep: list) -> Iterator:
    for point in quick:
        yield pytest.param(*point)
    for point in deep:
        yield pytest.param(*point, marks=pytest.mark.deep)


# -- overtaken -----------------------------------------------------------------------------------

# A place that each stage passes while it holds the lease.
FIRST_PLACES = {
    **{verb: "build.starting" for verb in VERBS if verb.startswith("build")},
    "extract": "extract.read",
    "load": "load.deleted",
    "check": "gate.judged",
    "score": "export.drafted",
    "stage": "stage.copied",
    "audit": "gate.judged",
    "publish": "publish.marked",
}
# Where a run may stand still while another one does its whole work. Where it has the compute file open,
# nobody can: the others give up until it is ended.
OVERTAKEN = [
    ("extract", "extract.written:4"),
    ("publish", "publish.flipped:1"),
    ("extract", "extract.read:1"),
    ("extract", "extract.read:9"),
    ("extract", "extract.unrecorded:1"),
    ("publish", "publish.marked:1"),
]
IN_THE_WAY = [
    ("stage", "stage.copied:1"),
    ("load", "load.inserted:2"),
    ("score", "scores.unloaded:1"),
]


@pytest.mark.case(91)
@pytest.mark.parametrize(("verb", "place"), points(OVERTAKEN[:2], OVERTAKEN[2:]))
def test_a_zombie_that_wakes_after_its_retry_commits_nothing(begin, tally, verb, place):
    trial = begin(verb)
    zombie = trial.start(f"{place}:stop")
    assert wait_until_it_stops(zombie.pid)
    # Its machine was cut off for so long that the store gave the lock away.
    assert trial.sessions(zombie.pid)

    trial.world.run(trial.words, trial.scenario.source)
    os.kill(zombie.pid, signal.SIGCONT)
    trial.end(zombie)

    differing = trial.unlike()
    tally("faults", int(trial.code == TRY_AGAIN and not differing), 1)
    assert trial.code == TRY_AGAIN, trial.said
    assert "lost its lease while it stood still" in trial.said
    assert not differing


@pytest.mark.case(91)
@pytest.mark.parametrize(("verb", "place"), points([], IN_THE_WAY))
def test_a_zombie_in_the_middle_of_a_change_is_named_to_those_who_wait(begin, tally, verb, place):
    trial = begin(verb)
    zombie = trial.start(f"{place}:stop")
    assert wait_until_it_stops(zombie.pid)
    assert trial.sessions(zombie.pid)

    trial.end(trial.start(KEEPLINE_LEASE_WAIT_S="2"))
    assert trial.code == TRY_AGAIN
    assert f"process {zombie.pid} on" in trial.said
    assert "stands still in the middle of a change" in trial.said
    os.kill(zombie.pid, signal.SIGCONT)
    trial.end(zombie)

    differing = trial.differing()
    tally("faults", int(trial.code in (0, TRY_AGAIN) and not differing), 1)
    assert trial.code in (0, TRY_AGAIN), trial.said
    assert not differing


@pytest.mark.case(91)
@pytest.mark.parametrize(
    "verb", ["load", *(pytest.param(v, marks=pytest.mark.deep) for v in VERBS)]
)
def test_the_same_task_twice_at_once_is_done_one_after_the_other(begin, tally, verb):
    trial = begin(verb)
    first = trial.start(f"{FIRST_PLACES[verb]}:1:stop")
    assert wait_until_it_stops(first.pid)
    second, third = trial.start(), trial.start(KEEPLINE_LEASE_WAIT_S="1")
    trial.end(third)
    assert trial.code == TRY_AGAIN, trial.said
    assert "waited 1 s in vain" in trial.said
    os.kill(first.pid, signal.SIGCONT)
    for command in (first, second):
        trial.end(command)
        assert trial.code == 0, trial.said
    assert "waits for `" in trial.said

    differing = trial.unlike()
    if verb == "audit":
        # The second one says that nothing has changed since the first one looked.
        differing = [line for line in differing if not line.startswith("ops.gate_result")]
    tally("reruns", int(not differing), 1)
    assert not differing


# -- out of disk ---------------------------------------------------------------------------------

DISK = [
    (verb, left_kb)
    for left_kb in (0, 24, 160, 700)
    for verb in ("extract", "load", "build --layer core", "build --layer features", "score")
]


@pytest.mark.case(22, 86)
@pytest.mark.parametrize(("verb", "left_kb"), points(DISK[:2], DISK[2:]))
def test_a_full_disk_stops_a_stage_with_a_sentence_and_its_rerun_is_identical(
    begin, disk, tally, verb, left_kb
):
    trial = begin(verb)
    with disk.nearly_full(left_kb):
        trial.end(trial.start())
    differing = trial.differing()

    # So little may be written that there was room enough after all.
    is_good = trial.code in (0, FULL) and not differing
    tally("faults", int(is_good), 1)
    assert trial.code in (0, FULL), trial.said
    assert trial.code == 0 or f"the disk of {disk.folder}" in trial.said, trial.said
    assert trial.code == FULL or left_kb
    assert not differing


# -- out of memory -------------------------------------------------------------------------------

MEMORY = [
    (verb, left_mb)
    for left_mb in (8, 40, 120)
    for verb in (
        "extract",
        "load",
        "build --layer core",
        "build --layer features",
        "score",
        "stage",
    )
] + [("build --layer marts", 8), ("audit", 8)]


@pytest.mark.case(87)
@pytest.mark.parametrize(
    ("verb", "left_mb"), points([MEMORY[0], MEMORY[5]], [*MEMORY[1:5], *MEMORY[6:]])
)
def test_a_process_that_gets_no_more_memory_stops_and_its_rerun_is_identical(
    begin, tally, verb, left_mb
):
    trial = begin(verb)
    command = trial.start(f"{FIRST_PLACES[verb]}:1:stop")
    if wait_until_it_stops(command.pid):
        take_memory_away(command.pid, left_mb)
        os.kill(command.pid, signal.SIGCONT)
    trial.end(command)
    differing = trial.differing()

    # A library may not say what it lacked (1), or end the process (the loader of libraries with 127), and
    # an extraction may hold the file that did not fit: nothing is half done all the same.
    ends = (0, 1, FULL, LOADER_ENDED, *([HELD] if "NO_MEMORY" in trial.said else []))
    is_good = (trial.code in ends or trial.code < 0) and not differing
    tally("faults", int(is_good), 1)
    assert trial.code in ends or trial.code < 0, trial.said
    assert trial.code != FULL or "memory is full" in trial.said
    assert not differing


# -- connections cut -----------------------------------------------------------------------------

CUTS = [
    *(
        ("extract", place)
        for place in ("extract.read:2", "extract.written:1", "extract.unrecorded:1")
    ),
    *(("load", place) for place in ("load.deleted:3", "load.committed:5")),
    *(("check", place) for place in ("gate.judged:1",)),
    *(
        ("build --layer core", place)
        for place in ("build.starting:1", "build.node:9", "build.unrecorded:1")
    ),
    *(("score", place) for place in ("export.drafted:1", "scores.unloaded:1")),
    *(("stage", place) for place in ("stage.copied:1", "stage.copied:2", "stage.registered:1")),
    *(("audit", place) for place in ("audit.marked:1", "gate.judged:1")),
    *(
        ("publish", f"{place}:1")
        for place in ("publish.marked", "publish.flipped", "clean.retired")
    ),
    ("build --layer marts", "build.unrecorded:1"),
]


@pytest.mark.case(88)
@pytest.mark.parametrize(
    ("verb", "place"), points([CUTS[1], CUTS[13]], [*CUTS[:1], *CUTS[2:13], *CUTS[14:]])
)
def test_connections_that_are_cut_cost_another_try_and_nothing_else(begin, tally, verb, place):
    trial = begin(verb)
    command = trial.start(f"{place}:stop")
    if wait_until_it_stops(command.pid):
        trial.sessions(command.pid)
        cut_connections(trial.world.environment()["KEEPLINE_DEMO_DSN"], "keepline")
        os.kill(command.pid, signal.SIGCONT)
    trial.end(command)
    differing = trial.differing()

    is_good = trial.code in (0, TRY_AGAIN) and not differing
    tally("faults", int(is_good), 1)
    assert trial.code in (0, TRY_AGAIN), trial.said
    assert not differing


# -- locks held ----------------------------------------------------------------------------------


@contextmanager
def session(world: World, *statements: str) -> Iterator[None]:
    """Another session of the store that holds what its statements lock."""
    with psycopg.connect(world.settings.store_dsn.get_secret_value()) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield


@contextmanager
def compute_file(world: World) -> Iterator[None]:
    """A person's own DuckDB holds the compute file."""
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        ["python", "-c", code, str(world.settings.compute_path)],
        executable=os.sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.communicate()


LOCKS: dict[str, Callable] = {
    "the compute file": compute_file,
    "the lease": lambda world: session(world, lease.LOCK),
    "the run book": lambda world: session(world, "lock table ops.stage_run in share mode"),
    "the releases": lambda world: session(world, "lock table ctl.release in share mode"),
    "the pointer": lambda world: session(world, "select * from ctl.current_release for update"),
    "a reader's tables": lambda world: session(
        world, "select * from mart.churn_risk_daily limit 1"
    ),
}
HELD = [
    *(("load", lock) for lock in ("the compute file", "the lease", "the run book")),
    *(
        ("publish", lock)
        for lock in ("the releases", "the pointer", "a reader's tables", "the lease")
    ),
    *(("stage", lock) for lock in LOCKS),
    *(("extract", lock) for lock in ("the lease", "the run book")),
    *(("build --layer core", lock) for lock in ("the compute file", "the lease")),
    *(("score", lock) for lock in ("the compute file", "the lease")),
    ("audit", "the releases"),
]


@pytest.mark.case(90)
@pytest.mark.parametrize(("verb", "lock"), points([HELD[0], HELD[4]], [*HELD[1:4], *HELD[5:]]))
def test_a_lock_that_somebody_holds_is_waited_for_and_then_said(begin, tally, verb, lock):
    trial = begin(verb)
    started = time.monotonic()
    with LOCKS[lock](trial.world):
        trial.end(trial.start(KEEPLINE_LEASE_WAIT_S="2"))
    waited_s = time.monotonic() - started
    differing = trial.differing()

    codes = {"a reader's tables": (0,)}.get(lock, (0, TRY_AGAIN))
    is_good = trial.code in codes and not differing
    tally("faults", int(is_good), 1)
    assert trial.code in codes, trial.said
    assert waited_s < STOPS_WITHIN_S
    assert not differing
