"""A source table that is added by its contract alone is known everywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import pytest
import yaml
from landing_days import LAST, ROWS, Landing
from warehouse import Warehouse

from expectations import runner
from keepline import generate
from keepline.build import LAYERS
from keepline.contract import Contract, load_contract
from keepline.contract_lock import LOCK, breaches
from keepline.recount import recount_compute
from keepline.recount.landed import Landed
from keepline.settings import PROJECT_DIR, Settings
from keepline.window import Window

D1, D2, D3 = (date(2026, 3, day) for day in (1, 2, 3))
NAME = "voucher_use"
CONTRACT = """\
version: 2

sources:
  - name: ocs
    description: "Online charging: prepaid recharges (TM Forum Prepay balance)."
    schema: raw
    tables:
      - name: voucher_use
        description: "A voucher that was used."
        config:
          meta:
            key: [use_id]
            load_cursor: recorded_at
            event_cursor: used_at
            feeds: fct_voucher_use
            volume: events
            every_day: true
        columns:
          - name: use_id
            data_type: text
            description: "Key of the use."
          - name: subscription_id
            data_type: text
            description: "Subscription that used it."
            config: {meta: {references: bss.subscription.subscription_id}}
          - name: offering_id
            data_type: text
            description: "Offering that it was used for."
            config: {meta: {references: bss.product_offering.offering_id}}
          - name: face_amt
            data_type: decimal(18,2)
            description: "Value, yuan."
          - name: points
            data_type: integer
            description: "Points that it was made of."
            config: {meta: {total: true}}
          - name: used_at
            data_type: timestamp
            description: "When."
          - name: recorded_at
            data_type: timestamp
            description: "When it was recorded."
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory):
    """A copy of the project with one more contract, and what was generated from it."""
    folder = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("target", "logs")
    shutil.copytree(PROJECT_DIR / "dbt_project", folder / "dbt_project", ignore=ignored)
    shutil.copytree(PROJECT_DIR / "docs", folder / "docs")
    path = folder / "dbt_project" / "models" / "staging" / "ocs" / f"{NAME}.yml"
    path.write_text(CONTRACT, encoding="utf-8")
    generate.write(folder)
    return folder


@pytest.fixture(scope="module")
def contract(project) -> Contract:
    return load_contract(project / "dbt_project")


@pytest.fixture(scope="module")
def warehouse(project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """Three days of the new table, of which the second brings a row again and names what nobody knows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Settings, "dbt_dir", property(lambda _: project / "dbt_project"))
        models = ("set_aside", "int_coverage__rows_by_day")
        patch.setitem(LAYERS, "added", ("resource_type:seed", "path:models/staging", *models))
        made = Warehouse(tmp_path_factory.mktemp("home"))
        made.add("subscription", [{"subscription_id": "S1", "event_date": D1}])
        made.add("product_offering", [{"offering_id": "P1", "event_date": D1}])
        use = {"subscription_id": "S1", "offering_id": "P1", "face_amt": 1, "points": 7}
        made.add(
            NAME,
            [
                {**use, "use_id": "U1", "event_date": D1},
                {**use, "use_id": "U1", "event_date": D1, "load_date": D2},
                {**use, "use_id": "U2", "subscription_id": "S9", "event_date": D2},
                {**use, "use_id": "U3", "offering_id": "P9", "event_date": D3},
            ],
        )
        made.build("added", D1, D3)
        yield made


def test_staging_has_it(warehouse):
    found = warehouse.rows(f"select * from staging.stg_ocs__{NAME} where use_id = 'U2'")

    assert [(row["face_fen"], row["points"], row["load_date"]) for row in found] == [(100, 7, D2)]


def test_its_repeats_and_what_it_names_are_judged(warehouse):
    found = warehouse.rows(
        "select reason_code, column_name, key_text, load_date from core.set_aside"
        f" where table_name = '{NAME}' order by load_date, reason_code"
    )

    assert [tuple(row.values()) for row in found] == [
        ("DUP_EARLIER", "key", "U1", D2),
        ("EARLY_FACT", "subscription_id", "S9", D2),
        ("UNKNOWN_CODE", "offering_id", "P9", D3),
    ]


def test_coverage_knows_what_arrived_of_it(warehouse):
    found = warehouse.rows(
        "select load_date, sum(row_cnt)::int as row_cnt from marts.int_coverage__rows_by_day"
        f" where source_system = 'ocs' and contract_table = '{NAME}' group by all order by all"
    )

    assert [tuple(row.values()) for row in found] == [(D1, 1), (D2, 2), (D3, 1)]


def test_the_recount_misses_its_fact_until_somebody_writes_it(warehouse, contract):
    landed = Landed(Window(D1, D3 + timedelta(days=1)))

    def missed() -> dict[date | None, str]:
        with warehouse.compute.connection() as duck:
            _, facts = recount_compute(warehouse.settings, contract, duck, landed, is_attached=True)
        return {one.day: one.told for one in facts.differences if one.table == "fct_voucher_use"}

    before = missed()
    with warehouse.compute.connection() as duck:
        duck.execute(
            "create table core.fct_voucher_use as select * from staging.stg_ocs__voucher_use"
            " where use_id <> 'U1' or load_date = event_date"
        )
    after = missed()
    with warehouse.compute.connection() as duck:
        duck.execute("update core.fct_voucher_use set points = 8 where use_id = 'U3'")

    assert before[D1].startswith(
        "rows 1 in raw.voucher_use, 0 in fct_voucher_use (1 less); face_fen 100 in raw.voucher_use"
    )
    assert (sorted(before), after) == ([D1, D2, D3], {})
    assert missed() == {D3: "points 7 in raw.voucher_use, 8 in fct_voucher_use (1 more)"}


def broken(landing: Landing) -> set[tuple[str, str]]:
    results = runner.critical_failures(landing.run())
    return {(result.suite, result.column_name) for result in results}


def test_the_gate_judges_its_batches(tmp_path, contract):
    landing = Landing(tmp_path, contract)
    landing.fill(NAME)
    before = broken(landing)

    landing.land(NAME, LAST, ROWS, {"points": "0"})

    assert before == set()
    assert broken(landing) == {("landed_events", "constant_columns")}
    shutil.rmtree(landing.settings.landing_dir / NAME / f"load_date={LAST}")
    assert ("landed_every_day", "rows_when_expected") in broken(landing)


def test_the_gate_judges_a_table_that_brings_all_there_is_each_time(tmp_path, contract):
    state = replace(contract[NAME], volume="state", is_every_day=False)
    landing = Landing(tmp_path, Contract({**contract.tables, NAME: state}))
    landing.fill(NAME)
    before = broken(landing)

    landing.land(NAME, LAST, ROWS * 3 // 4)

    assert before == set()
    assert broken(landing) == {("landed_states", "rows_ratio")}


def test_the_lock_holds_its_promises(project, contract):
    locked = (project / "dbt_project" / LOCK).read_text(encoding="utf-8")
    fewer = replace(contract[NAME], columns=contract[NAME].columns[:-1])

    assert yaml.safe_load(locked)[NAME]["columns"]["points"] == "integer"
    (told,) = breaches(Contract({**contract.tables, NAME: fewer}), locked)
    assert told.startswith(f"table {NAME}: the column recorded_at is gone")
