"""Extraction from an operator's PostgreSQL: windows, types, counts, and a connection that is lost."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

import duckdb
import psycopg
import pytest
from extract_source import DAY, Extraction

from keepline import store
from keepline.contract import load_contract
from keepline.errors import SourceUnavailableError, UsageError
from keepline.extract.delivery import QueryDelivery
from keepline.extract.operator import load_operator
from keepline.extract.session import Session
from keepline.window import Window

OPERATOR = """
name: demo
description: a billing system
connections:
  operator: {{type: postgres, dsn_env: KEEPLINE_DEMO_DSN}}
tables:
  payment:
    sql: |
      {sql}
"""
SELECT = """select payment_id, account_id, paid_at, amount as amt, method_code, channel_code
      from operator.bil.payment
      where paid_at >= {from_at} and paid_at < {to_at}"""


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("KEEPLINE_DEMO_DSN", store.dsn(settings))
    with store.connect(settings, autocommit=True) as connection:
        connection.execute("create schema bil")
        connection.execute(
            "create table bil.payment (payment_id text, account_id text, paid_at timestamptz,"
            " amount numeric(18, 2), method_code text, channel_code text)"
        )
    extraction = Extraction(settings, tmp_path, monkeypatch)
    select(extraction, SELECT)
    return extraction


def select(extraction, sql):
    extraction.operator_file.write_text(OPERATOR.format(sql=sql))


def pay(extraction, *rows):
    settings = extraction.settings
    with store.connect(settings, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany("insert into bil.payment values (%s, 'A1', %s, %s, 'card', 'web')", rows)


def test_a_window_takes_the_operators_local_days(extraction):
    pay(
        extraction,
        ("before", "2026-06-29 23:59:59.999999+08", 1),
        ("first", "2026-06-30 00:00:00+08", 2),
        ("last", "2026-06-30 15:59:59.999999Z", 3),
        ("after", "2026-06-30 16:00:00Z", 4),
    )

    extraction.run()

    assert extraction.landed(
        "payment", "payment_id, paid_at::text, amt, event_date, load_date"
    ) == [
        ("first", "2026-06-29 16:00:00", Decimal("2.00"), DAY, DAY),
        ("last", "2026-06-30 15:59:59.999999", Decimal("3.00"), DAY, DAY),
    ]


def test_a_wide_window_is_cut_into_load_dates_as_day_by_day(extraction):
    pay(extraction, *[(f"P{n}", f"2026-06-{n:02d} 12:00:00+08", n) for n in range(1, 11) if n != 5])

    result = extraction.run(Window(date(2026, 6, 1), date(2026, 6, 11)))["payment"]
    wide = extraction.files()
    for day in range(1, 11):
        extraction.run(date(2026, 6, day))

    assert extraction.files() == wide
    assert [b.physical_rows for b in result.reconciliations] == [int(n != 5) for n in range(1, 11)]


def test_a_row_that_the_operator_took_back_is_taken_back(extraction):
    pay(extraction, ("P1", "2026-06-30 12:00:00+08", 1))
    extraction.run()
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute("delete from bil.payment")

    extraction.run()

    assert extraction.landed("payment") == []


def test_local_times_without_a_zone_are_the_operators_clock(extraction):
    select(
        extraction,
        SELECT.replace(
            "paid_at, amount", "paid_at at time zone 'Asia/Shanghai' as paid_at, amount"
        ),
    )
    pay(extraction, ("P1", "2026-06-30 12:00:00+08", 1))

    extraction.run()

    assert extraction.landed("payment", "paid_at::text") == [("2026-06-30 04:00:00",)]


def test_an_amount_without_a_scale_is_not_rounded(extraction):
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute("alter table bil.payment alter amount type numeric")
    pay(extraction, *[(f"P{n}", "2026-06-30 12:00:00+08", "2.50") for n in range(200)])
    pay(extraction, ("bad", "2026-06-30 12:00:00+08", "1.005"))

    extraction.run()

    row = extraction.quarantined("reason_code, column_name, source_file, row_json", "payment")
    assert [r[:3] for r in row] == [("SCALE_LOST", "amt", None)]
    assert '"payment_id":"bad"' in row[0][3]
    assert extraction.landed("payment", "sum(amt)") == [(Decimal("500.00"),)]


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "123456789012345.67"])
def test_an_amount_that_changes_on_the_way_is_noticed(extraction, amount):
    # DuckDB reads the first two as 0, and the third as the nearest floating-point number.
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute("alter table bil.payment alter amount type numeric")
    pay(extraction, ("P1", "2026-06-30 12:00:00+08", amount), ("P2", "2026-06-30 12:00:00+08", 1))

    assert extraction.held() == ["SUM_MISMATCH"]


def test_an_instant_at_infinity_is_no_instant(extraction):
    select(extraction, SELECT.replace("paid_at, amount", "paid_at, amount").split("where")[0])
    pay(extraction, *[(f"P{n}", "2026-06-30 12:00:00+08", 1) for n in range(200)])
    pay(extraction, ("never", "infinity", 1))

    extraction.run()

    assert extraction.quarantined("reason_code, load_date", "payment") == [("BAD_DATE", DAY)]


def test_a_count_at_the_database_that_differs_holds_the_table(extraction, monkeypatch):
    pay(extraction, *[(f"P{n}", "2026-06-30 12:00:00+08", 1) for n in range(20)])
    counted = QueryDelivery._count
    asked = []

    def lose_one(self, counting, summed):
        asked.append(counting)
        self._session.run("delete from taken where payment_id = 'P7'")
        counted(self, counting, summed)

    monkeypatch.setattr(QueryDelivery, "_count", lose_one)

    assert extraction.held() == ["UNBALANCED", "SUM_MISMATCH"]
    assert "postgres_query" in asked[0]
    assert extraction.landed("payment") == []


def test_a_select_that_only_duckdb_understands_is_counted_too(extraction):
    select(extraction, SELECT.replace("select payment_id", "from (select payment_id") + ")")
    pay(extraction, ("P1", "2026-06-30 12:00:00+08", 1))

    assert extraction.run()["payment"].reconciliations[0].physical_rows == 1


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", "syntax error"),
        ("select 1; select 2", "must be one SELECT"),
        ("drop table x", "must be one SELECT"),
        ("select * from operator.bil.nothing", "nothing does not exist"),
        ("select nothing from operator.bil.payment", '"nothing" not found'),
        ("select 1 as payment_id", "the SELECT must return account_id, paid_at, amt"),
        (SELECT.replace("as amt", "as amount"), "returns amount, which the contract does not have"),
        (
            SELECT.replace("{to_at}", "{until}"),
            r"no placeholder {until}; there are {from_at}, {to_at}",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_a_mistake_in_a_select_names_file_table_and_mistake(extraction, sql, message):
    select(extraction, sql)

    with pytest.raises(UsageError, match=rf"^demo\.yml, table payment: .*{re.escape(message)}"):
        extraction.run()


def test_an_error_about_a_value_does_not_show_it(extraction):
    select(
        extraction,
        SELECT.replace("method_code,", "cast(payment_id as integer)::text as method_code,"),
    )
    pay(extraction, ("13800007777x", "2026-06-30 12:00:00+08", 1))

    with pytest.raises(UsageError, match=r"<value>.*leave casting to keepline") as raised:
        extraction.run()

    assert "13800007777" not in str(raised.value)


def test_a_connection_lost_on_the_way_is_worth_another_try(extraction, monkeypatch):
    pay(extraction, ("P1", "2026-06-30 12:00:00+08", 1))
    whole = QueryDelivery._count

    def cut(self, counting, summed):
        with store.connect(extraction.settings, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        whole(self, counting, summed)

    with monkeypatch.context() as patch:
        patch.setattr(QueryDelivery, "_count", cut)
        with pytest.raises(
            SourceUnavailableError, match=r"payment: lost the connection to 127\.0\.0\.1"
        ):
            extraction.run()

    assert extraction.landed("payment") == []
    assert extraction.run()["payment"].rows == 1


def test_the_source_sees_two_connections_at_most(extraction, monkeypatch):
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute(
            "insert into bil.payment select 'P' || n, 'A' || n, timestamptz '2026-06-30 12:00+08', 1"
            " from generate_series(1, 200000) n"
        )
    seen = []
    whole = QueryDelivery._count

    def look(self, counting, summed):
        with store.connect(extraction.settings) as connection:
            count = connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and application_name = 'keepline'"
            ).fetchone()
        seen.append(count[0])
        whole(self, counting, summed)

    monkeypatch.setattr(QueryDelivery, "_count", look)

    assert extraction.run()["payment"].rows == 200_000
    assert 1 <= seen[0] <= 2


def test_the_source_is_attached_read_only(extraction):
    contract = load_contract(extraction.settings.dbt_dir)
    operator = load_operator(extraction.operator_file, contract)

    with Session(extraction.settings, operator) as session:
        session.attach("payment")
        for statement in (
            "create table operator.bil.x (a integer)",
            "insert into operator.bil.payment (payment_id) values ('x')",
            "delete from operator.bil.payment",
            "call postgres_execute('operator', 'delete from bil.payment')",
        ):
            with pytest.raises(duckdb.Error, match="read-only"):
                session.run(statement)


def test_a_login_that_may_not_read_a_table_is_told_so(extraction, monkeypatch):
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute("drop role if exists outsider")
        connection.execute("create role outsider login password 'outsider'")
    parts = psycopg.conninfo.conninfo_to_dict(store.dsn(extraction.settings))
    outsider = psycopg.conninfo.make_conninfo(
        **{**parts, "user": "outsider", "password": "outsider"}
    )
    monkeypatch.setenv("KEEPLINE_DEMO_DSN", outsider)

    with pytest.raises(UsageError, match="payment"):
        extraction.run()

    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute("drop role outsider")
