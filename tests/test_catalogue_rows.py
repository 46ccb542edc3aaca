"""The fault catalogue, rows of files: what lands as it is, what is set aside and why, what holds the day.

All cases are load dates of one window: a file each, extracted together, so that a bad one is also shown
to leave the others alone.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from catalogue import Catalogue, catalogue
from extract_source import COLUMNS, call

HEADER = COLUMNS + ",note"
OPERATOR = f"""
name: demo
description: calls, a file a day, with a column of free text
files:
  drops: {{path_env: KEEPLINE_DEMO_DROPS, layout: "{{date}}/{{file}}.csv"}}
tables:
  cdr_voice:
    file: cdr_voice
    columns: [{HEADER}]
    sql: |
      select
          usage_id, subscription_id, msisdn as msisdn_hash, other_number as other_number_hash,
          note as other_prefix, direction, start_at, duration_s, cell_id, roam_type, call_type,
          status, received_at, charge_amt
      from records
"""
FIRST = date(2026, 3, 1)
GOOD = 5
# The line of the odd record: the header, the good ones, then it.
ODD = GOOD + 2
# Names in the file of columns that the contract calls otherwise.
IN_THE_FILE = {"msisdn_hash": "msisdn", "other_prefix": "note"}
Build = Callable[[date], bytes]


def record(number: int, day: date, note: str = "", **changes: str) -> str:
    return f"{call(number, day, **changes)},{note}"


def good(day: date) -> list[str]:
    return [record(n, day) for n in range(GOOD)]


def text(*lines: str, header: str = HEADER, end: str = "\n") -> bytes:
    return "".join(line + end for line in [header, *lines]).encode("utf-8", "surrogateescape")


def with_record(**changes: str) -> Build:
    return lambda day: text(*good(day), record(9, day, **changes))


def with_line(line: Callable[[date], str]) -> Build:
    return lambda day: text(*good(day), line(day))


def case(build: Build, *expected: Any, show: int, name: str) -> Any:
    return pytest.param(build, *expected, id=f"{show}: {name}", marks=pytest.mark.case(show))


def odd(show: int, name: str, code: str, column: str, value: str) -> Any:
    """A record whose value of one column is refused."""
    source = IN_THE_FILE.get(column, column)
    return case(with_record(**{source: value}), code, column, show=show, name=name)


def lost(show: int, name: str, code: str, line: Callable[[date], str]) -> Any:
    """A line that is no record."""
    return case(with_line(line), code, None, show=show, name=name)


def as_is(show: int, name: str, column: str, value: str, lands: Any) -> Any:
    """A record whose value of one column lands."""
    source = IN_THE_FILE.get(column, column)
    return case(with_record(**{source: value}), column, lands, show=show, name=name)


def held(show: int, name: str, code: str, build: Build) -> Any:
    return case(build, code, show=show, name=name)


def other(show: int, name: str, build: Build) -> Any:
    """The same records, written otherwise."""
    return case(build, show=show, name=name)


def in_gbk(day: date) -> bytes:
    return text(*[record(n, day, note="广州") for n in range(GOOD)]).decode().encode("gbk")


def one_in_gbk(day: date) -> str:
    # Bytes that are no UTF-8, as Python writes them in a text.
    return record(9, day, note="\udcb9\udce3\udcd6\udcdd")


def retyped(day: date) -> bytes:
    return text(*[record(n, day, duration_s="PT10S") for n in range(30)])


def renamed(day: date) -> bytes:
    return text(*good(day), header=HEADER.replace("duration_s", "seconds"))


def missing(day: date) -> bytes:
    return text(*[r.rsplit(",", 1)[0] for r in good(day)], header=COLUMNS)


def reordered(day: date) -> bytes:
    return text(
        *[",".join(reversed(r.split(","))) for r in good(day)],
        header=",".join(reversed(HEADER.split(","))),
    )


ROWS = [
    lost(18, "a line of 3 MB", "LINE_TOO_LONG", lambda day: record(9, day, note="x" * 3_000_000)),
    lost(19, "the header again", "REPEATED_HEADER", lambda _: HEADER),
    lost(25, "a line in GBK", "BAD_ENCODING", one_in_gbk),
    lost(36, "a column less", "COLUMN_COUNT", lambda day: record(9, day).rsplit(",", 1)[0]),
    lost(36, "a column more", "COLUMN_COUNT", lambda day: record(9, day) + ",1"),
    odd(31, "a NUL byte", "NUL_BYTE", "other_prefix", "a\0b"),
    odd(32, "zero width in an id", "HIDDEN_CHARACTER", "usage_id", "V00\u200b09"),
    odd(32, "a full-width space in an id", "HIDDEN_CHARACTER", "subscription_id", "S1\u3000"),
    odd(32, "a direction mark in an id", "HIDDEN_CHARACTER", "usage_id", "\u202eV0009"),
    odd(32, "a byte order mark in an id", "HIDDEN_CHARACTER", "usage_id", "\ufeffV0009"),
    odd(32, "a soft hyphen in an id", "HIDDEN_CHARACTER", "cell_id", "GD\u00ad01"),
    odd(32, "a tab in an id, all else ASCII", "HIDDEN_CHARACTER", "cell_id", "GD01\t"),
    odd(32, "a line end in an id", "HIDDEN_CHARACTER", "cell_id", '"GD\n01"'),
    odd(32, "a full-width letter in an id", "HIDDEN_CHARACTER", "cell_id", "\uff2701"),
    odd(32, "zero width in a code", "HIDDEN_CHARACTER", "direction", "out\u200d"),
    odd(32, "no-break space in a number", "HIDDEN_CHARACTER", "msisdn_hash", "1390000\u00a00009"),
    odd(33, "full-width digits", "BAD_NUMBER", "charge_amt", "\uff11\uff10"),
    odd(43, "a number from a spreadsheet", "BAD_MSISDN", "msisdn_hash", "1.38E+10"),
    odd(44, "a tenth of a fen", "SCALE_LOST", "charge_amt", "10.505"),
    odd(45, "more than the type holds", "OVERFLOW", "charge_amt", "10000000000000000.00"),
    odd(45, "not a number", "BAD_NUMBER", "charge_amt", "NaN"),
    odd(45, "infinity", "BAD_NUMBER", "charge_amt", "inf"),
    odd(45, "beyond floating point", "BAD_NUMBER", "charge_amt", "1e309"),
    odd(46, "2 to the 31st seconds", "OVERFLOW", "duration_s", "2147483648"),
    odd(47, "a thousands separator", "BAD_NUMBER", "charge_amt", '"1,000.00"'),
    odd(47, "a currency sign", "BAD_NUMBER", "charge_amt", "¥10"),
    odd(47, "an accountant's minus", "BAD_NUMBER", "charge_amt", "(10.00)"),
    odd(48, "30 February", "BAD_DATE", "start_at", "2026-02-30 09:00:00+08:00"),
    odd(48, "no day at all", "BAD_DATE", "start_at", "0000-00-00 00:00:00"),
    odd(48, "day, month, year", "BAD_DATE", "start_at", "31/12/26 09:00:00"),
    odd(48, "24 o'clock", "BAD_DATE", "start_at", "2026-02-27 24:00:00+08:00"),
    odd(77, "a leap second", "BAD_DATE", "start_at", "2025-12-31 23:59:60Z"),
]

VALUES = [
    as_is(32, "what nobody sees, in free text", "other_prefix", "a\u200b\u3000b", "a\u200b\u3000b"),
    as_is(32, "a plain space in an id", "cell_id", "GD 01", "GD 01"),
    as_is(32, "hanzi in an id", "cell_id", "𠮷基站", "𠮷基站"),
    as_is(35, "a comma between quotes", "other_prefix", '"a,b"', "a,b"),
    as_is(35, "line ends between quotes", "other_prefix", '"a\nb\r\nc"', "a\nb\r\nc"),
    as_is(35, "quotes between quotes", "other_prefix", '"say ""a"""', 'say "a"'),
    as_is(41, "the word NULL", "other_prefix", "NULL", "NULL"),
    as_is(41, "a backslash and N", "other_prefix", "\\N", "\\N"),
    as_is(41, "not available", "other_prefix", "N/A", "N/A"),
    as_is(41, "a dash", "other_prefix", "-", "-"),
    as_is(41, "nothing between quotes", "other_prefix", '""', None),
    as_is(42, "leading zeros", "cell_id", "0050", "0050"),
    as_is(44, "empty decimals", "charge_amt", "10.500", Decimal("10.50")),
    as_is(45, "the most the type holds", "charge_amt", "9" * 16 + ".99", Decimal("9" * 16 + ".99")),
    as_is(49, "a formula", "other_prefix", "=1+1", "=1+1"),
    as_is(49, "a plus", "other_prefix", "+1", "+1"),
    as_is(49, "a minus", "other_prefix", "-1", "-1"),
    as_is(49, "an at sign", "other_prefix", "@SUM(A1)", "@SUM(A1)"),
    as_is(49, "a tab", "other_prefix", "\t=1", "\t=1"),
    as_is(49, "a carriage return", "other_prefix", '"\r=1"', "\r=1"),
    as_is(50, "SQL", "other_prefix", "'; drop table x --", "'; drop table x --"),
    as_is(50, "a template", "other_prefix", "{{ 7 * 7 }}{% raw %}", "{{ 7 * 7 }}{% raw %}"),
    as_is(77, "the second before", "start_at", "2026-01-01 07:59:59+08:00", "2025-12-31 23:59:59"),
]

