"""Fixtures that every test may take: an embedded PostgreSQL and settings of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import leftovers
import psycopg
import pytest
from engines import ENGINES, Engine, engine_of
from scoreboard import CASE, TALLY, Scoreboard

from keepline import room
from keepline.embedded import EmbeddedPostgres
from keepline.settings import Settings

hypothesis.settings.register_profile("default", max_examples=500, deadline=None)
hypothesis.settings.register_profile("deep", max_examples=10_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Files that take minutes, begun first: one that is begun last keeps one core waiting for it.
LONG = (
    *("test_first_morning", "test_parity", "test_faults_kill", "test_dbt_core", "test_features"),
    *("test_gates_leaving", "test_dbt_marts", "test_faults", "test_backfill", "test_meaning"),
    *("test_extract_left_out", "test_event_order", "test_independent", "test_airflow_local"),
)

# Pure functions, pages, generated files: no server, and within a minute (make test-fast).
FAST = (
    *("test_docs", "test_runbook", "test_dictionary", "test_generate", "test_compose"),
    *("test_extract_clock", "test_extract_count", "test_models_ml_measures"),
    *("test_models_ml_snapshot", "test_models_ml_tiers"),
)

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"

_board = Scoreboard()
_left: list[str] = []

# Throw-away logins of a throw-away server on the loopback address.
SECRETS = {
    "pseudonym_key": "11" * 32,
    "vault_key": "22" * 32,
    "store_password": "test-store",
    "extractor_password": "test-extractor",
    "bi_reader_password": "test-bi-reader",
    "marketing_password": "test-marketing",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Left out and not skipped: a skip is news, these are not.
    left_out = set() if DEEP else {"deep"}
    # Spark's tests are asked for by name: `-m spark` (make test-spark).
    left_out |= set() if "spark" in config.getoption("markexpr") else {"spark"}
    unasked = [
        item
        for item in items
        if any(mark.name in left_out and is_of(mark, item) for mark in item.iter_markers())
    ]
    config.hook.pytest_deselected(items=unasked)
    items[:] = [item for item in items if item not in unasked]
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
    for item in items:
        if item.path.stem in FAST:
            assert "postgres" not in item.fixturenames, f"{item.nodeid} needs a server"
            item.add_marker("fast")
        for marker in item.iter_markers("case"):
            item.user_properties += [(CASE, number) for number in marker.args]


def is_of(mark: pytest.Mark, item: pytest.Item) -> bool:
    """Tell whether a mark is meant for the engine of a test: `deep(on="postgres")` is for one only."""
    of = getattr(item, "callspec", None)
    return not mark.kwargs or (of is not None and of.params.get("engine") == mark.kwargs["on"])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # In the process that prints: workers send their reports to it.
    _board.add(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    # Once, when the workers and all fixtures have ended.
    if hasattr(session.config, "workerinput"):
        return
    factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
    _left.extend(leftovers.found(factory.getbasetemp()))
    if _left and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left:
        terminalreporter.section("left on the machine", red=True)
        for line in _left:
            terminalreporter.write_line(line)
    lines = list(_board.lines())
    if lines:
        terminalreporter.section("what was shown")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[[str, int, int], None]:
    """Return a function that counts for the summary: `tally("kills", passed, all)`."""

    def count(name: str, passed: int, of: int) -> None:
        request.node.user_properties.append((TALLY, [name, passed, of]))

    return count


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of the person who runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("KEEPLINE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _own_process() -> Iterator[None]:
    """Give the next test what the command changes for its whole process: umask, encoding, its way to end."""
    before = os.umask(0o022)
    yield
    os.umask(before)
    os.environ.pop("PGCLIENTENCODING", None)
    room.memory_ran_out.clear()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Return a running embedded PostgreSQL, one per test process."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("server"), SECRETS["store_password"])
    server.start()
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        # Nobody pulls the plug on a test: what it writes need not survive that.
        connection.execute("alter system set fsync = off")
        connection.execute("select pg_reload_conf()")
    yield server
    server.remove()


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Return the settings of each compute engine in turn."""
    return engine_of(request.param, lambda: request.getfixturevalue("postgres"))


@pytest.fixture
def settings(tmp_path: Path, postgres: EmbeddedPostgres) -> Settings:
    """Return settings with a home and a store database of their own; logins are shared."""
    database = f"test_{uuid.uuid4().hex[:12]}"
    postgres.ensure_database(database)
    # It stands for an operator's, too, which lets its own logins in; `migrate` closes a store.
    with psycopg.connect(postgres.dsn(database), autocommit=True) as connection:
        connection.execute(f"grant connect on database {database} to public")
    return Settings(home=tmp_path / "home", store_dsn=postgres.dsn(database), **SECRETS)
