"""What only PostgreSQL as compute engine can meet: a missing database, a killed client, a poor login."""

from __future__ import annotations

import uuid
from datetime import date

import psycopg
import pytest
from conftest import SECRETS
from pydantic import SecretStr

from keepline import store
from keepline.compute import compute_for
from keepline.compute.postgres import PostgresCompute
from keepline.contract import load_contract
from keepline.errors import BadDataError, SourceUnavailableError, UsageError
from keepline.settings import Settings
from keepline.window import Window

DAY = Window.day(date(2026, 6, 30))


@pytest.fixture
def compute(settings) -> PostgresCompute:
    """Return an engine whose database nobody has made yet, on the store's server."""
    return compute_for(of(settings))


def of(settings: Settings, **changed: object) -> Settings:
    own = f"op_{uuid.uuid4().hex[:8]}"
    return settings.model_copy(update={"compute": "postgres", "operator": own, **changed})


def load(compute: PostgresCompute) -> None:
    compute.load(load_contract(compute._settings.dbt_dir), DAY)


def connect(compute: PostgresCompute, name: str, *, autocommit: bool = False) -> psycopg.Connection:
    target = compute.dbt_environment()
    return psycopg.connect(
        host=target["PGHOST"],
        port=target["PGPORT"],
        dbname=target["PGDATABASE"],
        user=target["PGUSER"],
        password=SECRETS["store_password"],
        application_name=name,
        autocommit=autocommit,
    )


def test_the_database_is_made_by_the_first_load_and_not_by_a_question(compute):
    assert not compute.exists()
    compute.forget_killed()
    assert not compute.exists()

    load(compute)

    assert compute.exists()
    name = f"{compute._settings.operator}_compute"
    assert compute.place.startswith(f"PostgreSQL database {name} at 127.0.0.1:")
    assert compute.execute("select count(*) from raw.payment") == [(0,)]


def test_a_login_that_may_not_make_it_is_told_what_an_administrator_types(settings, postgres):
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as server:
        server.execute("drop role if exists plain")
        server.execute("create role plain login password 'plain-word'")
    missing = of(settings, compute_dsn=SecretStr(postgres.dsn("not_there", "plain", "plain-word")))

    with pytest.raises(UsageError, match='create database "not_there" owner "plain"'):
        load(compute_for(missing))


def test_a_login_that_is_refused_is_told_without_its_password(settings, postgres):
    wrong = compute_for(
        of(settings, compute_dsn=SecretStr(postgres.dsn("x", "keepline", "wr0ng-word")))
    )

    for ask in (wrong.exists, lambda: load(wrong), lambda: wrong.execute("select 1")):
        with pytest.raises(
            SourceUnavailableError, match=r"database x at .* cannot be reached"
        ) as told:
            ask()
        assert "wr0ng-word" not in str(told.value)


def test_a_killed_writer_is_ended_and_a_reader_is_not(compute):
    load(compute)
    writer = connect(compute, "keepline 1@elsewhere")
    reader = connect(compute, "keepline 2@elsewhere")
    person = connect(compute, "psql")
    writer.execute("delete from raw.payment")
    reader.execute("select * from raw.payment")
    person.execute("delete from raw.bill")

    compute.forget_killed()

    with pytest.raises(psycopg.OperationalError):
        writer.execute("select 1")
    reader.execute("select 1")
    person.execute("select 1")
    for connection in (reader, person):
        connection.close()


def test_a_server_that_goes_away_is_no_bad_data(compute):
    load(compute)

    def work() -> None:
        with compute.connection() as duck:
            duck.begin()
            duck.execute("delete from raw.payment")
            end_sessions(compute)
            duck.execute("delete from raw.bill")

    with pytest.raises(
        SourceUnavailableError, match=r"was lost\. What was not committed is undone"
    ):
        work()


def test_raw_of_an_older_contract_is_refused_with_the_way_out(compute):
    load(compute)
    with connect(compute, "test", autocommit=True) as server:
        server.execute("alter table raw.payment drop column payment_id")

    with pytest.raises(BadDataError, match=r"raw\.payment in PostgreSQL .* `keepline rebuild`"):
        load(compute)


def test_what_is_built_apart_takes_the_place_at_once(compute):
    load(compute)
    with connect(compute, "test", autocommit=True) as server:
        server.execute("create table raw.old ()")
    apart = compute.apart(compute._settings)
    load(compute_for(apart))

    # Somebody who looks at the old one does not hold it up.
    person = connect(compute, "psql")
    person.execute("select * from raw.payment")
    compute.take_place(apart)
    person.close()
    compute.drop_apart()

    names = "select table_name from information_schema.tables where table_schema = 'raw'"
    found = {name for (name,) in compute.execute(names)}
    assert "payment" in found
    assert "old" not in found
    assert databases(compute) == {f"{compute._settings.operator}_compute"}


def databases(compute: PostgresCompute) -> set[str]:
    with connect(compute, "test") as server:
        rows = server.execute("select datname from pg_database").fetchall()
    return {name for (name,) in rows if name.startswith(compute._settings.operator)}


def end_sessions(compute: PostgresCompute) -> None:
    with store.connect(compute._settings, autocommit=True) as server:
        server.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s",
            [f"{compute._settings.operator}_compute"],
        )
