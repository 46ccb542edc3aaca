"""Files that are small and ask for a lot: held, within the memory that the process was given."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extract_source import DAY, RECHARGE_HEADER, Extraction, put, recharge, recharges

from keepline.settings import PROJECT_DIR

BEFORE = DAY - timedelta(days=1)
# What a run may take on top of what the process has when it begins.
ROOM_MIB = 800
MIB = 1 << 20
# The limit counts address space: Arrow's pool would reserve a GiB of it, each thread its own heap, and
# DuckDB's allocator keeps the addresses of what it gave back.
RESERVES_NOTHING = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "DUCKDB_JE_MALLOC_CONF": "retain:false,dirty_decay_ms:0,muzzy_decay_ms:0",
}
HEADER = f"{RECHARGE_HEADER}\n".encode()
WIDE_LINE = json.dumps({f"n{n}": 1 for n in range(1_990)})
# Unpacked bytes that are still believed of a small file.
BELIEVED = 60 * MIB


def packed(*parts: tuple[bytes, int]) -> Callable[[Path], None]:
    """Texts, each so many times, as gzip; nothing of it is in memory at once."""

    def write(path: Path) -> None:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        with path.open("wb") as file:
            for text, times in parts:
                many = max(1, MIB // len(text))
                for _ in range(times // many):
                    file.write(packer.compress(text * many))
                file.write(packer.compress(text * (times % many)))
            file.write(packer.flush())

    return write


def parquet(**options: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        columns = dict.fromkeys(RECHARGE_HEADER.split(","), pa.array(["x"]))
        columns |= {name: value() if callable(value) else value for name, value in options.items()}
        rows = max(len(column) for column in columns.values())
        full = {
            name: column if len(column) == rows else pa.array(np.repeat("x", rows))
            for name, column in columns.items()
        }
        pq.write_table(pa.table(full), path, compression="zstd", row_group_size=rows)

    return write


def repeated(text: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


# Every name is there: how long the line is must be all that is wrong with it.
LONG_LINE = json.dumps(dict.fromkeys(RECHARGE_HEADER.split(","), "1") | {"id": "x" * 1_900_000})

# Format, what is in the file, and the code that holds it; None where its rows or lines are set aside.
BOMBS = {
    "a line of JSON without an end": (
        "jsonl.gz",
        packed((b'{"id": [', 1), (b"[1],", 15 * MIB)),
        "HEADER_MISMATCH",
    ),
    "JSON in JSON in JSON": ("jsonl.gz", packed((b'{"a":', 10 * MIB)), "HEADER_MISMATCH"),
    "lines that are no JSON": ("jsonl.gz", packed((b"1\n", 30 * MIB)), "HEADER_MISMATCH"),
    "a new name in each line": (
        "jsonl.gz",
        packed(*((f'{{"n{n}": 1}}\n'.encode(), 1) for n in range(100_000))),
        "HEADER_MISMATCH",
    ),
    "long lines of JSON": (
        "jsonl.gz",
        packed((LONG_LINE.encode() + b"\n", 30)),
        None,
    ),
    "many names in each line": ("jsonl.gz", packed((WIDE_LINE.encode() + b"\n", 3_000)), "*"),
    "more than is believed": ("csv.gz", packed((HEADER, 1), (b"\0", 90 * MIB)), "TOO_BIG"),
    "one line of CSV": ("csv.gz", packed((HEADER, 1), (b"x", BELIEVED)), None),
    "a line of commas": ("csv.gz", packed((HEADER, 1), (b",", 1_900_000), (b"\n", 1)), None),
    "lines of commas": (
        "csv.gz",
        packed((HEADER, 1), (b"," * 1_900_000 + b"\n", 30)),
        None,
    ),
    "a header of commas": ("csv.gz", packed((b"a,", BELIEVED // 2), (b"\n", 1)), "HEADER_MISMATCH"),
    "quotes alone": ("csv.gz", packed((HEADER, 1), (b'"', BELIEVED), (b"\n", 1)), None),
    # Python decodes these, as DuckDB's own reader does not know every character of theirs.
    "one line of CSV in GB18030": (
        "csv.gz, encoding: gb18030",
        packed((HEADER, 1), (b"\xb6\xab", BELIEVED // 2)),
        None,
    ),
    "a line of JSON without an end in GBK": (
        "jsonl.gz, encoding: gbk",
        packed((b'{"id": [', 1), (b"[1],", 15 * MIB)),
        "HEADER_MISMATCH",
    ),
    "lines of commas in GBK": (
        "csv.gz, encoding: gbk",
        packed((HEADER, 1), (b"," * 1_900_000 + b"\n", 30)),
        None,
    ),
    "lines of one letter": ("csv.gz", packed((HEADER, 1), (b"x\n", 4 * MIB)), "*"),
    "a text that stands once": (
        "parquet",
        parquet(id=lambda: repeated("x" * MIB, 100_000)),
        "TOO_BIG",
    ),
    "a text that is no record": (
        "parquet",
        parquet(id=lambda: repeated("x" * 3 * MIB, 2)),
        "TOO_BIG",
    ),
    "more rows than bytes": ("parquet", parquet(id=lambda: repeated("x", 20 * MIB)), "TOO_BIG"),
    "a page that unpacks to more": (
        "parquet",
        parquet(id=lambda: pa.array(["x" * 1_900_000] * 100)),
        "TOO_BIG",
    ),
}
# One of each way in which a reader could take more than it is given; the deep suite has them all.
ON_EVERY_CHANGE = {
    "a line of JSON without an end",
    "long lines of JSON",
    "many names in each line",
    "more than is believed",
    "lines of commas",
    "lines of commas in GBK",
    "a text that stands once",
    "more rows than bytes",
}


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


def run_with_little_memory(extraction, room: int = ROOM_MIB) -> dict[str, list[object]]:
    settings = extraction.settings
    told = {
        "home": str(settings.home),
        "store_dsn": settings.store_dsn.get_secret_value()
        if hasattr(settings.store_dsn, "get_secret_value")
        else settings.store_dsn,
        "pseudonym_key": "11" * 32,
        "vault_key": "22" * 32,
        "store_password": "test-store",
        "extractor_password": "test-extractor",
        "bi_reader_password": "test-bi-reader",
        "marketing_password": "test-marketing",
        "compute_memory_limit": "512MB",
        "compute_threads": 2,
        "operator_file": str(extraction.operator_file),
    }
    script = PROJECT_DIR / "tests" / "extract_bombs.py"
    found = subprocess.run(
        [sys.executable, script, str(room), str(BEFORE), "2"],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        cwd=PROJECT_DIR,
        env=os.environ | RESERVES_NOTHING,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    return json.loads(found.stdout)


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        pytest.param(*bomb, id=name, marks=() if name in ON_EVERY_CHANGE else pytest.mark.deep)
        for name, bomb in BOMBS.items()
    ],
)
def test_a_bomb_is_held_within_the_memory_of_the_process(extraction, kind, content, code):
    # Given a good day, and a small file on the next one
    kind, _, encoding = kind.partition(",")
    form = kind.partition(".")[0]
    told = f"{form}, {encoding}" if encoding else form
    recharges(extraction, f"{{date}}/{{file}}.{kind}", told)
    names = RECHARGE_HEADER.split(",")
    rows = [recharge(n, BEFORE).split(",") for n in range(3)]
    good = put(extraction.drops, f"{BEFORE}/recharge.{kind}")
    if form == "parquet":
        columns = [list(column) for column in zip(*rows, strict=True)]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), good)
    else:
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
        if form == "csv":
            lines = [RECHARGE_HEADER, *(",".join(row) for row in rows)]
        good.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    bomb = put(extraction.drops, f"{DAY}/recharge.{kind}")
    content(bomb)
    assert bomb.stat().st_size < 4 * MIB

    # When both are extracted by a process that may take little memory
    found = run_with_little_memory(extraction)

    # Then the good day landed, and the other one is held or its line is set aside
    assert str(BEFORE) in found["landed"]
    held = [held for held, day in found["codes"]]
    if code == "*":
        assert len(held) == 1
        assert found["codes"][0][1] == str(DAY)
    elif code is None:
        assert held in ([], ["UNBALANCED"], ["QUARANTINE_LIMIT"], ["NO_MEMORY"])
    else:
        assert held == [code]


def test_a_manifest_is_a_list_and_no_place_for_data(extraction):
    recharges(extraction)
    text = extraction.operator_file.read_text()
    extraction.operator_file.write_text(
        text.replace("format: csv", 'manifest: "{date}/manifest.json"')
    )
    for day in (BEFORE, DAY):
        put(extraction.drops, f"{day}/recharge.csv", RECHARGE_HEADER, recharge(1, day))
        put(extraction.drops, f"{day}/manifest.json", "[" + "{}," * (4 * MIB) + "{}]")

    found = run_with_little_memory(extraction, 300)

    assert [code for code, _ in found["codes"]] == ["BAD_MANIFEST", "BAD_MANIFEST"]
