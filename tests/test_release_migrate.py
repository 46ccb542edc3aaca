"""Reader-facing objects follow the dbt contracts, and a contract cannot break what readers have."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import psycopg
import pytest
from conftest import SECRETS
from release_rows import DAY_1, DAY_2, LINES, RFM, RISK, Model, Project

from keepline import release, store
from keepline.errors import SourceUnavailableError, UsageError
from keepline.settings import Settings


@pytest.fixture
def project(settings) -> Project:
    return Project(settings)


def test_readers_find_marts_and_star_under_their_names_with_words(project):
    columns = project.rows(
        "select table_schema, table_name, column_name, data_type from information_schema.columns"
        " where table_schema in ('mart', 'star') and table_name <> 'churn_risk_latest'"
        " order by table_name, ordinal_position"
    )
    comments = project.rows(
        "select obj_description('mart.rfm_month'::regclass),"
        " col_description('mart.rfm_month'::regclass, 3)"
    )

    assert columns[:8] == [
        ("mart", "churn_risk_daily", "score_date", "date"),
        ("mart", "churn_risk_daily", "subscription_id", "text"),
        ("mart", "churn_risk_daily", "churn_probability", "double precision"),
        ("mart", "churn_risk_daily", "risk_tier", "text"),
        ("mart", "churn_risk_daily", "run", "integer"),
        ("mart", "churn_risk_daily", "release_id", "integer"),
        ("mart", "churn_risk_daily", "release_business_date", "date"),
        ("mart", "churn_risk_daily", "release_age_days", "integer"),
    ]
    assert ("star", "dim_subscription", "share", "numeric") in columns
    assert comments == [("What mart_rfm_month holds.", "The segment.")]


def test_a_second_migration_touches_nothing(project):
    project.fill_all(run=1)
    project.publish()
    with store.connect(project.settings, "bi_reader") as reader:
        # A reader who holds every table would make a change wait.
        for name in ("mart.churn_risk_daily", "mart.rfm_month", "star.dim_subscription"):
            reader.execute(f"select count(*) from {name}".encode())

        assert project.migrate() == release.MigrationReport((), ())


def test_a_new_column_is_added_and_old_periods_are_staged_anew(project):
    project.fill_all(run=1)
    project.publish(DAY_1)
    wider = replace(RFM, columns={**RFM.columns, "trend": "varchar"})

    assert project.migrate((RISK, wider, LINES)).changed == ("rfm_month",)
    assert project.rows("select distinct segment, trend from mart.rfm_month") == [("Loyal", None)]
    project.run(f"alter table {RFM.relation} add column trend varchar default 'rising'")
    project.publish(DAY_2)

    assert project.rows("select distinct segment, trend from mart.rfm_month") == [
        ("Loyal", "rising")
    ]
    assert project.rows(
        "select column_name from information_schema.columns where table_name = 'rfm_month'"
        " and table_schema = 'mart' order by ordinal_position desc offset 2 limit 2"
    ) == [("release_id",), ("trend",)]
    release.rollback(project.settings)
    assert project.rows("select distinct segment, trend from mart.rfm_month") == [("Loyal", None)]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({**RFM.columns, "run": "varchar"}, "run was integer and is now text"),
        (
            {k: v for k, v in RFM.columns.items() if k != "segment"},
            "segment was text and is now gone",
        ),
    ],
    ids=["retyped", "removed"],
)
def test_a_contract_that_breaks_readers_is_refused_once_something_is_published(
    project, columns, said
):
    changed = replace(RFM, columns=columns)
    project.fill_all(run=1)
    project.stage()
    project.migrate((RISK, changed, LINES))
    project.migrate((RISK, RFM, LINES))
    project.fill_all(run=1)
    project.publish()

    with pytest.raises(UsageError, match=f"{said}.*mart_rfm_month_v2"):
        project.migrate((RISK, changed, LINES))

    assert project.rows("select distinct segment from mart.rfm_month") == [("Loyal",)]


def test_a_reader_has_no_personal_column(project):
    people = Model(
        "dim_customer",
        "core",
        {"kind": "state"},
        {"customer_id": "varchar", "birth_date": "date", "birth_year": "integer"}
        | {"id_no_hash": "varchar", "msisdn_masked": "varchar"},
        {"birth_date": "personal", "id_no_hash": "pseudonym", "msisdn_masked": "masked"},
    )
    project.migrate((*project.models, people))
    project.fill_all(run=1)
    project.fill(people, [("c1", date(1990, 6, 1), 1990, "ab12", "138****1234")])
    project.publish()

    shown = project.rows("select customer_id, birth_year, msisdn_masked from star.dim_customer")
    assert shown == [("c1", 1990, "138****1234")]
    for schema in ("star", "store"):
        for column in ("birth_date", "id_no_hash"):
            with pytest.raises(psycopg.errors.UndefinedColumn):
                project.rows(f"select {column} from {schema}.dim_customer")


def test_a_column_that_turns_out_to_be_personal_goes_from_every_release(project):
    project.fill_all(run=1)
    project.publish(DAY_1)
    project.fill_all(run=2)
    project.publish(DAY_2)
    guarded = (
        replace(RISK, pii={"churn_probability": "personal"}),
        RFM,
        replace(LINES, pii={"activated_date": "pseudonym"}),
    )

    assert project.migrate(guarded).changed == ("churn_risk_daily", "dim_subscription")
    for name in ("star.dim_subscription", "store.dim_subscription"):
        with pytest.raises(psycopg.errors.UndefinedColumn):
            project.rows(f"select activated_date from {name}")
    for name in ("mart.churn_risk_daily", "mart.churn_risk_latest", "store.churn_risk_daily"):
        with pytest.raises(psycopg.errors.UndefinedColumn):
            project.rows(f"select churn_probability from {name}")
    assert project.rows("select distinct run, is_current from star.dim_subscription") == [(2, True)]
    release.rollback(project.settings)
    assert project.rows("select distinct run from star.dim_subscription") == [(1,)]

    project.fill_all(run=3)
    project.publish(DAY_2)
    assert project.rows("select distinct run from mart.churn_risk_latest", "marketing") == [(3,)]
    assert project.migrate() == release.MigrationReport((), ())


def test_a_withdrawn_model_stays_readable_until_its_releases_are_over(project):
    project.settings = project.settings.model_copy(update={"releases_kept": 1})
    project.fill_all(run=1)
    project.publish(DAY_1)

    assert project.migrate((RISK, LINES)).withdrawn == ("rfm_month",)
    assert project.rows("select count(*) from mart.rfm_month") == [(20,)]
    project.fill_all(run=2)
    project.publish(DAY_2)
    project.migrate()

    assert project.rows("select to_regclass('store.rfm_month') is null", None) == [(True,)]
    project.publish(DAY_2)


@pytest.mark.parametrize(
    ("publish", "columns", "said"),
    [
        ({"kind": "weekly"}, {"a": "date"}, "meta.publish is"),
        ({"kind": "day", "period": "b"}, {"a": "date", "b": "varchar"}, "no date column"),
        ({"kind": "state"}, {"a": "hugeint"}, "data_type 'hugeint' cannot be published"),
        ({"kind": "state"}, {"release_id": "integer"}, "release_id is a column of the store's own"),
        ({"kind": "state"}, {}, "needs a contract"),
    ],
)
def test_a_model_that_cannot_be_published_is_named(project, publish, columns, said):
    with pytest.raises(UsageError, match=f"model dim_odd.*{said}"):
        project.migrate((*project.models, Model("dim_odd", "core", publish, columns)))


def test_without_a_manifest_or_a_migration_the_next_step_is_said(settings):
    with pytest.raises(UsageError, match="no dbt manifest"):
        release.migrate(settings, settings.home / "manifest.json")
    with pytest.raises(UsageError, match="keepline migrate"):
        Project.stage(_Unmigrated(settings))


def test_a_reader_who_holds_a_table_makes_the_migration_give_up_soon(project):
    project.fill_all(run=1)
    project.publish()
    with store.connect(project.settings, "bi_reader") as reader:
        reader.execute("select count(*) from mart.rfm_month")

        with pytest.raises(SourceUnavailableError, match="migrate again later"):
            project.migrate((RISK, replace(RFM, columns={**RFM.columns, "x": "date"}), LINES))

    project.migrate()
    assert project.rows("select count(*) from mart.rfm_month") == [(20,)]


def test_a_pipeline_that_is_no_superuser_can_do_it_all(postgres, tmp_path):
    """As in production: a login that owns the database and may make roles, bound by row security."""
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as admin:
        admin.execute("create role plain_owner login createrole password 'plain'")
        admin.execute("create database test_plain owner plain_owner template template0")
        for role in ("bi_reader", "marketing"):
            admin.execute(f"drop role if exists gone_{role}".encode())
    dsn = postgres.dsn("test_plain", "plain_owner", "plain")
    project = Project(Settings(home=tmp_path, store_dsn=dsn, releases_kept=2, **SECRETS))

    for run in (1, 2, 3, 4):
        project.fill_all(run)
        project.publish(DAY_2)
    release.rollback(project.settings)
    project.migrate()

    assert project.rows("select distinct run from mart.churn_risk_latest", "marketing") == [(3,)]
    assert project.rows("select distinct run from star.dim_subscription") == [(3,)]
    assert project.rows(
        "select count(*) from pg_class where relname like 'dim_subscription\\_\\_%'"
        " and relkind = 'r'",
        None,
    ) == [(2,)]


def test_an_existing_login_of_a_production_store_keeps_its_password(project):
    other = {**SECRETS, "bi_reader_password": "another"}
    settings = Settings(home=project.settings.home, store_dsn=project.settings.store_dsn, **other)

    release.migrate(settings, project.manifest)

    assert project.rows("select 1") == [(1,)]
    with pytest.raises(SourceUnavailableError):
        store.connect(settings, "bi_reader")


class _Unmigrated:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
