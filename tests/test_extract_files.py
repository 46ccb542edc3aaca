"""Damaged and odd files: each ends landed right, held with a code, or with some rows set aside."""

from __future__ import annotations

import gzip
import json
from datetime import date, timedelta

import pytest
from extract_source import COLUMNS, DAY, Extraction, call, calls

from keepline.errors import BadDataError, SourceUnavailableError
from keepline.extract import HeldError, Verdict
from keepline.window import Window


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


def text_of(lines, header=COLUMNS, end="\n"):
    return "".join(f"{line}{end}" for line in [header, *lines]).encode()


def packed(content):
    return gzip.compress(content, mtime=0)


GOOD = text_of(calls(50))

# What is delivered, the rows that the manifest states, and why the table is held.
HELD_FILES = {
    "cut in the middle of a row": (packed(GOOD[: len(GOOD) // 2]), 50, "SHORT_FILE"),
    "cut exactly at a row's end": (packed(text_of(calls(25))), 50, "SHORT_FILE"),
    "gzip cut in half": (packed(GOOD)[: len(packed(GOOD)) // 2], 50, "BAD_GZIP"),
    "gzip without its last 4 bytes": (packed(GOOD)[:-4], 50, "BAD_GZIP"),
    "gzip without its last 8 bytes": (packed(GOOD)[:-8], 50, "BAD_GZIP"),
    "gzip with a flipped byte": (
        packed(GOOD)[:200] + bytes([packed(GOOD)[200] ^ 0xFF]) + packed(GOOD)[201:],
        50,
        "BAD_GZIP",
    ),
    "no byte at all": (b"", 50, "EMPTY_FILE"),
    "yesterday's file with today's name": (
        packed(text_of(calls(50, DAY - timedelta(days=1)))),
        50,
        "WRONG_DAY",
    ),
    "GBK instead of UTF-8": (
        packed(text_of([call(n, cell_id="广州") for n in range(50)]).decode().encode("gbk")),
        50,
        "WRONG_ENCODING",
    ),
    "UTF-16": (packed(GOOD.decode().encode("utf-16")), 50, "WRONG_ENCODING"),
    "a quote that is never closed": (
        packed(GOOD.replace(b"V0020,", b'"V0020,', 1)),
        50,
        "UNBALANCED",
    ),
    "another delimiter": (packed(GOOD.replace(b",", b";")), 50, "HEADER_MISMATCH"),
    "a column renamed": (
        packed(text_of(calls(50), COLUMNS.replace("duration_s", "seconds"))),
        50,
        "BREAKING_SCHEMA",
    ),
    "a column without a name": (
        packed(text_of(calls(50), COLUMNS.replace("duration_s", ""))),
        50,
        "HEADER_MISMATCH",
    ),
    "two kinds of line end": (packed(GOOD.replace(b"\n", b"\r\n", 7)), 50, "MIXED_LINE_ENDS"),
    "most rows broken": (
        packed(text_of([call(n, duration_s="long") for n in range(50)])),
        50,
        "QUARANTINE_LIMIT",
    ),
}


@pytest.mark.parametrize(("content", "rows", "code"), HELD_FILES.values(), ids=list(HELD_FILES))
def test_a_bad_file_is_held_and_nothing_lands(extraction, content, rows, code):
    extraction.mediation.deliver_bytes(content, rows)

    assert extraction.held() == [code]
    assert extraction.landed() == []


# What is delivered and how many rows land; the manifest states 50 records.
GOOD_FILES = {
    "as it should be": GOOD,
    "no line end at the end": GOOD[:-1],
    "blank lines": GOOD.replace(b"\n", b"\n\n", 9) + b"\n\n",
    "CR LF": GOOD.replace(b"\n", b"\r\n"),
    "CR LF and blank lines": GOOD.replace(b"\n", b"\r\n") + b"\r\n\r\n",
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "columns in another order": b"\n".join(
        b",".join(reversed(line.split(b","))) for line in GOOD.splitlines()
    ),
    "a column more": b"\n".join(
        line + (b",band" if n == 0 else b",n78") for n, line in enumerate(GOOD.splitlines())
    ),
    "every value between quotes": b"\n".join(
        b'"' + line.replace(b",", b'","') + b'"' for line in GOOD.splitlines()
    ),
}


@pytest.mark.parametrize("content", GOOD_FILES.values(), ids=list(GOOD_FILES))
def test_a_file_that_is_only_written_otherwise_lands_with_the_same_bytes(extraction, content):
    extraction.mediation.deliver_bytes(packed(GOOD), 50)
    extraction.run()
    clean = extraction.manifest()["sha256"]

    extraction.mediation.deliver_bytes(packed(content), 50)
    result = extraction.run(ticket="T-1")["cdr_voice"]

    assert result.verdict is Verdict.LOAD
    assert result.rows == 50
    assert extraction.manifest()["sha256"] == clean


def test_joined_gzip_members_are_one_file(extraction):
    extraction.mediation.deliver_bytes(
        packed(text_of(calls(50))[:3000]) + packed(text_of(calls(50))[3000:]), 50
    )

    assert extraction.run()["cdr_voice"].rows == 50


def test_commas_and_line_ends_between_quotes_belong_to_the_value(extraction):
    lines = calls(200)
    lines[3] = call(3, cell_id='"GD,01\nnorth ""A"""')
    extraction.mediation.deliver(lines)
    # An id may hold no line end, free text may.
    said = extraction.operator_file.read_text()
    said = said.replace("left(other_number, 3) as other_prefix", "cell_id as other_prefix")
    extraction.operator_file.write_text(said.replace("duration_s, cell_id,", "duration_s,"))

    extraction.run()

    cells = {row[0] for row in extraction.landed(columns="other_prefix")}
    assert cells == {"GD01", 'GD,01\nnorth "A"'}


def test_a_header_without_records_is_a_day_without_records(extraction):
    extraction.mediation.deliver([])

    result = extraction.run()["cdr_voice"]

    assert (result.rows, result.reconciliations[0].physical_rows) == (0, 0)
    assert extraction.landed() == []


# A broken line among good ones, the reason, and its column.
BAD_LINES = {
    "too few columns": (call(7).rsplit(",", 1)[0], "COLUMN_COUNT"),
    "too many columns": (call(7) + ",1", "COLUMN_COUNT"),
    "text behind a quote": (call(7, cell_id='"GD"01'), "BAD_QUOTE"),
    "longer than any record": (call(7, cell_id="G" * 3_000_000), "LINE_TOO_LONG"),
}


@pytest.mark.parametrize(("line", "code"), BAD_LINES.values(), ids=list(BAD_LINES))
def test_an_unreadable_line_is_set_aside_with_its_number(extraction, line, code):
    lines = calls(200)
    lines[7] = line
    lines[9] = call(9, duration_s="-1")
    extraction.mediation.deliver(lines)

    result = extraction.run()["cdr_voice"]

    # The header is line 1, so that the eighth record is line 9.
    assert extraction.quarantined("reason_code, line_no, source_file") == [
        (code, 9, f"{DAY}/cdr_voice.csv.gz"),
        ("OUT_OF_RANGE", 11, f"{DAY}/cdr_voice.csv.gz"),
    ]
    balance = result.reconciliations[0]
    assert (balance.physical_rows, balance.loaded_rows, balance.balanced) == (200, 198, True)


def test_one_line_in_another_encoding_is_set_aside(extraction):
    lines = [call(n, cell_id="广州") for n in range(200)]
    content = text_of(lines).replace("广州".encode(), "广州".encode("gbk"), 1)
    extraction.mediation.deliver_bytes(packed(content), 200)

    extraction.run()

    assert extraction.quarantined("reason_code, line_no") == [("BAD_ENCODING", 2)]


def test_a_wrong_checksum_in_the_manifest_holds_the_file(extraction):
    extraction.mediation.deliver(calls(50), sha256="0" * 64)

    assert extraction.held() == ["BAD_MANIFEST"]


def test_amounts_that_do_not_add_up_to_the_manifest_hold_the_file(extraction):
    right = {"duration_s": sum(10 + n for n in range(50)), "charge_fen": 50 * 15}
    extraction.mediation.deliver(calls(50), sums=right)
    extraction.run()
    assert extraction.manifest()["sums"] == right

    extraction.mediation.deliver(calls(50), sums={**right, "charge_fen": 50 * 15 + 1})

    assert extraction.held() == ["SUM_MISMATCH"]


def test_rows_set_aside_still_count_in_the_totals_of_the_manifest(extraction):
    lines = [*calls(200), call(200, duration_s="-5"), call(3)]
    sums = {"duration_s": sum(10 + n for n in range(200)) - 5 + 13, "charge_fen": 202 * 15}
    extraction.mediation.deliver(lines, sums=sums)

    assert extraction.run()["cdr_voice"].rows == 200


def test_a_file_that_the_manifest_does_not_list_holds_the_day(extraction):
    extraction.mediation.deliver(calls(50))
    (extraction.mediation.path().parent / "cdr_voice_2.csv.gz").write_bytes(packed(GOOD))

    assert extraction.held() == ["UNKNOWN_FILE"]


def test_a_link_is_not_followed(extraction, tmp_path):
    extraction.mediation.deliver(calls(50))
    path = extraction.mediation.path()
    path.rename(tmp_path / "elsewhere.csv.gz")
    path.symlink_to(tmp_path / "elsewhere.csv.gz")

    assert extraction.held() == ["BAD_PATH"]


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (lambda path: path.unlink(), "MISSING_FILE"),
        (lambda path: (path.parent / "manifest.json").unlink(), "BAD_MANIFEST"),
        (lambda path: (path.parent / "manifest.json").write_text("{"), "BAD_MANIFEST"),
        (lambda path: path.parent.rename(path.parents[1] / "2026-07-01"), "MISSING_FILE"),
    ],
    ids=["no file", "no manifest", "half a manifest", "no folder of the day"],
)
def test_what_was_not_delivered_is_named_with_what_to_do(extraction, broken, code):
    extraction.mediation.deliver(calls(50))
    broken(extraction.mediation.path())

    with pytest.raises(
        BadDataError, match=rf"{code} {DAY}/cdr_voice\.csv\.gz.*Ask for the delivery of {DAY} again"
    ):
        extraction.run()


def test_a_manifest_of_another_day_holds_the_file(extraction):
    extraction.mediation.deliver(calls(50))
    path = extraction.mediation.path().parent / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "date": "2026-06-29"}))

    assert extraction.held() == ["BAD_MANIFEST"]


