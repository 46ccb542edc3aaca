"""Out of disk, out of memory, or the compute file damaged: a sentence, nothing half done, a rerun mends."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from conftest import DEEP, SECRETS
from extract_source import DAY, Extraction, calls
from fault_limits import SmallDisk
from fault_state import tear_block
from fault_store import Shop, sentence
from leftovers import OPEN_DIRS, open_name

from keepline import home, store
from keepline.commands import pipeline
from keepline.compute.duckdb import ComputeDamagedError, DuckDBCompute
from keepline.contract import load_contract
from keepline.embedded import EmbeddedPostgres
from keepline.errors import BadDataError, OutOfRoomError
from keepline.release.migration import SQL_DIR
from keepline.settings import Settings
from keepline.window import Window

DAYS = [DAY - timedelta(days=2), DAY - timedelta(days=1), DAY]
ALL = Window(DAYS[0], DAY + timedelta(days=1))
# Loads a window and is killed with its changes in the log beside the file, or while it folds them in.
KILLED = """
import os, sys, threading, time, signal
from datetime import date
from keepline.compute.duckdb import DuckDBCompute
from keepline.contract import load_contract
from keepline.settings import Settings
from keepline.window import Window
settings = Settings.load()
compute = DuckDBCompute(settings)
with compute.connection() as connection:
    connection.execute("set checkpoint_threshold = '1GB'")
    for day in sys.argv[2:]:
        connection.begin()
        connection.execute("delete from raw.cdr_voice where load_date = ?", [day])
        connection.execute(
            "insert into raw.cdr_voice select * replace (cast(? as date) as load_date, usage_id || '-new' "
            "as usage_id) from raw.cdr_voice where load_date <> cast(? as date)", [day, day])
        connection.commit()
    if float(sys.argv[1]) >= 0:
        kill = lambda: (time.sleep(float(sys.argv[1])), os.kill(os.getpid(), signal.SIGKILL))
        threading.Thread(target=kill, daemon=True).start()
        while True:
            connection.execute("checkpoint")
            connection.execute("update raw.cdr_voice set duration_s = duration_s + 1")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def landed(settings, tmp_path, monkeypatch) -> Extraction:
    """Return an extraction whose three days have landed and are loaded."""
    extraction = Extraction(settings, tmp_path, monkeypatch)
    for number, day in enumerate(DAYS):
        extraction.mediation.deliver(calls(40 + number, day), day)
    with store.connect(settings) as connection:
        connection.execute((SQL_DIR / "ops.sql").read_bytes())
    pipeline.extract(settings, ALL)
    pipeline.load(settings, ALL)
    return extraction


def raw(settings: Settings) -> list[tuple]:
    return DuckDBCompute(settings).execute(
        "select load_date, count(*), sum(hash(c)) from raw.cdr_voice as c group by 1 order by 1"
    )


def load_once(settings: Settings, window: Window) -> None:
    """Load as the verb does, but leave a damaged file as it is."""
    with pipeline.stage(settings, "load", window):
        DuckDBCompute(settings).load(load_contract(settings.dbt_dir), window)


# -- the compute file is damaged -----------------------------------------------------------------


def flip(content: bytearray, first: int, last: int, seed: int) -> bytearray:
    place = random.Random(seed).randrange(first, min(last, len(content)))  # noqa: S311
    content[place] ^= 1 << seed % 8
    return content


DAMAGES: dict[str, Callable[[bytearray], bytearray]] = {
    "main header": lambda content: flip(content, 0, 4096, 1),
    "both headers": lambda content: flip(flip(content, 4096, 8192, 2), 8192, 12288, 3),
    "cut in the middle": lambda content: content[: len(content) // 2],
    "nothing in it": lambda content: content[:0],
    "another file": lambda _: bytearray(b"load_date,rows\n" * 4000),
}


def test_a_damaged_file_is_known_in_a_folder_with_a_blank(settings, tmp_path):
    there = settings.model_copy(update={"home": tmp_path / "a home"})
    path = there.compute_path
    path.parent.mkdir(parents=True)
    with duckdb.connect(str(path)) as made:
        made.execute("create table t as from range(1000000)")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(ComputeDamagedError):
        DuckDBCompute(there).execute("select sum(range) from t")


@pytest.mark.case(85)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_compute_file_is_named_with_the_way_out_and_nothing_is_lost(
    landed, tally, damage
):
    settings = landed.settings
    before = raw(settings)
    path = settings.compute_path
    path.write_bytes(DAMAGES[damage](bytearray(path.read_bytes())))

    with pytest.raises(ComputeDamagedError, match="`keepline rebuild` makes it anew") as told:
        load_once(settings, Window.day(DAY))
    assert told.value.exit_code == BadDataError.exit_code
    assert str(path) in str(told.value)

    # The verb itself mends it.
    pipeline.load(settings, Window.day(DAY))
    tally("faults", int(raw(settings) == before), 1)
    assert raw(settings) == before


@pytest.mark.case(85)
@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(8, 200), marks=pytest.mark.deep)])
def test_a_flipped_bit_is_never_believed(landed, tally, seeds):
    settings = landed.settings
    before, path = raw(settings), settings.compute_path
    kept = path.read_bytes()
    good = 0
    for seed in seeds:
        path.write_bytes(flip(bytearray(kept), 0, len(kept), seed))
        try:
            load_once(settings, Window.day(DAY))
            good += raw(settings) == before
        except BadDataError as error:
            good += "keepline rebuild" in str(error)
        except Exception as error:  # DuckDB's own, from the look at all rows
            good += "Corrupt database file" in str(error)
    tally("faults", good, len(seeds))
    assert good == len(seeds)


