"""Twelve ways in which a source's schema drifts: what each comes to, in files and in a database.

The day before lands with the old schema, the next one comes with the new.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import duckdb
import psycopg
import pytest
import yaml
from extract_source import COLUMNS, DAY, OPERATOR, Extraction, call

from expectations.batches import moved_measure
from keepline import store
from keepline.contract import Column, Contract, load_contract
from keepline.contract_lock import LOCK, breaches, written
from keepline.extract import Verdict
from keepline.extract.verdict import IncompleteError
from keepline.settings import PROJECT_DIR

ROWS = 400
BEFORE = DAY - timedelta(days=1)
NAMES = COLUMNS.split(",")
DBT_DIR = PROJECT_DIR / "dbt_project"
LOAD, ROW, HOLD, BLOCK = Verdict.LOAD, Verdict.ROW, Verdict.HOLD, Verdict.BLOCK


@dataclass(frozen=True)
class Drift:
    """A kind of drift.

    Attributes:
        verdict: what it comes to; BLOCK: it lands, and the gate behind says no.
        codes: of rows, of holds or of notes.
        change: the rows with their header, of the day with the new schema.
        aside: rows set aside.
        delimiter: between the values.
        encoding: of the file.
    """

    verdict: Verdict
    codes: Sequence[str]
    change: Callable[[list[dict[str, str]]], list[dict[str, str]]]
    aside: int = 0
    delimiter: str = ","
    encoding: str = "utf-8"


def renamed(rows, old, new):
    return [{new if name == old else name: value for name, value in row.items()} for row in rows]


def each(rows, **values):
    """Change a column of every row; a function gets the old value."""
    return [
        {**row, **{n: v(row[n]) if callable(v) else v for n, v in values.items()}} for row in rows
    ]


def inserted(row, after, **more):
    place = list(row).index(after) + 1
    items = list(row.items())
    return dict([*items[:place], *more.items(), *items[place:]])


def first(rows, count, **values):
    return [*each(rows[:count], **values), *rows[count:]]


FILE_DRIFTS = {
    "a new nullable column": Drift(LOAD, ["NEW_COLUMN"], lambda rows: each(rows, band="n78")),
    "a new column in the middle": Drift(
        LOAD, ["NEW_COLUMN"], lambda rows: [inserted(r, "direction", band="n78") for r in rows]
    ),
    "a column dropped": Drift(
        HOLD,
        ["BREAKING_SCHEMA"],
        lambda rows: [{n: v for n, v in r.items() if n != "duration_s"} for r in rows],
    ),
    "a column renamed": Drift(
        HOLD, ["BREAKING_SCHEMA"], lambda rows: renamed(rows, "duration_s", "seconds")
    ),
    "a column of a narrower type": Drift(LOAD, [], lambda rows: each(rows, charge_amt="1")),
    "a column of a wider type": Drift(
        ROW, ["SCALE_LOST"] * 3, lambda rows: first(rows, 3, charge_amt="0.155"), aside=3
    ),
    "a column of another type": Drift(
        HOLD, ["QUARANTINE_LIMIT"], lambda rows: each(rows, duration_s="PT10S"), aside=ROWS
    ),
    "columns reordered": Drift(LOAD, [], lambda rows: [dict(reversed(r.items())) for r in rows]),
    "another delimiter": Drift(HOLD, ["HEADER_MISMATCH"], lambda rows: rows, delimiter=";"),
    "another encoding": Drift(
        HOLD, ["WRONG_ENCODING"], lambda rows: each(rows, cell_id="广州一号"), encoding="gbk"
    ),
    "another unit": Drift(BLOCK, [], lambda rows: each(rows, charge_amt="15.00")),
    "a code list that grew": Drift(
        ROW, ["UNKNOWN_CODE"] * 3, lambda rows: first(rows, 3, direction="conference"), aside=3
    ),
    "another key": Drift(
        # The number starts again for each cell.
        HOLD,
        ["QUARANTINE_LIMIT"],
        lambda rows: each(rows, usage_id=lambda v: f"V{int(v[1:]) % 100:04d}"),
        aside=ROWS - 100,
    ),
}  # fmt: skip
CASES = {
    "a new nullable column": (38,),
    "a new column in the middle": (38,),
    "a column dropped": (39,),
    "a column renamed": (39,),
    "a column of another type": (39,),
    "columns reordered": (37,),
    "another delimiter": (40,),
    "another encoding": (23,),
}


def marked(drifts):
    return [
        pytest.param(
            drift, id=name, marks=[pytest.mark.case(*CASES[name])] if name in CASES else []
        )
        for name, drift in drifts.items()
    ]


def records(day):
    return [dict(zip(NAMES, call(n, day).split(","), strict=True)) for n in range(ROWS)]


def deliver(folder, day, rows, drift=None):
    delimiter = drift.delimiter if drift else ","
    lines = [delimiter.join(rows[0]), *(delimiter.join(row.values()) for row in rows)]
    text = "".join(f"{line}\n" for line in lines)
    content = gzip.compress(text.encode(drift.encoding if drift else "utf-8"), mtime=0)
    folder = folder / day.isoformat()
    folder.mkdir()
    (folder / "cdr_voice.csv.gz").write_bytes(content)
    entry = {
        "name": "cdr_voice.csv.gz",
        "table": "cdr_voice",
        "rows": len(rows),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "sums": {},
    }
    (folder / "manifest.json").write_text(json.dumps({"date": str(day), "files": [entry]}))


def outcome(extraction, table, day):
    """Extract a day; return its result and the codes of what held it, or of what was noted."""
    try:
        result = extraction.run(day)[table]
        return result, [note.code for note in result.notes]
    except IncompleteError as error:
        (result,) = [r for r in error.results if r.table_name == table]
        return result, [finding.code for finding in result.findings]


def judged(extraction, table, drift, result, codes):
    """Compare verdict, codes and counts with what a drift should come to."""
    (row,) = result.reconciliations
    aside = sum(row.quarantined_rows.values())
    if drift.verdict is HOLD:
        assert codes == list(drift.codes)
        assert row.loaded_rows == 0
        assert extraction.landed(table, "max(load_date)") == [(BEFORE,)]
        return
    if drift.verdict is ROW:
        found = extraction.quarantined("reason_code", table)
        assert [code for (code,) in found] == list(drift.codes)
    else:
        assert codes == list(drift.codes)
    assert (row.physical_rows, row.loaded_rows, aside) == (ROWS, ROWS - drift.aside, drift.aside)
    assert row.balanced
    assert result.verdict is LOAD


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


@pytest.mark.parametrize("drift", marked(FILE_DRIFTS))
def test_a_file_whose_schema_drifts(extraction, drift, tally):
    extraction.operator_file.write_text(
        OPERATOR.replace("file: cdr_voice", f"file: cdr_voice\n    columns: [{COLUMNS}]")
    )
    for day in (BEFORE - timedelta(days=1), BEFORE):
        deliver(extraction.drops, day, records(day))
        assert outcome(extraction, "cdr_voice", day)[0].rows == ROWS
    deliver(extraction.drops, DAY, drift.change(records(DAY)), drift)

    result, codes = outcome(extraction, "cdr_voice", DAY)

    judged(extraction, "cdr_voice", drift, result, codes)
    if drift.verdict is BLOCK:
        assert moved(extraction, "cdr_voice") == {
            "value_ratio": 100,
            "value_ratio_column": "charge_amt",
        }
    if drift.codes != ["QUARANTINE_LIMIT"] or drift.aside < ROWS:
        # Retyping is counted once for each direction, and this is neither.
        tally("drift kinds", 1, 1)


def moved(extraction, table):
    """What `keepline check` blocks when it is more than 3: the measure that moved farthest."""
    paths = [
        str(extraction.settings.landing_dir / table / f"load_date={day}" / "part-0.parquet")
        for day in (DAY, BEFORE, BEFORE - timedelta(days=1))
    ]
    return moved_measure(duckdb.connect(), load_contract(DBT_DIR)[table], paths[0], paths[1:])


# -- a database --------------------------------------------------------------------------------------

BILLING = """
name: demo
description: a billing system
connections:
  operator: {type: postgres, dsn_env: KEEPLINE_DEMO_DSN}
