"""`keepline verify` counts every hop anew: one row or one fen less, anywhere, is found and named."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import DEEP, SECRETS
from gates_rows import real_models
from release_rows import Project

from keepline import cli, ops, release, store
from keepline.build import build
from keepline.commands import pipeline, verify
from keepline.compute.duckdb import DuckDBCompute
from keepline.contract import load_contract
from keepline.errors import BadDataError
from keepline.extract import extract_window
from keepline.recount import Difference, Hop, first_difference
from keepline.recount.computed import DERIVED, flows
from keepline.settings import PROJECT_DIR, Settings
from keepline.simulator import simulate
from keepline.window import Window

FIRST, DAYS = date(2026, 5, 20), 25
WHOLE = Window(FIRST, FIRST + timedelta(days=DAYS))
SEEDS_PER_HOP = 25 if DEEP else 3


@dataclass
class World:
    """A simulated operator that was landed, loaded, built and published."""

    settings: Settings
    project: Project

    def differences(self, window: Window = WHOLE) -> Difference | None:
        """Return the first difference that a recount finds."""
        return first_difference(verify.recount(self.settings, window))

    def partition(self, table: str, day: date) -> Path:
        return self.settings.landing_dir / table / f"load_date={day}"

    def compute(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self.settings.compute_path))

    @contextmanager
    def changed(self, relation: str, statement: str) -> Iterator[None]:
        """Change a table of compute for the length of a `with` block."""
        kept = f"main.kept_{relation.replace('.', '_')}"
        with self.compute() as duck:
            duck.execute(f"create table {kept} as from {relation}")
            duck.execute(statement)
        yield
        with self.compute() as duck:
            duck.execute(f"truncate {relation}; insert into {relation} from {kept}")
            duck.execute(f"drop table {kept}")

    @contextmanager
    def changed_in_store(self, table: str, statement: str) -> Iterator[None]:
        """Change a table of the store for the length of a `with` block."""
        self.project.change(f"create table ctl.kept as select * from store.{table}")
        self.project.change(statement)
        yield
        self.project.change(
            f"delete from store.{table}; insert into store.{table} select * from ctl.kept;"
            " drop table ctl.kept"
        )


@pytest.fixture(scope="module")
def world(postgres, tmp_path_factory) -> World:
    postgres.ensure_database("verify_operator")
    postgres.ensure_database("verify_store")
    home = tmp_path_factory.mktemp("verify")
    settings = Settings(home=home, store_dsn=postgres.dsn("verify_store"), **SECRETS)
    password = SECRETS["extractor_password"]
    simulate(
        postgres.dsn("verify_operator"),
        settings.drops_dir,
        settings.truth_dir,
        subscribers=80,
        days=DAYS,
        seed=5,
        start=FIRST,
        mornings=0,
        extractor_password=password,
    )
    models = {
        name: model
        for name, model in real_models().items()
        if name in ("fct_usage_daily", "fct_recharge", "fct_payment", "dim_subscription")
    }
    project = Project(settings, tuple(models.values()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPLINE_DEMO_DSN", postgres.dsn("verify_operator", "extractor", password))
        patch.setenv("KEEPLINE_DEMO_DROPS", str(settings.drops_dir))
        results = extract_window(settings, WHOLE)
    with store.connect(settings) as connection:
        ops.record_reconciliation(
            connection, [one for result in results for one in result.reconciliations]
        )
    contract = load_contract(settings.dbt_dir)
    DuckDBCompute(settings).load(contract, WHOLE)
    build(settings, "core", WHOLE, {})
    project.migrate()
    project.publish(WHOLE.last_date)
    return World(settings, project)


def test_a_world_in_order_agrees_at_every_hop(world, capsys):
    verify.examine(world.settings, WHOLE)

    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == [
        *("source", "landing", "raw", "facts", "release", "verify")
    ]
    assert all(line.endswith("agrees") for line in told[:-1])


# -- one row or one fen, at each hop ---------------------------------------------------------------

MEASURES = {"cdr_voice": "duration_s", "cdr_data": "bytes_up", "recharge": "paid_amt"}
FACT_MEASURES = {"fct_usage_daily": "duration_s", "fct_recharge": "paid_fen"}


def a_day(world: World, chance: random.Random, relation: str) -> date:
    with world.compute() as duck:
        days = duck.execute(
            f"select distinct load_date from {relation} where load_date < '{WHOLE.to_date}' order by 1"
        ).fetchall()
    return chance.choice(days)[0]


def a_row(world: World, chance: random.Random, relation: str, day: date) -> int:
    with world.compute() as duck:
        rows = duck.execute(
            f"select rowid from {relation} where load_date = '{day}' order by 1"
        ).fetchall()
    return chance.choice(rows)[0]


def spoil_landing(world: World, chance: random.Random) -> tuple[str, date, Any]:
    """A file of landing is replaced by one with a row less, or a unit more."""
    table = chance.choice(sorted(MEASURES))
    day = a_day(world, chance, f"raw.{table}")
    path = world.partition(table, day) / "part-0.parquet"
    rows = pq.ParquetFile(path).read()
    if chance.random() < 0.5:
        rows = rows.slice(1)
    else:
        place = rows.column_names.index(MEASURES[table])
        values = rows.column(place).to_pylist()
        nth = chance.randrange(len(values))
        values[nth] += Decimal("0.01") if MEASURES[table].endswith("amt") else 1
        field = rows.schema.field(place)
        rows = rows.set_column(place, field, pa.array(values, field.type))

    @contextmanager
    def spoiled() -> Iterator[None]:
        kept = path.read_bytes()
        pq.write_table(rows, path)
        yield
        path.write_bytes(kept)

    return table, day, spoiled()


def spoil_raw(world: World, chance: random.Random) -> tuple[str, date, Any]:
    """A row of raw is deleted, or changed by one unit, or in a column without totals."""
    table = chance.choice(sorted(MEASURES))
    relation = f"raw.{table}"
    day = a_day(world, chance, relation)
    row = a_row(world, chance, relation, day)
    unit = "0.01" if MEASURES[table].endswith("amt") else "1"
    statement = chance.choice(
        [
            f"delete from {relation} where rowid = {row}",
            f"update {relation} set {MEASURES[table]} = {MEASURES[table]} + {unit} where rowid = {row}",
            f"update {relation} set subscription_id = 'somebody' where rowid = {row}",
        ]
    )
    return table, day, world.changed(relation, statement)


def spoil_fact(world: World, chance: random.Random) -> tuple[str, date, Any]:
    """A row of a fact is deleted, or one of its measures changed by one unit."""
    fact = chance.choice(sorted(FACT_MEASURES))
    relation = f"core.{fact}"
    day = a_day(world, chance, relation)
    row = a_row(world, chance, relation, day)
    measure = FACT_MEASURES[fact]
    statement = chance.choice(
        [
            f"delete from {relation} where rowid = {row}",
            f"update {relation} set {measure} = {measure} + 1 where rowid = {row}",
        ]
    )
    return fact, day, world.changed(relation, statement)


def spoil_store(world: World, chance: random.Random) -> tuple[str, date, Any]:
    """A row that readers see is deleted, or one of its measures changed by one unit."""
    table = chance.choice(sorted(FACT_MEASURES))
    day = a_day(world, chance, f"core.{table}")
    rows = world.project.rows(
        f"select ctid from store.{table} where load_date = date '{day}' order by 1", None
    )
    row = chance.choice(rows)[0]
    measure = FACT_MEASURES[table]
    place = f"load_date = date '{day}' and ctid = '{row}'"
    statement = chance.choice(
        [
            f"delete from store.{table} where {place}",
            f"update store.{table} set {measure} = {measure} + 1 where {place}",
        ]
    )
    return table, day, world.changed_in_store(table, statement)


SPOILERS: dict[str, Callable[[World, random.Random], tuple[str, date, Any]]] = {
    "landing": spoil_landing,
    "raw": spoil_raw,
    "facts": spoil_fact,
    "release": spoil_store,
}


@pytest.mark.parametrize("hop", SPOILERS)
def test_one_row_or_one_unit_is_found_and_named(world, tally, hop):
    chance = random.Random(f"{hop} 7")  # noqa: S311
    found = 0
    for _ in range(SEEDS_PER_HOP):
        table, day, spoiled = SPOILERS[hop](world, chance)
        with spoiled:
            first = world.differences()
        assert first is not None, f"{hop}: {table} of {day} was not found"
        assert (first.hop, first.table, first.day) == (hop, table, day), str(first)
        found += 1
    tally("seeded differences", found, found)
    assert world.differences() is None


# -- what else can be wrong ------------------------------------------------------------------------


def hop(world: World, name: str) -> Hop:
    return next(hop for hop in verify.recount(world.settings, WHOLE) if hop.name == name)


@contextmanager
def manifest(world: World, table: str, day: date, **said: object) -> Iterator[None]:
    """Let a manifest say something else for the length of a `with` block."""
    path = world.partition(table, day) / "_manifest.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | said))
    yield
    path.write_text(kept)


def test_a_record_that_the_source_counted_and_nobody_carried_is_found(world):
    day = FIRST + timedelta(days=3)
    said = json.loads((world.partition("recharge", day) / "_manifest.json").read_text())

    with manifest(world, "recharge", day, physical_rows=said["physical_rows"] + 1):
        first = world.differences()

    assert (first.hop, first.table, first.day) == ("source", "recharge", day)
    assert f"{said['physical_rows'] + 1} physical rows are not {said['rows']} loaded" in first.told
    assert first.command == f"keepline extract --date {day} --table recharge"


def test_a_balance_that_is_not_the_one_on_record_is_found(world):
    day = FIRST + timedelta(days=4)
    place = f"where table_name = 'cdr_sms' and load_date = date '{day}'"
    world.project.change(
        f"update ops.reconciliation set quarantined_rows = quarantined_rows + 1 {place}"
    )

    first = world.differences()

    world.project.change(
        f"update ops.reconciliation set quarantined_rows = quarantined_rows - 1 {place}"
    )
    assert (first.hop, first.table, first.day) == ("source", "cdr_sms", day)
    assert "on record" in first.told


def test_a_held_delivery_is_told(world):
    day = FIRST + timedelta(days=5)
    place = f"where table_name = 'cdr_data' and load_date = date '{day}'"
    world.project.change(f"update ops.reconciliation set balanced = false {place}")

    first = world.differences()

    world.project.change(f"update ops.reconciliation set balanced = true {place}")
    assert (first.hop, first.table, first.day) == ("source", "cdr_data", day)
    assert first.told.startswith("held")


def test_a_quarantine_that_lost_its_rows_is_found(world):
    path = min(world.settings.quarantine_dir.glob("*/load_date=*/rows.parquet"))
    kept = path.read_bytes()
    path.unlink()

    first = world.differences()

    path.write_bytes(kept)
    assert (first.hop, first.table) == ("source", path.parent.parent.name)
    assert "quarantine holds 0" in first.told


def test_a_total_that_the_file_does_not_have_is_found_to_the_fen(world):
    day = FIRST + timedelta(days=6)
    said = json.loads((world.partition("recharge", day) / "_manifest.json").read_text())

    with manifest(
        world, "recharge", day, sums=said["sums"] | {"paid_fen": said["sums"]["paid_fen"] + 1}
    ):
        first = world.differences()

    assert (first.hop, first.table, first.day) == ("landing", "recharge", day)
    assert "paid_fen" in first.told
    assert "(1 less)" in first.told


def test_only_the_window_is_counted(world):
    day = FIRST + timedelta(days=6)

    with manifest(world, "recharge", day, rows=0):
        there = world.differences(Window.day(day))
        elsewhere = world.differences(Window.day(day + timedelta(days=1)))

    assert there is not None
    assert elsewhere is None


def test_a_file_that_nobody_wrote_is_found(world):
    day = FIRST + timedelta(days=2)
    stray = world.partition("recharge", day) / "part-1.parquet"
    stray.write_bytes((stray.parent / "part-0.parquet").read_bytes())

    first = world.differences()

    stray.unlink()
    assert (first.hop, first.day, "part-1.parquet" in first.told) == ("landing", day, True)


def test_rows_that_came_before_are_missing_in_the_facts_by_rule(world):
    with world.compute() as duck:
        key, day = duck.execute(
            "select recharge_id, load_date from raw.recharge order by 1 limit 1"
        ).fetchone()
        row = f"'recharge', 'key', 'DUP_EARLIER', '{key}', 1, '{day}', '{day}', '{day}'"
        duck.execute(
            "create table main.aside as from core.set_aside; insert into core.set_aside"
            f" (table_name, column_name, reason_code, key_text, row_cnt, event_date, first_load_date,"
            f" load_date) values ({row})"
        )

    with world.changed(
        "core.fct_recharge", f"delete from core.fct_recharge where recharge_id = '{key}'"
    ):
        facts = hop(world, "facts")

    with world.compute() as duck:
        duck.execute(
            "truncate core.set_aside; insert into core.set_aside from main.aside; drop table main.aside"
        )
    assert facts.differences == []
    assert "1 left out" in facts.told


def test_a_compute_file_that_is_gone_is_told_and_not_made(world):
    path = world.settings.compute_path
    path.rename(path.with_suffix(".away"))

    first = world.differences()

    assert not path.exists()
    path.with_suffix(".away").rename(path)
    assert (first.hop, first.command) == ("raw", "keepline rebuild")


def test_days_after_the_release_are_no_difference(world):
    day = WHOLE.to_date
    extra = f"select * replace (date '{day}' as load_date) from core.fct_recharge limit 3"
    raw = f"select * replace (date '{day}' as load_date) from raw.recharge limit 3"

    with (
        world.changed("raw.recharge", f"insert into raw.recharge {raw}"),
        world.changed("core.fct_recharge", f"insert into core.fct_recharge {extra}"),
        world.changed(
            "core.dim_subscription", "update core.dim_subscription set is_current = false"
        ),
    ):
        shown = hop(world, "release")

    assert shown.differences == []
    assert "compute has later days" in shown.told


def test_a_new_build_that_is_not_published_is_told(world):
    with world.changed(
        "core.dim_subscription",
        "update core.dim_subscription set activated_date = activated_date - 1",
    ):
        first = world.differences()

    assert (first.hop, first.table) == ("release", "dim_subscription")
    assert first.command.startswith(f"keepline stage --date {WHOLE.last_date}")


def test_a_line_that_its_dimension_forgot_is_found(world):
    with world.changed(
        "core.dim_subscription",
        "delete from core.dim_subscription where subscription_id ="
        " (select min(subscription_id) from core.dim_subscription where load_date = "
        f"date '{FIRST}')",
    ):
        first = world.differences()

    assert (first.hop, first.table, first.day) == ("facts", "dim_subscription", FIRST)
    assert first.told.startswith("1 of ")


def test_a_damaged_part_is_written_anew_by_the_next_stage(world, capsys):
    world.project.change("update store.fct_recharge set paid_fen = paid_fen + 1")

    with pytest.raises(BadDataError, match="the first in release, fct_recharge"):
        verify.examine(world.settings, WHOLE, recopy=True)
    told = capsys.readouterr().out
    staged = release.stage(world.settings, Window.day(WHOLE.last_date))
    release.mark_audited(world.settings, staged.release_id, passed=True)
    release.publish(world.settings, staged.release_id)

    assert "next: keepline verify --recopy" in told
    assert staged.is_new
    assert world.differences() is None


def test_nothing_is_published_that_lost_its_landing_or_a_row_of_raw_since_it_was_loaded(world):
    window = Window.day(WHOLE.last_date)
    pipeline.publish(world.settings, window)
    folder = world.partition("cdr_voice", WHOLE.last_date)
    away = world.settings.home / "away"

    folder.rename(away)
    with pytest.raises(BadDataError, match="the folder is gone") as told:
        pipeline.publish(world.settings, window)
    away.rename(folder)
    assert f"keepline extract --date {WHOLE.last_date} --table cdr_voice" in str(told.value)
    assert "Readers keep the last release" in str(told.value)

    lost = f"delete from raw.cdr_voice where load_date = '{WHOLE.last_date}'"
    with world.changed("raw.cdr_voice", lost), pytest.raises(BadDataError) as told:
        pipeline.publish(world.settings, window)
    assert f"keepline load --date {WHOLE.last_date}" in str(told.value)

    # An older day is for `verify`: what readers get tonight does not come from it.
    older = world.partition("cdr_voice", FIRST)
    older.rename(away)
    pipeline.publish(world.settings, window)
    away.rename(older)


def test_the_command_leaves_with_2_and_the_next_step_and_no_value(world, monkeypatch, capsys):
    day = FIRST + timedelta(days=1)
    for name, value in SECRETS.items():
        monkeypatch.setenv(f"KEEPLINE_{name.upper()}", value)
    monkeypatch.setenv("KEEPLINE_HOME", str(world.settings.home))
    monkeypatch.setenv("KEEPLINE_STORE_DSN", world.settings.store_dsn.get_secret_value())
    monkeypatch.setattr("sys.argv", ["keepline", "verify", "--date", str(day)])
    spoil = f"update raw.cdr_voice set msisdn_hash = '13812345678' where load_date = '{day}'"

    with world.changed("raw.cdr_voice", spoil), pytest.raises(SystemExit) as leaving:
        cli.main()

    said = capsys.readouterr()
    assert leaving.value.code == BadDataError.exit_code == 2
    assert f"first difference: raw, cdr_voice, {day}: " in said.out
    assert f"next: keepline load --date {day}" in said.out
    assert "13812345678" not in said.out + said.err


def test_every_fact_is_counted_again_or_made_of_others():
    folder = PROJECT_DIR / "dbt_project" / "models" / "core"
    written = {path.stem for path in folder.glob("fct_*.sql")}

    carried = {flow.fact for flow in flows(load_contract(PROJECT_DIR / "dbt_project"))}
    assert carried | set(DERIVED) == written
    assert not carried & set(DERIVED)
