"""`keepline status` tells what runs, is late, held or set aside, and one command to type next."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta

import pytest
import typer
from release_rows import DAY_2, DAY_3, Project

from keepline import lease, ops, store
from keepline.cli import app
from keepline.commands import demo, morning, status
from keepline.commands.status import HeldRange, command, held_ranges, mend
from keepline.errors import UsageError
from keepline.extract.verdict import HOLD_REASONS
from keepline.ops import Held, Reconciliation, StageRun
from keepline.settings import Settings
from keepline.window import Window

Told = Callable[[], str]


@pytest.fixture
def _published(settings, monkeypatch) -> None:
    """Publish the second day, and make the command find the store."""
    monkeypatch.setattr(Settings, "load", classmethod(lambda _: settings))
    project = Project(settings)
    project.fill_all(run=1)
    project.publish(DAY_2)
    settings.operator_home.mkdir(parents=True, exist_ok=True)
    demo.remember(settings, date(2026, 1, 1), DAY_2, date(2026, 7, 30))


@pytest.fixture
def told(_published, capsys) -> Told:
    def tell() -> str:
        capsys.readouterr()
        status.status()
        return capsys.readouterr().out

    return tell


def record(settings: Settings, verb: str, day: date, state: str, message: str = "") -> None:
    with store.connect(settings) as connection:
        ops.record_stage(connection, StageRun(verb, Window.day(day), 1, 0.1, state, message))


def arrive(settings: Settings, day: date) -> None:
    with store.connect(settings) as connection:
        row = Reconciliation("cdr_voice", day, 1, 1, {}, 0, {}, balanced=True)
        ops.record_reconciliation(connection, [row])


def hold(settings: Settings, *held: Held) -> None:
    with store.connect(settings) as connection:
        ops.record_held(connection, ["cdr_voice"], Window(DAY_2, DAY_3 + timedelta(days=1)), held)


def test_when_all_is_well_the_next_day_is_next(settings, told):
    arrive(settings, DAY_2)
    record(settings, "publish", DAY_2, "done")

    said = told()

    assert f"business day {DAY_2}" in said
    assert "no row waits" in said
    assert "next: make run (the next business day)" in said
    for word in ("late", "held", "failed", "at work"):
        assert word not in said


def test_a_demo_of_another_version_gives_no_new_day_and_says_the_way_out(settings, told):
    arrive(settings, DAY_2)
    record(settings, "publish", DAY_2, "done")
    marker = settings.operator_home / "simulation.json"
    days = json.loads(marker.read_text())
    marker.write_text(json.dumps({**days, "systems": "of another version"}))

    said = " ".join(told().split())

    assert "next: the demo operator in" in said
    assert "`make clean`, then `make run`, or set KEEPLINE_HOME to an empty folder" in said
    with pytest.raises(UsageError, match="created by another version of keepline"):
        morning.run(settings, None)


def test_a_day_that_arrived_and_is_not_shown_is_late(settings, told):
    arrive(settings, DAY_3)

    assert f"late: 1 business day, {DAY_3}" in told()


def test_the_clock_makes_an_operator_late_only_when_it_lives(settings, told, monkeypatch):
    # given an operator that has gone beyond the history of its file, and years without a run
    arrive(settings, DAY_2)
    lives = status.demo.Calendar(date(2026, 1, 1), DAY_2, date(2026, 6, 1), is_synthetic=False)
    monkeypatch.setattr(status.demo, "calendar", lambda _: lives)
    late = Window.day(DAY_2).to_date

    class Later(status.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 7, 5, 8, tzinfo=tz)

    monkeypatch.setattr(status, "datetime", Later)
    assert f"late: 4 business days, {late} to 2026-07-04" in told()

    # when it is one whose data end, or one that never existed, then the clock says nothing
    for days in (
        status.demo.Calendar(date(2026, 1, 1), DAY_2, DAY_2, is_synthetic=False),
        status.demo.Calendar(date(2026, 1, 1), DAY_2, date(2026, 6, 1), is_synthetic=True),
    ):
        monkeypatch.setattr(status.demo, "calendar", lambda _, days=days: days)
        assert "late" not in told()


def test_what_is_held_is_told_with_its_code_until_it_lands(settings, told):
    record(settings, "extract", DAY_3, "failed", "1 finding(s), held: cdr_voice (2026-07-01)")
    hold(settings, Held("cdr_voice", DAY_3, "SHORT_FILE", "2026-07-01/cdr_voice.csv.gz", "1 of 2"))
    with store.connect(settings) as connection:
        since = held_ranges(connection)[0].since_at

    said = told()
    assert f"held: cdr_voice {DAY_3}: SHORT_FILE, since" in said
    assert f"next: ask for cdr_voice again, then: keepline extract --date {DAY_3}" in said
    assert "docs/runbook.md, SHORT_FILE" in said

    # when it is held again, then it is held since then; when it lands, it is not
    hold(settings, Held("cdr_voice", DAY_3, "SHORT_FILE", "2026-07-01/cdr_voice.csv.gz", "1 of 3"))
    with store.connect(settings) as connection:
        assert held_ranges(connection)[0].since_at == since
    hold(settings)
    assert "held: " not in told().replace("held: cdr_voice (2026-07-01)", "")


def test_a_run_at_work_is_waited_for(settings, told):
    record(settings, "check", DAY_3, "failed", "the gate 'landed' stopped")
    with lease.hold(settings, "backfill", "2026-06-01 to 2026-06-03"):
        said = told()

    assert "at work: `backfill 2026-06-01 to 2026-06-03` (process" in said
    assert "next: wait for `backfill" in said
    assert f"next: mend that, then: keepline check --date {DAY_3} (docs/runbook.md)" in told()


def test_the_latest_failure_decides_what_is_next(settings, told):
    record(settings, "check", DAY_2, "failed", "the gate said no")
    record(settings, "backfill", DAY_2, "failed", "the gate said no")

    said = told()

    assert f"check {DAY_2} failed: the gate said no" in said
    assert f"next: mend that, then: keepline backfill --date {DAY_2} (docs/runbook.md)" in said


@pytest.mark.parametrize("verb", ["backfill", "release", "rebuild"])
def test_a_repair_that_failed_is_repeated_by_a_command_that_parses(verb):
    program, name, *options = command(StageRun(verb, Window.day(DAY_2), 0, 1.0, "failed")).split()

    assert program == "keepline"
    typer.main.get_command(app).commands[name].make_context(name, options)


@pytest.mark.parametrize("code", HOLD_REASONS)
def test_every_code_of_a_hold_has_something_to_type(code, settings):
    days = Window(DAY_2, DAY_3 + timedelta(days=1))

    assert "keepline " in mend(
        HeldRange("cdr_voice", code, days, 2, status.datetime.now(settings.zone))
    )
