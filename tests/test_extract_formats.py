"""JSON-lines and Parquet: the same contract, counts and verdicts as for CSV."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogue import catalogue

from keepline.extract.json_lines import Records
from keepline.extract.sql import LINE

DAY = date(2026, 6, 30)
OTHER = date(2026, 6, 29)
OPERATOR = """
name: demo
description: recharges, a file a day
files:
  drops: {{path_env: KEEPLINE_DEMO_DROPS, {sets}, layout: "{{date}}/{{file}}{suffix}"}}
tables:
  recharge:
    file: recharge
    columns: [id, line, made, face, paid]
    sql: |
      select
          id as recharge_id, line as subscription_id, made as recharged_at, face as face_amt,
          paid as paid_amt, false as reversed_flag
      from records
"""


@pytest.fixture
def world(postgres, tmp_path):
    def open_with(sets: str, suffix: str):
        return catalogue(postgres, tmp_path, OPERATOR.format(sets=sets, suffix=suffix))

    return open_with


def recharge(number: int, day: date = DAY, **changes: object) -> dict[str, object]:
    """Return a record; numbers are given as text so that a test can say each digit."""
    return {
        "id": f"R{number}",
        "line": f"S{number}",
        "made": f"{day} 09:00:00+08:00",
        "face": Decimal("50.00"),
        "paid": Decimal("49.90"),
        **changes,
    }


def line(record: dict[str, object]) -> str:
    parts = [
        f"{json.dumps(k)}: {v if isinstance(v, Decimal) else json.dumps(v, ensure_ascii=False)}"
        for k, v in record.items()
    ]
    return "{" + ", ".join(parts) + "}"


def lines(*records: object) -> bytes:
    text = "".join((r if isinstance(r, str) else line(r)) + "\n" for r in records)
    return text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_json_lines_land_with_every_digit(world, suffix):
    records = [
        recharge(1, face=Decimal("1234567890123456.78")),
        recharge(2, face=Decimal("50.10"), channel="web"),
        recharge(3, line='S, "3"\nand more 𠮷'),
        recharge(4, face="7", paid="0.10"),
    ]
    records[2]["id"], records[2]["line"] = "R3", "S3 𠮷"
    content = lines(records[0], "", records[1], "  ", *records[2:])
    with world("format: jsonl", suffix) as found:
        name = f"{DAY}/recharge{suffix}"
        found.deliver(name, gzip.compress(content) if suffix.endswith("gz") else content)
        found.extract(DAY)

        rows = found.landed(DAY, "recharge_id, subscription_id, face_amt", table="recharge")
        assert rows == [
            ("R1", "S1", Decimal("1234567890123456.78")),
            ("R2", "S2", Decimal("50.10")),
            ("R3", "S3 𠮷", Decimal("50.00")),
            ("R4", "S4", Decimal("7.00")),
        ]
        assert found.balance(DAY, "recharge") == (4, 4, {}, 0, True)
        assert [note.code for note in found.results["recharge"].notes] == ["NEW_COLUMN"]


def test_lines_that_are_no_record_are_set_aside_with_their_number(world):
    content = lines(
        recharge(1),
        '{"id": "R2", "line": ',
        "",
        "[1, 2]",
        '{"id": "R3", "id": "R4"}',
        recharge(5, line="\udcff"),
        recharge(6, face=Decimal("1.005")),
        recharge(7, note="x" * 2_100_000),
        '{"id": "R8", "line": "\\ud800"}',
        "[" * 100_000,
        recharge(9, made="a\0b"),
        recharge(10, face=None),
        recharge(11, id="R\u200b11"),
    )
    with world("format: jsonl", ".jsonl") as found:
        found.deliver(f"{DAY}/recharge.jsonl", content)
        found.extract(DAY)

        assert [(code, line) for code, _, line, _ in found.quarantined(DAY, "recharge")] == [
            ("BAD_LINE", 2),
            ("BAD_LINE", 4),
            ("BAD_LINE", 5),
            ("BAD_ENCODING", 6),
            ("SCALE_LOST", 7),
            ("LINE_TOO_LONG", 8),
            ("BAD_ENCODING", 9),
            ("BAD_LINE", 10),
            ("NUL_BYTE", 11),
            ("MISSING_VALUE", 12),
            ("HIDDEN_CHARACTER", 13),
        ]
        physical, loaded, quarantined, skipped, balanced = found.balance(DAY, "recharge")
        assert (physical, loaded, skipped, balanced) == (12, 1, 0, True)
        assert sum(quarantined.values()) == 11


def test_words_that_mean_no_value_and_encodings_hold_for_json_lines_too(world):
    content = lines(recharge(1, line="NULL"), recharge(2, line="广州")).decode().encode("gb18030")
    with world('format: jsonl, encoding: gb18030, nulls: ["NULL"]', ".jsonl") as found:
        found.deliver(f"{DAY}/recharge.jsonl", content)
        found.extract(DAY)

        assert found.landed(DAY, "subscription_id", table="recharge") == [("广州",)]
        assert found.balance(DAY, "recharge") == (2, 1, {"MISSING_VALUE": 1}, 0, True)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[\n" + b",\n".join(lines(recharge(n)).strip() for n in range(3)) + b"\n]\n", None),
        (b"id,line\nR1,S1\n", "HEADER_MISMATCH"),
        (lines({"id": "R1", "line": "S1"}), "BREAKING_SCHEMA"),
        (
            lines(*[recharge(n, line="广州") for n in range(9)]).decode().encode("gbk"),
            "WRONG_ENCODING",
        ),
        (lines({**recharge(1), "source_file": "x"}), "HEADER_MISMATCH"),
    ],
    ids=["one array", "CSV", "a column less", "GBK", "a reserved name"],
)
def test_what_is_not_json_lines_is_held_or_set_aside(world, content, code):
    with world("format: jsonl", ".jsonl") as found:
        found.deliver(f"{DAY}/recharge.jsonl", content)
        found.extract(DAY)

        if code is None:
            # An array that is spread over lines: each of its lines is read for itself.
            physical, _, quarantined, _, balanced = found.balance(DAY, "recharge")
            assert (physical, set(quarantined), balanced) == (5, {"BAD_LINE"}, True)
        else:
            assert found.codes(DAY) == [code]
            assert found.landed(DAY, table="recharge") == []


def parquet(path, *records, types=None):
    schema = pa.schema(
        types
        or [
            ("id", pa.string()),
            ("line", pa.string()),
            ("made", pa.timestamp("us", "UTC")),
            ("face", pa.decimal128(18, 2)),
            ("paid", pa.float64()),
        ]
    )
    columns = {name: [record[name] for record in records] for name in schema.names}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), path, write_page_checksum=True)


def typed(number: int, day: date = DAY, **changes: object) -> dict[str, object]:
    at = datetime(day.year, day.month, day.day, 1, tzinfo=UTC)
    return recharge(number, **{"made": at, "paid": 49.9, **changes})


def test_parquet_lands_with_its_types_and_its_rows_are_judged(world):
    records = [typed(n) for n in range(5)]
    records[2]["paid"] = 0.125
    records[3]["line"] = None
    with world("format: parquet", ".parquet") as found:
        parquet(found.source.drops / f"{DAY}/recharge.parquet", *records)
        # Another day, other types: text all over.
        text = [{k: str(v) for k, v in typed(n, OTHER).items()} for n in range(2)]
        types = [(name, pa.string()) for name in text[0]]
        parquet(found.source.drops / f"{OTHER}/recharge.parquet", *text, types=types)
        found.extract(OTHER, date(2026, 7, 1))

        rows = found.landed(
            DAY, "recharge_id, recharged_at::varchar, face_amt, paid_amt", table="recharge"
        )
        amounts = (Decimal("50.00"), Decimal("49.90"))
        assert rows == [(f"R{n}", "2026-06-30 01:00:00", *amounts) for n in (0, 1, 4)]
        assert found.landed(OTHER, "paid_amt", table="recharge") == [(Decimal("49.90"),)] * 2
        assert found.quarantined(DAY, "recharge") == [
            ("SCALE_LOST", "paid_amt", 3, f"{DAY}/recharge.parquet"),
            ("MISSING_VALUE", "subscription_id", 4, f"{DAY}/recharge.parquet"),
        ]
        counts = {"MISSING_VALUE": 1, "SCALE_LOST": 1}
        assert found.balance(DAY, "recharge") == (5, 3, counts, 0, True)
        assert found.balance(OTHER, "recharge") == (2, 2, {}, 0, True)


@pytest.mark.parametrize("damage", ["cut", "flipped", "none of it", "a column less"])
def test_parquet_that_is_damaged_or_lacks_a_column_is_held(world, damage):
    with world("format: parquet", ".parquet") as found:
        path = found.source.drops / f"{DAY}/recharge.parquet"
        if damage == "a column less":
            parquet(path, typed(1), types=[("id", pa.string()), ("line", pa.string())])
        else:
            parquet(path, *[typed(n) for n in range(5000)])
        content = path.read_bytes()
        if damage == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "flipped":
            path.write_bytes(content[:900] + bytes([content[900] ^ 0xFF]) + content[901:])
        elif damage == "none of it":
            path.write_bytes(b"id,line\nR1,S1\n")
        found.extract(DAY)

        expected = "BREAKING_SCHEMA" if damage == "a column less" else "BAD_PARQUET"
        assert found.codes(DAY) == [expected]
        assert found.landed(DAY, table="recharge") == []
        assert found.balance(DAY, "recharge")[1] == 0


def test_values_inside_values_stay_json_with_their_numbers():
    records = Records([b'{"a": {"b": [1.10, "x", null, true]}, "c": false}'], "utf-8", ["a", "c"])

    (batch,) = records.batches()

    assert batch.to_pylist() == [{"a": '{"b": [1.10, "x", null, true]}', "c": "false", LINE: 1}]
