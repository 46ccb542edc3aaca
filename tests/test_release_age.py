"""No reader takes a stale release for a fresh one: each row has its age, and marketing sees nothing old."""

from __future__ import annotations

from datetime import date, timedelta

import psycopg
import pytest
from conftest import SECRETS
from release_rows import DAY_1, DAY_2, JUNE, LINES, RFM, RISK, Project

from keepline import ops, release, store
from keepline.commands import status
from keepline.errors import BadDataError
from keepline.settings import Settings

LIMIT_DAYS = 7  # marketing_max_age_days of dbt_project/seeds/param_threshold.csv
MARKETING = ("mart.churn_risk_daily", "mart.churn_risk_latest", "mart.rfm_month")
LONG_AGO = DAY_2 - timedelta(days=LIMIT_DAYS)


def published(settings: Settings, *, has_ended: bool) -> Project:
    """Publish the release of a day, with risk of the day a week before, too."""
    project = Project(settings, has_ended=has_ended)
    days = (LONG_AGO - timedelta(days=1), LONG_AGO, DAY_1, DAY_2)
    project.fill(RISK, [(day, "s1", 0.5, "LOW", 1) for day in days])
    project.fill(RFM, [(JUNE, "s1", "Loyal", 1)])
    project.fill(LINES, [("s1", DAY_1, True, "0.5", 1)])
    project.publish(DAY_2)
    return project


@pytest.fixture
def lives(settings) -> Project:
    return published(settings, has_ended=False)


@pytest.fixture
def ended(settings) -> Project:
    return published(settings, has_ended=True)


def at_noon_of(project: Project, day: date) -> None:
    """Let the server's clock show a day: only the store's own login may do that."""
    project.change(
        f"create or replace function ctl.today() returns date language sql as 'select date ''{day}'''"
    )


def landed(project: Project, day: date) -> None:
    with store.connect(project.settings) as connection:
        row = ops.Reconciliation("cdr_voice", day, 1, 1, {}, 0, {}, balanced=True)
        ops.record_reconciliation(connection, [row])


def counts(project: Project) -> list[int]:
    return [project.rows(f"select count(*) from {view}", "marketing")[0][0] for view in MARKETING]


def ages(project: Project) -> set[tuple[object, ...]]:
    """Return day and age of the release, of every row of every view of the BI tools."""
    views = [*MARKETING, "star.dim_subscription"]
    found = [
        project.rows(f"select release_business_date, release_age_days from {view}")
        for view in views
    ]
    assert all(found)
    return {row for rows in found for row in rows}


def test_the_operators_clock_makes_a_release_old_for_who_lives(lives):
    for behind, shown in ((0, [3, 1, 1]), (1, [2, 1, 1]), (7, [1, 1, 1]), (8, [0, 0, 0])):
        # a business day is over when its night has begun
        at_noon_of(lives, DAY_2 + timedelta(days=1 + behind))
        assert ages(lives) == {(DAY_2, behind)}
        assert counts(lives) == shown, behind

    # what landed meanwhile, while the nights failed, makes it no fresher
    landed(lives, DAY_2 + timedelta(days=8))
    assert counts(lives) == [0, 0, 0]


def test_by_the_real_clock_a_release_of_yesterday_is_fresh_and_one_of_last_week_is_not(settings):
    project = Project(settings, has_ended=False)
    (today,) = project.rows("select (now() at time zone 'Asia/Shanghai')::date", None)[0]
    for days, shown in ((9, [0, 0, 0]), (8, [1, 1, 1]), (1, [2, 1, 1])):
        day = today - timedelta(days=days)
        project.fill_all(run=days, days=(day,), lines=1)
        project.publish(day)
        assert ages(project) == {(day, days - 1)}
        assert counts(project) == shown, days


def test_the_last_landed_day_makes_a_release_old_for_whose_data_has_ended(ended):
    at_noon_of(ended, DAY_2 + timedelta(days=3000))
    for behind, shown in ((0, [3, 1, 1]), (7, [1, 1, 1]), (8, [0, 0, 0])):
        landed(ended, DAY_2 + timedelta(days=behind))
        assert ages(ended) == {(DAY_2, behind)}
        assert counts(ended) == shown, behind


def test_the_limit_is_the_one_that_is_valid_on_the_business_day(ended):
    ended.change(
        "delete from ctl.max_age; insert into ctl.max_age values"
        f" ('marketing_max_age_days', 1, '1900-01-01', '{DAY_2}'),"
        f" ('marketing_max_age_days', 0, '{DAY_2}', '{DAY_2 + timedelta(days=1)}')"
    )
    landed(ended, DAY_2)
    assert counts(ended) == [1, 1, 1]
    # after it no limit is valid: nothing is shown, rather than all
    landed(ended, DAY_2 + timedelta(days=1))
    assert counts(ended) == [0, 0, 0]

    ended.migrate()
    assert counts(ended) == [2, 1, 1]


@pytest.mark.parametrize("role", ["bi_reader", "marketing"])
@pytest.mark.parametrize(
    "attack",
    [
        "create or replace function ctl.today() returns date language sql as 'select date ''2026-07-01'''",
        "create function public.now() returns timestamptz language sql as 'select null'",
        "update ctl.max_age set days = 1000",
        "update ctl.operator set has_ended = true",
        "alter table store.rfm_month disable row level security",
        "drop policy fresh_marketing on store.rfm_month",
        "select ctl.today()",
        "select * from ops.reconciliation",
    ],
)
def test_no_reader_sets_the_clock_or_the_limit(worn, role, attack):
    with store.connect(worn.settings, role, autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(attack.encode())


@pytest.mark.parametrize(
    "settings_of_a_session", ["set timezone = 'UTC-14'", "set search_path = pg_temp, mart"]
)
def test_a_readers_own_settings_make_nothing_fresher(worn, settings_of_a_session):
    with store.connect(worn.settings, "marketing", autocommit=True) as connection:
        connection.execute(settings_of_a_session.encode())
        for name in ("mart.rfm_month", "store.rfm_month"):
            assert connection.execute(f"select count(*) from {name}".encode()).fetchone() == (0,)


@pytest.fixture(scope="module")
def worn(postgres, tmp_path_factory) -> Project:
    """Return a store that is too old for marketing."""
    postgres.ensure_database("test_worn")
    home = tmp_path_factory.mktemp("worn")
    return published(
        Settings(home=home, store_dsn=postgres.dsn("test_worn"), **SECRETS), has_ended=False
    )


def test_status_says_why_marketing_sees_nothing(lives, capsys, monkeypatch):
    monkeypatch.setattr(Settings, "load", classmethod(lambda _: lives.settings))
    status.status()
    said = " ".join(capsys.readouterr().out.split())
    assert f"marketing sees nothing: the release is of {DAY_2}, the last business day is" in said

    at_noon_of(lives, DAY_2 + timedelta(days=1))
    status.status()
    assert "sees nothing" not in capsys.readouterr().out


def test_a_limit_that_was_taken_away_is_put_back_before_anything_is_shown(ended):
    ended.change("drop policy fresh_marketing on store.rfm_month")
    ended.change("grant execute on function ctl.today() to public")
    with pytest.raises(
        BadDataError, match=r"policies of store\.rfm_month were changed.*public has"
    ):
        release.rollback(ended.settings, 1)

    ended.migrate()

    release.rollback(ended.settings, 1)
