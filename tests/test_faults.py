"""Any command can be killed at its worst moment: running it again mends all, and readers never notice.

A trial kills one command of a day (a forked process with real files and connections), runs it again and
compares the whole state with that of an undisturbed run. The trial with seed 1 of each failpoint also runs
the rest of the day, up to the release. This file has half of the kills and what runs with every change;
test_faults_kill.py has the other half, test_faults_again.py reruns, backfills and their order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import fault_state
import pytest
from fault_operator import NEXT
from fault_trials import KILLED, kills, outlive, run_again, two_at_once
from fault_world import STAGES, World

from keepline import store
from keepline.failpoint import FAILPOINTS
from keepline.settings import PROJECT_DIR

EXTRACT, LOAD, SCORE, STAGE, PUBLISH = (
    STAGES.index((v,)) for v in ("extract", "load", "score", "stage", "publish")
)
BUILD = STAGES.index(("build", "--layer", "core"))
# So that yesterday's release is there to go back to.
KEEP = {"KEEPLINE_RELEASES_KEPT": "7"}


@pytest.fixture(scope="module")
def world(postgres, tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("faults"), postgres) as made:
        yield made


# -- the places -----------------------------------------------------------------------------------


def test_every_place_is_in_the_code_and_none_is_unknown():
    sources = [
        path.read_text()
        for package in ("keepline", "models_ml", "expectations")
        for path in (PROJECT_DIR / package).rglob("*.py")
    ]
    # Once in a file: the compute engines have the same places, each in a file of its own.
    found = [Counter(re.findall(r'reach\("([^"]+)"\)', source)) for source in sources]

    assert {name for names in found for name in names} == set(FAILPOINTS)
    assert all(count == 1 for names in found for count in names.values())
    assert len(FAILPOINTS) >= 24
    # A name that is put together would not be found above; one more is the definition.
    assert sum(source.count(" reach(") for source in sources) == sum(map(len, found)) + 1


def test_every_place_says_what_is_half_done_there():
    for name, sentence in FAILPOINTS.items():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", name), name
        assert len(sentence.split()) >= 4, name


# -- killed and run again -------------------------------------------------------------------------


@pytest.mark.case(83)
@pytest.mark.parametrize(("failpoint", "seed"), kills(0))
def test_a_command_that_was_killed_and_run_again_leaves_what_an_undisturbed_one_leaves(
    world, tally, failpoint, seed
):
    kill = world.kill(failpoint, seed)

    differing = outlive(world, kill, to_the_end=seed == 1)

    tally("kills", int(not differing), 1)
    assert not differing, f"{kill}\n" + "\n".join(differing)


# Made by a later command of the day, or found anew by it: a rebuild leaves features out, and builds marts.
LATER = ("compute features.", "compute ops.", "compute marts.")


@pytest.mark.case(85)
@pytest.mark.parametrize(
    ("number", "table"), [(BUILD, "raw.cdr_voice"), (SCORE, "features.feat_subscription_asof")]
)
def test_a_command_that_finds_a_torn_block_makes_compute_anew_and_goes_on(
    world, tally, number, table
):
    scenario = world.scenario("a new day")
    expected = world.expected(scenario, number)
    world.restore(scenario.saved(number))
    fault_state.tear_block(world.settings.compute_path, table)

    ended = world.run(scenario.commands[number])

    assert "Nothing is lost: it is made anew from landing" in " ".join(ended.output.split())
    kept = {name: rows for name, rows in expected.items() if not name.startswith(LATER)}
    found = {name: rows for name, rows in world.state().items() if not name.startswith(LATER)}
    tally("faults", int(kept == found), 1)
    assert not fault_state.differences(kept, found)


# -- run again, and by two at once ----------------------------------------------------------------


@pytest.mark.parametrize("number", [EXTRACT, LOAD, STAGE])
def test_a_command_that_ran_runs_again_and_changes_nothing(world, tally, number):
    differing = run_again(world, world.scenario("a new day"), [number], times=1)

    tally("reruns", int(not differing), 1)
    assert not differing, "\n".join(differing)


@pytest.mark.parametrize("number", [LOAD, STAGE])
def test_two_at_once_leave_what_one_leaves(world, tally, number):
    differing = two_at_once(world, world.scenario("a new day"), [number])

    tally("reruns", int(not differing), 1)
    assert not differing, "\n".join(differing)


# -- published, and what comes after --------------------------------------------------------------


@pytest.mark.case(96)
def test_a_reader_who_holds_an_old_part_stops_its_clean_up_and_nothing_else(world):
    scenario = world.scenario("a new day")
    world.restore(scenario.saved(PUBLISH))
    ((table, view),) = changed_whole_tables(world)

    with store.connect(world.settings, "bi_reader") as slow:
        # Given: a reader in the middle of a long look at yesterday.
        slow.execute(f"select count(*) from {view}")
        world.run(scenario.commands[PUBLISH])
        # Then: all see the new release, and the old one's rows are still there.
        assert fault_state.readers(world.settings) == scenario.readers_after
        assert parts_of(world, table) == 2
    # When: the reader is gone, the next run cleans up.
    world.run(scenario.commands[PUBLISH])

    found = world.state()
    assert parts_of(world, table) == 1
    assert not fault_state.differences(world.expected(scenario, PUBLISH), found)


@pytest.mark.case(96)
def test_a_publish_that_dies_in_its_clean_up_has_published(world):
    scenario = world.scenario("a new day")
    expected = world.expected(scenario, PUBLISH)
    world.restore(scenario.saved(PUBLISH))

    ended = world.start(scenario.commands[PUBLISH], failpoint="clean.dropping").wait()

    assert ended.code == KILLED
    assert fault_state.readers(world.settings) == scenario.readers_after
    world.run(scenario.commands[PUBLISH])
    assert not fault_state.differences(expected, world.state())


@pytest.mark.case(97)
def test_back_and_forth_shows_the_same_rows_both_ways(world):
    scenario = world.scenario("a new day")
    world.restore(scenario.saved(PUBLISH))
    before = fault_state.readers(world.settings)
    world.run(scenario.commands[PUBLISH], **KEEP)
    after = fault_state.readers(world.settings)
    release = current_release(world)

    world.run(["rollback"], **KEEP)
    assert fault_state.readers(world.settings) == before
    world.run(["rollback", "--to", str(release)], **KEEP)
    assert fault_state.readers(world.settings) == after

    assert before != after


@pytest.mark.deep
@pytest.mark.case(56, 97)
def test_what_a_release_shows_does_not_move_when_late_and_corrected_rows_arrive(world):
    # Given: a day is published.
    new, corrected = world.scenario("a new day"), world.scenario("a corrected day")
    world.restore(new.saved(PUBLISH))
    world.run(new.commands[PUBLISH], **KEEP)
    published, first = fault_state.readers(world.settings), current_release(world)
    with store.connect(world.settings, "bi_reader") as reader:
        late = reader.execute(
            "select count(*) from star.fct_usage_daily where load_date = %s and event_date < load_date",
            [NEXT],
        ).fetchone()
    assert late[0] > 0

    # When: the same day arrives again, corrected, with records that are late.
    for words in corrected.commands:
        world.run(words, corrected.source, **KEEP)
    assert fault_state.readers(world.settings) == corrected.readers_after

    # Then: the first release still shows what it showed.
    second = current_release(world)
    world.run(["rollback", "--to", str(first)], **KEEP)
    assert fault_state.readers(world.settings) == published
    world.run(["rollback", "--to", str(second)], **KEEP)
    assert fault_state.readers(world.settings) == corrected.readers_after


def current_release(world: World) -> int:
    with store.connect(world.settings) as connection:
        return store.scalar(connection, "select release_id from ctl.current_release")


def changed_whole_tables(world: World) -> list[tuple[str, str]]:
    """Return the tables, with their views, of which the release that waits has another whole copy."""
    with store.connect(world.settings) as connection:
        return connection.execute(
            "select t.table_name, t.reader_schema || '.' || t.table_name from ctl.published_table as t"
            " where t.kind = 'state' and (select count(*) from ctl.part as p"
            " where p.table_name = t.table_name) > 1 order by 1 limit 1"
        ).fetchall()


def parts_of(world: World, table: str) -> int:
    with store.connect(world.settings) as connection:
        return connection.execute(
            "select count(*) from ctl.part where table_name = %s", [table]
        ).fetchone()[0]
