"""An operator leaves out the tables that it does not have, and publishes all the same."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml
from extract_source import put
from morning_after import COMING, SECOND, START, Morning

from keepline import store
from keepline.commands import modelling, pipeline
from keepline.contract import load_contract
from keepline.settings import PROJECT_DIR, Settings
from keepline.window import Window

# Whose lines there are is what the warehouse is about; everything else may be left out.
NEEDED = {"subscription"}
CONTRACT = load_contract(PROJECT_DIR / "dbt_project")
DEMO = yaml.safe_load((PROJECT_DIR / "operators" / "demo.yml").read_text())

FIRST, LAST = date(2026, 6, 24), date(2026, 6, 30)
ALONE = """
name: demo
description: lines and what they pay
history: {from: 2026-06-24, to: 2026-06-30}
files:
  drops: {path_env: KEEPLINE_DEMO_DROPS, layout: "{date}/{file}.csv"}
tables:
  subscription:
    file: lines
    sql: |
      select
          id as subscription_id, 'C' || id as customer_id, 'prepaid' as payment_type,
          '2025-01-01 10:00:00' as activated_at, state as status_code, changed as status_at,
          nullif(ended, '') as terminated_at, changed as updated_at
      from records
  recharge:
    file: recharges
    sql: |
      select
          id as recharge_id, line as subscription_id, made as recharged_at, face as face_amt,
          face as paid_amt, false as reversed_flag
      from records
"""


def publish(settings: Settings, window: Window, scored: Window) -> None:
    """Run every stage from the sources to what readers see."""
    pipeline.migrate(settings)
    pipeline.extract(settings, window)
    pipeline.load(settings, window)
    pipeline.check(settings, scored)
    pipeline.build(settings, "core", window)
    pipeline.build(settings, "features", scored)
    for day in scored.days():
        modelling.score(settings, day)
    pipeline.build(settings, "marts", window)
    pipeline.stage_release(settings, window)
    pipeline.audit(settings, window)
    pipeline.publish(settings, window)


def seen(settings: Settings, query: str) -> list[tuple[object, ...]]:
    with store.connect(settings, "bi_reader") as connection:
        return connection.execute(query.encode()).fetchall()


def test_an_operator_that_has_lines_and_recharges_alone_publishes(settings, tmp_path, monkeypatch):
    # Given forty lines, of which one ends, and a recharge of each on every day
    drops = tmp_path / "drops"
    for day in Window(FIRST, LAST + timedelta(days=1)).days():
        rows = [f"R{day.day}-{n},S{n},{day} 12:{n:02}:00,{10 + n}.00" for n in range(40)]
        put(drops, f"{day}/recharges.csv", "id,line,made,face", *rows)
        lines = [f"S{n},active,,{day} 10:00:00" for n in range(40)] if day == FIRST else []
        if day == LAST:
            lines = [f"S6,terminated,{day} 11:00:00,{day} 11:00:00"]
        put(drops, f"{day}/lines.csv", "id,state,ended,changed", *lines)
    operator_file = put(tmp_path, "demo.yml", ALONE)
    monkeypatch.setattr(Settings, "operator_file", property(lambda _: operator_file))
    monkeypatch.setenv("KEEPLINE_DEMO_DROPS", str(drops))
    # Nothing is in a database: without an address `extract` would start a server for it.
    monkeypatch.setenv("KEEPLINE_DEMO_DSN", "host=none")

    # When it runs to the end
    whole = Window(FIRST, LAST + timedelta(days=1))
    publish(settings, whole, Window.day(LAST))

    # Then readers see its lines, and which marts have less than they could
    states = "select status_code, count(*) from star.dim_subscription where is_current"
    found = seen(settings, f"{states} and subscription_id <> 'UNKNOWN' group by 1 order by 1")
    assert found == [("active", 39), ("terminated", 1)]


@pytest.fixture(scope="module")
def demo(postgres, tmp_path_factory) -> Morning:
    """The demo operator, which has every table."""
    morning = Morning(tmp_path_factory.mktemp("left_out"), postgres)
    morning.simulate()
    return morning


@pytest.mark.deep
@pytest.mark.parametrize("left_out", sorted(set(DEMO["tables"]) - NEEDED))
def test_an_operator_without_one_of_its_tables_publishes(
    demo, settings, tmp_path: Path, monkeypatch, left_out
):
    tables = {name: source for name, source in DEMO["tables"].items() if name != left_out}
    operator_file = tmp_path / "demo.yml"
    operator_file.write_text(yaml.safe_dump({**DEMO, "tables": tables}, sort_keys=False))
    monkeypatch.setattr(Settings, "operator_file", property(lambda _: operator_file))
    for name, value in demo.environment.items():
        monkeypatch.setenv(name, value)
    settings.operator_home.mkdir(parents=True)
    calendar = demo.settings.operator_home / "simulation.json"
    (settings.operator_home / "simulation.json").write_text(calendar.read_text())

    publish(settings, Window(START, COMING), Window(SECOND, COMING))

    assert seen(settings, "select count(*) > 1 from star.dim_subscription") == [(True,)]


def test_every_table_of_the_contract_is_left_out_in_turn():
    assert set(DEMO["tables"]) <= set(CONTRACT)
    assert set(CONTRACT) - set(DEMO["tables"]) <= {"source_key"}
