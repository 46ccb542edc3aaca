"""Extraction from an SQLite file, whose columns may hold a value of any type."""

from __future__ import annotations

import sqlite3
from datetime import date
from decimal import Decimal

import pytest
from extract_source import DAY, Extraction

from keepline.errors import SourceUnavailableError, UsageError
from keepline.extract.query import QueryDelivery
from keepline.window import Window

OPERATOR = """
name: demo
description: a till
connections:
  till: {{type: sqlite, dsn_env: KEEPLINE_DEMO_TILL}}
tables:
  payment:
    sql: |
      {sql}
"""
SELECT = """select id as payment_id, account as account_id, booked as paid_at, amount as amt,
      method as method_code
      from till.payment
      where booked >= {from_at} and booked < {to_at}"""


@pytest.fixture
def till(tmp_path):
    path = tmp_path / "till'.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "create table payment (id integer, account text, booked text, amount real, method text)"
        )
    return path


@pytest.fixture
def extraction(till, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("KEEPLINE_DEMO_TILL", str(till))
    extraction = Extraction(settings, tmp_path, monkeypatch)
    use(extraction, SELECT)
    return extraction


def use(extraction, sql):
    extraction.operator_file.write_text(OPERATOR.format(sql=sql))


def pay(till, *rows):
    with sqlite3.connect(till) as connection:
        connection.executemany("insert into payment values (?, 'A1', ?, ?, ?)", rows)
    connection.close()


def balance(result):
    (row,) = result.reconciliations
    return row.physical_rows, row.loaded_rows, sum(row.quarantined_rows.values()), row.balanced


def test_a_window_takes_the_local_days_and_the_file_counts_and_sums(extraction, till):
    asked = extraction.note_counts()
    pay(
        till,
        (1, "2026-06-29 23:59:59.999999", 1, "card"),
        (2, "2026-06-30 00:00:00", 0.1, "现金 😀"),
        (3, "2026-06-30 23:59:59.999999", 0.2, "card"),
        (4, "2026-07-01 00:00:00", 1, "card"),
    )

    result = extraction.run()["payment"]

    assert extraction.landed("payment", "payment_id, paid_at::text, amt, method_code") == [
        ("2", "2026-06-29 16:00:00", Decimal("0.10"), "现金 😀"),
        ("3", "2026-06-30 15:59:59.999999", Decimal("0.20"), "card"),
    ]
    assert "sqlite_query" in asked[0]
    assert balance(result) == (2, 2, 0, True)


def test_a_wide_window_is_cut_into_load_dates_as_day_by_day(extraction, till):
    rows = [(n, f"2026-06-{n:02d} 12:00:00", n, "card") for n in range(1, 11) if n != 5]
    pay(till, *rows)

    result = extraction.run(Window(date(2026, 6, 1), date(2026, 6, 11)))["payment"]
    wide = extraction.files()
    for day in range(1, 11):
        extraction.run(date(2026, 6, day))

    assert extraction.files() == wide
    assert [b.physical_rows for b in result.reconciliations] == [int(n != 5) for n in range(1, 11)]


# A value of the column `amount`, or of `booked`, and why its row is set aside.
ODD_VALUES = {
    "text in a number": ("amount", "a lot", "BAD_NUMBER"),
    "a number that is text": ("amount", "1.50", None),
    "thousands": ("amount", "1,000", "BAD_NUMBER"),
    "more decimals": ("amount", 10.505, "SCALE_LOST"),
    "not a number": ("amount", float("inf"), "BAD_NUMBER"),
    "too large": ("amount", 1e17, "BAD_NUMBER"),
    "bytes": ("amount", b"1.50", None),
    "no value": ("amount", None, "MISSING_VALUE"),
    "a day alone": ("booked", "2026-06-30", "BAD_DATE"),
    "no day": ("booked", "2026-06-30 24:00:00", "BAD_DATE"),
    "an instant elsewhere": ("booked", "2026-06-30T12:00:00Z", None),
    "a NUL byte": ("method", "ca\x00rd", "NUL_BYTE"),
}


@pytest.mark.parametrize(("column", "value", "code"), ODD_VALUES.values(), ids=list(ODD_VALUES))
def test_a_value_of_another_type_is_judged_by_rule(extraction, till, column, value, code):
    pay(till, *[(n, "2026-06-30 12:00:00", 1.25, "card") for n in range(400)])
    odd = {"booked": "2026-06-30 12:00:00", "amount": 1, "method": "card", column: value}
    pay(till, (9999, odd["booked"], odd["amount"], odd["method"]))

    result = extraction.run()["payment"]

    found = extraction.quarantined("reason_code", "payment")
    assert found == ([(code,)] if code else [])
    assert balance(result) == (401, 401 - len(found), len(found), True)


def test_text_that_is_not_utf_8_is_not_guessed(extraction, till):
    pay(till, (1, "2026-06-30 12:00:00", 1, "card"))
    with sqlite3.connect(till) as connection:
        connection.execute("update payment set method = cast(x'b9e3d6dd' as text)")
    connection.close()

    assert extraction.held() == ["WRONG_ENCODING"]
    assert extraction.landed("payment") == []


def test_totals_of_large_numbers_are_exact(extraction, till):
    pay(till, *[(n, "2026-06-30 12:00:00", 90_000_000_000_000 + n, "card") for n in range(300)])
    pay(till, *[(n, "2026-06-30 12:00:00", n / 100, "card") for n in range(1000, 2000)])

    assert extraction.run()["payment"].rows == 1300


def test_a_count_of_the_file_that_differs_holds_the_table(extraction, till, monkeypatch):
    pay(till, *[(n, "2026-06-30 12:00:00", 1, "card") for n in range(20)])
    counted = QueryDelivery._count

    def lose_one(self, counting, summed):
        self._session.run("delete from taken where payment_id = '7'")
        counted(self, counting, summed)

    monkeypatch.setattr(QueryDelivery, "_count", lose_one)

    assert extraction.held() == ["UNBALANCED", "SUM_MISMATCH"]


def test_a_day_without_rows_is_no_finding(extraction):
    assert balance(extraction.run()["payment"]) == (0, 0, 0, True)


def test_a_select_in_duckdbs_own_words_is_counted_by_duckdb(extraction, till):
    pay(till, (1, "1782792000", 1, "card"), (2, "1782878400", 1, "card"))
    use(
        extraction,
        SELECT.replace("booked as", "to_timestamp(try_cast(booked as bigint)) as")
        .replace("booked >=", "to_timestamp(try_cast(booked as bigint)) >=")
        .replace("booked <", "to_timestamp(try_cast(booked as bigint)) <"),
    )

    assert balance(extraction.run()["payment"]) == (1, 1, 0, True)


def test_the_file_is_never_written(extraction, till):
    pay(till, (1, "2026-06-30 12:00:00", 1, "card"))
    before = till.read_bytes()
    till.chmod(0o444)

    extraction.run()

    assert till.read_bytes() == before
    assert sorted(path.name for path in till.parent.glob("till*")) == [till.name]


def test_a_file_that_is_not_there_may_come_back(extraction, till):
    till.unlink()

    with pytest.raises(SourceUnavailableError, match=r"till'\.sqlite, from KEEPLINE_DEMO_TILL"):
        extraction.run()


def test_a_file_that_is_none_of_sqlites_is_named(extraction, till):
    till.write_text("a letter, no database")

    with pytest.raises(UsageError, match=r"till'\.sqlite.* is not an SQLite database"):
        extraction.run()


def test_a_mistake_in_a_select_names_file_table_and_mistake(extraction):
    use(extraction, SELECT.replace("till.payment", "till.nothing"))

    with pytest.raises(UsageError, match=r"^demo\.yml, table payment: .*nothing does not exist"):
        extraction.run()


def test_the_day_of_the_window_is_text_too(extraction, till):
    use(extraction, SELECT.replace("{from_at}", "{from_date}").replace("{to_at}", "{to_local}"))
    pay(till, (1, f"{DAY} 00:00:00", 1, "card"))

    assert extraction.run()["payment"].rows == 1