@pytest.mark.case(85)
def test_a_block_that_was_torn_by_a_kill_is_mended_by_the_command_that_finds_it(
    landed, tally, capsys
):
    settings = landed.settings
    before = raw(settings)
    tear_block(settings.compute_path, "raw.cdr_voice")
    with pytest.raises(duckdb.Error, match="Corrupt database file"):
        raw(settings)

    pipeline.load(settings, ALL)

    said = " ".join(capsys.readouterr().err.split())
    tally("faults", int(raw(settings) == before), 1)
    assert raw(settings) == before
    assert f"{settings.compute_path} is damaged (" in said
    assert "it is made anew from landing, then `load` begins again" in said


@pytest.mark.case(85)
def test_a_compute_file_that_is_gone_is_not_begun_anew_with_one_day(landed):
    settings = landed.settings
    before = raw(settings)
    settings.compute_path.unlink()

    with pytest.raises(BadDataError, match="is gone; it held 2026-06-28 to 2026-06-30"):
        pipeline.load(settings, Window.day(DAY))

    assert not settings.compute_path.exists()
    pipeline.load(settings, ALL)
    assert raw(settings) == before


def killed(settings: Settings, after_s: float, *days: date) -> None:
    """Let a process change days of the compute file and be killed."""
    own = {f"KEEPLINE_{name.upper()}": secret for name, secret in SECRETS.items()}
    own["KEEPLINE_HOME"] = str(settings.home)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(after_s), *map(str, days)],
        env={**os.environ, **own},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


