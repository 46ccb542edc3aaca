"""What is said of a file: shapes and counts, never its text; and an error of a file holds that file."""

from __future__ import annotations

import gzip
import json
import os
import struct
import zlib
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extract_source import DAY, RECHARGE_HEADER, Extraction, put, recharge, recharges

from keepline.errors import UsageError
from keepline.extract import IncompleteError, records
from keepline.window import Window

BEFORE = DAY - timedelta(days=1)
SECRETS = ("13900001001", "13800002001", "Li Lei", "李雷", "0123456789abcdef")
FIRST_RECORD = "U1,13900001001,13800002001,Li Lei 1,2026-06-30 10:00:01"
PERSONAL_HEADERS = [
    "13900001001,Li Lei,李雷,x,y",
    "id,line,made,13900001001,Li Lei",
    f"{RECHARGE_HEADER},13900001001,Li Lei",
    "id,line,made,face,paid,id",
    "0123456789abcdef",
]


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


def told(extraction, window=DAY) -> str:
    """Everything that a run says of what it held and noted."""
    try:
        results = extraction.run(window).values()
        said = ""
    except IncompleteError as error:
        results, said = error.results, str(error)
    return said + "".join(str(f) for r in results for f in (*r.findings, *r.notes))


def with_columns(extraction):
    text = extraction.operator_file.read_text()
    listed = text.replace("file: recharge", f"file: recharge\n    columns: [{RECHARGE_HEADER}]")
    extraction.operator_file.write_text(listed)


@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("header", PERSONAL_HEADERS)
def test_no_word_of_a_header_that_nobody_knows_is_said(extraction, header, columns):
    recharges(extraction)
    if columns:
        with_columns(extraction)
    row = ",".join("1" for _ in header.split(","))
    put(extraction.drops, f"{DAY}/recharge.csv", header, row)

    said = told(extraction)

    assert [word for word in SECRETS if word in said] == []


@pytest.mark.parametrize("columns", [True, False])
def test_a_first_record_in_place_of_a_header_is_not_said_but_guessed_at(extraction, columns):
    recharges(extraction)
    if columns:
        with_columns(extraction)
    put(extraction.drops, f"{DAY}/recharge.csv", FIRST_RECORD, FIRST_RECORD)

    said = told(extraction)

    assert "BREAKING_SCHEMA" in said
    assert "it has 5 columns, none of them is known: is the header missing?" in said
    assert [word for word in (*SECRETS, "U1") if word in said] == []


def test_a_new_column_is_told_by_its_place_and_by_name_when_the_contract_has_the_word(extraction):
    recharges(extraction)
    with_columns(extraction)
    header = f"{RECHARGE_HEADER},channel_code,Li Lei"
    put(extraction.drops, f"{DAY}/recharge.csv", header, f"{recharge(1)},web,x")

    said = told(extraction)

    assert "NEW_COLUMN" in said
    assert "column 6 (channel_code), 7 of 7" in said
    assert "Li Lei" not in said


def test_a_hard_link_to_a_key_of_keeplines_is_not_read(extraction):
    key = extraction.settings.home / "secrets" / "keepline_vault_key"
    put(key.parent, key.name, RECHARGE_HEADER, recharge(1, line="0123456789abcdef"))
    recharges(extraction)
    (extraction.drops / str(DAY)).mkdir()
    os.link(key, extraction.drops / str(DAY) / "recharge.csv")

    said = told(extraction)

    assert "BAD_PATH" in said
    assert "0123456789abcdef" not in said
    assert extraction.landed("recharge") == []


SELECT_RECHARGE = (
    "select id as recharge_id, line as subscription_id, made as recharged_at, face as face_amt,"
    " paid as paid_amt, false as reversed_flag from records"
)


def test_a_key_of_keeplines_is_not_read_by_its_own_name(extraction, monkeypatch):
    # Given an operator file that says that its files lie where keepline keeps its own
    home = extraction.settings.home
    put(home, f"{DAY}/recharge.csv", RECHARGE_HEADER, recharge(1))
    put(home / "secrets", "keepline_vault_key", "0123456789abcdef")
    monkeypatch.setenv("KEEPLINE_DEMO_DROPS", str(home))
    other = "read_csv('{drops}/secrets/keepline_vault_key', header = false) as other"
    recharges(extraction, sql=f"select id as recharge_id, other.column0 from records, {other}")

    with pytest.raises(UsageError, match="it reads a file of keepline's own"):
        extraction.run()

    assert extraction.landed("recharge") == []


