"""The fault catalogue, encodings: the declared one decides, for the whole file and exactly."""

from __future__ import annotations

import gzip
import os
from datetime import date
from pathlib import Path

import pytest
from catalogue import catalogue

DAY = date(2026, 6, 30)
FIRST = date(2026, 6, 1)
# The sentinel: a column whose name is only right in the right encoding.
HEADER = "编号,姓名,号码"
OPERATOR = """
name: demo
description: brands whose names are in hanzi
files:
  drops: {{path_env: KEEPLINE_DEMO_DROPS, encoding: {encoding}, layout: "{{date}}/{{file}}{suffix}"}}
tables:
  dealer:
    file: dealer
    columns: [编号, 姓名, 号码]
    sql: |
      select 编号 as dealer_id, 姓名 as name, 'own' as type, 号码 as level,
          load_date || ' 12:00:00' as updated_at
      from records
"""
# Of all planes, none in GBK but the first two; the last three take four bytes in GB18030.
RARE = ["王小明", "广州", "㐀䶵", "𠮷野家", "\U0002a6d6", "é£€"]
# 0xA2-0xBF after 0xC3: each is also valid UTF-8, of another character.
SHORT = [bytes([0xC3, second]).decode("gbk") for second in range(0xA2, 0xC0)]


def operator(encoding: str, suffix: str = ".csv") -> str:
    return OPERATOR.format(encoding=encoding, suffix=suffix)


def text(names: list[str]) -> str:
    return "".join(f"{line}\n" for line in [HEADER, *(f"D{n},{x},1" for n, x in enumerate(names))])


@pytest.fixture
def world(postgres, tmp_path):
    def open_with(encoding: str, suffix: str = ".csv"):
        return catalogue(postgres, tmp_path, operator(encoding, suffix))

    return open_with


@pytest.mark.case(24, 28)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_gb18030_lands_exactly_and_gbk_is_a_part_of_it(world, packed):
    suffix = ".csv.gz" if packed else ".csv"
    given = {
        DAY: (RARE, "gb18030"),
        FIRST: (["王小明", "镕"], "gbk"),
    }
    with world("gb18030", suffix) as found:
        for day, (names, encoding) in given.items():
            content = text(names).encode(encoding)
            found.deliver(f"{day}/dealer{suffix}", gzip.compress(content) if packed else content)
        for day, (names, _) in given.items():
            found.extract(day)

            assert found.landed(day, "name", table="dealer") == [(name,) for name in names]
            assert found.balance(day, "dealer") == (len(names), len(names), {}, 0, True)


@pytest.mark.case(28)
def test_every_character_of_gb18030_survives(world):
    every = [chr(code) for code in range(0xA0, 0x110000) if not 0xD800 <= code <= 0xDFFF]
    names = ["".join(every[n : n + 5000]) for n in range(0, len(every), 5000)]
    with world("gb18030") as found:
        found.deliver(f"{DAY}/dealer.csv", text(names).encode("gb18030"))
        found.extract(DAY)

        landed = dict(found.landed(DAY, "dealer_id, name", table="dealer"))
        assert [landed[f"D{n}"] for n in range(len(names))] == names


@pytest.mark.case(27)
def test_what_is_valid_in_two_encodings_is_what_the_contract_says(world):
    # The same bytes, declared once as this and once as that.
    content = text(SHORT).encode("gbk")
    assert all(name.encode("gbk").decode() for name in SHORT)
    with world("gbk") as found:
        found.deliver(f"{DAY}/dealer.csv", content)
        found.extract(DAY)

        landed = dict(found.landed(DAY, "dealer_id, name", table="dealer"))
        assert [landed[f"D{n}"] for n in range(len(SHORT))] == SHORT
        assert found.balance(DAY, "dealer") == (len(SHORT), len(SHORT), {}, 0, True)


@pytest.mark.case(26)
def test_utf8_under_the_name_of_gbk_is_known_by_its_header(world):
    # Words of an even number of hanzi are valid GBK, of other hanzi: nothing but the header tells.
    content = text(["张三", "李四", "王五"]).encode()
    assert content.decode("gbk") != content.decode()
    with world("gbk") as found:
        found.deliver(f"{DAY}/dealer.csv", content)
        found.extract(DAY)

        assert found.codes(DAY) == ["BREAKING_SCHEMA"]
        assert found.landed(DAY, table="dealer") == []
        assert found.balance(DAY, "dealer")[1] == 0


@pytest.mark.case(26)
def test_the_mark_of_utf8_is_not_gbk(world):
    with world("gbk") as found:
        found.deliver(f"{DAY}/dealer.csv", text(["王小明"]).encode("utf-8-sig"))
        found.extract(DAY)

        assert found.codes(DAY) == ["WRONG_ENCODING"]
        assert found.landed(DAY, table="dealer") == []


@pytest.mark.case(25)
@pytest.mark.parametrize(
    ("encoding", "damaged"),
    [
        ("gbk", "𠮷".encode("gb18030")),
        ("gbk", b"\xff"),
        ("gb18030", b"\x81"),
        ("gb18030", b"\x810"),
        ("gb18030", "é".encode("latin1")),
    ],
)
def test_one_row_that_is_not_in_the_encoding_is_set_aside(world, encoding, damaged):
    names = ["王小明"] * 9
    lines = text(names).encode(encoding).split(b"\n")
    lines[4] = b"D3," + damaged + b",1"
    with world(encoding) as found:
        found.deliver(f"{DAY}/dealer.csv", b"\n".join(lines))
        found.extract(DAY)

        assert found.quarantined(DAY, "dealer") == [("BAD_ENCODING", None, 5, f"{DAY}/dealer.csv")]
        assert found.balance(DAY, "dealer") == (9, 8, {"BAD_ENCODING": 1}, 0, True)


@pytest.mark.case(23)
def test_a_file_in_another_encoding_is_held(world):
    with world("gb18030") as found:
        found.deliver(f"{DAY}/dealer.csv", text(["Müller", "Çelik"]).encode("utf-16"))
        found.extract(DAY)

        assert found.codes(DAY) == ["WRONG_ENCODING"]
        assert found.landed(DAY, table="dealer") == []


def test_decoded_text_never_touches_a_disk_and_is_given_back(world, monkeypatch):
    made = []
    create = os.memfd_create
    monkeypatch.setattr(os, "memfd_create", lambda *words: made.append(create(*words)) or made[-1])
    with world("gb18030") as found:
        found.deliver(f"{DAY}/dealer.csv", text(RARE).encode("gb18030"))
        found.extract(DAY)

        clear = "𠮷野家".encode()
        home = [path for path in found.settings.home.rglob("*") if path.is_file()]
        assert made
        assert not any(Path(f"/proc/self/fd/{descriptor}").exists() for descriptor in made)
        assert not any(clear in path.read_bytes() for path in home if path.suffix != ".parquet")
