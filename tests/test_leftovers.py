"""A run of the tests fails when it leaves a process or a folder, and blames nobody else's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import leftovers
import pytest
from conftest import SECRETS

from keepline.embedded import EmbeddedPostgres

TESTS = Path(__file__).parent
LEAVES = """
import subprocess, sys
import leftovers
from conftest import SECRETS
from keepline.embedded import EmbeddedPostgres
from leftovers import OPEN_DIRS, open_name

leftovers.ENDS_WITHIN_S = 1

def test_leaves_a_server(tmp_path):
    EmbeddedPostgres(tmp_path / "home", SECRETS["store_password"]).start()

def test_leaves_a_process_and_a_folder():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    (OPEN_DIRS[0] / open_name("folder")).mkdir()
"""


def run_of(folder: Path) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    own |= {leftovers.VARIABLE: f"{os.getpid()}0", "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider"),
            *("-c", os.devnull, "--rootdir", ".", "--basetemp", str(folder / "base"), str(folder)),
        ],
        env=own,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_that_leaves_something_fails_and_says_which_test_left_it(tmp_path, monkeypatch):
    (tmp_path / "test_leaves.py").write_text(LEAVES)
    home = tmp_path / "base" / "test_leaves_a_server0" / "home"
    ended = run_of(tmp_path)
    said, _, left = ended.stdout.partition("left on the machine")
    try:
        assert ended.returncode == pytest.ExitCode.TESTS_FAILED, said + ended.stderr
        assert "F" not in said
        assert f" of {home}" in left
        assert "the PostgreSQL server " in left
        assert "started by test_leaves.py::test_leaves_a_process_and_a_folder (call)" in left
        assert f"the folder /var/tmp/keepline-tests-{os.getpid()}0-folder-" in left
        # This run is another one, and is not blamed for it.
        monkeypatch.setattr(leftovers, "ENDS_WITHIN_S", 0)
        assert str(home) not in str(leftovers.found(tmp_path / "elsewhere"))
    finally:
        EmbeddedPostgres(home, SECRETS["store_password"]).remove()
        for line in left.splitlines():
            if line.startswith("the process "):
                os.kill(int(line.split()[2]), signal.SIGKILL)
            elif line.startswith("the folder /var/tmp"):
                shutil.rmtree(line.split()[2])
