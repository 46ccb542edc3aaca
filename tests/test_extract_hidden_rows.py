"""A PostgreSQL that hides rows, names that need quotes, and numbers that are none."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import psycopg
import pytest
from extract_source import DAY, Extraction

from keepline import store
from keepline.errors import UsageError
from keepline.extract import IncompleteError

READER, TENANT = "hidden_rows_reader", "hidden_rows_tenant"
OPERATOR = """
name: demo
description: a billing system
connections:
  src: {type: postgres, dsn_env: KEEPLINE_DEMO_DSN}
tables:
  payment:
    sql: |
      SQL
"""
SELECT = (
    'select "paymentId" as payment_id, "order" as account_id, paid_at, amount as amt'
    ' from src."Billing"."Payment" where paid_at >= {from_at} and paid_at < {to_at}'
)


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    found = Extraction(settings, tmp_path, monkeypatch)
    with store.connect(settings, autocommit=True) as connection:
        connection.execute(
            """
            create schema "Billing";
            create table "Billing"."Payment" (
                "paymentId" text, "order" text, paid_at timestamptz, amount numeric(18, 2), region text
            );
            """
        )
        for name in (READER, TENANT):
            known = connection.execute("select 1 from pg_roles where rolname = %s", [name])
            if known.fetchone() is None:
                connection.execute(f"create role {name} login password '{name}'")
            connection.execute(f'grant usage on schema "Billing" to {name}')
            connection.execute(f'grant select on "Billing"."Payment" to {name}')
        for number in range(1, 11):
            connection.execute(
                """insert into "Billing"."Payment" values (%s, 'A1', %s, %s, %s)""",
                [f"P{number}", f"{DAY} 09:00:00+08", number, "north" if number % 2 else "south"],
            )
    select(found, SELECT)
    use(found, monkeypatch, READER)
    return found


def select(extraction, sql):
    extraction.operator_file.write_text(OPERATOR.replace("SQL", sql))


def use(extraction, monkeypatch, name):
    dsn = psycopg.conninfo.make_conninfo(store.dsn(extraction.settings), user=name, password=name)
    monkeypatch.setenv("KEEPLINE_DEMO_DSN", dsn)


def execute(extraction, statement):
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute(statement)


SPELLINGS = [SELECT, SELECT.replace('"Billing"."Payment"', "billing.payment")]


@pytest.mark.parametrize("sql", SPELLINGS)
def test_names_in_quotes_and_in_any_case_are_read_and_counted_by_the_server(extraction, sql):
    select(extraction, sql)

    result = extraction.run()["payment"]

    assert (result.rows, result.reconciliations[0].balanced) == (10, True)


@pytest.mark.parametrize("login", [READER, TENANT])
@pytest.mark.parametrize("sql", SPELLINGS)
def test_a_table_that_hides_rows_from_the_login_is_refused_and_named(
    extraction, monkeypatch, sql, login
):
    execute(extraction, 'alter table "Billing"."Payment" enable row level security')
    execute(
        extraction,
        f"""create policy north on "Billing"."Payment" to {TENANT} using (region = 'north')""",
    )
    select(extraction, sql)
    use(extraction, monkeypatch, login)

    with pytest.raises(UsageError, match=r'row security of the table "Billing"\."Payment"'):
        extraction.run()

    assert extraction.landed("payment") == []


def test_rows_that_a_view_hides_from_its_owner_are_told_by_the_server(extraction):
    # Given a view of somebody who does not own the table, and sees half of it
    execute(extraction, 'alter table "Billing"."Payment" enable row level security')
    execute(
        extraction,
        f"""create policy north on "Billing"."Payment" to {TENANT} using (region = 'north')""",
    )
    execute(extraction, "create schema shown")
    execute(extraction, 'create view shown.paid as select * from "Billing"."Payment"')
    execute(extraction, f"grant usage on schema shown to {READER}")
    execute(extraction, f"grant select on shown.paid to {READER}")
    execute(extraction, f"alter view shown.paid owner to {TENANT}")
    select(extraction, SELECT.replace('"Billing"."Payment"', "shown.paid"))

    with pytest.raises(UsageError, match="row security of the table Payment may hide rows"):
        extraction.run()


@pytest.mark.parametrize("sql", SPELLINGS)
@pytest.mark.parametrize("right", ["insert", "update (amount)", "delete"])
def test_a_login_that_may_write_into_a_quoted_schema_is_refused(extraction, sql, right):
    execute(extraction, f'grant {right} on "Billing"."Payment" to {READER}')
    select(extraction, sql)

    with pytest.raises(UsageError, match=r'may change the table "Billing"\."Payment"'):
        extraction.run()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    "words",
    [
        SELECT,
        # DuckDB finds the column, PostgreSQL does not.
        SELECT.replace('"paymentId"', "paymentId"),
        # A word that only DuckDB knows.
        SELECT.replace("amount as amt", "if(amount > 7, amount, amount) as amt"),
    ],
    ids=["both", "case", "function"],
)
def test_a_number_that_is_none_never_becomes_an_amount(extraction, words, number):
    execute(extraction, 'alter table "Billing"."Payment" alter amount type numeric')
    execute(
        extraction,
        f"""update "Billing"."Payment" set amount = '{number}' where "paymentId" = 'P2'""",
    )
    select(extraction, words.replace("amount as amt", "cast(amount as numeric(18, 2)) as amt", 1))
    if "if(" in words:
        select(extraction, words)

    # When it is extracted, whether the table is held, the SELECT refused or the row set aside
    with contextlib.suppress(IncompleteError, UsageError):
        extraction.run()

    # Then the row landed nowhere
    landed = extraction.landed("payment", "payment_id, amt")
    assert "P2" not in dict(landed)
    assert len(landed) in (0, 9)
    aside = extraction.quarantined("reason_code", "payment")
    assert aside == ([("BAD_NUMBER",)] if landed else [])


@pytest.mark.parametrize("words", ["paymentId", "if(true, paymentId, paymentId)"])
@pytest.mark.parametrize("number", ["NaN", "10.50"])
def test_an_amount_with_a_scale_that_only_duckdb_sums_is_exact(extraction, words, number):
    execute(
        extraction,
        f"""update "Billing"."Payment" set amount = '{number}' where "paymentId" = 'P2'""",
    )
    select(extraction, SELECT.replace('"paymentId"', words))

    if number == "NaN":
        assert extraction.held() == ["SUM_MISMATCH"]
    else:
        assert extraction.run()["payment"].rows == 10
        assert extraction.landed("payment", "sum(amt)") == [(Decimal("63.50"),)]
