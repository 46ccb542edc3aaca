"""What an older version of the project built is brought to the new one by itself."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from engines import Engine
from warehouse import Warehouse
from warehouse_rows import recharge, subscription

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
