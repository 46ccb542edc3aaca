"""A home works on its own server only, wherever it is moved to and whatever it is copied from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import SECRETS
from leftovers import OPEN_DIRS, open_name

from keepline import home, lease, store
from keepline.embedded import NOTE, SHARED_DIR, STARTED, UNPRIVILEGED_USER, EmbeddedPostgres
from keepline.errors import UsageError
from keepline.settings import Settings

PASSWORD = SECRETS["store_password"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that the server's own user may enter, which pytest's may not be."""
    folder = OPEN_DIRS[0] / open_name("home")
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def closed_folder(tmp_path) -> Path:
    """Return a folder that nobody but its owner may enter."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def server(open_folder) -> Iterator[EmbeddedPostgres]:
    """Return a running server inside its home."""
    made = EmbeddedPostgres(open_folder / "home", PASSWORD)
    made.start()
    assert made.folder == made.home / "postgres"
    yield made
    made.remove()


@pytest.fixture
def outside(closed_folder) -> Iterator[EmbeddedPostgres]:
    """Return a running server of root's, outside of its home."""
    made = EmbeddedPostgres(closed_folder / "home", PASSWORD)
    made.start()
    assert made.folder.is_relative_to(SHARED_DIR)
    yield made
    made.remove()


def copied(server: EmbeddedPostgres, name: str = "copy") -> EmbeddedPostgres:
    target = server.home.with_name(name)
    subprocess.run(["cp", "-a", str(server.home), str(target)], check=True)
    return EmbeddedPostgres(target, PASSWORD)


def moved(server: EmbeddedPostgres, target: Path) -> EmbeddedPostgres:
    server.home.rename(target)
    return EmbeddedPostgres(target, PASSWORD)


def keep(server: EmbeddedPostgres, number: int) -> None:
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"create table kept as select {number} as number")


def kept(server: EmbeddedPostgres) -> int:
    with psycopg.connect(server.dsn("postgres")) as connection:
        return connection.execute("select number from kept").fetchone()[0]