LOGS: dict[str, Callable[[bytes], bytes | None]] = {
    "whole": lambda log: log,
    "cut after one change": lambda log: log[: len(log) // 2],
    "cut in the middle of a byte or two": lambda log: log[:-3],
    "a flipped bit": lambda log: bytes(flip(bytearray(log), 0, len(log), 5)),
    "first byte": lambda log: bytes([log[0] ^ 1]) + log[1:],
    "gone": lambda _: None,
}


@pytest.mark.case(85)
@pytest.mark.parametrize("log", LOGS)
def test_what_a_killed_run_left_beside_the_file_is_never_mixed_in(landed, tally, log):
    settings = landed.settings
    before = raw(settings)
    killed(settings, -1, *DAYS[:2])
    beside = settings.compute_path.with_name("compute.duckdb.wal")
    content = LOGS[log](beside.read_bytes())
    if content is None:
        beside.unlink()
    else:
        beside.write_bytes(content)

    # Of the days that the killed run had changed, none is run again here.
    pipeline.load(settings, Window.day(DAY))

    tally("faults", int(raw(settings) == before), 1)
    assert raw(settings) == before
    assert not beside.exists()


@pytest.mark.case(85)
def test_the_log_of_another_file_is_not_replayed(landed, tmp_path):
    settings = landed.settings
    before = raw(settings)
    other = settings.model_copy(update={"home": tmp_path / "other"})
    other.operator_home.mkdir(parents=True)
    shutil.copy(settings.compute_path, other.compute_path)
    killed(other, -1, DAYS[0])
    wal = "compute.duckdb.wal"
    shutil.copy(other.operator_home / wal, settings.operator_home / wal)

    pipeline.load(settings, Window.day(DAY))

    assert raw(settings) == before


@pytest.mark.case(85)
@pytest.mark.parametrize("seed", range(12 if DEEP else 2))
def test_a_run_killed_while_it_folds_the_log_in_is_mended_by_its_rerun(landed, tally, seed):
    settings = landed.settings
    before = raw(settings)

    killed(settings, 0.02 + seed * 0.013, *DAYS)
    pipeline.load(settings, ALL)

    tally("faults", int(raw(settings) == before), 1)
    assert raw(settings) == before


# -- the disk is full ----------------------------------------------------------------------------


def moved(settings: Settings, folder: Path) -> Settings:
    """Return a home that holds what another one does and works on the same store, as if it had moved."""
    shutil.copytree(settings.operator_home, folder / "demo")
    shutil.copy(settings.home / home.FILE, folder)
    home.change(folder, path=str(folder))
    return settings.model_copy(update={"home": folder})


def landing(settings: Settings) -> dict[str, str]:
    return {
        str(path.relative_to(settings.landing_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(settings.landing_dir.rglob("*"))
        if path.is_file()
    }


@pytest.mark.case(22, 86)
@pytest.mark.parametrize("left_kb", [0, 16, 48])
def test_a_disk_that_is_full_while_landing_leaves_landing_as_it_was(
    landed, tmp_path, tally, left_kb
):
    settings = landed.settings
    for number, day in enumerate(DAYS):
        landed.mediation.deliver(calls(3000 + number, day), day)
    with SmallDisk(tmp_path / "disk") as disk:
        small = moved(settings, disk.folder)
        before = landing(small)

        with disk.nearly_full(left_kb), pytest.raises(OutOfRoomError, match="is full") as told:
            pipeline.extract(small, ALL, accept_changed="T1")

        assert str(disk.folder) in str(told.value)
        assert landing(small) == before
        assert not list(small.landing_dir.glob("*/.incoming*"))
        pipeline.extract(small, ALL, accept_changed="T1")
        after = landing(small)
    pipeline.extract(settings, ALL, accept_changed="T1")
    tally("faults", int(landing(settings) == after), 1)
    assert landing(settings) == after
    assert after != before


@pytest.mark.case(86)
@pytest.mark.parametrize("left_kb", [0, 600])
def test_a_disk_that_is_full_while_loading_leaves_the_compute_file_whole(
    landed, tmp_path, tally, left_kb
):
    settings = landed.settings
    for number, day in enumerate(DAYS):
        landed.mediation.deliver(calls(9000 + number, day), day)
    pipeline.extract(settings, ALL, accept_changed="T1")
    with SmallDisk(tmp_path / "disk") as disk:
        small = moved(settings, disk.folder)

        with disk.nearly_full(left_kb), pytest.raises(OutOfRoomError, match="is full") as told:
            pipeline.load(small, ALL)

        assert str(disk.folder) in str(told.value)
        pipeline.load(small, ALL)
        after = raw(small)
    pipeline.load(settings, ALL)
    tally("faults", int(raw(settings) == after), 1)
    assert raw(settings) == after


@pytest.mark.case(86)
def test_a_full_disk_for_what_does_not_fit_into_memory_is_named(landed):
    settings = landed.settings.model_copy(update={"compute_memory_limit": "40MB"})
    sort = (
        "select sum(n) from (select hash(i) as n from range(9000000) as r(i) order by hash(i + 1))"
    )
    with (
        SmallDisk(settings.operator_home / "compute.tmp", "8m"),
        pytest.raises(OutOfRoomError, match="full"),
        pipeline.stage(settings, "load", ALL),
    ):
        DuckDBCompute(settings).execute(sort)
    pipeline.load(settings, ALL)


@pytest.mark.case(86)
@pytest.mark.parametrize(
    "left_kb", [64, *(pytest.param(n, marks=pytest.mark.deep) for n in (0, 16, 128))]
)
def test_a_full_disk_of_the_store_stops_the_stage_and_readers_keep_their_release(tally, left_kb):
    # Not in pytest's folder, which the server's own user may not enter.
    folder = OPEN_DIRS[0] / open_name("disk")
    with SmallDisk(folder, "400m") as disk:
        server = EmbeddedPostgres(folder, SECRETS["store_password"])
        server.start()
        try:
            assert server.folder.is_relative_to(folder)
            shop = Shop(folder, server)
            shop.restore()
            with disk.nearly_full(left_kb):
                # Without a DSN: the embedded server, which the command starts if it has to.
                command = shop.start("stage", KEEPLINE_STORE_DSN="")
                code = command.wait()
            assert code == OutOfRoomError.exit_code, command.said
            assert str(folder) in sentence(command.said)
            # A server that cannot write its log ends; with room it comes back as it was.
            server.start()
            seen, differing = shop.readers_see(), shop.finish()
            tally("faults", int(seen == "old" and not differing), 1)
            assert seen == "old"
            assert not differing
        finally:
            server.remove()
            shop.forget()


@pytest.mark.case(86)
def test_a_log_on_a_full_disk_does_not_hide_the_exit_code(settings):
    own = {f"KEEPLINE_{name.upper()}": secret for name, secret in SECRETS.items()}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "keepline", "rollback"],
            env={
                **os.environ,
                **own,
                "KEEPLINE_HOME": str(settings.home),
                "KEEPLINE_STORE_DSN": settings.store_dsn.get_secret_value(),
            },
            stdout=full,
            stderr=full,
            check=False,
        )

    # The store was never migrated: an error, said into a log that takes nothing.
    assert done.returncode in (1, 64)


# -- the memory is full --------------------------------------------------------------------------


@pytest.mark.case(87)
def test_work_that_does_not_fit_into_the_memory_limit_says_so(landed, tally):
    settings = landed.settings
    before = raw(settings)
    small = settings.model_copy(update={"compute_memory_limit": "1MB"})

    with pytest.raises(OutOfRoomError, match="KEEPLINE_COMPUTE_MEMORY_LIMIT=1MB"):
        pipeline.load(small, ALL)

    assert raw(settings) == before
    pipeline.load(settings, ALL)
    tally("faults", int(raw(settings) == before), 1)
    assert raw(settings) == before
