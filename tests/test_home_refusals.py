"""What cannot work is refused at the start, in words; and clean throws nothing away beside a stage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SECRETS
from fault_limits import SmallDisk
from test_lease import HOLDER, Other

from keepline import home, lease, store
from keepline.commands import demo
from keepline.embedded import EmbeddedPostgres
from keepline.settings import Settings

SMALL = ("simulate", "--subscribers", "50", "--days", "30", "--mornings", "0")


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """Return the place of a home whose server ends with the test."""
    place = tmp_path / "home"
    yield place
    EmbeddedPostgres(place, SECRETS["store_password"]).remove()


def started(folder: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    own = {f"KEEPLINE_{name.upper()}": secret for name, secret in SECRETS.items()}
    return subprocess.Popen(
        words,
        env={**os.environ, **own, "KEEPLINE_HOME": str(folder), **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def keepline(folder: Path, *words: str, **variables: str) -> tuple[int, str]:
    process = started(folder, sys.executable, "-m", "keepline", *words, **variables)
    _, said = process.communicate()
    return process.returncode, said


def in_store(settings: Settings) -> dict[str, str]:
    return {"KEEPLINE_STORE_DSN": settings.store_dsn.get_secret_value()}


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KEEPLINE_RELEASES_KEPT", "-1"),
        ("KEEPLINE_RELEASES_KEPT", "0"),
        ("KEEPLINE_STORE_PORT", "99999"),
        ("KEEPLINE_STORE_PORT", "-1"),
        ("KEEPLINE_COMPUTE_THREADS", "0"),
        ("KEEPLINE_COMPUTE_MEMORY_LIMIT", "lots"),
        ("KEEPLINE_LEASE_WAIT_S", "0"),
        ("KEEPLINE_QUARANTINE_LIMIT_SHARE", "1.5"),
        ("KEEPLINE_QUARANTINE_LIMIT_SHARE", "nan"),
        ("KEEPLINE_VAULT_KEY", "zz" * 32),
        ("PGSERVICE", "elsewhere"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGOPTIONS", "-c default_transaction_read_only=on"),
        ("PGLOADBALANCEHOSTS", "always"),
        ("PGREQUIREAUTH", "gss"),
        ("PGDATESTYLE", "German"),
        ("PGCHANNELBINDING", "require"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_the_start(folder, variable, value):
    code, said = keepline(folder, "load", "--date", "2026-06-30", **{variable: value})

    assert code == 64, said
    assert variable in said
    assert "defect" not in said
    assert not (folder / "postgres").exists()
    assert home.identity(folder) is None or not home.identity(folder).server


@pytest.mark.parametrize("limit", ["2GB", "512MB", "1.5GiB", "60mb", "80%", "2 GB"])
def test_memory_is_written_as_duckdb_writes_it(limit):
    assert Settings(compute_memory_limit=limit).compute_memory_limit == limit


@pytest.mark.parametrize(
    "words", [("airflow", "--port", "99999"), ("simulate", "--mornings", "-1")]
)
def test_a_word_that_cannot_work_is_refused_at_the_start(folder, words):
    code, said = keepline(folder, *words)

    assert (code, "Invalid value" in said) == (64, True)
    assert not folder.exists()


def test_a_home_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    with SmallDisk(tmp_path / "disk") as disk:
        place = disk.folder / "home"
        home.identify(place)
        subprocess.run(["mount", "-o", "remount,ro", disk.folder], check=True)
        for target in (place, disk.folder / "new"):
            code, said = keepline(target, "load", "--date", "2026-06-30")

            assert code == 64, said
            assert f"{target} cannot be written" in said
            assert "set KEEPLINE_HOME" in said
            assert "defect" not in said


def test_a_file_in_the_place_of_the_home_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    code, said = keepline(tmp_path / "file", "status")

    assert (code, "cannot be written" in said) == (64, True)


# -- two at once ----------------------------------------------------------------------------------


def test_of_two_simulations_at_once_one_is_refused_and_the_operator_is_whole(folder):
    both = [started(folder, sys.executable, "-m", "keepline", *SMALL) for _ in range(2)]
    said = [process.communicate()[1] for process in both]

    assert sorted(process.returncode for process in both) in ([0, 3], [0, 64]), said
    assert "creates the demo operator" in "".join(said) or "operator exists" in "".join(said)
    assert demo.exists(Settings(home=folder, **SECRETS))


def test_a_simulation_beside_another_is_refused_at_once(folder):
    with demo.alone(Settings(home=folder, **SECRETS)):
        code, said = keepline(folder, *SMALL)

    assert code == 3
    assert "another command creates the demo operator" in said
    assert not (folder / "demo" / "drops").exists()


# -- clean ----------------------------------------------------------------------------------------


def test_clean_waits_for_no_stage_and_throws_nothing_away_beside_one(settings):
    (settings.operator_home / "exchange").mkdir(parents=True)
    other = Other(settings)
    try:
        assert other.says() == "held"

        code, said = keepline(settings.home, "clean", "--yes", **in_store(settings))

        assert code == 3
        assert f"`load 2026-06-30` (process {other.process.pid}" in said
        assert settings.exchange_dir.exists()
        assert other.end() == "given back"
    finally:
        other.process.kill()
        other.process.wait()

    assert keepline(settings.home, "clean", "--yes", **in_store(settings)) == (0, "")
    assert not settings.home.exists()


def test_after_clean_a_store_elsewhere_takes_a_new_home_with_the_same_keys_only(settings):
    with lease.hold(settings, "load"):
        pass
    assert keepline(settings.home, "clean", "--yes", **in_store(settings))[0] == 0

    code, said = keepline(
        settings.home, "status", KEEPLINE_VAULT_KEY="33" * 32, **in_store(settings)
    )
    assert (code, "KEEPLINE_VAULT_KEY is another key" in said) == (64, True)
    with lease.hold(settings, "load"):
        pass
    store.connect(settings).close()


def test_clean_looks_at_the_stages_of_every_operator_of_the_home(folder):
    holder = started(folder, sys.executable, "-c", HOLDER, KEEPLINE_OPERATOR="megaline")
    try:
        assert holder.stdout.readline().strip() == "held"

        code, said = keepline(folder, "clean", "--yes")

        assert code == 3, said
        assert f"(process {holder.pid}" in said
        assert folder.exists()
    finally:
        holder.communicate("")
    server = EmbeddedPostgres(folder, SECRETS["store_password"])
    place = server.folder
    assert place.exists()

    assert keepline(folder, "clean", "--yes") == (0, "")
    assert not folder.exists()
    assert not place.exists()


def test_clean_is_a_way_out_for_a_home_that_lost_its_secrets(folder):
    made = keepline(folder, "status", **dict.fromkeys(map(variable, SECRETS), ""))
    assert made[0] in (0, 64), made
    shutil.rmtree(folder / "secrets")
    lost = dict.fromkeys(map(variable, SECRETS), "")
    code, said = keepline(folder, "status", **lost)
    assert (code, "is neither set nor in" in said) == (64, True)

    code, said = keepline(folder, "clean", "--yes", **lost)
    assert (code, "keepline stop" in said) == (3, True)
    assert keepline(folder, "stop", **lost) == (0, "")
    assert keepline(folder, "clean", "--yes", **lost) == (0, "")
    assert not folder.exists()


def variable(name: str) -> str:
    return f"KEEPLINE_{name.upper()}"


def test_clean_throws_away_a_copy_and_nothing_of_its_original(settings):
    with lease.hold(settings, "load"):
        pass
    copy = settings.home.with_name("copy")
    subprocess.run(["cp", "-a", str(settings.home), str(copy)], check=True)

    assert keepline(copy, "clean", "--yes", **in_store(settings)) == (0, "")

    assert not copy.exists()
    store.connect(settings).close()