def keepline(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {f"KEEPLINE_{name.upper()}": secret for name, secret in SECRETS.items()}
    return subprocess.run(
        [sys.executable, "-m", "keepline", *words],
        env={**os.environ, **own, "KEEPLINE_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


# -- copies ---------------------------------------------------------------------------------------


def test_a_copy_made_while_the_server_runs_neither_works_on_it_nor_stops_it(server):
    keep(server, 1)
    copy = copied(server)

    for words in (("status",), ("stop",)):
        ended = keepline(copy.home, *words)
        assert ended.returncode == 64, ended.stderr
        assert f"is a copy of {server.home}, made while its server ran" in ended.stderr
    assert kept(server) == 1

    assert keepline(copy.home, "clean", "--yes").returncode == 0
    assert not copy.home.exists()
    assert kept(server) == 1


def test_a_copy_of_a_home_at_rest_has_a_server_of_its_own(server):
    keep(server, 1)
    server.stop()
    copy = copied(server)
    server.start()
    copy.start()
    try:
        with psycopg.connect(copy.dsn("postgres"), autocommit=True) as connection:
            connection.execute("update kept set number = 2")

        assert copy.port != server.port
        assert (kept(server), kept(copy)) == (1, 2)
        copy.stop()
        assert kept(server) == 1
    finally:
        copy.remove()


def test_a_home_that_was_moved_while_its_server_runs_goes_on_with_it(server):
    keep(server, 1)
    pid = (server.folder / "data" / NOTE).read_text().split()[0]
    there = moved(server, server.home.with_name("moved"))

    there.start()

    assert (there.folder / "data" / NOTE).read_text().split()[0] == pid
    assert kept(there) == 1
    there.stop()
    assert not there.is_running()
    moved(there, server.home)


def test_a_copied_home_may_not_write_into_a_store_elsewhere(settings):
    with lease.hold(settings, "extract"):
        pass
    copy = settings.home.with_name("copy")
    subprocess.run(["cp", "-a", str(settings.home), str(copy)], check=True)

    with pytest.raises(UsageError, match=f"{copy} is a copy of {settings.home}"):
        store.connect(settings.model_copy(update={"home": copy}))
    store.connect(settings).close()

    # The original is gone: that was a move.
    shutil.rmtree(settings.home)
    store.connect(settings.model_copy(update={"home": copy})).close()
    assert home.identity(copy).path == str(copy)


def test_the_store_of_another_home_is_refused(settings):
    with lease.hold(settings, "extract"):
        pass
    other = settings.model_copy(update={"home": settings.home.with_name("other")})
    home.identify(other.home)

    with pytest.raises(UsageError, match="belongs to another home") as told:
        store.connect(other)

    with store.connect(settings) as connection:
        connection.execute(home.TAKE_OVER)
    assert home.TAKE_OVER in str(told.value)
    with lease.hold(other, "extract"):
        pass
    with pytest.raises(UsageError, match="belongs to another home"):
        store.connect(settings)


# -- signals --------------------------------------------------------------------------------------


def killed(server: EmbeddedPostgres) -> list[str]:
    """Kill a server as a lost machine does; return the lines of the note that it leaves."""
    note = server.folder / "data" / NOTE
    lines = note.read_text().splitlines()
    pid = int(lines[0])
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        pass
    return lines


def test_a_server_of_another_home_that_got_the_number_of_a_dead_one_is_left_alone(
    server, open_folder
):
    other = EmbeddedPostgres(open_folder / "other", PASSWORD)
    other.start()
    try:
        keep(other, 2)
        number = (other.folder / "data" / NOTE).read_text().split()[0]
        lines = killed(server)
        (server.folder / "data" / NOTE).write_text("\n".join([number, *lines[1:]]) + "\n")

        server.stop()
        assert kept(other) == 2

        server.start()
        assert server.port != other.port
        server.stop()
        assert kept(other) == 2
    finally:
        other.remove()


def test_a_process_of_its_own_server_that_is_not_the_first_gets_no_signal(server):
    keep(server, 1)
    note = server.folder / "data" / NOTE
    lines = note.read_text().splitlines()
    with psycopg.connect(server.dsn("postgres")) as connection:
        note.write_text("\n".join([str(connection.info.backend_pid), *lines[1:]]) + "\n")
        assert not server.is_running()
        assert connection.execute("select 1").fetchone() == (1,)
    note.write_text("\n".join(lines) + "\n")


def test_a_server_that_began_at_another_moment_than_the_one_that_was_started_gets_no_signal(server):
    record = server.folder / STARTED
    pid, ticks, boot = record.read_text().split()
    record.write_text(f"{pid} {int(ticks) - 100} {boot}")

    with pytest.raises(UsageError, match=f"process {pid} works on .* not the server that keepline"):
        server.stop()

    record.write_text(f"{pid} {ticks} {boot}")
    assert server.is_running()


# -- places ---------------------------------------------------------------------------------------


@as_root
def test_a_home_moved_below_another_closed_folder_keeps_its_server(outside, tmp_path):
    keep(outside, 1)
    further = tmp_path / "further"
    further.mkdir(mode=0o700)
    folder = outside.folder

    there = moved(outside, further / "home")
    there.start()

    assert there.folder == folder
    assert there.folder.name == home.identity(there.home).id
    assert kept(there) == 1
    there.remove()
    assert not there.folder.exists()


@as_root
def test_a_copy_may_not_use_the_server_outside_of_its_original(outside):
    keep(outside, 1)
    copy = copied(outside)

    with pytest.raises(UsageError, match=f"{copy.home} is a copy of {outside.home}"):
        copy.start()
    with pytest.raises(UsageError, match="is a copy"):
        copy.stop()
    ended = keepline(copy.home, "status")
    assert (ended.returncode, "is a copy of" in ended.stderr) == (64, True)

    copy.remove()
    assert kept(outside) == 1


@as_root
def test_a_home_moved_where_its_servers_user_cannot_go_says_so(server, closed_folder):
    keep(server, 1)
    server.stop()
    there = moved(server, closed_folder / "home")

    with pytest.raises(UsageError, match=f"{UNPRIVILEGED_USER}, who cannot enter") as told:
        there.start()

    assert f"chmod o+x {closed_folder}" in str(told.value)
    assert not list(SHARED_DIR.glob(f"{home.identity(there.home).id}*"))
    back = moved(there, server.home)
    back.start()
    assert kept(back) == 1


@as_root
def test_a_folder_that_an_older_version_named_by_the_path_goes_on_after_a_move(outside, tmp_path):
    import hashlib

    keep(outside, 1)
    outside.stop()
    by_path = SHARED_DIR / hashlib.sha256(str(outside.home).encode()).hexdigest()[:12]
    outside.folder.rename(by_path)
    for name in (home.FILE, f"{by_path}/home_id", f"{by_path}/{STARTED}"):
        (outside.home / name).unlink()

    outside.start()
    there = moved(outside, tmp_path / "moved")
    there.start()

    assert there.folder == by_path
    assert kept(there) == 1

    # A new home where the old one was takes a folder of its own.
    outside.start()
    assert outside.folder != by_path
    outside.remove()
    assert kept(there) == 1
    there.remove()
    assert not by_path.exists()


def test_a_home_whose_server_is_gone_gets_no_empty_one(server):
    server.stop()
    away = server.home.with_name("away")
    server.folder.rename(away)

    ended = keepline(server.home, "status")

    assert ended.returncode == 64
    assert f"the server of {server.home} is gone" in ended.stderr
    assert "keepline clean --yes" in ended.stderr
    assert not server.folder.exists()
    away.rename(server.folder)


def test_an_empty_store_beside_what_landed_is_refused(settings):
    (settings.landing_dir / "cdr_voice" / "load_date=2026-06-30").mkdir(parents=True)
    embedded = settings.model_copy(update={"store_dsn": type(settings.store_dsn)("")})

    with pytest.raises(UsageError, match="the store is empty, but rows have landed"):
        store.connect(settings)
    with pytest.raises(UsageError, match=r"rows have landed .* holds no server"):
        store.connect(embedded)
    assert not store.embedded(embedded).is_made()


def test_an_empty_store_beside_keys_that_have_filled_one_is_refused(settings):
    with lease.hold(settings, "migrate"):
        pass
    with psycopg.connect(settings.store_dsn.get_secret_value(), autocommit=True) as connection:
        connection.execute("drop schema ops cascade")

    with pytest.raises(UsageError, match=r"the store is empty, but .* has had one for"):
        store.connect(settings)

    # A store of another operator begins empty beside it.
    with store.connect(settings.model_copy(update={"operator": "other"})):
        pass


def test_a_damaged_identity_is_refused_and_not_made_anew(settings):
    home.identify(settings.home)
    (settings.home / home.FILE).write_text("{")

    with pytest.raises(UsageError, match=r"identity\.json is damaged"):
        home.identify(settings.home)


def test_first_runs_at_once_agree_on_one_identity(tmp_path):
    script = (
        "import sys; from pathlib import Path; from keepline import home;"
        "print(home.identify(Path(sys.argv[1])).id)"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "home")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]

    assert len({run.communicate()[0] for run in runs}) == 1
    assert Settings(home=tmp_path / "home").home == Path(home.identity(tmp_path / "home").path)