def test_a_line_that_a_reader_of_the_select_stops_at_is_not_said(extraction):
    put(extraction.drops, "list.csv", "code,word", "A1,x", "A3,Li Lei,Beijing Road,13900001001")
    columns = "columns = {'code': 'varchar', 'word': 'varchar'}"
    listed = f"read_csv('{{drops}}/list.csv', {columns}, auto_detect = false, header = true)"
    recharges(extraction, sql=SELECT_RECHARGE.replace("from records", f"from records, {listed}"))
    put(extraction.drops, f"{DAY}/recharge.csv", RECHARGE_HEADER, recharge(1))

    said = told(extraction)

    assert "CSV Error on Line: 3" in said
    assert [word for word in (*SECRETS, "Beijing") if word in said] == []


def test_the_fields_of_a_structure_are_not_said(extraction):
    recharges(extraction, "{date}/{file}.parquet", "parquet", sql="select * from records")
    person = pa.array([{"Li Lei": 1, "13900001001": 2}])
    columns = {name: ["1"] for name in ("recharge_id", "subscription_id")} | {"face_amt": person}
    path = extraction.drops / str(DAY) / "recharge.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table(columns), path)

    said = told(extraction)

    assert "face_amt (STRUCT): no text, number, date or truth" in said
    assert [word for word in SECRETS if word in said] == []


def test_a_star_does_not_say_the_columns_that_it_brings(extraction):
    recharges(extraction, sql="select *, 1 as mine from records")
    put(extraction.drops, f"{DAY}/recharge.csv", "Li Lei,13900001001", "1,2")

    with pytest.raises(UsageError, match="returns mine, 2 columns that it does not name") as raised:
        extraction.run()

    assert [word for word in SECRETS if word in str(raised.value)] == []


@pytest.mark.parametrize(
    ("select", "columns", "told_as"),
    [
        ("trim(id)", {"id": [1]}, "You might need to add explicit type casts"),
        ("r.id", {"other": ["1"]}, "asks for id"),
    ],
)
def test_a_file_whose_columns_changed_holds_its_day_alone(extraction, select, columns, told_as):
    # Given a SELECT that fitted the files before
    sql = SELECT_RECHARGE.replace("select id", f"select {select}") + " as r"
    recharges(extraction, "{date}/{file}.parquet", "parquet", sql=sql)
    for day, first in ((DAY - timedelta(days=1), {"id": ["1"]}), (DAY, columns)):
        values = dict(zip(RECHARGE_HEADER.split(","), recharge(1, day).split(","), strict=True))
        kept = {name: [value] for name, value in values.items() if name != "id"}
        path = extraction.drops / str(day) / "recharge.parquet"
        path.parent.mkdir()
        pq.write_table(pa.table({**first, **kept}), path)
    assert len(extraction.run(DAY - timedelta(days=1))) > 0

    said = told(extraction, Window(DAY - timedelta(days=1), DAY + timedelta(days=1)))

    assert "BREAKING_SCHEMA" in said
    assert told_as in said
    assert extraction.landed("recharge") != []


@pytest.mark.parametrize(
    ("lists", "code"),
    [
        ({"date": "Li Lei 13900001001"}, "BAD_MANIFEST"),
        ({"date": str(DAY), "files": [{"name": "Li Lei 13900001001"}]}, "MISSING_FILE"),
    ],
)
def test_no_word_of_a_manifest_is_said(extraction, lists, code):
    recharges(extraction)
    text = extraction.operator_file.read_text()
    extraction.operator_file.write_text(
        text.replace("format: csv", 'manifest: "{date}/manifest.json"')
    )
    put(extraction.drops, f"{DAY}/recharge.csv", RECHARGE_HEADER, recharge(1))
    put(extraction.drops, f"{DAY}/Li Lei 13900001001.csv", "x")
    manifest = {"files": [], **lists}
    (extraction.drops / str(DAY) / "manifest.json").write_text(json.dumps(manifest))

    said = told(extraction)

    assert code in said or "UNKNOWN_FILE" in said
    assert [word for word in SECRETS if word in said] == []