def test_a_folder_that_is_gone_may_come_back(extraction):
    extraction.drops.rmdir()

    with pytest.raises(SourceUnavailableError, match="is not there: mount it and run again"):
        extraction.run()


def test_a_bad_file_holds_its_load_date_and_the_others_land(extraction):
    days = [date(2026, 6, n) for n in (28, 29, 30)]
    for day in days:
        extraction.mediation.deliver(calls(50, day), day)
    extraction.mediation.path(days[0]).unlink()
    extraction.mediation.path(days[2]).write_bytes(packed(GOOD)[:-4])

    with pytest.raises(HeldError) as raised:
        extraction.run(Window(days[0], date(2026, 7, 1)))

    assert [(f.code, f.load_date) for f in raised.value.findings] == [
        ("MISSING_FILE", days[0]),
        ("BAD_GZIP", days[2]),
    ]
    result = next(result for result in raised.value.results if result.provided)
    assert (result.rows, result.held_days) == (50, (days[0], days[2]))
    assert [(b.loaded_rows, b.balanced) for b in result.reconciliations] == [
        (0, False),
        (50, True),
        (0, False),
    ]
    assert {row[0] for row in extraction.landed(columns="load_date")} == {days[1]}


def test_what_landed_before_stays_when_a_new_delivery_is_held(extraction):
    extraction.mediation.deliver([*calls(200), call(200, direction="up")])
    extraction.run()
    before = extraction.files()
    assert len(before) == 3

    extraction.mediation.deliver_bytes(packed(text_of(calls(40))), 50)

    assert extraction.held() == ["SHORT_FILE"]
    assert extraction.files() == before
