"""What landed is on record in the store: a folder that vanished or was forged is never taken for a day."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SECRETS
from extract_source import DAY, Extraction, calls

from keepline import ops, store
from keepline.commands import pipeline, verify
from keepline.commands.rebuild import rebuild
from keepline.compute.duckdb import DuckDBCompute
from keepline.errors import BadDataError
from keepline.parts import landed_window
from keepline.recount import first_difference
from keepline.release import migration
from keepline.settings import Settings
from keepline.window import Window

DAYS = [DAY - timedelta(days=2), DAY - timedelta(days=1), DAY]
ALL = Window(DAYS[0], DAY + timedelta(days=1))
AGAIN = f"keepline extract --date {DAY} --table cdr_voice"


@pytest.fixture(scope="module")
def settings(postgres, tmp_path_factory) -> Settings:
    """Return a home whose three days have landed and are loaded; each test leaves it so."""
    postgres.ensure_database("landing_record")
    folder = tmp_path_factory.mktemp("record")
    made = Settings(home=folder / "home", store_dsn=postgres.dsn("landing_record"), **SECRETS)
    with pytest.MonkeyPatch.context() as patch:
        extraction = Extraction(made, folder, patch)
        for number, day in enumerate(DAYS):
            extraction.mediation.deliver(calls(5 + number, day), day)
        pipeline.extract(made, ALL)
    pipeline.load(made, ALL)
    return made


@pytest.fixture(autouse=True)
def _source(settings, monkeypatch) -> None:
    """Let the operator's file and drops be those of the module's home."""
    folder = settings.home.parent
    monkeypatch.setattr(Settings, "operator_file", property(lambda _: folder / "demo.yml"))
    monkeypatch.setenv("KEEPLINE_DEMO_DROPS", str(folder / "drops"))
    monkeypatch.setenv("KEEPLINE_DEMO_DSN", "host=none")


@pytest.fixture(autouse=True)
def _as_it_was(settings):
    """Put landing back after each test, and find raw as it was."""
    kept = settings.home / "kept"
    shutil.copytree(settings.landing_dir, kept)
    before = raw(settings)
    yield
    shutil.rmtree(settings.landing_dir)
    kept.rename(settings.landing_dir)
    assert raw(settings) == before


def raw(settings: Settings) -> list[tuple]:
    sql = "select load_date, count(*), sum(hash(c)) from raw.cdr_voice as c group by 1 order by 1"
    return DuckDBCompute(settings).execute(sql)


def batch(settings: Settings, day=DAY) -> Path:
    return settings.landing_dir / "cdr_voice" / f"load_date={day}"


def forge(folder: Path) -> None:
    """Change the duration of a call, in the file, in its checksum and in the totals."""
    part, manifest = folder / "part-0.parquet", folder / "_manifest.json"
    rows = pq.ParquetFile(part).read()
    place = rows.column_names.index("duration_s")
    longer = [value + 1 for value in rows.column(place).to_pylist()]
    field = rows.schema.field(place)
    pq.write_table(rows.set_column(place, field, pa.array(longer, field.type)), part)
    said = json.loads(manifest.read_bytes())
    said["sha256"] = hashlib.sha256(part.read_bytes()).hexdigest()
    said["sums"]["duration_s"] += len(longer)
    manifest.write_text(json.dumps(said))


def unknown(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name(f"load_date={DAY + timedelta(days=1)}"))


@pytest.mark.parametrize("spoil", [shutil.rmtree, forge])
def test_a_landing_folder_that_vanished_or_was_forged_is_not_loaded(settings, spoil):
    kept = settings.home / "kept" / "cdr_voice" / batch(settings).name
    spoil(batch(settings))

    with pytest.raises(BadDataError) as told:
        pipeline.load(settings, ALL)

    said = str(told.value)
    assert f"landing of cdr_voice {DAY} is not what is on record: 7 rows landed on record" in said
    assert str(batch(settings)) in said
    assert "Put the folder back from the backup" in said
    assert said.endswith(AGAIN)

    # Either way out leads on: the source's own day, or the folder as it was.
    pipeline.extract(settings, Window.day(DAY))
    pipeline.load(settings, ALL)
    shutil.rmtree(batch(settings))
    shutil.copytree(kept, batch(settings))
    pipeline.load(settings, ALL)


def test_a_folder_that_never_landed_is_not_loaded(settings):
    day = DAY + timedelta(days=1)
    unknown(batch(settings))

    with pytest.raises(BadDataError, match="no record says that it landed") as told:
        pipeline.load(settings, Window.day(day))

    assert "backup" not in str(told.value)
    assert str(told.value).endswith(f"keepline extract --date {day} --table cdr_voice")


def test_a_window_that_has_none_of_it_is_loaded_all_the_same(settings):
    shutil.rmtree(batch(settings))

    pipeline.load(settings, Window.day(DAYS[0]))


@pytest.mark.parametrize("gone", [DAYS[:1], DAYS])
def test_a_rebuild_from_a_landing_that_lost_days_is_refused(settings, gone):
    for day in gone:
        shutil.rmtree(batch(settings, day))

    with pytest.raises(BadDataError, match=f"landing of cdr_voice {DAYS[0]} is not what") as told:
        rebuild(settings)

    assert str(told.value).endswith(f"keepline extract --date {DAYS[0]} --table cdr_voice")
    assert ("more batches differ" in str(told.value)) == (len(gone) > 1)


def test_verify_looks_at_days_that_vanished_at_the_end(settings):
    shutil.rmtree(batch(settings))

    assert verify.whole(settings) == ALL


def test_verify_does_not_side_with_a_folder_that_was_forged(settings):
    forge(batch(settings))

    with store.connect(settings) as connection:
        connection.execute((migration.SQL_DIR / "ctl.sql").read_bytes())

    hops = {hop.name: hop for hop in verify.recount(settings, ALL)}

    first = first_difference(hops.values())
    assert (first.hop, first.table, first.day, first.command) == (
        "landing",
        "cdr_voice",
        DAY,
        AGAIN,
    )
    assert "the manifest is another one" in first.told
    # Raw was loaded from the right one: loading it again would be the damage.
    assert [found.command for found in hops["raw"].differences] == [AGAIN]


def test_what_an_older_version_landed_is_put_on_record_by_migrate(settings):
    shutil.rmtree(batch(settings))
    with store.connect(settings) as connection:
        before = ops.landed_batches(connection)
        connection.execute("drop table ops.landed_batch")
        connection.execute((migration.SQL_DIR / "ops.sql").read_bytes())
        migration._begin_record(settings, connection)
        found = ops.landed_batches(connection)
        connection.rollback()

    key = ("cdr_voice", DAY)
    assert found == before | {key: ops.LandedBatch(7, None)}
    assert before[key].manifest_sha256 is not None


def test_a_folder_that_is_named_by_hand_is_nobodys_day(tmp_path):
    settings = Settings(home=tmp_path, **SECRETS)
    for name in ("load_date=2026-06-30.old", "load_date=2026-06-29"):
        (settings.landing_dir / "recharge" / name).mkdir(parents=True)

    assert landed_window(settings) == Window.day(date(2026, 6, 29))