CODES = """
name: demo
description: lines, a file a day
files:
  drops: {path_env: KEEPLINE_DEMO_DROPS, layout: "{date}/{file}.csv"}
tables:
  subscription:
    file: sub
    sql: |
      select
          id as subscription_id, id as customer_id, 'B' as brand_code, 'postpaid' as payment_type,
          '2020-01-01 00:00:00' as activated_at, status as status_code, changed as status_at,
          changed as updated_at
      from records
"""


@pytest.mark.parametrize(
    ("status", "rows", "is_told"),
    [
        ("on_hold", 12, True),
        ("HOLD2", 12, True),
        ("on_hold", 3, False),
        ("Li Lei", 12, False),
        ("Smith", 12, False),
        ("李雷", 12, False),
        ("13900001001", 12, False),
        ("lei@example.com", 12, False),
        ("12 High Street", 12, False),
        ("x" * 33, 12, False),
    ],
)
def test_a_code_that_many_rows_hold_is_named_so_that_people_can_map_it(
    extraction, status, rows, is_told
):
    extraction.operator_file.write_text(CODES)
    lines = [f"S{n},{status},{DAY} 09:00:00" for n in range(rows)]
    put(extraction.drops, f"{DAY}/sub.csv", "id,status,changed", *lines)

    said = told(extraction)

    assert (status in said) == is_told
    assert ("NEW_CODE" in said) == is_told
    assert (f"status_code: {status} ({rows} rows)" in said) == is_told


@pytest.mark.parametrize(("names", "is_told"), [(20, True), (21, False)])
def test_a_column_of_many_values_holds_no_codes_and_none_is_named(extraction, names, is_told):
    # Given family names where a code should be, each of many rows
    extraction.operator_file.write_text(CODES)
    words = [f"garcia{chr(97 + n)}" for n in range(names)]
    lines = [f"S{n},{words[n % names]},{DAY} 09:00:00" for n in range(12 * names)]
    put(extraction.drops, f"{DAY}/sub.csv", "id,status,changed", *lines)

    said = told(extraction)

    assert ("garcia" in said) == is_told


def test_a_code_of_several_deliveries_is_told_once(extraction, monkeypatch):
    # As if each day were as much as is read at once.
    monkeypatch.setattr(records, "BATCH_BYTES", 1)
    extraction.operator_file.write_text(CODES)
    for day in (DAY - timedelta(days=1), DAY):
        lines = [f"S{n},on_hold,{day} 09:00:00" for n in range(12)]
        put(extraction.drops, f"{day}/sub.csv", "id,status,changed", *lines)

    said = told(extraction, Window(DAY - timedelta(days=1), DAY + timedelta(days=1)))

    assert said.count("NEW_CODE") == 1
    assert "status_code: on_hold (24 rows)" in said


# -- an error of a file holds that file ------------------------------------------------------------


def member(text: bytes, flags: int, extra: bytes = b"") -> bytes:
    """A member of gzip with words in its header that Python's writer does not make."""
    head = b"\x1f\x8b\x08" + bytes([flags]) + b"\0\0\0\0\0\xff" + extra
    if flags & 0x02:
        head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return (
        head
        + packer.compress(text)
        + packer.flush()
        + struct.pack("<LL", zlib.crc32(text), len(text))
    )


TEXT = "".join(f"{line}\n" for line in [RECHARGE_HEADER, *map(recharge, range(40))]).encode()
PACKED = {
    "that it is text": member(TEXT, 0x01),
    "a checksum of the header": member(TEXT, 0x02),
    "extra fields": member(TEXT, 0x04, b"\x02\x00ab"),
    "a name": member(TEXT, 0x08, b"sms.csv\0"),
    "a comment": member(TEXT, 0x10, b"made by hand\0"),
    "all of it": member(TEXT, 0x1F, b"\x02\x00absms.csv\0made by hand\0"),
    "a second member that says more": member(TEXT[:70], 0) + member(TEXT[70:], 0x10, b"two\0"),
    "zeros behind": gzip.compress(TEXT) + b"\0" * 600,
}


