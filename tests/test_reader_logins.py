"""What a reader's login can do to the server and to itself holds up no night."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from conftest import SECRETS
from release_rows import DAY_2, Project

from keepline import lease, store, watchdog
from keepline.commands import doctor
from keepline.commands.context import stage
from keepline.errors import KeeplineError
from keepline.release import migration
from keepline.settings import Settings
from keepline.window import Window

WITHIN_S = 10
READERS = ("bi_reader", "marketing")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory) -> Iterator[Project]:
    """Return a store on an embedded server of its own, with something published."""
    project = Project(Settings(home=tmp_path_factory.mktemp("home"), **SECRETS))
    project.fill_all(run=1)
    with lease.hold(project.settings, "publish"):
        project.publish(DAY_2)
    yield project
    store.embedded(project.settings).remove()


@contextmanager
def session(project: Project, role: str) -> Iterator[psycopg.Connection]:
    with store.connect(project.settings, role, autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        yield connection


def incidents(project: Project) -> list[str]:
    with store.connect_to_logins(project.settings) as connection:
        return [str(one) for one in reversed(watchdog.incidents(connection, 1))]


def soon(check) -> bool:
    """Tell whether something becomes true within the time that is promised."""
    ends = time.monotonic() + WITHIN_S
    while time.monotonic() < ends:
        if check():
            return True
        time.sleep(0.2)
    return False


# -- locks and functions --------------------------------------------------------------------------


@pytest.mark.parametrize("role", READERS)
@pytest.mark.parametrize(
    "attack",
    [
        f"begin; {lease.LOCK}",
        f"begin; {migration.WRITER_LOCK}",
        "select release_id from ctl.current_release for share",
        "select pg_advisory_lock(7310002)",
        "select pg_advisory_xact_lock_shared(1, 2)",
        "select pg_try_advisory_lock(1)",
        "select lo_create(0)",
        r"select lo_from_bytea(0, '\x00')",
        "select lowrite(0, 'x')",
        "select pg_logical_emit_message(false, 'a', 'b')",
        "set temp_file_limit = -1",
        "alter role current_user set temp_file_limit = -1",
    ],
)
def test_no_reader_takes_a_lock_of_keeplines_or_fills_the_server(embedded, role, attack):
    with session(embedded, role) as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(attack.encode())


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_no_reader_gets_into_another_database_of_the_server(embedded, database):
    server = store.embedded(embedded.settings)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(server.dsn(database, "marketing", SECRETS["marketing_password"]))


def test_a_reader_who_holds_all_that_he_can_hold_up_holds_up_no_stage(settings):
    project = Project(settings.model_copy(update={"lease_wait_s": 2}))
    project.fill_all(run=1)
    with store.connect(project.settings, "bi_reader") as reader:
        reader.execute("lock table ctl.current_release, ctl.release in access share mode")
        with lease.hold(project.settings, "stage"):
            project.publish(DAY_2)
            project.migrate()

    assert project.rows("select distinct run from mart.churn_risk_latest") == [(1,)]


# -- what a login changes for itself --------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("alter role marketing password 'mine'", "changed its own password"),
        (
            "alter role marketing set statement_timeout = 0; alter role marketing set work_mem = '1TB';"
            "alter role marketing in database keepline_demo set statement_timeout = 0",
            "changed its own settings",
        ),
        ("alter role marketing reset all", "changed its own settings"),
    ],
    ids=["password", "settings", "reset"],
)
def test_what_a_reader_changes_for_itself_is_put_back_and_told(embedded, change, said):
    told = incidents(embedded)
    with session(embedded, "marketing") as reader:
        reader.execute(change.encode())

    expected = f"the login marketing {said} (put right)"
    assert soon(lambda: incidents(embedded) == [*told, expected])
    with store.connect(embedded.settings, "marketing") as reader:
        assert reader.execute("show statement_timeout").fetchone() == ("1min",)
        assert reader.execute("show work_mem").fetchone() == ("4MB",)
    log = (store.embedded(embedded.settings).folder / "watchdog.log").read_text()
    assert log.count(said) == sum(said in one for one in incidents(embedded))


def test_a_session_that_switched_its_limit_off_is_ended(embedded):
    short = {"statement_timeout": "2s", "idle_in_transaction_session_timeout": "2s"}
    with store.connect_to_logins(embedded.settings) as logins, logins.transaction():
        watchdog.apply(logins, "bi_reader", short)
        watchdog.remember(logins, "bi_reader", short, None)
    with (
        session(embedded, "bi_reader") as idle,
        session(embedded, "bi_reader") as busy,
        session(embedded, "bi_reader") as lasting,
    ):
        for reader in (idle, busy):
            reader.execute("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0")
        idle.execute("begin")
        began = time.monotonic()
        with pytest.raises(psycopg.errors.AdminShutdown):
            busy.execute("select pg_sleep(60)")
        assert time.monotonic() - began < 2 + WITHIN_S
        with pytest.raises(psycopg.errors.AdminShutdown):
            idle.execute("select 1")
        # One that is neither busy nor idle for long holds its locks no longer than both limits allow.
        lasting.execute("begin")
        began = time.monotonic()
        while time.monotonic() - began < 4 * WITHIN_S:
            try:
                lasting.execute("select pg_sleep(.2)")
            except psycopg.errors.AdminShutdown:
                break
        assert lasting.closed
    embedded.migrate()

    assert [one for one in incidents(embedded) if "bi_reader" in one] == [
        "the login bi_reader had a session that went on beyond its time limit (put right)"
    ] * 3


def watchdogs(project: Project) -> list[int]:
    with store.connect_to_logins(project.settings) as connection:
        rows = connection.execute(
            "select split_part(application_name, ' ', 3)::integer from pg_stat_activity"
            " where starts_with(application_name, %s)",
            [watchdog.NAME],
        )
        return [pid for (pid,) in rows.fetchall()]


def test_one_watchdog_is_there_again_after_it_was_killed_and_ends_with_the_server(embedded):
    server = store.embedded(embedded.settings)
    (first,) = watchdogs(embedded)
    server.watch()
    assert watchdogs(embedded) == [first]

    os.kill(first, signal.SIGKILL)
    assert soon(lambda: watchdogs(embedded) == [])
    with pytest.raises(KeeplineError, match="nothing watches"):
        list(doctor._readers(embedded.settings))
    for _ in range(2):
        server.watch()
    assert soon(lambda: len(watchdogs(embedded)) == 1)
    (second,) = watchdogs(embedded)

    server.stop()
    assert soon(lambda: not Path(f"/proc/{second}").exists())
    server.start()


# -- an operator's own PostgreSQL -----------------------------------------------------------------


@pytest.fixture
def plain(postgres, tmp_path) -> Settings:
    """Return a store whose login owns the database and may make logins, but is no superuser."""
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as admin:
        admin.execute("create role plain_store login createrole password 'plain'")
        admin.execute("create database test_plain_store owner plain_store template template0")
    dsn = postgres.dsn("test_plain_store", "plain_store", "plain")
    return Settings(home=tmp_path, store_dsn=dsn, lease_wait_s=2, **SECRETS)


def test_while_a_stage_runs_on_another_server_limits_are_put_back_and_passwords_are_left(settings):
    project = Project(settings)
    with store.connect(settings, "bi_reader", autocommit=True) as reader:
        reader.execute("set default_transaction_read_only = off")
        reader.execute("alter role bi_reader set statement_timeout = 0")
    with stage(settings, "load", Window.day(DAY_2)):
        assert soon(lambda: incidents(project))

    assert incidents(project) == ["the login bi_reader changed its own settings (put right)"]
    assert project.rows("show statement_timeout") == [("5min",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        project.rows("select * from watchdog.reader")


def test_on_another_server_the_command_puts_limits_back_without_a_stage(settings):
    project = Project(settings)
    words = [sys.executable, "-m", "keepline", "watch"]
    own = {
        "KEEPLINE_HOME": str(settings.home),
        "KEEPLINE_STORE_DSN": settings.store_dsn.get_secret_value(),
    }
    environment = {**os.environ, **own}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert "looks every 2 s" in process.stdout.readline()
        assert soon(lambda: watchdogs(project) == [process.pid])
        assert "keepline watch" not in "".join(doctor._readers(settings))

        with session(project, "bi_reader") as reader:
            reader.execute("alter role bi_reader set statement_timeout = 0")
        assert soon(lambda: incidents(project))
        said = process.stdout.readline()

        # A second one leaves it to the first.
        second = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        process.terminate()

    assert "the login bi_reader changed its own settings (put right)" in said
    assert "another process looks already" in second.stdout
    with store.connect(settings, "bi_reader") as reader:
        assert reader.execute("show statement_timeout").fetchone() == ("5min",)
    assert "`keepline watch` does not run" in "".join(doctor._readers(settings))


def test_a_login_that_may_not_revoke_gets_from_doctor_what_to_ask_for(plain, postgres, settings):
    Project(settings)  # whoever made the readers before: not this store's login
    Project(plain)
    with store.connect(plain, "marketing", autocommit=True) as reader:
        reader.execute("set default_transaction_read_only = off")
        reader.execute("alter role marketing set statement_timeout = 0")
        # Locks of a number he can still have: nobody waits for those.
        reader.execute("select pg_advisory_lock(7310001), pg_advisory_lock(7310002)")
        with stage(plain, "load", Window.day(DAY_2)):
            assert soon(lambda: incidents(Project(plain)))
            Project(plain).fill_all(run=1)
            Project(plain).publish(DAY_2)
    assert [one.partition(" (")[2] for one in incidents(Project(plain))] == [
        "not put right: the store's login may not)"
    ]

    with pytest.raises(KeeplineError, match="Ask a DBA for, in this database: revoke") as told:
        list(doctor._readers(plain))
    with psycopg.connect(postgres.dsn("test_plain_store"), autocommit=True) as admin:
        admin.execute(str(told.value).partition("this database: ")[2].encode())
        admin.execute("alter role marketing set statement_timeout = '1min'")
    assert len(list(doctor._readers(plain))) == 2
