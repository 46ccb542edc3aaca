"""The other half of the kills of test_faults.py, so that two processes share them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fault_trials import kills, outlive
from fault_world import World


@pytest.fixture(scope="module")
def world(postgres, tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("kill"), postgres) as made:
        yield made


@pytest.mark.case(83)
@pytest.mark.parametrize(("failpoint", "seed"), kills(1))
def test_a_command_that_was_killed_and_run_again_leaves_what_an_undisturbed_one_leaves(
    world, tally, failpoint, seed
):
    kill = world.kill(failpoint, seed)

    differing = outlive(world, kill, to_the_end=seed == 1)

    tally("kills", int(not differing), 1)
    assert not differing, f"{kill}\n" + "\n".join(differing)
