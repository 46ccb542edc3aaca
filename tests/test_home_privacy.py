"""Nobody else on the machine reads the home, and the server is given no key."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SECRETS
from leftovers import OPEN_DIRS, open_name

from keepline import home, store
from keepline.commands import doctor
from keepline.embedded import NOTE, UNPRIVILEGED_USER, EmbeddedPostgres
from keepline.errors import KeeplineError
from keepline.report import page
from keepline.settings import Settings
from models_ml.churn import immutable

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as somebody else")
# A user whom the machine has not heard of.
STRANGER = 61_234
TRY = """
import json, os, sys
paths = json.load(sys.stdin)
print(json.dumps([path for path in paths if os.access(path, os.R_OK) or os.access(path, os.W_OK)]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return the place of a home that every user of the machine may come to."""
    above = OPEN_DIRS[0] / open_name("privacy")
    above.mkdir()
    above.chmod(0o755)
    yield above / "home"
    EmbeddedPostgres(above / "home", SECRETS["store_password"]).remove()
    shutil.rmtree(above)


@pytest.fixture
def _private() -> Iterator[None]:
    """Write as a command does."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def keepline(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {f"KEEPLINE_{name.upper()}": secret for name, secret in SECRETS.items()}
    return subprocess.run(
        [sys.executable, "-m", "keepline", *words],
        env={**os.environ, **own, "KEEPLINE_HOME": str(folder)},
        umask=0o022,
        capture_output=True,
        text=True,
        check=False,
    )


def open_to(user: int | str, folder: Path) -> list[str]:
    """Return what a user can read or write of a folder and all below it."""
    paths = [str(folder), *map(str, folder.rglob("*"))]
    tried = subprocess.run(
        ["/usr/bin/python3", "-c", TRY],
        input=json.dumps(paths),
        user=user,
        group="nogroup",
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(tried.stdout)


def asked(check: str, settings: Settings) -> str:
    try:
        return " ".join(dict(doctor.CHECKS)[check](settings))
    except KeeplineError as error:
        return f"MEND {error}"


@as_root
def test_no_other_user_reads_anything_that_a_command_wrote_and_the_server_got_no_key(folder):
    ended = keepline(folder, "simulate", "--subscribers", "50", "--days", "30", "--mornings", "0")
    assert ended.returncode == 0, ended.stderr

    assert len(list(folder.rglob("*.csv.gz"))) > 30
    assert open_to(STRANGER, folder) == []
    # The server's user reads its own folder and nothing else.
    server = EmbeddedPostgres(folder, SECRETS["store_password"])
    assert server.folder == folder / "postgres"
    theirs = open_to(UNPRIVILEGED_USER, folder)
    assert theirs
    assert all(Path(path).is_relative_to(server.folder) for path in theirs)

    pid = (server.folder / "data" / NOTE).read_text().split()[0]
    given = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"KEEPLINE" not in given
    assert not [secret for secret in SECRETS.values() if secret.encode() in given]
    settings = Settings(home=folder, **SECRETS)
    assert asked("privacy", settings).startswith("nobody else can look into the home")


@as_root
def test_an_older_home_is_closed_at_its_first_use(folder):
    for name in ("demo/drops/2026-06-30/cdr_voice.csv.gz", "logs/error-1.txt"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("of a person")
    assert len(open_to(STRANGER, folder)) > 2

    home.identify(folder)

    assert open_to(STRANGER, folder) == []


@as_root
@pytest.mark.usefixtures("_private")
@pytest.mark.parametrize("opened", ["home", "entry", "server"])
def test_doctor_says_what_to_type_where_others_can_look_in(folder, opened):
    settings = Settings(home=folder, **SECRETS)
    store.embedded(settings).start()
    (folder / "demo").mkdir(mode=0o700)
    {"home": folder, "entry": folder / "demo", "server": folder / "postgres"}[opened].chmod(0o755)

    said = asked("privacy", settings)

    assert said.startswith(f"MEND others can look into {folder}: chmod ")
    subprocess.run(said.partition(": ")[2].split(), check=True)
    assert asked("privacy", settings).startswith("nobody else")


@pytest.mark.usefixtures("_private")
def test_doctor_finds_a_server_that_was_given_a_key(folder, monkeypatch):
    settings = Settings(home=folder, **SECRETS)
    server = store.embedded(settings)
    server.start()
    assert asked("privacy", settings).startswith("nobody else")
    server.stop()
    monkeypatch.setenv("KEEPLINE_VAULT_KEY", SECRETS["vault_key"])
    monkeypatch.setattr("keepline.embedded.SERVER_VARIABLES", ["KEEPLINE_VAULT_KEY"])
    server.start()

    said = asked("privacy", settings)

    assert "was started with KEEPLINE_VAULT_KEY in its environment: keepline stop" in said
    assert SECRETS["vault_key"] not in said


def test_doctor_says_which_key_is_lost(tmp_path):
    settings = Settings(home=tmp_path, **{**SECRETS, "vault_key": ""})

    assert asked("secrets", settings).startswith("MEND KEEPLINE_VAULT_KEY is lost. Put that one")


def test_no_file_of_the_home_is_open_by_itself(tmp_path):
    # Whoever copies a part of the home would open it.
    page._write(tmp_path / "reports" / "page.html", "")
    immutable.write_atomically(tmp_path / "models" / "sums", b"")

    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.stat().st_mode & 0o077] == []
