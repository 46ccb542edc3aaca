"""What pip installs is a working keepline, outside any checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import wheel

from keepline.settings import PROJECT_DIR


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def keepline(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.install(built, tmp_path_factory.mktemp("outside") / "venv")


def run(keepline: Path, folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [keepline, *words],
        cwd=folder,
        env=wheel.environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )


def test_outside_any_checkout_a_run_says_at_once_what_is_missing(keepline, tmp_path):
    done = run(keepline, tmp_path, "run")

    assert done.returncode == 64
    assert "KEEPLINE_HOME is not set" in done.stderr
    assert "run the same command again" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_was_installed_is_not_written_to(keepline, tmp_path):
    done = run(keepline, tmp_path, "generate", KEEPLINE_HOME=str(tmp_path / "home"))

    assert done.returncode == 64
    assert "generate writes into a checkout" in done.stderr


def test_everything_that_a_run_reads_is_in_the_wheel(keepline, tmp_path):
    python = keepline.parent / "python"
    files = (
        "import keepline, keepline.settings as s; print(keepline.__file__); print(s.PROJECT_DIR)"
    )
    done = subprocess.run(
        [python, "-c", files], cwd=tmp_path, env=wheel.environment(), capture_output=True, text=True
    )
    package, project = (Path(line) for line in done.stdout.split())
    assert keepline.parents[1] in package.parents
    assert keepline.parents[1] in project.parents

    # What git knows of these folders, file by file.
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "dbt_project",
            "dags",
            "operators",
            "keepline",
            "models_ml",
            "expectations",
        ],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    code = package.parents[1]
    missing = [name for name in listed if not ((project / name).exists() or (code / name).exists())]
    assert len(listed) > 300
    assert missing == []


def test_operator_files_may_lie_anywhere(keepline, tmp_path):
    settings = {
        "KEEPLINE_HOME": str(tmp_path / "home"),
        "KEEPLINE_OPERATORS_DIR": str(tmp_path / "ours"),
        "KEEPLINE_OPERATOR": "north",
    }
    try:
        done = run(keepline, tmp_path, "extract", "--date", "2026-06-30", **settings)
    finally:
        run(keepline, tmp_path, "clean", "--yes", **settings)

    assert done.returncode == 64
    assert f"no operator file {tmp_path / 'ours' / 'north.yml'}" in " ".join(done.stderr.split())
    assert "KEEPLINE_OPERATORS_DIR names the folder that does" in " ".join(done.stderr.split())


@pytest.mark.deep
def test_it_installs_from_nothing_with_what_the_lock_names(built, tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = (venv / "bin/pip", "install", "-qq", "--no-deps")
    lock = PROJECT_DIR / "requirements.lock"
    subprocess.run([*pip, "--require-hashes", "-r", lock], check=True, env=wheel.environment())
    subprocess.run([*pip, built], check=True, env=wheel.environment())

    home = {"KEEPLINE_HOME": str(tmp_path / "home")}
    small = ("--subscribers", "60", "--days", "40", "--end", "2026-06-30", "--mornings", "1")
    try:
        for words in (("simulate", *small), ("run",)):
            done = run(venv / "bin/keepline", tmp_path, *words, **home)
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "Release 1 is published" in done.stdout
    finally:
        run(venv / "bin/keepline", tmp_path, "clean", "--yes", **home)
