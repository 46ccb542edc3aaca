"""Readers see one whole release: nothing before it is published, everything of it at once."""

from __future__ import annotations

from datetime import date

import psycopg
import pytest
from conftest import SECRETS
from release_rows import DAY_1, DAY_2, LINES, RISK, Project

from keepline import cli, release, store
from keepline.commands import pipeline
from keepline.errors import BadDataError, GateFailedError, UsageError
from keepline.settings import Settings
from keepline.window import Window

RUNS = (
    "select (select array_agg(distinct run) from mart.churn_risk_daily),"
    " (select array_agg(distinct run) from mart.rfm_month),"
    " (select array_agg(distinct run) from star.dim_subscription)"
)


@pytest.fixture
def project(settings) -> Project:
    return Project(settings)


def test_a_release_is_invisible_until_it_is_published(project):
    project.fill_all(run=1)

    staged = project.stage()

    assert project.rows(RUNS) == [(None, None, None)]
    assert project.rows("select count(*) from store.churn_risk_daily") == [(0,)]
    release.mark_audited(project.settings, staged.release_id, passed=True)
    assert project.rows(RUNS) == [(None, None, None)]
    release.publish(project.settings, staged.release_id)
    assert project.rows(RUNS) == [([1], [1], [1])]
    assert project.rows("select distinct release_id from mart.rfm_month") == [(staged.release_id,)]


def test_values_arrive_as_they_were(project):
    project.fill_all(run=1)
    project.fill(RISK, [(DAY_2, "a\n'\"\\,é电", 0.1 + 0.2, None, -1)])
    project.fill(LINES, [("s1", None, None, "-0.000001", 7), ("", date(1, 1, 1), False, "1", 8)])

    project.publish()

    assert project.rows("select * from mart.churn_risk_daily") == [
        (DAY_2, "a\n'\"\\,é电", 0.1 + 0.2, None, -1, 1, DAY_2, 0)
    ]
    found = project.rows(
        "select subscription_id, activated_date, is_current, share::text, run"
        " from star.dim_subscription order by run"
    )
    assert found == [("s1", None, None, "-0.000001", 7), ("", date(1, 1, 1), False, "1.000000", 8)]


def test_publish_and_rollback_move_all_tables_together(project):
    project.fill_all(run=1)
    first = project.publish(DAY_1).release_id
    project.fill_all(run=2)
    second = project.publish(DAY_2).release_id

    assert project.rows(RUNS) == [([2], [2], [2])]
    assert release.rollback(project.settings).release_id == first
    assert project.rows(RUNS) == [([1], [1], [1])]
    assert release.rollback(project.settings, second).is_current
    assert project.rows(RUNS) == [([2], [2], [2])]
    moves = project.rows(
        "select from_release_id, to_release_id from ctl.release_move order by 1 nulls first, 2",
        None,
    )
    assert moves == [(None, first), (first, second), (first, second), (second, first)]


def test_latest_shows_the_newest_day_of_the_release_that_readers_see(project):
    project.fill_all(run=1, days=[DAY_1])
    project.publish(DAY_1)
    project.fill_all(run=2, days=[DAY_1, DAY_2])
    project.publish(DAY_2)

    latest = "select distinct score_date, run from mart.churn_risk_latest"
    assert project.rows(latest, "marketing") == [(DAY_2, 2)]
    release.rollback(project.settings)
    assert project.rows(latest, "marketing") == [(DAY_1, 1)]


def test_publishing_twice_changes_nothing(project):
    project.fill_all(run=1)
    report = project.publish()

    again = release.publish(project.settings, report.release_id)

    assert again == release.current_release(project.settings)
    assert project.rows("select count(*) from ctl.release_move", None) == [(1,)]


def test_what_was_not_audited_or_failed_its_audit_is_refused(project):
    project.fill_all(run=1)
    report = project.stage()

    with pytest.raises(UsageError, match="was not audited"):
        release.publish(project.settings, report.release_id)
    release.mark_audited(project.settings, report.release_id, passed=False)
    with pytest.raises(GateFailedError, match="did not pass its audit"):
        release.publish(project.settings, report.release_id)
    with pytest.raises(UsageError, match="never published"):
        release.rollback(project.settings, report.release_id)
    with pytest.raises(UsageError, match="no release 99"):
        release.publish(project.settings, 99)
    assert release.current_release(project.settings) is None


