"""What a run of the tests must not leave on the machine: processes, and folders outside of pytest's own.

Other people's tests may run beside these. What is of this run is known by its mark in the environment, by
its folders' names, and, of PostgreSQL servers, which get no environment, by the home that they belong to.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from keepline.embedded import HOME_PATH, SHARED_DIR

# Inherited by the workers and by every process that a test starts.
VARIABLE = "TESTS_OF_SESSION"
SESSION = os.environ.setdefault(VARIABLE, str(os.getpid()))
# Where the unprivileged user of a server may enter, which pytest's own folders forbid.
OPEN_DIRS = (Path("/var/tmp"), Path(tempfile.gettempdir()))  # noqa: S108
# What ends by itself gets a moment for it.
ENDS_WITHIN_S = 10
# Python's own helper, which ends with the process that it helps.
OWN_HELPER = b"multiprocessing.resource_tracker"


def open_name(purpose: str) -> str:
    """Return the name of a folder of this process's in one of `OPEN_DIRS`, which the test removes."""
    return f"keepline-tests-{SESSION}-{purpose}-{os.getpid()}"


def found(own_folder: Path) -> list[str]:
    """Return what is left of this run, each with what tells which test left it.

    Args:
        own_folder: pytest's base folder of the run; what is in it is pytest's to remove.
    """
    deadline = time.monotonic() + ENDS_WITHIN_S
    while (left := _processes(own_folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [*left, *_folders(own_folder)]


def _processes(own_folder: Path) -> list[str]:
    left = []
    mark = f"{VARIABLE}={SESSION}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            if not any(words) or place.name in (SESSION, str(os.getpid())):
                continue
            of_home = _home_of(words)
            if of_home is not None:
                if _is_of(of_home, own_folder):
                    left.append(f"the PostgreSQL server {place.name} of {of_home}")
                continue
            given = (place / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended, or belongs to somebody else
            continue
        if mark in given and not any(OWN_HELPER in word for word in words):
            begun = next((word for word in given if word.startswith(b"PYTEST_CURRENT_TEST=")), b"")
            test = (
                begun.partition(b"=")[2].decode(errors="replace") or "no test, or before the first"
            )
            program = b" ".join(words[:4]).decode(errors="replace")
            left.append(f"the process {place.name} ({program}), started by {test}")
    return left


def _home_of(words: list[bytes]) -> Path | None:
    """Return the home that a PostgreSQL server belongs to, by its command line; None is no server."""
    if (
        not Path(words[0].decode(errors="replace")).name.startswith("postgres")
        or b"-D" not in words
    ):
        return None
    data = Path(words[words.index(b"-D") + 1].decode(errors="replace"))
    return _recorded(data.parent) or data.parent.parent


def _folders(own_folder: Path) -> Iterator[str]:
    for parent in OPEN_DIRS:
        for folder in parent.glob(f"keepline-tests-{SESSION}-*"):
            yield f"the folder {folder}"
    with suppress(OSError):
        for folder in SHARED_DIR.iterdir():
            of_home = _recorded(folder)
            if of_home is not None and _is_of(of_home, own_folder):
                yield f"the folder {folder} of {of_home}"


def _recorded(folder: Path) -> Path | None:
    try:
        return Path((folder / HOME_PATH).read_text())
    except OSError:
        return None


def _is_of(path: Path, own_folder: Path) -> bool:
    is_open = path.is_relative_to(OPEN_DIRS[0]) or path.is_relative_to(OPEN_DIRS[1])
    is_named = any(part.startswith(f"keepline-tests-{SESSION}-") for part in path.parts)
    return path.is_relative_to(own_folder) or (is_open and is_named)
