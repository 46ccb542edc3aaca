"""Columns of a file may bear any name: keepline's own stand where no file can reach them."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extract_source import DAY, RECHARGE_HEADER, Extraction, put, recharge, recharges

OWN = ["_line", "_path", "_n", "_file", "filename", "file_row_number", "r", "d", "path", "rowid"]


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_columns_called_like_helpers_land_and_the_bad_row_is_found(extraction, form):
    recharges(extraction, f"{{date}}/{{file}}.{form}", form)
    names = [*RECHARGE_HEADER.split(","), *OWN]
    rows = [recharge(1), recharge(2), recharge(3, made="2026-06-31 09:00:00"), recharge(4)]
    full = [[*row.split(","), *(f"{name}!" for name in OWN)] for row in rows]
    path = put(
        extraction.drops,
        f"{DAY}/recharge.{form}",
        ",".join(names),
        *(",".join(row) for row in full),
    )
    if form == "parquet":
        columns = [list(column) for column in zip(*full, strict=True)]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, r, strict=True))) + "\n" for r in full))

    extraction.run()

    assert extraction.landed("recharge", "recharge_id") == [("R1",), ("R2",), ("R4",)]
    line = 4 if form == "csv" else 3
    assert extraction.quarantined("line_no, reason_code", "recharge") == [(line, "BAD_DATE")]


@pytest.mark.parametrize("name", ["LOAD_DATE", "Source_File", "line_no", "a\x01b"])
def test_a_name_that_the_select_gets_from_keepline_holds_the_file(extraction, name):
    recharges(extraction)
    put(extraction.drops, f"{DAY}/recharge.csv", f"{RECHARGE_HEADER},{name}", f"{recharge(1)},x")

    assert extraction.held() == ["HEADER_MISMATCH"]