def test_an_older_release_cannot_overtake_a_newer_one(project):
    project.fill_all(run=1)
    older = project.stage(DAY_1).release_id
    release.mark_audited(project.settings, older, passed=True)
    project.fill_all(run=2)
    newer = project.stage(DAY_2).release_id
    release.mark_audited(project.settings, newer, passed=True)
    release.publish(project.settings, newer)

    with pytest.raises(UsageError, match="was retired"):
        release.publish(project.settings, older)


def test_nothing_to_roll_back_to_is_said(project):
    project.fill_all(run=1)
    project.publish()

    with pytest.raises(UsageError, match="no earlier release"):
        release.rollback(project.settings)


def repaired(project: Project) -> tuple[int, int]:
    """Return a release of a server whose clock was a day ahead, and its repair of the right time."""
    project.fill_all(run=1)
    fast = project.stage().release_id
    release.mark_audited(project.settings, fast, passed=True)
    project.change(
        "update ctl.release set created_at = now() + interval '1 day',"
        " staged_at = now() + interval '1 day', audited_at = now() + interval '1 day'"
    )
    project.fill_all(run=2)
    repair = project.stage().release_id
    release.mark_audited(project.settings, repair, passed=True)
    return fast, repair


def test_a_release_of_a_fast_clock_does_not_hide_its_repair(project):
    fast, repair = repaired(project)

    assert pipeline.audit(project.settings, Window.day(DAY_2)) == repair
    pipeline.publish(project.settings, Window.day(DAY_2))

    assert release.history(project.settings)[0].release_id == repair
    assert project.rows("select distinct run, release_id from mart.churn_risk_daily") == [
        (2, repair)
    ]
    # A fast clock that found the same rows again: what comes after it counts, too.
    project.change("update ctl.release set staged_at = now() + interval '2 days'")
    project.fill_all(run=3)
    assert (
        project.stage().release_id
        == release.staged_release(project.settings, Window.day(DAY_2)).release_id
    )
    assert fast < repair


def test_a_release_other_than_the_one_that_was_handed_on_is_refused(project, monkeypatch, capsys):
    fast, repair = repaired(project)
    for name, value in SECRETS.items():
        monkeypatch.setenv(f"KEEPLINE_{name.upper()}", value)
    monkeypatch.setenv("KEEPLINE_HOME", str(project.settings.home))
    monkeypatch.setenv("KEEPLINE_STORE_DSN", project.settings.store_dsn.get_secret_value())

    for verb in ("audit", "publish"):
        words = ["keepline", verb, "--date", str(DAY_2), "--release", str(fast)]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        assert leaving.value.code == UsageError.exit_code
        said = capsys.readouterr().err
        assert f"release {fast} is not the one that was staged last for {DAY_2}" in said
        assert f"--release {repair}" in said
    assert release.current_release(project.settings) is None

    pipeline.publish(project.settings, Window.day(DAY_2), repair)
    assert release.current_release(project.settings).release_id == repair