OTHERWISE = [
    other(21, "CR LF", lambda day: text(*good(day), end="\r\n")),
    other(29, "a byte order mark", lambda day: b"\xef\xbb\xbf" + text(*good(day))),
    other(37, "columns in another order", reordered),
]

HELD = [
    held(21, "two kinds of line end", "MIXED_LINE_ENDS", lambda day: text(*good(day)) + b"a\r\n"),
    held(23, "GBK", "WRONG_ENCODING", in_gbk),
    held(30, "UTF-16", "WRONG_ENCODING", lambda day: text(*good(day)).decode().encode("utf-16")),
    held(34, "an open quote", "UNBALANCED", lambda day: text(*good(day)[:4], '"' + good(day)[4])),
    held(39, "a column less", "BREAKING_SCHEMA", missing),
    held(39, "a column renamed", "BREAKING_SCHEMA", renamed),
    held(39, "a column of another type", "QUARANTINE_LIMIT", retyped),
    held(40, "another delimiter", "HEADER_MISMATCH", lambda d: text(*good(d)).replace(b",", b";")),
]

NEW_COLUMN = [
    case(
        lambda day: text(*[f"{line},n78" for line in good(day)], header=HEADER + ",band"),
        show=38,
        name="a new column",
    )
]
ALL = [*ROWS, *VALUES, *OTHERWISE, *HELD, *NEW_COLUMN]


