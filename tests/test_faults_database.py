"""The store's server dies, or its answers are lost: readers see a whole release, and a rerun mends all."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import psycopg
import pytest
from conftest import SECRETS
from fault_proxy import LosesAnswer
from fault_store import BACK_WITHIN_S, Shop, postmaster, sentence

from keepline import release, store
from keepline.embedded import UNPRIVILEGED_USER, EmbeddedPostgres
from keepline.settings import Settings

# The command that is disturbed, and where.
PLACES = (
    *(("stage", f"stage.{place}") for place in ("copied", "registered", "committed")),
    *(("publish", f"publish.{place}") for place in ("marked", "flipped", "committed")),
    *(("publish", f"clean.{place}") for place in ("retired", "dropping")),
)
TRY_AGAIN = 3


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Iterator[Shop]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("crashing"), SECRETS["store_password"])
    server.start()
    yield Shop(tmp_path_factory.mktemp("shop") / "home", server)
    server.remove()


def trials(count: int, quick: int) -> Iterator:
    """Return trials as parameters: place and seed; those after the first ones are deep."""
    for seed in range(count):
        deep = () if seed < quick else (pytest.mark.deep,)
        # A stride that is prime to the places: the quick ones are one of stage and one of publish.
        yield pytest.param(*PLACES[(seed * 5 + 1) % len(PLACES)], seed, marks=deep)


def disturbed(shop: Shop, verb: str, place: str):
    """Run up to a place in a command and return the command, which stands still there."""
    shop.restore()
    if verb == "publish":
        shop.run("stage")
        shop.audit()
    command = shop.start(verb, place)
    assert command.wait_until_it_stops(), command.wait()
    return command


def judge(shop: Shop, command, tally) -> None:
    """Wake a command whose server died under it; nothing is lost, and a rerun mends all."""
    command.go_on()
    code = command.wait()
    shop.wait_until_it_is_back()
    seen = shop.readers_see()
    differing = shop.finish()
    is_good = code == TRY_AGAIN and seen in ("old", "new") and not differing
    tally("database kills", int(is_good), 1)
    assert code == TRY_AGAIN, command.said
    assert "running" in sentence(command.said) or "again" in sentence(command.said)
    assert seen != "neither"
    assert not differing


# -- killed ---------------------------------------------------------------------------------------


@pytest.mark.case(84)
@pytest.mark.parametrize(("verb", "place", "seed"), trials(20, quick=2))
def test_a_backend_that_is_killed_costs_a_rerun_and_nothing_else(shop, tally, verb, place, seed):
    command = disturbed(shop, verb, place)
    backends = shop.backends(command.pid)

    os.kill(backends[seed % len(backends)], signal.SIGKILL)

    judge(shop, command, tally)


@pytest.mark.case(84)
@pytest.mark.parametrize(("verb", "place", "seed"), trials(10, quick=1))
def test_a_server_that_is_killed_is_started_again_and_nothing_is_lost(
    shop, tally, verb, place, seed
):
    command = disturbed(shop, verb, place)

    os.kill(postmaster(shop.server), signal.SIGKILL)
    if seed % 2:
        # At once, while what is left of it still lives; else after the command has noticed.
        shop.server.start()
    command.go_on()
    code = command.wait()
    shop.server.start()

    seen, differing = shop.readers_see(), shop.finish()
    is_good = code == TRY_AGAIN and seen != "neither" and not differing
    tally("database kills", int(is_good), 1)
    assert code == TRY_AGAIN, command.said
    assert sentence(command.said)
    assert seen != "neither"
    assert not differing


@pytest.mark.case(84)
def test_the_next_command_starts_an_embedded_server_that_was_killed(tmp_path):
    settings = Settings(home=tmp_path / "home", **SECRETS)
    server = store.embedded(settings)
    try:
        with store.connect(settings) as connection:
            connection.execute("create table kept as select 42 as answer")
        port = server.port
        os.kill(postmaster(server), signal.SIGKILL)
        store._embedded_dsn.cache_clear()

        with store.connect(settings) as connection:
            assert connection.execute("select answer from kept").fetchone() == (42,)
        assert server.port == port
    finally:
        server.remove()
        store._embedded_dsn.cache_clear()


@pytest.mark.case(84)
def test_the_number_of_a_killed_server_may_belong_to_another_program_since(tmp_path):
    server = EmbeddedPostgres(tmp_path / "home", SECRETS["store_password"])
    server.start()
    owner = UNPRIVILEGED_USER if os.geteuid() == 0 else None
    another = subprocess.Popen(["sleep", "600"], user=owner)
    try:
        note = server.folder / "data" / "postmaster.pid"
        killed = postmaster(server)
        os.kill(killed, signal.SIGKILL)
        until_gone(killed)
        lines = note.read_text().splitlines()
        # As after a restart of the machine.
        note.write_text("\n".join([str(another.pid), *lines[1:]]) + "\n")

        server.start()

        with psycopg.connect(server.dsn("postgres")) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        another.kill()
        another.wait()
        server.remove()


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + BACK_WITHIN_S
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)


# -- answers that are lost ------------------------------------------------------------------------


@pytest.mark.case(89)
@pytest.mark.parametrize(
    ("verb", "marker", "seen"),
    [
        ("stage", b"insert into ctl.release_part", "old"),
        ("publish", b"insert into ctl.current_release", "new"),
    ],
)
def test_a_commit_whose_answer_is_lost_is_found_done_and_not_done_twice(
    shop, tally, verb, marker, seen
):
    shop.restore()
    if verb == "publish":
        shop.run("stage")
        shop.audit()
    with LosesAnswer(shop.settings.store_dsn.get_secret_value(), marker) as proxy:
        command = shop.start(verb, KEEPLINE_STORE_DSN=proxy.dsn)
        code = command.wait()

    assert proxy.lost == 1
    assert code == TRY_AGAIN, command.said
    assert shop.readers_see() == seen
    before = releases(shop)
    differing = shop.finish()
    tally("faults", int(not differing), 1)
    assert not differing
    assert releases(shop) == before


def releases(shop: Shop) -> list[int]:
    return [info.release_id for info in release.history(shop.settings)]


# -- locks of readers -----------------------------------------------------------------------------


@pytest.mark.case(90)
@pytest.mark.parametrize(
    "publishes", [1, pytest.param(6, marks=pytest.mark.deep)], ids=["one", "many"]
)
def test_a_reader_that_holds_its_tables_holds_up_nobody(shop, tally, publishes):
    shop.restore()
    project = shop.project
    with store.connect(shop.settings, "bi_reader") as reader:
        reader.execute("set transaction isolation level repeatable read")
        seen = reader.execute("select count(*), min(run), max(run) from star.dim_subscription")
        before = seen.fetchone()
        slowest = 0.0
        for run in range(10, 10 + publishes):
            project.fill_all(run)
            report = project.stage()
            release.mark_audited(shop.settings, report.release_id, passed=True)
            started = time.perf_counter()
            release.publish(shop.settings, report.release_id)
            slowest = max(slowest, time.perf_counter() - started)
        left_over = unused(shop)
        again = reader.execute("select count(*), min(run), max(run) from star.dim_subscription")
        unchanged = again.fetchone() == before
    assert slowest < 1
    assert unchanged
    assert left_over > 0
    # The reader has gone: the next run clears away what it held.
    release.clean(shop.settings)
    tally("faults", int(unused(shop) == 0), 1)
    assert unused(shop) == 0


def unused(shop: Shop) -> int:
    with store.connect(shop.settings) as connection:
        found = store.scalar(
            connection,
            "select count(*) from ctl.part as p where not exists"
            " (select from ctl.release_part as rp where rp.part_id = p.part_id)",
        )
    return int(str(found))
