"""What a trial does: a stage is killed and run again, a stage is run twice or by two at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import fault_state
import pytest
from fault_world import Kill, Scenario, World

from keepline.failpoint import FAILPOINTS

KILLED = -9
TRY_AGAIN = 3
# Of them all, and the files that share them.
KILLS, PARTS = 200, 2
# One kill per room, of those that cost least: these run each time.
QUICK = (
    *("extract.sealed", "landing.day", "load.inserted", "build.node", "scores.unlisted"),
    *("stage.copied", "publish.flipped", "clean.dropping"),
)
# Kills of a whole backfill, which costs as much as a day: a few, in another file.
BACKFILL_KILLS = (
    *("landing.day", "load.committed", "build.node", "scores.unloaded", "stage.registered"),
    "publish.committed",
)


def kills(part: int) -> Iterator:
    """Return a part of the 200 kills as parameters, a failpoint and a seed; part 0 has the quick ones."""
    quick = [(name, 0) for name in QUICK]
    every = [(name, seed) for seed in range(KILLS) for name in FAILPOINTS]
    slow = [trial for trial in every if trial not in quick]
    slow = slow[: KILLS - len(quick) - len(BACKFILL_KILLS)]
    if part == 0:
        for failpoint, seed in quick:
            yield pytest.param(failpoint, seed)
    for failpoint, seed in slow[part::PARTS]:
        yield pytest.param(failpoint, seed, marks=pytest.mark.deep)


def outlive(world: World, kill: Kill, *, to_the_end: bool = False) -> list[str]:
    """Kill a command, run it again, and return what differs from the undisturbed run.

    Readers are asked after each kill: they see the old release whole, or the new one.

    Args:
        world: where.
        kill: what, where and how often.
        to_the_end: then also run the commands after it, up to the next release.
    """
    scenario = world.scenario(kill.scenario)
    words = scenario.commands[kill.number]
    last = len(scenario.commands) - 1 if to_the_end else kill.number
    expected = {number: world.expected(scenario, number) for number in (kill.number, last)}
    world.restore(scenario.saved(kill.number))
    for attempt in range(kill.times):
        ended = world.start(words, scenario.source, f"{kill.failpoint}:{kill.nth}").wait()
        if ended.code == 0 and attempt:
            # What the first attempt did need not be done again, so that the place is not passed as often.
            break
        assert ended.code == KILLED, f"{words} ended with {ended.code}\n{ended.output}"
        if fault_state.readers(world.settings) not in (
            scenario.readers_before,
            scenario.readers_after,
        ):
            return ["readers see neither the old release nor the new one"]
    differing = []
    for number in range(kill.number, last + 1):
        world.run(scenario.commands[number], scenario.source)
        if number in expected:
            differing += fault_state.differences(expected[number], world.state())
    return [*differing, *fault_state.last_runs_failed(world.settings)]


def run_again(world: World, scenario: Scenario, numbers: Sequence[int], times: int) -> list[str]:
    """Run commands that have run again, so many times; return what that changed."""
    expected = world.expected(scenario, numbers[-1])
    world.restore(scenario.saved(numbers[-1] + 1))
    differing = []
    for _ in range(times):
        for number in numbers:
            world.run(scenario.commands[number], scenario.source)
        differing += fault_state.differences(expected, world.state())
    return differing


def two_at_once(world: World, scenario: Scenario, numbers: Sequence[int]) -> list[str]:
    """Run commands twice at the same time, as two schedulers would; return what differs.

    One that says "try again" (exit code 3) is tried again, as Airflow does.
    """
    expected = world.expected(scenario, numbers[-1])
    world.restore(scenario.saved(numbers[0]))
    for number in numbers:
        words = scenario.commands[number]
        both = [world.start(words, scenario.source) for _ in range(2)]
        for ended in [command.wait() for command in both]:
            if ended.code == TRY_AGAIN:
                assert "keepline: " in ended.output
                world.run(words, scenario.source)
            else:
                assert ended.code == 0, ended.output
    return fault_state.differences(expected, world.state())
