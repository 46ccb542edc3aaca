"""What an older version of the project built is brought to the new one by itself."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import engines
import pytest
from conftest import SECRETS
from engines import Engine
from landing_days import Landing
from warehouse import Warehouse
from warehouse_rows import recharge, subscription

from keepline.compute import compute_for
from keepline.contract import Contract, load_contract
from keepline.errors import BadDataError
from keepline.settings import PROJECT_DIR, Settings
from keepline.window import Window

FIRST = date(2026, 1, 1)
LAST = date(2026, 1, 3)
TABLE = "core.fct_recharge"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory, engine: Engine) -> Warehouse:
    """Return a warehouse of three days, one recharge on each."""
    made = Warehouse(tmp_path_factory.mktemp("older") / "home", engine)
    made.add("subscription", [subscription("S1", FIRST)])
    made.add("recharge", [recharge("S1", FIRST + timedelta(days=n), 10 + n) for n in range(3)])
    made.build("core", FIRST, LAST)
    return made


@pytest.mark.deep(on="postgres")
def test_a_table_that_lacks_a_column_is_built_anew_with_all_of_its_days(warehouse, capsys):
    before = warehouse.rows(f"select * from {TABLE} order by load_date")
    assert len(before) == 3
    gained = next(name for name in before[0] if name.endswith("_fen"))
    warehouse.compute.execute(f"alter table {TABLE} drop column {gained}")
    assert gained not in warehouse.rows(f"select * from {TABLE}")[0]

    # A night builds its own day only.
    warehouse.build("core", LAST, LAST)

    assert warehouse.rows(f"select * from {TABLE} order by load_date") == before
    assert "columns changed since it was built" in capsys.readouterr().err

    warehouse.build("core", LAST, LAST)
    assert "columns changed" not in capsys.readouterr().err


OFFERING = "product_offering"


def without(contract: Contract, column: str) -> Contract:
    """Return the contract of before the table of offerings had a column."""
    table = contract[OFFERING]
    kept = tuple(one for one in table.columns if one.name != column)
    return Contract({**contract.tables, OFFERING: replace(table, columns=kept)})


def land(home: Path, contract: Contract, day: date) -> None:
    landing = Landing(home, contract)
    folder = landing.settings.landing_dir / OFFERING / f"load_date={day}"
    landing.land(OFFERING, day, 4)
    digest = hashlib.sha256((folder / "part-0.parquet").read_bytes()).hexdigest()
    landing.land(OFFERING, day, 4, sha256=digest)


def test_landing_and_raw_of_before_an_optional_column_go_on_working(tmp_path, engine: Engine):
    settings = Settings(home=tmp_path / "home", **SECRETS, **engine)
    contract = load_contract(settings.dbt_dir)
    older = without(contract, "partner_id")
    engines.forget(settings)
    land(settings.home, older, FIRST)
    compute = compute_for(settings)
    compute.load(older, Window.day(FIRST))

    # A night loads its own day.
    land(settings.home, contract, LAST)
    assert compute.load(contract, Window.day(LAST))[OFFERING] == 4
    by_night = told(compute)
    # And all of it anew, files of both kinds together.
    assert compute.load(contract, Window(FIRST, LAST + timedelta(days=1)))[OFFERING] == 8

    assert by_night == told(compute) == [(FIRST, 4, 0), (LAST, 4, 4)]


def told(compute):
    return compute.execute(
        f"select load_date, count(*), count(partner_id) from raw.{OFFERING} group by 1 order by 1"
    )


def test_a_column_that_may_not_be_empty_is_extracted_again(tmp_path, engine: Engine):
    settings = Settings(home=tmp_path / "home", **SECRETS, **engine)
    contract = load_contract(PROJECT_DIR / "dbt_project")
    land(settings.home, without(contract, "offering_id"), FIRST)
    land(settings.home, contract, LAST)

    compute = compute_for(settings)
    compute.load(contract, Window.day(LAST))
    before = told(compute)

    with pytest.raises(BadDataError, match=r"not every file has offering_id.*extract the window"):
        compute.load(contract, Window(FIRST, LAST + timedelta(days=1)))

    assert told(compute) == before
