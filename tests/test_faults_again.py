"""Commands run again, run by two at once, and days taken in in any order: nothing is doubled or lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta

import fault_state
import pytest
from fault_operator import FIRST, NEXT, drops_with_late_files
from fault_trials import BACKFILL_KILLS, outlive, run_again, two_at_once
from fault_world import ACCEPT, BACKFILL, STAGES, Kill, World

pytestmark = pytest.mark.deep

NUMBERS = range(len(STAGES))
DAILY = ("a new day", "a corrected day", "three days")
# test_faults.py has run these.
ELSEWHERE = {("a new day", STAGES.index((verb,))) for verb in ("extract", "load", "stage")}
DAYS = [FIRST + timedelta(days=n) for n in range((NEXT - FIRST).days + 3)]
ORDERS = 10


@pytest.fixture(scope="module")
def world(postgres, tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("again"), postgres) as made:
        yield made


# -- again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for name in DAILY for number in NUMBERS if (name, number) not in ELSEWHERE],
)
def test_a_command_that_ran_runs_again_and_changes_nothing(world, tally, name, number):
    differing = run_again(world, world.scenario(name), [number], times=1)

    tally("reruns", int(not differing), 1)
    assert not differing, "\n".join(differing)


@pytest.mark.parametrize("name", DAILY)
def test_a_day_that_is_run_three_times_is_there_once(world, tally, name):
    differing = run_again(world, world.scenario(name), NUMBERS, times=2)

    tally("reruns", 0 if differing else 2, 2)
    assert not differing, "\n".join(differing)


# -- two at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
def test_two_at_once_leave_what_one_leaves(world, tally, number):
    differing = two_at_once(world, world.scenario("a corrected day"), [number])

    tally("reruns", int(not differing), 1)
    assert not differing, "\n".join(differing)


@pytest.mark.case(91)
@pytest.mark.parametrize("name", ["a new day", "three days"])
def test_a_day_that_two_run_at_once_is_there_once(world, tally, name):
    differing = two_at_once(world, world.scenario(name), NUMBERS)

    tally("reruns", int(not differing), 1)
    assert not differing, "\n".join(differing)


# -- backfills ------------------------------------------------------------------------------------


def test_a_backfill_leaves_what_the_daily_commands_leave(world):
    corrected, backfill = world.scenario("a corrected day"), world.scenario(BACKFILL.name)

    daily = world.expected(corrected, len(corrected.commands) - 1)
    filled = world.expected(backfill, len(backfill.commands) - 1)

    assert backfill.readers_after == corrected.readers_after
    assert rows_of(filled) == rows_of(daily)


@pytest.mark.case(83)
@pytest.mark.parametrize("failpoint", BACKFILL_KILLS)
def test_a_backfill_that_was_killed_and_run_again_leaves_what_an_undisturbed_one_leaves(
    world, tally, failpoint
):
    passed = world.scenario(BACKFILL.name).passed[-1][failpoint]
    nth = random.Random(failpoint).randint(1, passed)  # noqa: S311

    differing = outlive(world, Kill(BACKFILL.name, 1, failpoint, nth))

    tally("kills", int(not differing), 1)
    assert not differing, f"{failpoint}:{nth}\n" + "\n".join(differing)


# -- any order ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_one_go(world) -> dict[str, str]:
    """What one wide window over all days leaves, from nothing."""
    world.begin_anew()
    world.run(("migrate",))
    take(world, DAYS, "corrected")
    build(world, DAYS)
    finish(world)
    return rows_of(world.state())


@pytest.fixture(scope="module")
def history(world, in_one_go) -> str:  # noqa: ARG001 - made one after the other
    """The days as they first came, built: files are late, nothing is corrected."""
    world.begin_anew()
    world.run(("migrate",))
    take(world, DAYS, "first")
    build(world, DAYS)
    world.save("history")
    return "history"


@pytest.mark.parametrize("seed", range(ORDERS))
def test_days_in_any_order_leave_what_one_wide_window_leaves(
    world, tally, in_one_go, history, seed
):
    """Windows of random lengths in random order; some come as they first were, and later corrected.

    Odd seeds begin with a history that is built, as a backfill does: what is built again reaches from the
    first day taken in to the last one that is there. Even ones begin with nothing and build when no day is
    missing any more.
    """
    chance = random.Random(seed)  # noqa: S311
    cuts = sorted(chance.sample(range(1, len(DAYS)), 5))
    windows = [DAYS[a:b] for a, b in zip([0, *cuts], [*cuts, len(DAYS)], strict=True)]
    order = [(window, "corrected") for window in chance.sample(windows, len(windows))]
    for window in chance.sample(windows, 3):
        before = next(n for n, (other, _) in enumerate(order) if other is window)
        order.insert(chance.randint(0, before), (window, "first"))
    if seed % 2:
        world.restore(history)
    else:
        world.begin_anew()
        world.run(("migrate",))
    missing = set() if seed % 2 else set(DAYS)
    waiting: set[date] = set()
    for nth, (window, source) in enumerate(order, start=1):
        take(world, window, source)
        missing -= set(window)
        waiting |= set(window)
        if nth == len(order) or (not missing and chance.random() < 0.5):
            build(world, [day for day in DAYS if day >= min(waiting)])
            waiting.clear()
    finish(world)

    differing = fault_state.differences(in_one_go, rows_of(world.state()))

    tally("shuffled backfills", int(not differing), 1)
    told = [f"{source} {window[0]}..{window[-1]}" for window, source in order]
    assert not differing, "\n".join([*told, *differing])


def take(world: World, window: list[date], source: str) -> None:
    """Extract and load; of the operator's first version some days have files that come late."""
    words = between(window)
    if source == "first":
        # Late files are missing: their tables wait, the others land.
        late = {"KEEPLINE_DEMO_DROPS": str(drops_with_late_files(world.folder))}
        ended = world.start(("extract", *words), source, **late).wait()
        assert ended.code in (0, 2, 3), ended.output
    else:
        world.run(("extract", *words, *ACCEPT), source)
    world.run(("load", *words), source)


def build(world: World, window: list[date]) -> None:
    world.run(("build", "--layer", "core", *between(window)))


def finish(world: World) -> None:
    """Build what is made of the star schema, for the last day and over all days."""
    last = ("--date", DAYS[-1].isoformat())
    world.run(("build", "--layer", "features", *last))
    world.run(("score", *last))
    world.run(("build", "--layer", "marts", *between(DAYS)))


def between(window: list[date]) -> tuple[str, ...]:
    return ("--from", window[0].isoformat(), "--to", (window[-1] + timedelta(days=1)).isoformat())


def rows_of(state: dict[str, str]) -> dict[str, str]:
    """Return landing, quarantine and every table of compute; the run book tells of other windows."""
    return {
        name: content
        for name, content in state.items()
        if name.startswith(("landing/", "quarantine/", "compute ", "vault"))
    }
