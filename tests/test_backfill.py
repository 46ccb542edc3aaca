"""Days are taken in again: whatever the way and the order, the same tables; readers' releases stay."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import pytest
from morning_after import (
    COMING,
    LAST,
    ONE,
    SECOND,
    SHORT_DAY,
    START,
    STRANGE,
    STRANGE_DAY,
    Morning,
    contents,
    differing,
)

from keepline import airflow as local_airflow
from keepline import store
from keepline.airflow import local
from keepline.commands import modelling, pipeline
from keepline.commands.backfill import backfill
from keepline.commands.quarantine import release_rows
from keepline.commands.rebuild import rebuild
from keepline.commands.set_aside import Chosen, groups
from keepline.errors import BadDataError, UsageError
from keepline.extract import HeldError
from keepline.settings import Settings
from keepline.window import Window

TICKET = "OPS-7"
REPAIRED = Window(SHORT_DAY, SHORT_DAY + 3 * ONE)


@pytest.fixture(scope="module")
def standing(tmp_path_factory, postgres) -> Iterator[Morning]:
    folder = tmp_path_factory.mktemp("backfill")
    morning = Morning(folder, postgres)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in morning.environment.items():
            patch.setenv(name, value)
        morning.simulate()
        morning.build()
    morning.save("standing")
    return morning


@pytest.fixture
def morning(standing: Morning, monkeypatch: pytest.MonkeyPatch) -> Morning:
    """Return the operator whose short drop was delivered again, whole; its warehouse has the short one."""
    for name, value in standing.environment.items():
        monkeypatch.setenv(name, value)
    standing.restore("standing")
    standing.deliver_whole(SHORT_DAY)
    return standing


def test_a_day_that_came_short_is_repaired_up_to_the_last_day(morning):
    # given a drop that came short, scores of the two days after it, and a release
    before, release = morning.tables(), morning.owned("select release_id from ctl.current_release")
    late = (
        "select sum(record_cnt) from core.fct_usage_daily where usage_type = 'voice'"
        f" and load_date = date '{SHORT_DAY}'"
    )
    had = morning.facts(late)[0][0]

    # when the day is taken in again under a ticket, twice
    with pytest.raises(HeldError, match="FILE_CHANGED"):
        backfill(morning.settings, Window.day(SHORT_DAY))
    assert differing(morning.tables(), before) == []
    backfill(morning.settings, Window.day(SHORT_DAY), ["cdr_voice"], TICKET)
    once = morning.state()
    backfill(morning.settings, Window.day(SHORT_DAY), ["cdr_voice"])

    # then its rows are in the facts, and the second time changes nothing
    assert morning.facts(late)[0][0] == len(morning.calls(SHORT_DAY)) - 1 > had
    assert differing(morning.state(), once) == []
    # and the scored days were scored again, the repaired one, too
    scored = morning.facts("select distinct score_date from ml.fct_churn_score order by 1")
    assert [day for (day,) in scored] == [SHORT_DAY, SECOND, LAST]
    # and readers have a new release up to the last day; the one before shows what it did
    days = morning.owned(
        "select r.release_id, r.to_date - 1 from ctl.release as r join ctl.current_release using (release_id)"
    )
    assert days[0][1] == LAST
    assert days[0][0] > release[0][0]
    # and the balance holds
    assert morning.owned("select count(*) from ops.reconciliation where not balanced") == [(0,)]

    # when the compute file is thrown away and made anew
    built = contents(morning.settings.compute_path)
    morning.settings.compute_path.write_bytes(b"not a database" * 1000)
    rebuild(morning.settings)

    # then every table is as it was, and the next backfill finds nothing to change
    assert differing(morning.tables(), built) == []
    assert not (morning.settings.operator_home / ".rebuild").exists()


def test_days_that_the_operator_does_not_have_are_refused(morning):
    for first, last, said in (
        (START - ONE, START + ONE, f"its days are {START} to {COMING}"),
        (LAST, COMING + 2 * ONE, "the operator has not all of"),
    ):
        with pytest.raises(UsageError, match=said):
            backfill(morning.settings, Window(first, last))
    morning.settings.compute_path.unlink()
    with pytest.raises(BadDataError, match="keepline rebuild"):
        backfill(morning.settings, Window.day(LAST))


def test_days_before_a_new_window_are_not_left_out(morning):
    # given an operator whose calendar goes on
    calendar = morning.settings.operator_home / "simulation.json"
    calendar.write_text(calendar.read_text().replace(str(COMING), "2026-07-30"))

    with pytest.raises(UsageError, match=f"from {COMING} to {COMING} would be left out"):
        backfill(morning.settings, Window.day(COMING + ONE))


# -- rows released from quarantine -----------------------------------------------------------------


def test_set_aside_rows_arrive_on_their_days_when_the_rule_is_mended(
    morning, tmp_path, monkeypatch, capsys
):
    # given three calls of an ending that the contract does not know, two of the day before
    settings, calls = morning.settings, Chosen("cdr_voice", None, "UNKNOWN_CODE")
    (group,) = groups(settings, calls)
    assert (group.load_date, group.rows, group.columns) == (STRANGE_DAY, 3, "status")
    of_the_day = (
        "select event_date, sum(record_cnt)::bigint from core.fct_usage_daily"
        f" where load_date = date '{STRANGE_DAY}' and usage_type = 'voice' group by all order by all"
    )
    before = dict(morning.facts(of_the_day))

    # when the contract is mended and the rows are released
    mended = tmp_path / "dbt_project"
    shutil.copytree(settings.dbt_dir, mended)
    path = mended / "models" / "staging" / "med" / "cdr_voice.yml"
    path.write_text(
        path.read_text().replace("[completed, dropped,", f"[completed, {STRANGE}, dropped,")
    )
    monkeypatch.setattr(Settings, "dbt_dir", property(lambda _: mended))
    release_rows(settings, calls, "a new ending")

    # then they are in the facts on the days on which they happened, with the day that brought them
    after = dict(morning.facts(of_the_day))
    assert {day: after[day] - before.get(day, 0) for day in after} == {
        STRANGE_DAY - ONE: 2,
        STRANGE_DAY: 1,
    }
    assert groups(settings, calls) == []
    said = capsys.readouterr().out
    assert f"{STRANGE_DAY}: 3 rows arrived" in said
    assert f"{STRANGE_DAY - ONE} 2, {STRANGE_DAY} 1" in said
    # and the balance holds, readers have them, and the decision is on record
    balance = morning.owned(
        "select physical_rows - loaded_rows - skipped_rows, quarantined_rows, balanced from"
        f" ops.reconciliation where table_name = 'cdr_voice' and load_date = '{STRANGE_DAY}'"
    )
    assert balance == [(0, 0, True)]
    with store.connect(settings, "bi_reader") as connection:
        shown = (
            "select sum(record_cnt) from star.fct_usage_daily"
            f" where load_date = date '{STRANGE_DAY}' and usage_type = 'voice'"
        )
        assert store.scalar(connection, shown) == sum(after.values())
    (decision,) = morning.owned(
        "select action, table_name, load_date, reason_code, rows_before, rows_after, decided_by, why"
        " from ops.quarantine_decision"
    )
    who = pwd.getpwuid(os.getuid()).pw_name
    of = ("release", "cdr_voice", STRANGE_DAY, "UNKNOWN_CODE")
    assert decision == (*of, 3, 0, who, "a new ending")


# -- long: every way, and two at once --------------------------------------------------------------


def keepline(morning: Morning, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "keepline", *words],
        env=os.environ | morning.command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def steps_of(morning: Morning, day: date) -> list[Callable[[], object]]:
    """Return the tasks of the daily DAG for a day."""
    settings, window = morning.settings, Window.day(day)
    return [
        partial(pipeline.extract, settings, window),
        partial(pipeline.load, settings, window),
        partial(pipeline.check, settings, window),
        partial(pipeline.build, settings, "core", window),
        partial(pipeline.build, settings, "features", window),
        partial(modelling.score, settings, day),
        partial(pipeline.build, settings, "marts", window),
        partial(pipeline.stage_release, settings, window),
        partial(pipeline.audit, settings, window),
        partial(pipeline.publish, settings, window),
    ]


def one_day(morning: Morning, day: date) -> None:
    """Run a day as the daily DAG does, task by task."""
    for step in steps_of(morning, day):
        step()


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_the_order_of_backfills_does_not_matter(morning):
    # given a wide backfill of some days
    backfill(morning.settings, REPAIRED, accept_changed=TICKET)
    wide = morning.state()

    # when the days are backfilled one by one from the last to the first, one of them twice
    morning.restore("standing")
    morning.deliver_whole(SHORT_DAY)
    for day in [REPAIRED.last_date, *reversed(REPAIRED.days())]:
        backfill(morning.settings, Window.day(day), accept_changed=TICKET)

    # then the tables are the same
    assert differing(morning.state(), wide) == []


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_the_daily_way_through_to_the_last_day_gives_the_same_tables(morning):
    backfill(morning.settings, Window(SHORT_DAY, COMING), accept_changed=TICKET)
    wide = morning.state()

    # when each day from the repaired one on runs as in `airflow backfill create`
    morning.restore("standing")
    morning.deliver_whole(SHORT_DAY)
    pipeline.extract(morning.settings, Window.day(SHORT_DAY), accept_changed=TICKET)
    for day in Window(SHORT_DAY, COMING).days():
        one_day(morning, day)

    assert differing(morning.state(), wide) == []


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_the_dag_gives_the_same_tables_as_the_command(morning, monkeypatch):
    pipeline.extract(morning.settings, Window.day(SHORT_DAY), accept_changed=TICKET)
    backfill(morning.settings, REPAIRED)
    by_command = morning.state()

    # when Airflow runs the DAG
    morning.restore("standing")
    morning.deliver_whole(SHORT_DAY)
    pipeline.extract(morning.settings, Window.day(SHORT_DAY), accept_changed=TICKET)
    settings = morning.settings
    own = local.environment

    def environment(of: object, home: Path) -> dict[str, str]:
        return own(of, home) | morning.command_environment()

    monkeypatch.setattr("keepline.airflow.foreground.environment", environment)
    said: list[str] = []
    window = {"from": str(REPAIRED.from_date), "to": str(REPAIRED.to_date)}
    code = local_airflow.test_dag(settings, "keepline_backfill", LAST, said.append, window)

    assert code == 0, "\n".join(said)
    assert differing(morning.state(), by_command) == []


@pytest.mark.case(92)
@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_a_backfill_between_any_two_tasks_of_the_daily_run_gives_the_same_tables(morning):
    # given what comes of a daily run and a backfill one after the other
    one_day(morning, COMING)
    backfill(morning.settings, Window.day(SHORT_DAY), accept_changed=TICKET)
    expected = morning.state()

    # Loaded; described, not scored; staged; audited.
    for place in (2, 5, 8, 9):
        # when the backfill comes after any task of the daily run
        morning.restore("standing")
        morning.deliver_whole(SHORT_DAY)
        steps = steps_of(morning, COMING)
        for step in steps[:place]:
            step()
        backfill(morning.settings, Window.day(SHORT_DAY), accept_changed=TICKET)
        for step in steps[place:]:
            step()

        # then the tables are the same, and readers see the last day
        assert differing(morning.state(), expected) == [], f"after task {place}"
        shown = "select max(score_date) from mart.churn_risk_latest"
        with store.connect(morning.settings, "bi_reader") as connection:
            assert store.scalar(connection, shown) == COMING


@pytest.mark.case(92)
@pytest.mark.deep
@pytest.mark.timeout(600)
def test_a_backfill_while_the_daily_run_works_waits_and_both_are_right(morning):
    # given what comes of a daily run and a backfill one after the other
    one_day(morning, COMING)
    backfill(morning.settings, Window.day(SHORT_DAY), accept_changed=TICKET)
    expected = morning.state()

    # when they run at once, in two processes
    morning.restore("standing")
    morning.deliver_whole(SHORT_DAY)
    ticket = ("--accept-changed", TICKET)
    repair = keepline(morning, "backfill", "--date", str(SHORT_DAY), *ticket)
    time.sleep(1)
    for words in (
        *(["extract"], ["load"], ["check"], ["build", "--layer", "core"]),
        *(["build", "--layer", "features"], ["score"], ["build", "--layer", "marts"]),
        *(["stage"], ["audit"], ["publish"]),
    ):
        step = keepline(morning, *words, "--date", str(COMING))
        told, _ = step.communicate(timeout=300)
        assert step.returncode == 0, f"{words}: {told}"
    told, _ = repair.communicate(timeout=300)

    # then both ended well, and the tables are those of one after the other
    assert repair.returncode == 0, told
    assert differing(morning.state(), expected) == []
    assert morning.owned("select count(*) from ops.reconciliation where not balanced") == [(0,)]