@pytest.fixture(scope="module")
def window(postgres, tmp_path_factory) -> Iterator[Catalogue]:
    """Extract all cases: the one at place n is the n-th day."""
    days = {FIRST + timedelta(days=n): param.values[0] for n, param in enumerate(ALL)}
    with catalogue(postgres, tmp_path_factory.mktemp("rows"), OPERATOR) as found:
        for day, build in days.items():
            found.deliver(f"{day}/cdr_voice.csv", build(day))
        found.extract(FIRST, FIRST + timedelta(days=len(days)))
        yield found


def day_of(build: Build) -> date:
    return FIRST + timedelta(days=[param.values[0] for param in ALL].index(build))


@pytest.mark.parametrize(("build", "code", "column"), ROWS)
def test_the_row_is_set_aside_with_its_reason_and_its_line(window, build, code, column):
    day = day_of(build)

    assert window.quarantined(day) == [(code, column, ODD, f"{day}/cdr_voice.csv")]
    assert window.balance(day) == (GOOD + 1, GOOD, {code: 1}, 0, True)
    assert len(window.landed(day, "usage_id")) == GOOD


@pytest.mark.parametrize(("build", "column", "lands"), VALUES)
def test_the_value_lands_as_what_it_is(window, build, column, lands):
    shown = f"{column}::varchar" if column == "start_at" else column

    day = day_of(build)
    assert window.landed(day, shown, "usage_id = 'V0009'") == [(lands,)]
    assert window.balance(day) == (GOOD + 1, GOOD + 1, {}, 0, True)


@pytest.mark.parametrize("build", OTHERWISE)
def test_the_same_records_written_otherwise_land_the_same(window, build):
    day = day_of(build)

    assert window.landed(day, "usage_id, duration_s, cell_id, charge_amt") == [
        (f"V{n:04d}", 10 + n, "GD01", Decimal("0.15")) for n in range(GOOD)
    ]
    assert window.balance(day) == (GOOD, GOOD, {}, 0, True)


