"""A path is never data: folders called like a column, and names that look like a pattern."""

from __future__ import annotations

from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extract_source import (
    DAY,
    RECHARGE_HEADER,
    Extraction,
    put,
    recharge,
    recharges,
)

from keepline import store
from keepline.compute import compute_for
from keepline.contract import Contract, load_contract
from keepline.recount.landed import recount_landing
from keepline.window import Window

COLUMNS = "recharge_id, cast(recharged_at as varchar), paid_amt"
# 09:01 and 09:02 of the operator's clock, which is that of Shanghai.
LANDED = [
    ("R1", "2026-06-30 01:01:00", Decimal("49.90")),
    ("R2", "2026-06-30 01:02:00", Decimal("49.90")),
]


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    # Everything of the home lies below folders that bear the names of columns.
    home = tmp_path / "paid_amt=0" / "recharged_at=1999-01-01" / "load_date=1999-01-01" / "home"
    return Extraction(settings.model_copy(update={"home": home}), tmp_path, monkeypatch)


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(
    "layout", ["made={date}/paid=0/{file}.X", "{date}/paid=0/{file}.X", "[a]/{date}/{file}*?.X"]
)
def test_a_folder_called_like_a_column_leaves_the_column_alone(extraction, layout, form):
    layout = layout.replace("X", form)
    recharges(extraction, layout, form)
    name = layout.replace("{date}", str(DAY)).replace("{file}", "recharge")
    rows = [recharge(1), recharge(2)]
    names = RECHARGE_HEADER.split(",")
    path = put(extraction.drops, name, RECHARGE_HEADER, *rows)
    if form == "parquet":
        values = zip(*(row.split(",") for row in rows), strict=True)
        pq.write_table(pa.table(dict(zip(names, map(list, values), strict=True))), path)
    elif form == "jsonl":
        told = (dict(zip(names, row.split(","), strict=True)) for row in rows)
        path.write_text("".join(f"{row!s}\n".replace("'", '"') for row in told))
    # A pattern would find this one, too.
    put(extraction.drops, f"a/{DAY}/recharge.{form}", RECHARGE_HEADER, recharge(3))

    extraction.run()

    assert extraction.landed("recharge", COLUMNS) == LANDED


def test_a_reader_in_the_select_takes_no_column_from_its_path(extraction):
    sql = (
        "select id as recharge_id, line as subscription_id, made as recharged_at, face as face_amt, paid"
        " as paid_amt, false as reversed_flag from read_csv('{drops}/paid=0/r.csv', all_varchar = true)"
    )
    extraction.operator_file.write_text(
        "name: demo\ndescription: one list\nfiles:\n"
        '  drops: {path_env: KEEPLINE_DEMO_DROPS, layout: "{file}.csv"}\n'
        f"tables:\n  recharge:\n    sql: |\n      {sql}\n"
    )
    put(extraction.drops, "paid=0/r.csv", RECHARGE_HEADER, recharge(1), recharge(2))

    extraction.run()

    assert extraction.landed("recharge", COLUMNS) == LANDED


def test_what_landed_is_loaded_from_a_home_below_such_folders(extraction):
    recharges(extraction)
    put(extraction.drops, f"{DAY}/recharge.csv", RECHARGE_HEADER, recharge(1), recharge(2))
    extraction.run()
    settings = extraction.settings
    contract = load_contract(settings.dbt_dir)
    compute = compute_for(settings)

    compute.load(contract, Window.day(DAY), tables=["recharge"])

    found = compute.execute(f"select {COLUMNS}, load_date from raw.recharge order by recharge_id")
    assert found == [(*row, DAY) for row in LANDED]


def test_what_landed_is_counted_again_below_such_folders(extraction):
    recharges(extraction)
    put(extraction.drops, f"{DAY}/recharge.csv", RECHARGE_HEADER, recharge(1), recharge(2))
    extraction.run()
    settings = extraction.settings
    table = load_contract(settings.dbt_dir)["recharge"]
    contract = Contract({"recharge": table})

    with store.connect(settings) as connection, duckdb.connect() as duck:
        landed, (_, hop) = recount_landing(settings, contract, connection, duck, Window.day(DAY))

    assert hop.differences == []
    assert landed.figures["recharge", DAY]["paid_fen"] == 9980