def test_history_tells_what_became_of_each_release(project):
    project.fill_all(run=1)
    first = project.publish(DAY_1).release_id
    project.fill_all(run=2)
    second = project.stage(DAY_2).release_id
    release.mark_audited(project.settings, second, passed=False)

    told = [
        (info.release_id, info.status, info.is_current, str(info.window))
        for info in release.history(project.settings)
    ]

    assert told == [
        (second, "rejected", False, "2026-06-30"),
        (first, "published", True, "2026-06-29"),
    ]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("alter table store.rfm_month no force row level security", "no forced row security"),
        ("alter table store.rfm_month disable row level security", "no forced row security"),
        ("drop policy readers on store.rfm_month", "policies of store.rfm_month"),
        (
            "alter policy readers on store.rfm_month using (true)",
            "policies of store.rfm_month were changed",
        ),
        ("grant insert on store.rfm_month to bi_reader", "bi_reader has INSERT on store.rfm_month"),
        ("grant select on star.dim_subscription to marketing", "marketing has SELECT on star"),
        ("grant select on mart.rfm_month to public", "public has SELECT on mart.rfm_month"),
        ("grant select (verb) on ops.stage_run to marketing", "SELECT on ops.stage_run.verb"),
        ("grant usage on schema vault to bi_reader", "bi_reader has USAGE on vault"),
        ("revoke select on mart.rfm_month from marketing", "marketing lacks SELECT on mart.rfm"),
        ("alter view mart.rfm_month set (security_invoker = false)", "reader's own rights"),
        ("create view mart.leak as select * from store.rfm_month", "mart.leak is not published"),
    ],
)
def test_a_release_is_not_shown_when_the_rights_are_not_what_they_should_be(project, harm, said):
    project.fill_all(run=1)
    project.publish(DAY_1)
    project.fill_all(run=2)
    staged = project.stage(DAY_2).release_id
    release.mark_audited(project.settings, staged, passed=True)
    project.change(harm)

    with pytest.raises(BadDataError, match=said):
        release.publish(project.settings, staged)

    assert project.rows("select release_id from ctl.current_release", None) != [(staged,)]
    project.change("drop view if exists mart.leak")
    project.migrate()
    release.publish(project.settings, staged)
    assert project.rows(RUNS) == [([2], [2], [2])]


@pytest.mark.parametrize("role", ["bi_reader", "marketing"])
@pytest.mark.parametrize(
    "attack",
    [
        "insert into mart.rfm_month values ('2026-06-01', 's', 'x', 1)",
        "update store.churn_risk_daily set run = 1",
        "delete from store.churn_risk_daily",
        "truncate store.churn_risk_daily",
        "update ctl.current_release set release_id = 1",
        "insert into ctl.release_part values (1, 'x', null, 1)",
        "select * from vault.personal_value",
        "select * from ops.stage_run",
        "create temp table mine (n int)",
        "create table public.mine (n int)",
        "create table mart.mine (n int)",
        "set role keepline",
        "set session authorization keepline",
        "copy (select 1) to program 'true'",
        "copy store.churn_risk_daily from program 'true'",
        "select pg_read_file('/etc/hostname')",
        "alter table store.churn_risk_daily disable row level security",
        "drop view mart.churn_risk_daily",
        "set row_security = off; select * from store.churn_risk_daily",
        "select * from store.churn_risk_daily__202606",
    ],
)
def test_no_reader_can_write_or_get_past_his_rights(role, attack, attacked):
    with store.connect(attacked.settings, role, autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(attack.encode())


@pytest.fixture(scope="module")
def attacked(postgres, tmp_path_factory) -> Project:
    """Return a store with a published release and a staged one, which the tests don't change."""
    postgres.ensure_database("test_release_attacks")
    dsn, home = postgres.dsn("test_release_attacks"), tmp_path_factory.mktemp("attacks")
    project = Project(Settings(home=home, store_dsn=dsn, **SECRETS))
    project.fill_all(run=1)
    project.publish(DAY_1)
    project.fill_all(run=2)
    project.stage(DAY_2)
    return project


def test_marketing_reads_its_marts_and_nothing_else(attacked):
    assert attacked.rows("select distinct run from mart.churn_risk_daily", "marketing") == [(1,)]
    assert attacked.rows("select distinct run from mart.rfm_month", "marketing") == [(1,)]
    for other in ("star.dim_subscription", "store.dim_subscription"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            attacked.rows(f"select * from {other}", "marketing")


@pytest.mark.parametrize("role", ["bi_reader", "marketing"])
def test_a_reader_who_asks_the_store_directly_sees_just_the_current_release(attacked, role):
    assert attacked.rows("select distinct run from store.churn_risk_daily", role) == [(1,)]
    assert attacked.rows("select distinct run from store.churn_risk_daily", None) != [(1,)]


def test_a_superuser_who_asks_the_views_sees_just_the_current_release(attacked):
    assert attacked.rows(RUNS, None) == [([1], [1], [1])]