tables:
  interaction:
    sql: |
      select interaction_id, subscription_id, direction, started_at, queue_s, csat_score
      from operator.cc.interaction
      where started_at >= {from_at} and started_at < {to_at}
"""
TABLE = """create table cc.interaction (
    interaction_id text, subscription_id text, direction text, started_at timestamptz, queue_s integer,
    csat_score integer
)"""


@dataclass(frozen=True)
class Change:
    """What happens to the database between two days; see `Drift`."""

    verdict: Verdict
    codes: Sequence[str]
    sql: str
    aside: int = 0


REORDERED = (
    "create table cc.other as select csat_score, queue_s, started_at, direction, subscription_id,"
    " interaction_id from cc.interaction; drop table cc.interaction;"
    " alter table cc.other rename to interaction"
)
NEW_DAY = f"where started_at >= '{DAY} 00:00+08'"
DATABASE_DRIFTS = {
    # The SELECT names what it wants, so that nobody needs to be told.
    "a new nullable column": Change(LOAD, [], "alter table cc.interaction add mood text"),
    "a new column in the middle": Change(
        LOAD, [], f"alter table cc.interaction add mood text default 'x'; {REORDERED}"
    ),
    "a column dropped": Change(
        HOLD, ["BREAKING_SCHEMA"], "alter table cc.interaction drop queue_s"
    ),
    "a column renamed": Change(
        HOLD, ["BREAKING_SCHEMA"], "alter table cc.interaction rename queue_s to waited"
    ),
    "a column of a narrower type": Change(
        LOAD, [], "alter table cc.interaction alter queue_s type smallint"
    ),
    "a column of a wider type": Change(
        ROW,
        ["SCALE_LOST"] * 3,
        "alter table cc.interaction alter queue_s type numeric(12, 3);"
        f" update cc.interaction set queue_s = 1.5 {NEW_DAY} and interaction_id in ('1', '2', '3')",
        aside=3,
    ),
    "a column of another type": Change(
        HOLD,
        ["QUARANTINE_LIMIT"],
        "alter table cc.interaction alter queue_s type text using queue_s || ' s'",
    ),
    "columns reordered": Change(LOAD, [], REORDERED),
    "another unit": Change(
        BLOCK, [], f"update cc.interaction set queue_s = queue_s * 1000 {NEW_DAY}"
    ),
    "a code list that grew": Change(
        ROW,
        ["UNKNOWN_CODE"] * 3,
        "update cc.interaction set direction = 'chat'"
        f" {NEW_DAY} and interaction_id in ('1', '2', '3')",
        aside=3,
    ),
    "another key": Change(
        HOLD,
        ["QUARANTINE_LIMIT"],
        "update cc.interaction set interaction_id = (interaction_id::int % 100)::text",
    ),
    "the table moved": Change(
        HOLD, ["BREAKING_SCHEMA"], "alter table cc.interaction rename to contact"
    ),
}
CASES["the table moved"] = (39,)


@pytest.fixture
def contact_centre(settings, extraction, monkeypatch):
    extraction.operator_file.write_text(BILLING)
    reader = psycopg.conninfo.make_conninfo(
        store.dsn(settings), user="drift_reader", password="drift_reader"
    )
    monkeypatch.setenv("KEEPLINE_DEMO_DSN", reader)
    with store.connect(settings, autocommit=True) as connection:
        if not connection.execute(
            "select 1 from pg_roles where rolname = 'drift_reader'"
        ).fetchall():
            connection.execute("create role drift_reader login password 'drift_reader'")
        connection.execute("create schema cc")
        connection.execute(TABLE)
        connection.execute(
            "insert into cc.interaction select n::text, 'S1', 'in', d + interval '12 hours', 10, 5"
            f" from generate_series(1, {ROWS}) n,"
            f" generate_series(timestamptz '{DAY} 00:00+08' - interval '2 days',"
            f" '{DAY} 00:00+08', '1 day') d"
        )
        connection.execute("grant usage on schema cc to drift_reader")
        connection.execute(
            "alter default privileges in schema cc grant select on tables to drift_reader"
        )
        connection.execute("grant select on all tables in schema cc to drift_reader")
        yield connection


@pytest.mark.parametrize("drift", marked(DATABASE_DRIFTS))
def test_a_database_whose_schema_drifts(extraction, contact_centre, drift):
    for day in (BEFORE - timedelta(days=1), BEFORE):
        assert outcome(extraction, "interaction", day)[0].rows == ROWS
    contact_centre.execute(drift.sql)

    result, codes = outcome(extraction, "interaction", DAY)

    judged(extraction, "interaction", drift, result, codes)
    if drift.verdict is BLOCK:
        assert moved(extraction, "interaction") == {
            "value_ratio": 1000,
            "value_ratio_column": "queue_s",
        }


def test_the_other_tables_land_when_one_drifts(extraction, contact_centre):
    extraction.operator_file.write_text(
        BILLING
        + "  holiday:\n    sql: |\n      select date '2026-06-30' as holiday_date, 'x' as name,"
        " true as workday_flag, {from_at} as updated_at\n"
    )
    outcome(extraction, "interaction", BEFORE)
    contact_centre.execute("alter table cc.interaction drop queue_s")

    outcome(extraction, "interaction", DAY)

    assert extraction.landed("holiday", "count(*)") == [(2,)]


# -- the contract itself -----------------------------------------------------------------------------


def test_the_lock_is_what_the_contract_promises():
    """A breaking change without a new version fails here; the message says what to type."""
    assert breaches(load_contract(DBT_DIR), (DBT_DIR / LOCK).read_text()) == []


def changed(**columns):
    """The contract with other columns of `payment`; None takes a column away."""
    contract = load_contract(DBT_DIR)
    table = contract["payment"]
    kept = [c for c in table.columns if columns.get(c.name, c) is not None]
    kept = [replace(c, **columns.pop(c.name, {})) for c in kept]
    more = [
        Column(name, "text", "", **words) for name, words in columns.items() if words is not None
    ]
    return Contract({**contract.tables, "payment": replace(table, columns=(*kept, *more))})


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"amt": {"data_type": "integer"}}, "the column amt was decimal(18,2) and is integer"),
        ({"method_code": None}, "the column method_code is gone"),
        ({"method_code": {"nullable": False}}, "was text nullable and is text"),
        ({"fee_code": {}}, "the column fee_code is new and must have a value"),
        ({"fee_code": {"nullable": True}}, None),
    ],
)
def test_a_change_that_breaks_others_needs_a_new_version(columns, words):
    locked = (DBT_DIR / LOCK).read_text()

    found = breaches(changed(**columns), locked)

    assert [words in text for text in found] == ([True] if words else [])
    new = written(changed(**columns), locked, ["payment"])
    assert breaches(changed(**columns), new) == []
    assert yaml.safe_load(new)["payment"]["version"] == 2
