"""One run writes at a time: the others wait, and one that was overtaken commits nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest
from conftest import SECRETS
from release_rows import DAY_2

from keepline import lease, store
from keepline.commands.context import stage
from keepline.errors import FencedError, SourceUnavailableError
from keepline.release.migration import SQL_DIR
from keepline.settings import Settings
from keepline.window import Window

# Holds the lease, says so, and does as it is told: `confirm`, or leave at the end of its orders.
HOLDER = """
import sys
from keepline import lease
from keepline.errors import KeeplineError
from keepline.settings import Settings
try:
    with lease.hold(Settings.load(), "load", "2026-06-30"):
        print("held", flush=True)
        for order in sys.stdin:
            lease.confirm()
            print("confirmed", flush=True)
    print("given back", flush=True)
except KeeplineError as error:
    print(type(error).__name__, error, flush=True)
"""


class Other:
    """Another process that takes the lease."""

    def __init__(self, settings: Settings) -> None:
        own = {f"KEEPLINE_{name.upper()}": secret for name, secret in SECRETS.items()}
        own["KEEPLINE_HOME"] = str(settings.home)
        own["KEEPLINE_STORE_DSN"] = settings.store_dsn.get_secret_value()
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER],
            env={**os.environ, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def says(self) -> str:
        return self.process.stdout.readline().strip()

    def order(self) -> str:
        self.process.stdin.write("confirm\n")
        self.process.stdin.flush()
        return self.says()

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> str:
        self.process.stdin.close()
        return self.process.stdout.read().strip()


@pytest.fixture
def others() -> Iterator[list[Other]]:
    """Return a list of processes that are ended with the test."""
    started: list[Other] = []
    yield started
    for other in started:
        other.process.kill()
        other.process.wait()


@pytest.fixture
def other(settings, others) -> Other:
    """Return another process that holds the lease."""
    others.append(Other(settings))
    assert others[0].says() == "held"
    return others[0]


def patient(settings: Settings, seconds: int) -> Settings:
    return settings.model_copy(update={"lease_wait_s": seconds})


def cut_the_line(settings: Settings, pid: int) -> None:
    """End a process's connections to the store, as a broken network does."""
    with store.connect(settings) as connection:
        ended = connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name like %s and pid <> pg_backend_pid()",
            [f"keepline {pid}@%"],
        ).fetchall()
    assert ended


# -- waiting --------------------------------------------------------------------------------------


def test_the_second_waits_says_for_whom_and_then_does_its_work(settings, others, other):
    others.append(Other(settings))
    waiting = others[1].says()
    assert "waits for `load 2026-06-30`" in waiting
    assert f"process {other.process.pid} on" in waiting
    assert "since 20" in waiting

    assert other.end() == "given back"

    assert others[1].says() == "held"
    assert others[1].end() == "given back"


@pytest.mark.usefixtures("other")
def test_whoever_waited_long_enough_leaves_with_the_code_that_is_tried_again(settings, capsys):
    with (
        pytest.raises(
            SourceUnavailableError, match="waited 1 s in vain: `load 2026-06-30`"
        ) as told,
        lease.hold(patient(settings, 1), "stage", "2026-07-01"),
    ):
        pytest.fail("two held it")

    assert told.value.exit_code == 3
    assert capsys.readouterr().err.count("waits for") == 1


def test_a_holder_that_is_killed_frees_it_at_once(settings, other):
    other.send(signal.SIGKILL)
    started = time.perf_counter()

    with lease.hold(patient(settings, 30), "load"):
        assert time.perf_counter() - started < 5


def test_a_lease_inside_a_lease_is_the_same(settings):
    with lease.hold(settings, "history"), lease.hold(settings, "extract"):
        with store.connect(settings) as connection:
            assert lease.holder(connection).verb == "history"
        lease.confirm()


def test_the_store_tells_who_holds_it_and_that_nobody_does(settings, other):
    with store.connect(settings) as connection:
        held = lease.holder(connection)
        assert (held.verb, held.window_text, held.pid) == ("load", "2026-06-30", other.process.pid)
        assert held.is_alive

        other.end()
        assert lease.holder(connection) is None


def test_one_that_died_with_it_is_told_apart(settings, other):
    other.send(signal.SIGKILL)
    other.process.wait()

    with store.connect(settings) as connection:
        for _ in range(50):
            held = lease.holder(connection)
            if not held.is_alive:
                break
            time.sleep(0.1)
    assert not held.is_alive


@pytest.mark.usefixtures("other")
def test_verbs_that_only_read_wait_for_nobody(settings):
    with store.connect(settings) as connection:
        connection.execute((SQL_DIR / "ops.sql").read_bytes())

    with stage(patient(settings, 1), "report", Window.day(DAY_2)):
        pass
    with (
        pytest.raises(SourceUnavailableError),
        stage(patient(settings, 1), "load", Window.day(DAY_2)),
    ):
        pass


# -- overtaken ------------------------------------------------------------------------------------


@pytest.mark.case(91)
def test_a_zombie_is_told_who_took_over_and_may_not_commit(settings, other):
    other.send(signal.SIGSTOP)
    cut_the_line(settings, other.process.pid)

    with lease.hold(settings, "backfill", "2026-06-01 to 2026-06-30"):
        other.send(signal.SIGCONT)
        said = other.order()

    assert said.startswith("FencedError this `load 2026-06-30` lost its lease")
    assert "to `backfill 2026-06-01 to 2026-06-30`" in said


def test_a_line_that_broke_while_nobody_came_is_taken_up_again(settings, others, other):
    cut_the_line(settings, other.process.pid)

    assert other.order() == "confirmed"

    others.append(Other(settings))
    assert "waits for `load 2026-06-30`" in others[1].says()


def test_nobody_takes_over_in_the_middle_of_a_change_of_files(settings, others):
    with lease.hold(settings, "extract"), lease.committing():
        cut_the_line(settings, os.getpid())
        others.append(Other(settings))
        time.sleep(1)
        with store.connect(settings) as connection:
            assert lease.holder(connection).pid == os.getpid()
    assert others[0].says() == "held"


def test_an_error_of_an_overtaken_run_is_explained_by_that(settings):
    def stumble() -> None:
        with lease.hold(settings, "extract"):
            take_over(settings)
            raise FileNotFoundError("a folder that the other one cleared away")

    with pytest.raises(FencedError) as told:
        stumble()

    assert isinstance(told.value.__cause__, FileNotFoundError)
    assert told.value.exit_code == 3


def take_over(settings: Settings) -> None:
    """Raise the token as another run does."""
    with store.connect(settings) as connection:
        connection.execute("set lock_timeout = '100ms'")
        connection.execute("update ops.lease set token = token + 1, pid = 1, verb = 'other'")


@pytest.mark.case(91)
def test_a_look_inside_a_transaction_holds_until_its_end(settings):
    with lease.hold(settings, "publish"), store.connect(settings) as connection:
        lease.fence(connection)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            take_over(settings)
        connection.commit()

        take_over(settings)
        with pytest.raises(FencedError):
            lease.fence(connection)
