"""Readers who poll while releases are published see one whole release in every read, at once."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import psycopg
import pytest
from release_rows import DAY_2, Project

from keepline import release, store

LINES = 20
ONE_STATEMENT = """
    select r.runs, l.runs, c.runs, r.n, l.n, c.n, r.release, l.release
    from (select array_agg(distinct run) as runs, count(*) as n, min(release_id) as release
          from mart.churn_risk_daily) as r,
         (select array_agg(distinct run) as runs, count(*) as n, max(release_id) as release
          from mart.rfm_month) as l,
         (select array_agg(distinct run) as runs, count(*) as n from mart.churn_risk_latest) as c
"""
DIRECT = ONE_STATEMENT.replace("mart.churn_risk_latest", "store.churn_risk_daily")


@dataclass
class Reader(threading.Thread):
    """Polls until it is told to stop; remembers what was wrong and how long the slowest read took."""

    project: Project
    role: str
    sql: str
    is_repeatable: bool
    stop: threading.Event
    reads: int = 0
    worst: float = 0
    wrong: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        try:
            with store.connect(self.project.settings, self.role, autocommit=True) as connection:
                while not self.stop.wait(0.02):
                    started = time.perf_counter()
                    self._look(connection)
                    self.worst = max(self.worst, time.perf_counter() - started)
                    self.reads += 1
        except Exception as error:  # An error is a finding of the test, too.
            self.wrong.append(error)

    def _look(self, connection: psycopg.Connection) -> None:
        if not self.is_repeatable:
            self._judge(connection.execute(self.sql.encode()).fetchone())
            return
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            first = connection.execute(self.sql.encode()).fetchone()
            time.sleep(0.01)
            self._judge(first)
            if connection.execute(self.sql.encode()).fetchone() != first:
                self.wrong.append(("changed inside a transaction", first))

    def _judge(self, row: tuple[object, ...] | None) -> None:
        assert row is not None
        runs, counts, releases = row[:3], row[3:6], row[6:]
        is_whole = (
            runs[0] is not None
            and len(set(map(str, runs))) == 1
            and counts[1] == LINES
            and counts[0] == 2 * LINES
            and releases[0] == releases[1]
        )
        if not is_whole:
            self.wrong.append(row)


@pytest.fixture
def project(settings) -> Project:
    project = Project(settings)
    project.fill_all(run=1, lines=LINES)
    project.publish(DAY_2)
    return project


def test_twenty_publishes_under_polling_readers_show_no_mixture_and_no_gap(project):
    stop = threading.Event()
    readers = [
        Reader(project, role, sql, is_repeatable, stop)
        for role in ("bi_reader", "marketing")
        for sql, is_repeatable in ((ONE_STATEMENT, False), (ONE_STATEMENT, True), (DIRECT, False))
    ]
    for reader in readers:
        reader.start()
    flips = []
    # A BI session that holds its snapshot all the while.
    with store.connect(project.settings, "bi_reader") as slow:
        slow.execute("set transaction isolation level repeatable read")
        before = slow.execute(ONE_STATEMENT.encode()).fetchone()
        published = [1]
        for run in range(2, 8):
            project.fill_all(run, lines=LINES)
            report = project.stage(DAY_2)
            release.mark_audited(project.settings, report.release_id, passed=True)
            started = time.perf_counter()
            release.publish(project.settings, report.release_id)
            flips.append(time.perf_counter() - started)
            published.append(report.release_id)
        for turn in range(14):
            release.rollback(project.settings, published[turn % len(published)])
            time.sleep(0.02)
        assert slow.execute(ONE_STATEMENT.encode()).fetchone() == before
    stop.set()
    for reader in readers:
        reader.join()

    assert [reader.wrong for reader in readers] == [[]] * len(readers)
    assert sum(reader.reads for reader in readers) > 100
    # Generous, for a busy machine: a reader that waits for a lock waits much longer.
    assert max(reader.worst for reader in readers) < 1.0
    assert max(flips) < 1.0


def test_a_transaction_of_two_statements_can_tell_that_a_release_came_between(project):
    with store.connect(project.settings, "bi_reader") as reader:
        first = reader.execute("select max(release_id) from mart.churn_risk_daily").fetchone()
        project.fill_all(run=2, lines=LINES)
        project.publish(DAY_2)
        second = reader.execute("select max(release_id) from mart.rfm_month").fetchone()

    assert first is not None
    assert second is not None
    assert first[0] < second[0]
