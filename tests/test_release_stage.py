"""A stage copies just what changed, all of it or nothing, and cleans up after releases that are over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import date, timedelta

import pytest
from release_rows import DAY_1, DAY_2, DAY_3, JUNE, LINES, RFM, RISK, Project

from keepline import release
from keepline.errors import BadDataError, UsageError
from keepline.window import Window

JULY = date(2026, 7, 1)


@pytest.fixture
def project(settings) -> Project:
    return Project(settings)


def copied(report: release.StageReport) -> dict[str, int]:
    """Return rows copied by table, for the tables that had any."""
    return {table.table_name: table.rows_copied for table in report.tables if table.rows_copied}


def test_a_second_identical_stage_copies_nothing_and_makes_no_release(project):
    project.fill_all(run=1)
    first = project.publish()

    again = project.stage()

    assert (again.release_id, again.is_new, again.is_current) == (first.release_id, False, True)
    assert copied(again) == {}


def test_the_order_of_rows_does_not_matter_but_a_row_that_comes_twice_does(project):
    project.fill_all(run=1)
    project.publish()
    project.run(
        "create or replace table core.dim_subscription as"
        " from core.dim_subscription order by subscription_id desc"
    )
    assert not project.stage().is_new

    project.run("insert into core.dim_subscription from core.dim_subscription")

    assert copied(project.stage()) == {"dim_subscription": 40}


def test_a_stage_that_was_not_published_yet_is_found_again(project):
    project.fill_all(run=1)
    first = project.stage()

    again = project.stage()

    assert (again.release_id, again.is_new, again.is_current) == (first.release_id, False, False)


def test_a_rejected_release_is_audited_anew_when_it_is_staged_again(project):
    project.fill_all(run=1)
    first = project.stage().release_id
    release.mark_audited(project.settings, first, passed=False)

    project.stage()

    info = release.staged_release(project.settings, Window.day(DAY_2))
    assert (info.release_id, info.status) == (first, "staged")


def test_a_new_day_copies_that_day_and_the_state_alone(project):
    project.fill_all(run=1, days=[DAY_1])
    project.publish(DAY_1)
    project.run(
        f"insert into {RISK.relation} select date '{DAY_2}', * exclude (score_date)"
        f" from {RISK.relation}"
    )
    project.run(f"update {LINES.relation} set run = 2")

    report = project.publish(DAY_2)

    assert copied(report) == {"churn_risk_daily": 20, "dim_subscription": 20}
    assert project.rows(
        "select score_date, count(*) from mart.churn_risk_daily group by 1 order by 1"
    ) == [(DAY_1, 20), (DAY_2, 20)]


def test_an_old_period_that_was_restated_is_found_by_its_content(project):
    days = [DAY_2 - timedelta(days=n) for n in range(40)]
    project.fill_all(run=1, days=days)
    project.publish()
    project.run(
        f"update {RISK.relation} set risk_tier = 'HIGH'"
        f" where score_date = date '{days[35]}' and subscription_id = 's3'"
    )

    report = project.publish(DAY_3)

    assert copied(report) == {"churn_risk_daily": 20}
    assert project.rows(
        "select score_date, subscription_id from mart.churn_risk_daily where risk_tier = 'HIGH'"
    ) == [(days[35], "s3")]
    release.rollback(project.settings)
    assert project.rows(
        "select count(*), count(*) filter (where risk_tier = 'HIGH') from mart.churn_risk_daily"
    ) == [(800, 0)]


def test_history_that_compute_lost_stays_but_an_emptied_day_of_the_window_goes(project):
    project.fill_all(run=1, days=[DAY_1, DAY_2])
    project.publish(DAY_2)
    project.fill_all(run=1, days=[DAY_3])
    project.publish(DAY_3)
    days = "select distinct score_date from mart.churn_risk_daily order by 1"
    assert project.rows(days) == [(DAY_1,), (DAY_2,), (DAY_3,)]

    project.fill_all(run=1, days=[DAY_1, DAY_3])
    project.publish(DAY_2)

    assert project.rows(days) == [(DAY_1,), (DAY_3,)]


def test_an_empty_table_is_published_empty(project):
    project.fill_all(run=1)
    project.publish(DAY_1)
    project.fill(LINES, [])
    project.fill(RFM, [])

    project.publish(Window(JUNE, DAY_3).last_date)

    assert project.rows("select count(*) from star.dim_subscription") == [(0,)]
    assert project.rows("select count(*) from mart.rfm_month") == [(0,)]


def test_rows_without_a_period_are_refused(project):
    project.fill_all(run=1)
    project.fill(RFM, [(None, "s1", "Loyal", 1)])

    with pytest.raises(BadDataError, match="rows without month_start"):
        project.stage()


def test_a_model_that_was_not_built_is_named(project):
    project.fill_all(run=1)
    project.run(f"drop table {RFM.relation}")

    with pytest.raises(UsageError, match=r"marts\.mart_rfm_month"):
        project.stage()


def test_a_value_that_does_not_fit_stops_the_stage_without_being_quoted(project):
    project.fill_all(run=1)
    project.run(
        f"create or replace table {LINES.relation} as"
        " select '138\\0' || chr(0) || '00001234' as subscription_id, date '2026-01-01' as"
        " activated_date, true as is_current, 1e17::decimal(38,6) as share, 1 as run"
    )

    with pytest.raises(BadDataError, match="cannot be stored") as caught:
        project.stage()

    assert "00001234" not in str(caught.value)
    assert project.rows("select count(*) from ctl.release", None) == [(0,)]


def test_the_newest_releases_are_kept_and_the_rows_of_older_ones_go(project):
    settings = project.settings.model_copy(update={"releases_kept": 3})
    project.settings = settings
    for run in range(1, 7):
        project.fill_all(run)
        project.publish(DAY_2)

    told = {info.release_id: info.status for info in release.history(settings)}
    leaves = project.rows(
        "select count(*) from pg_class where relispartition and relkind = 'r'"
        " and relname like 'dim_subscription\\_\\_%'",
        None,
    )
    runs = project.rows(
        "select array_agg(distinct run order by run) from store.churn_risk_daily", None
    )

    assert list(told.values()) == ["published"] * 3 + ["retired"] * 3
    assert leaves == [(3,)]
    assert runs == [([4, 5, 6],)]
    with pytest.raises(UsageError, match="was retired"):
        release.rollback(settings, 1)
    assert release.rollback(settings, 4).is_current
    assert project.rows("select distinct run from star.dim_subscription") == [(4,)]


def test_a_rolled_back_release_is_kept_however_old(project):
    project.settings = project.settings.model_copy(update={"releases_kept": 2})
    project.fill_all(run=1)
    first = project.publish(DAY_1).release_id
    project.fill_all(run=2)
    project.publish(DAY_2)
    release.rollback(project.settings)

    for run in (3, 4):
        project.fill_all(run)
        project.stage(DAY_3)

    assert release.current_release(project.settings).release_id == first
    assert project.rows("select distinct run from star.dim_subscription") == [(1,)]


def test_a_reader_who_holds_a_table_delays_the_clean_up_and_nothing_else(project):
    from keepline import store

    project.settings = project.settings.model_copy(update={"releases_kept": 1})
    project.fill_all(run=1)
    project.publish(DAY_1)
    with store.connect(project.settings, "bi_reader") as slow:
        slow.execute("set transaction isolation level repeatable read")
        held = slow.execute("select count(*), min(run) from star.dim_subscription").fetchall()
        project.fill_all(run=2)
        started = time.monotonic()
        project.publish(DAY_2)
        assert time.monotonic() - started < 10
        assert project.rows("select distinct run from star.dim_subscription") == [(2,)]
        assert (
            slow.execute("select count(*), min(run) from star.dim_subscription").fetchall() == held
        )
        assert slow.execute("select distinct run from mart.churn_risk_daily").fetchall() == [(1,)]

    left = "select count(*) from ctl.part where table_name = 'dim_subscription'"
    assert project.rows(left, None) == [(2,)]
    assert release.clean(project.settings) >= 1
    assert project.rows(left, None) == [(1,)]


def test_a_stage_that_is_killed_leaves_nothing_and_the_next_one_is_whole(project):
    project.fill_all(run=1)
    project.publish(DAY_1)
    project.fill_all(run=2)
    # Many rows, so that the copy lasts long enough to be killed in its middle.
    project.run(
        "insert into marts.mart_churn_risk_daily select date '2026-06-30', 't' || n, 0.5,"
        " 'LOW', 2 from range(3000000) as t (n)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STAGE_IN_A_CHILD)],
        env={**os.environ, **environment(project)},
    )
    copying = "select count(*) from pg_stat_activity where query like 'COPY%' and state = 'active'"
    for _ in range(600):
        if project.rows(copying, None) != [(0,)] or child.poll() is not None:
            break
        time.sleep(0.02)
    assert child.poll() is None, "the child was done before it could be killed"
    child.send_signal(signal.SIGKILL)
    child.wait()

    assert project.rows("select distinct run from mart.churn_risk_daily") == [(1,)]
    assert project.rows("select count(*) from ctl.release", None) == [(1,)]
    assert project.rows("select count(*) from ctl.part", None) == [(4,)]
    project.fill_all(run=3)
    project.publish(DAY_2)
    assert project.rows("select distinct run from mart.churn_risk_daily") == [(3,)]
    assert project.rows("select count(*) from mart.churn_risk_daily") == [(40,)]


STAGE_IN_A_CHILD = """
    from datetime import date
    from keepline import release
    from keepline.settings import Settings
    from keepline.window import Window
    release.stage(Settings.load(), Window.day(date(2026, 6, 30)))
"""


def environment(project: Project) -> dict[str, str]:
    """Return the project's settings as the variables of a child process."""
    settings = project.settings
    return {
        "KEEPLINE_HOME": str(settings.home),
        "KEEPLINE_STORE_DSN": settings.store_dsn.get_secret_value(),
        **{
            f"KEEPLINE_{name.upper()}": getattr(settings, name).get_secret_value()
            for name in (
                "pseudonym_key",
                "vault_key",
                "store_password",
                "extractor_password",
                "bi_reader_password",
                "marketing_password",
            )
        },
    }
