"""keepline as pip installs it: built from a copy of the tree, in an environment outside of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from keepline.settings import PROJECT_DIR

# Of the top of the tree what is long or not ours, and what Python and dbt write anywhere.
AT_THE_TOP = (
    ".git",
    ".venv*",
    ".keepline",
    ".*_cache",
    ".hypothesis",
    "build",
    "tests",
    "bench",
    "docs",
)
ANYWHERE = shutil.ignore_patterns("__pycache__", "target", "logs", "*.egg-info")


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this tree and return its place."""
    tree = folder / "tree"
    top = shutil.ignore_patterns(*AT_THE_TOP)
    shutil.copytree(
        PROJECT_DIR,
        tree,
        ignore=lambda folder, names: (
            ANYWHERE(folder, names) | (top(folder, names) if folder == str(PROJECT_DIR) else set())
        ),
    )
    _run(
        *(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"),
        *("--no-index", "-w", str(folder), str(tree)),
    )
    shutil.rmtree(tree)
    return next(folder.glob("keepline-*.whl"))


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel into a new environment over the packages of this one, and return its `keepline`.

    The packages of this environment are seen, its editable keepline is not: that is a `.pth` file, which
    Python reads in its own folder only.
    """
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    packages = Path(paths["purelib"])
    (packages / "locked.pth").write_text(sysconfig.get_paths()["purelib"])
    pip = (sys.executable, "-m", "pip", "--python", str(folder / "bin/python"))
    _run(*pip, "install", "-q", "--no-deps", "--no-index", "--ignore-installed", str(wheel))
    assert (packages / "keepline").is_dir()
    return folder / "bin" / "keepline"


def environment(**settings: str) -> dict[str, str]:
    """Return an environment without any setting of keepline but those given, and without this tree."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("KEEPLINE_") and name != "PYTHONPATH"
    }
    return {**kept, "COLUMNS": "100", **settings}


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
