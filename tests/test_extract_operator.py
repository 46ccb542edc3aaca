"""The operator file: every mistake in it is named, and what is left out is said to be."""

from __future__ import annotations

import re
from datetime import date

import pytest
from extract_source import DAY, OPERATOR, Extraction, calls

from keepline.contract import load_contract
from keepline.errors import UsageError
from keepline.extract import extract_window
from keepline.extract.operator import load_operator
from keepline.settings import PROJECT_DIR
from keepline.window import Window

PLAIN = """
name: demo
description: one file whose rows carry their own dates
files:
  shop: {path_env: KEEPLINE_DEMO_DROPS, layout: "{file}.csv"}
tables:
  payment:
    file: payments
    sql: |
      SELECT
"""


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


def plain(
    extraction,
    rows,
    sql="select id as payment_id, account as account_id, paid as paid_at, amt from records",
):
    extraction.operator_file.write_text(PLAIN.replace("SELECT", sql))
    text = "\n".join(["id,account,paid,amt", *rows]) + "\n"
    (extraction.drops / "payments.csv").write_text(text)


def test_the_shipped_operator_files_fit_the_contract():
    contract = load_contract(PROJECT_DIR / "dbt_project")

    for path in sorted((PROJECT_DIR / "operators").glob("*.yml")):
        operator = load_operator(path, contract)
        assert operator.name == path.stem
        assert set(operator.tables) <= set(contract)


# What is changed in a good file, and what is said about it.
MISTAKES = {
    "not YAML": (("tables:", "tables: ["), "demo.yml is not YAML"),
    "another name": (("name: demo", "name: other"), "its name is 'other', not that of the file"),
    "an unknown word": (("description:", "describe:"), "describe: Extra inputs are not permitted"),
    "an unknown table": (
        ("cdr_voice:", "cdr_noise:"),
        "the contract has no table cdr_noise; it has",
    ),
    "no SELECT": (("sql: |", "query: |"), "tables.cdr_voice.sql: Field required"),
    "an unknown kind of database": (
        ("files:", "connections:\n  crm: {type: oracle, dsn_env: X}\nfiles:"),
        "connections.crm.type",
    ),
    "a history that ends before it begins": (
        ("description:", "history: {from: 2026-06-30, to: 2026-06-01}\ndescription:"),
        "`from` 2026-06-30 must be before `to` 2026-06-01",
    ),
    "an unknown file set": (
        ("file: cdr_voice", "file: cdr_voice\n    files: tapes"),
        "table cdr_voice: `files` must be one of drops",
    ),
    "a manifest without dates": (
        ("{date}/{file}.csv.gz", "{file}.csv.gz"),
        "files drops: a manifest needs a layout with {date}",
    ),
    "a rest for a file": (
        ("files:", "connections:\n  till: {type: sqlite, dsn_env: X, busy_share: 0.1}\nfiles:"),
        "busy_share is for a server; SQLite has none",
    ),
    "more than the whole time": (
        ("files:", "connections:\n  bill: {type: mysql, dsn_env: X, busy_share: 3}\nfiles:"),
        "connections.bill.busy_share: Input should be less than or equal to 1",
    ),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_in_an_operator_file_is_named(extraction, change, message):
    extraction.operator_file.write_text(OPERATOR.replace(*change))

    with pytest.raises(UsageError, match=re.escape(message)):
        extraction.run()


def test_an_operator_without_a_file_is_told_which_there_are(extraction):
    extraction.operator_file = extraction.operator_file.with_name("nobody.yml")

    with pytest.raises(UsageError, match="KEEPLINE_OPERATOR is one of demo"):
        extraction.run()


def test_a_variable_that_is_not_set_is_named_with_the_file(extraction, monkeypatch):
    monkeypatch.delenv("KEEPLINE_DEMO_DROPS")

    with pytest.raises(UsageError, match=r"demo\.yml needs the variable KEEPLINE_DEMO_DROPS"):
        extraction.run()


def test_a_table_that_the_contract_does_not_have_is_refused(extraction):
    with pytest.raises(UsageError, match="the contract has no table cdr_fax"):
        extract_window(extraction.settings, Window.day(DAY), ["cdr_fax"])


def test_tables_that_the_operator_leaves_out_are_reported_and_land_nothing(extraction):
    extraction.mediation.deliver(calls(3))

    results = extract_window(extraction.settings, Window.day(DAY))

    contract = load_contract(extraction.settings.dbt_dir)
    assert [result.table_name for result in results] == list(contract)
    assert [result.table_name for result in results if result.provided] == ["cdr_voice"]
    assert [path.name for path in extraction.settings.landing_dir.iterdir()] == ["cdr_voice"]


def test_the_rows_of_a_plain_file_go_to_the_days_that_they_carry(extraction):
    plain(extraction, [f"P{n},A1,2026-06-{n:02d} 12:00:00,{n}.00" for n in range(1, 31)])

    results = extraction.run(Window(date(2026, 6, 10), date(2026, 6, 13)))["payment"]

    assert extraction.landed("payment", "load_date, payment_id") == [
        (date(2026, 6, n), f"P{n}") for n in (10, 11, 12)
    ]
    assert all(balance.balanced for balance in results.reconciliations)


def test_a_record_that_the_select_leaves_out_is_a_declared_skip(extraction):
    sql = OPERATOR.rstrip() + "\n      where usage_id <> 'V0001'\n"
    extraction.operator_file.write_text(sql)
    extraction.mediation.deliver(calls(10))

    balance = extraction.run()["cdr_voice"].reconciliations[0]

    assert (balance.physical_rows, balance.loaded_rows, balance.skipped_rows) == (10, 9, 1)
    assert balance.balanced


def test_a_select_may_make_two_rows_of_a_record(extraction):
    plain(
        extraction,
        ["P1,A1,2026-06-30 12:00:00,1.00"],
        "select id || half.n as payment_id, account as account_id, paid as paid_at, amt"
        " from records cross join (values (1), (2)) as half (n)",
    )

    assert extraction.run()["payment"].rows == 2


def test_a_select_that_groups_must_say_where_its_rows_come_from(extraction):
    grouped = "select min(id) as payment_id, account as account_id, min(paid) as paid_at"
    grouped += ", sum(cast(amt as integer)) as amt"
    rows = ["P1,A1,2026-06-30 12:00:00,1", "P2,A1,2026-06-30 13:00:00,2"]
    plain(extraction, rows, f"{grouped} from records group by account")
    with pytest.raises(UsageError, match="it must return source_file, line_no itself"):
        extraction.run()

    own = "min(source_file) as source_file, min(line_no) as line_no from records group by account"
    plain(extraction, rows, f"{grouped}, {own}")

    assert extraction.run()["payment"].rows == 1


def test_another_file_can_be_joined_by_the_name_of_its_folder(extraction):
    plain(
        extraction,
        ["P1,A1,2026-06-30 12:00:00,1.00"],
        "select id as payment_id, owner as account_id, paid as paid_at, amt from records"
        " join read_csv('{shop}/owners.csv', all_varchar = true) using (account)",
    )
    with pytest.raises(Exception, match="No files found"):
        extraction.run()
    (extraction.drops / "owners.csv").write_text("account,owner\nA1,Q9\n")

    extraction.run()

    assert extraction.landed("payment", "account_id") == [("Q9",)]


def test_a_file_whose_header_has_a_name_that_keepline_adds_is_held(extraction):
    plain(extraction, [])
    (extraction.drops / "payments.csv").write_text("id,line_no\nP1,1\n")

    assert extraction.held() == ["HEADER_MISMATCH"]