@pytest.mark.parametrize("content", PACKED.values(), ids=list(PACKED))
def test_a_gzip_file_may_say_in_its_header_whatever_the_standard_knows(extraction, content):
    recharges(extraction, "{date}/{file}.csv.gz")
    put(extraction.drops, f"{DAY}/recharge.csv.gz").write_bytes(content)

    assert extraction.run()["recharge"].rows == 40


def test_text_that_is_called_gzip_is_told_so(extraction):
    recharges(extraction, "{date}/{file}.csv.gz")
    put(extraction.drops, f"{DAY}/recharge.csv.gz").write_bytes(TEXT)

    assert "It is not gzip at all, but its name ends in .gz." in told(extraction)


def test_something_behind_a_gzip_file_is_damage(extraction):
    recharges(extraction, "{date}/{file}.csv.gz")
    put(extraction.drops, f"{DAY}/recharge.csv.gz").write_bytes(gzip.compress(TEXT) + b"\0\0x")

    assert extraction.held() == ["BAD_GZIP"]


def test_a_file_that_stops_the_reading_holds_its_day_and_the_others_land(extraction):
    # Given three days, and in the second one a text that the SELECT's own cast cannot take
    sql = (
        "select id as recharge_id, line as subscription_id, made as recharged_at, cast(face as integer) as"
        " face_amt, paid as paid_amt, false as reversed_flag from records"
    )
    recharges(extraction, sql=sql)
    days = [DAY - timedelta(days=n) for n in (2, 1, 0)]
    for day in days:
        face = "13900001001 Li Lei" if day == BEFORE else "50"
        put(
            extraction.drops,
            f"{day}/recharge.csv",
            RECHARGE_HEADER,
            recharge(day.day, day, face=face),
        )
    window = Window(days[0], DAY + timedelta(days=1))

    with pytest.raises(IncompleteError) as raised:
        extraction.run(window)

    assert [(f.code, f.load_date) for f in raised.value.findings] == [("BAD_FILE", BEFORE)]
    assert "leave casting to keepline" in str(raised.value)
    assert [word for word in SECRETS if word in str(raised.value)] == []
    assert extraction.landed("recharge", "recharge_id") == [("R28",), ("R30",)]


def test_texts_of_parquet_without_their_mark_are_texts(extraction):
    recharges(extraction, "{date}/{file}.parquet", "parquet")
    values = [
        ["R1", "R2"],
        ["东店", "O'Brien é"],
        [f"{DAY} 09:00:00"] * 2,
        ["5.00"] * 2,
        ["4.90"] * 2,
    ]
    columns = [pa.array([text.encode() for text in column], pa.binary()) for column in values]
    path = put(extraction.drops, f"{DAY}/recharge.parquet")
    pq.write_table(pa.table(columns, names=RECHARGE_HEADER.split(",")), path)

    extraction.run()

    assert extraction.landed("recharge", "subscription_id, paid_amt::varchar") == [
        ("东店", "4.90"),
        ("O'Brien é", "4.90"),
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2]]),
        pa.array([{"a": 1}]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
    ids=["a list", "a struct", "a map"],
)
def test_a_type_without_a_text_of_its_own_holds_the_file(extraction, column):
    recharges(extraction, "{date}/{file}.parquet", "parquet")
    path = put(extraction.drops, f"{DAY}/recharge.parquet")
    text = [pa.array([v]) for v in ("R1", f"{DAY} 09:00:00", "5.00", "4.90")]
    pq.write_table(pa.table([text[0], column, *text[1:]], names=RECHARGE_HEADER.split(",")), path)

    said = told(extraction)

    assert "BREAKING_SCHEMA recharge" in said
    assert "subscription_id (" in said


def test_bytes_that_are_no_text_hold_the_file(extraction):
    recharges(extraction, "{date}/{file}.parquet", "parquet")
    path = put(extraction.drops, f"{DAY}/recharge.parquet")
    columns = [pa.array([v], pa.binary()) for v in (b"R1", b"\xff\xfe", b"x", b"5.00", b"4.90")]
    pq.write_table(pa.table(columns, names=RECHARGE_HEADER.split(",")), path)

    assert extraction.held() == ["BAD_FILE"]