@pytest.mark.parametrize(("build", "code"), HELD)
def test_the_day_is_held_and_only_this_day(window, build, code):
    day = day_of(build)

    assert window.codes(day) == [code]
    assert window.landed(day) == []
    assert day in window.results["cdr_voice"].held_days
    assert window.balance(day)[1] == 0
    assert len(window.results["cdr_voice"].held_days) == len(HELD)


@pytest.mark.parametrize("build", NEW_COLUMN)
def test_a_new_column_is_told_and_the_known_ones_land(window, build):
    day = day_of(build)

    assert [(note.code, note.load_date) for note in window.results["cdr_voice"].notes] == [
        ("NEW_COLUMN", day)
    ]
    assert window.balance(day) == (GOOD, GOOD, {}, 0, True)


def test_the_figures_of_all_days_add_up(window):
    balances = window.results["cdr_voice"].reconciliations
    read = [row for row in balances if row.load_date not in window.results["cdr_voice"].held_days]

    assert len(read) == len(ALL) - len(HELD)
    assert all(
        row.physical_rows == row.loaded_rows + sum(row.quarantined_rows.values()) + row.skipped_rows
        for row in read
    )


@pytest.mark.case(19)
def test_lines_are_numbered_right_around_a_repeated_header_and_an_unreadable_line(
    postgres, tmp_path
):
    day = FIRST
    lines = good(day)
    broken = record(7, day, duration_s="-1")
    content = text(HEADER, lines[0], "short", lines[1], HEADER, lines[2], broken, HEADER)
    with catalogue(postgres, tmp_path, OPERATOR) as found:
        found.deliver(f"{day}/cdr_voice.csv", content)
        found.extract(day)

        assert [(code, line) for code, _, line, _ in found.quarantined(day)] == [
            ("REPEATED_HEADER", 2),
            ("COLUMN_COUNT", 4),
            ("REPEATED_HEADER", 6),
            ("OUT_OF_RANGE", 8),
            ("REPEATED_HEADER", 9),
        ]
        assert found.balance(day) == (
            8,
            3,
            {"COLUMN_COUNT": 1, "OUT_OF_RANGE": 1, "REPEATED_HEADER": 3},
            0,
            True,
        )


@pytest.mark.case(41)
def test_the_words_of_the_contract_mean_no_value_and_no_other_word_does(postgres, tmp_path):
    operator = OPERATOR.replace('layout: "', 'nulls: ["", "NULL", "\\\\N"], layout: "')
    words = ["NULL", "\\N", "null", "N/A", "-", ""]
    lines = [record(n, FIRST, note=word, charge_amt=word) for n, word in enumerate(words)]
    with catalogue(postgres, tmp_path, operator) as found:
        found.deliver(f"{FIRST}/cdr_voice.csv", text(*lines))
        found.extract(FIRST)

        assert found.landed(FIRST, "usage_id, other_prefix, charge_amt") == [
            ("V0000", None, None),
            ("V0001", None, None),
            ("V0005", None, None),
        ]
        assert found.balance(FIRST) == (6, 3, {"BAD_NUMBER": 3}, 0, True)


@pytest.mark.case(46)
def test_a_counter_of_bytes_is_64_bits_wide(postgres, tmp_path):
    operator = """
name: demo
description: sessions
files:
  drops: {path_env: KEEPLINE_DEMO_DROPS, layout: "{date}/{file}.csv.gz"}
tables:
  cdr_data:
    file: cdr_data
    sql: |
      select
          usage_id, 'S1' as subscription_id, '2026-03-01 09:00:00' as session_start_at,
          0 as bytes_up, bytes as bytes_down, 'home' as roam_type, '2026-03-01 10:00:00' as received_at
      from records
"""
    lines = f"usage_id,bytes\nD1,{2**31}\nD2,{2**63 - 1}\nD3,{2**63}\n"
    with catalogue(postgres, tmp_path, operator) as found:
        found.deliver(f"{FIRST}/cdr_data.csv.gz", gzip.compress(lines.encode()))
        found.extract(FIRST)

        assert found.landed(FIRST, "bytes_down", table="cdr_data") == [(2**31,), (2**63 - 1,)]
        assert found.balance(FIRST, "cdr_data") == (3, 2, {"OVERFLOW": 1}, 0, True)
