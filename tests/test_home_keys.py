"""Keys are made once, in an empty home; what was made under one is never mixed with another's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SECRETS

from keepline import home, lease, store
from keepline.errors import UsageError
from keepline.settings import Settings

KEYS = ["pseudonym_key", "vault_key"]
OTHER = "33" * 32


@pytest.fixture
def begun(settings, monkeypatch) -> Settings:
    """Return the settings of a home that made its own keys and that a table landed in."""
    monkeypatch.setenv("KEEPLINE_HOME", str(settings.home))
    monkeypatch.setenv("KEEPLINE_STORE_DSN", settings.store_dsn.get_secret_value())
    made = Settings.load()
    with lease.hold(made, "extract"):
        land(made)
    return made


def land(settings: Settings) -> Path:
    folder = settings.landing_dir / "cdr_voice" / "load_date=2026-06-30"
    folder.mkdir(parents=True)
    keys = {"version": home.KEY_VERSION, **home.fingerprints(settings)}
    (folder / "_manifest.json").write_text(json.dumps({"keys": keys}))
    return folder


def key_file(settings: Settings, name: str) -> Path:
    return settings.home / "secrets" / f"keepline_{name}"


def everything(settings: Settings) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in settings.home.rglob("*") if path.is_file()}


def keepline(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keepline", *words],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", KEYS)
def test_a_lost_key_is_not_made_anew_beside_what_landed_under_it(begun, name):
    lost = key_file(begun, name).read_text()
    key_file(begun, name).unlink()
    before = everything(begun)

    ended = keepline("extract", "--date", "2026-06-30")

    assert ended.returncode == 64
    assert f"KEEPLINE_{name.upper()} is neither set nor in" in ended.stderr
    assert f"secrets/keepline_{name}" in ended.stderr
    assert "keepline clean --yes" in ended.stderr
    assert everything(begun) == before

    # The way out that it names.
    key_file(begun, name).write_text(lost)
    assert Settings.load() == begun
    store.connect(begun).close()


@pytest.mark.parametrize("name", KEYS)
def test_another_key_is_refused_by_the_store_before_anything_is_written(begun, name):
    before = everything(begun)
    other = begun.model_copy(update={name: type(begun.vault_key)(OTHER)})

    with (
        pytest.raises(UsageError, match=f"KEEPLINE_{name.upper()} is another key") as told,
        lease.hold(other, "extract"),
    ):
        pytest.fail("it went on")

    own = getattr(begun, name).get_secret_value()
    assert home.fingerprint(name, own) in str(told.value)
    assert own not in str(told.value)
    assert OTHER not in str(told.value)
    assert everything(begun) == before


@pytest.mark.parametrize("name", KEYS)
def test_an_empty_key_file_is_a_lost_key(begun, name):
    key_file(begun, name).write_text("")
    before = everything(begun)

    ended = keepline("extract", "--date", "2026-06-30")

    assert ended.returncode == 64
    assert f"secrets/keepline_{name} is empty" in " ".join(ended.stderr.split())
    assert everything(begun) == before


def test_the_first_key_that_a_store_is_used_with_is_its_own(settings):
    without = settings.model_copy(update={"pseudonym_key": type(settings.vault_key)("")})
    with lease.hold(without, "migrate"):
        pass
    with lease.hold(settings, "migrate"):
        pass
    other = settings.model_copy(update={"pseudonym_key": type(settings.vault_key)(OTHER)})

    with pytest.raises(UsageError, match="KEEPLINE_PSEUDONYM_KEY is another key"):
        store.connect(other)


def test_a_store_that_has_not_heard_of_keys_believes_what_landed(begun):
    with store.connect(begun) as connection:
        connection.execute("create table ops.stage_run (one integer)")
        connection.execute("drop table ops.home")
    other = begun.model_copy(update={"pseudonym_key": type(begun.vault_key)(OTHER)})

    with pytest.raises(UsageError, match="cdr_voice landed under"), lease.hold(other, "extract"):
        pytest.fail("it went on")
    with lease.hold(begun, "extract"):
        pass


def test_the_store_keeps_a_fingerprint_of_each_key_and_never_the_key(begun):
    with store.connect(begun) as connection:
        kept = connection.execute(
            "select home_id, pseudonym_key, vault_key, key_version from ops.home"
        ).fetchone()

    known = home.identity(begun.home)
    assert kept == (known.id, *home.fingerprints(begun).values(), 1)
    assert [len(text) for text in kept[1:3]] == [16, 16]


def test_a_fingerprint_tells_keys_and_their_purposes_apart():
    same = {home.fingerprint("vault_key", digits) for digits in ("ab" * 32, "AB" * 32)}

    assert len(same) == 1
    assert same.isdisjoint({home.fingerprint("pseudonym_key", "ab" * 32)})
    assert same.isdisjoint({home.fingerprint("vault_key", "ab" * 31 + "ac")})
    assert home.fingerprint("vault_key", "") == ""


def test_passwords_are_made_in_a_home_that_has_begun(begun):
    # An older home lacks the logins that came later.
    key_file(begun, "marketing_password").unlink()

    assert Settings.load().marketing_password != begun.marketing_password


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("digits", ["not-a-key", "zz" * 32, "11" * 31, "11" * 33, "1" * 63])
def test_a_key_that_is_not_64_hex_digits_is_refused_without_showing_it(
    tmp_path, monkeypatch, name, digits
):
    monkeypatch.setenv("KEEPLINE_HOME", str(tmp_path))
    monkeypatch.setenv(f"KEEPLINE_{name.upper()}", digits)

    with pytest.raises(UsageError, match=f"KEEPLINE_{name.upper()}: .*64 hex digits") as told:
        Settings.load()

    assert digits not in str(told.value)
    with pytest.raises(ValueError, match="64 hex digits") as told:
        Settings(**{**SECRETS, name: digits})
    assert digits not in str(told.value)


def test_the_verbs_that_need_no_key_can_still_be_run(begun):
    key_file(begun, "vault_key").unlink()

    assert Settings.load(need_keys=False).vault_key.get_secret_value() == ""
    assert not key_file(begun, "vault_key").exists()


def test_the_secrets_of_the_tests_are_keys():
    assert Settings(**SECRETS).pseudonym_key.get_secret_value() == SECRETS["pseudonym_key"]


# -- settings that give rows their meaning ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "before", "other"),
    [("timezone", "Asia/Shanghai", "Europe/Berlin"), ("operator", "demo", "megaline")],
)
def test_a_setting_that_gives_rows_their_meaning_may_not_change(
    begun, monkeypatch, name, before, other
):
    variable = f"KEEPLINE_{name.upper()}"
    # Else the demo's own server would be started to read from.
    monkeypatch.setenv("KEEPLINE_DEMO_DSN", "host=none")
    kept = everything(begun)
    monkeypatch.setenv(variable, other)

    for words in (("extract", "--date", "2026-06-30"), ("rebuild",), ("migrate",)):
        ended = keepline(*words)
        assert ended.returncode == 64, ended.stderr
        assert (
            f"{variable} is {other}, and what the store holds was made with {before}"
            in ended.stderr
        )
        assert f"Set {variable}={before}." in ended.stderr
        assert "keepline clean --yes" in ended.stderr
    assert everything(begun) == kept

    monkeypatch.setenv(variable, before)
    with lease.hold(Settings.load(), "extract"):
        pass


def test_a_store_of_an_older_version_keeps_the_settings_of_its_next_run(begun):
    with store.connect(begun) as connection:
        connection.execute("alter table ops.home drop column timezone, drop column operator")
    with lease.hold(begun, "extract"):
        pass

    with pytest.raises(UsageError, match=r"KEEPLINE_TIMEZONE is Asia/Tokyo"):
        store.connect(begun.model_copy(update={"timezone": "Asia/Tokyo"}))
