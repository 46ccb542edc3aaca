"""The line of a row that was set aside is the physical one, whatever stands before it."""

from __future__ import annotations

import gzip
import random

import pytest
from extract_source import DAY, RECHARGE_HEADER, Extraction, put, recharge, recharges

from keepline.extract.places import Places
from keepline.window import Window

# Bad rows on the physical lines 2, 5, 9, 10 and 11; line 6 is blank and line 2 goes on in line 3.
LINES = [
    RECHARGE_HEADER,
    'R1,"S\n1",2026-06-30 09:01:00,50.00,49.90',
    recharge(7),
    recharge(2, paid="x"),
    "",
    recharge(3),
    recharge(8),
    recharge(4, paid="x"),
    "R5,S5",
    recharge(6, paid="x"),
    recharge(9),
]


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


def lines_of(extraction) -> list[tuple[int, str, str]]:
    return sorted(extraction.quarantined("line_no, reason_code, source_file", "recharge"))


def test_lines_are_counted_as_an_editor_counts_them(extraction):
    recharges(extraction)
    name = f"{DAY}/recharge.csv"
    put(extraction.drops, name, *LINES)

    extraction.run()

    assert lines_of(extraction) == [
        (2, "HIDDEN_CHARACTER", name),
        (5, "BAD_NUMBER", name),
        (9, "BAD_NUMBER", name),
        (10, "COLUMN_COUNT", name),
        (11, "BAD_NUMBER", name),
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030"])
def test_lines_are_right_in_windows_files_of_any_encoding_packed_too(extraction, encoding):
    recharges(extraction, "{date}/{file}.csv.gz")
    if encoding == "gb18030":
        text = extraction.operator_file.read_text()
        extraction.operator_file.write_text(text.replace("format: csv", "encoding: gb18030"))
    text = "".join(f"{line}\r\n" for line in LINES).replace("S8", "东𠮷")
    path = put(extraction.drops, f"{DAY}/recharge.csv.gz")
    path.write_bytes(gzip.compress(text.encode(encoding)))

    extraction.run()

    assert [line for line, _, _ in lines_of(extraction)] == [2, 5, 9, 10, 11]


def test_lines_of_several_files_in_one_batch_are_their_own(extraction):
    recharges(extraction)
    before = DAY.replace(day=29)
    first = [line.replace("2026-06-30", str(before)) for line in LINES]
    put(extraction.drops, f"{before}/recharge.csv", *first[:5], *first[5:][::-1])
    put(extraction.drops, f"{DAY}/recharge.csv", *LINES)

    extraction.run(Window(before, DAY.replace(month=7, day=1)))

    found = [(line, name[:10]) for line, _, name in lines_of(extraction)]
    assert [line for line, day in found if day == str(DAY)] == [2, 5, 9, 10, 11]
    assert [line for line, day in found if day == str(before)] == [2, 5, 8, 9, 10]


def test_where_records_begin_does_not_depend_on_how_the_text_is_cut():
    chance = random.Random(1)  # noqa: S311
    for _ in range(200):
        # Given records with line ends between quotes, and blank lines
        text, expected, line = b"", [], 1
        for _ in range(chance.randint(1, 12)):
            end = chance.choice([b"\n", b"\r\n"])
            if chance.random() < 0.3:
                text, line = text + end, line + 1
            expected.append((len(text), line))
            value = chance.choice([b"a", b'"a\nb"', b'"\n\n"', b'"say ""x""\n"', b'""'])
            text += value + b",z" + end
            line += 1 + value.count(b"\n")
        cuts = sorted(chance.randint(0, len(text)) for _ in range(4))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

        found = Places(pieces)

        assert list(zip(found.starts, found.lines, strict=True)) == expected
