"""Full disks and full memory, told apart from everything else that can go wrong.

They show up as a dozen kinds of errors: the system's, DuckDB's, Arrow's, PostgreSQL's, or a text that
dbt passes on. Here is the one place that knows them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from keepline import store
from keepline.errors import KeeplineError, OutOfRoomError, SourceUnavailableError
from keepline.settings import Settings

FULL_DISK = re.compile(
    r"no space left on device|disk quota exceeded|disk full|max_temp_directory_size", re.IGNORECASE
)
FULL_MEMORY = re.compile(
    r"out of memory error|out of memory|bad_alloc|bad allocation|cannot allocate memory"
    r"|could not allocate block|failed to allocate|malloc of size|unable to allocate"
    r"|failed to launch worker thread|can't start new thread",
    re.IGNORECASE,
)
FULL_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
# PostgreSQL: disk_full, out_of_memory.
DISK_STATE, MEMORY_STATE = "53100", "53200"
# Less than this is nothing: DuckDB and PostgreSQL write in steps of a quarter megabyte and more.
NOTHING_LEFT_BYTES = 512 * 1024
FOLDER = re.compile(r"[\"'](/[^\"']+)[\"']")


# Set when an allocation failed somewhere inside of a library, which may have left its threads in a state
# that the interpreter cannot end in an orderly way.
memory_ran_out = threading.Event()


def leave(code: int) -> NoReturn:
    """End the process with a code, also after the memory ran out in it."""
    if memory_ran_out.is_set():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def explained(settings: Settings, error: BaseException) -> OutOfRoomError | None:
    """Return what to tell a person when a disk or the memory was full, else None.

    Args:
        settings: the folders and the limit that may have been too small.
        error: what a stage ended with; what it was raised from counts, too.
    """
    for link in chain(error):
        if isinstance(link, OutOfRoomError):
            return link
        # Ours quote a database's words; those of others are looked at as they are.
        text = str(link)
        state = getattr(link, "sqlstate", None)
        if state == DISK_STATE:
            return _store_is_full(settings)
        if getattr(link, "errno", None) in FULL_NUMBERS or FULL_DISK.search(text):
            return _disk_is_full(settings, link)
        if state == MEMORY_STATE:
            return OutOfRoomError(
                "the store's server has no memory left: end what else runs there, then run again"
            )
        if is_memory(link):
            return _memory_is_full(settings)
    if isinstance(error, SourceUnavailableError) and _embedded_is_full(settings):
        # A server that cannot write its log of changes is gone before it can say why.
        return _store_is_full(settings)
    return None


def is_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory, whatever its class: DuckDB has several for it."""
    return isinstance(error, MemoryError) or bool(FULL_MEMORY.search(str(error)))


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from or while, the latest first."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _disk_is_full(settings: Settings, error: BaseException) -> OutOfRoomError:
    named = getattr(error, "filename", None)
    if not named and (found := FOLDER.search(str(error))):
        named = found.group(1)
    if not named and "could not extend file" in str(error):
        return _store_is_full(settings)
    folder = Path(named).parent if named else settings.operator_home
    return OutOfRoomError(f"the disk of {folder} is full ({_room(folder)}). {_WAY_OUT}")


def _store_is_full(settings: Settings) -> OutOfRoomError:
    where = "the disk of the store's PostgreSQL is full"
    if not settings.store_dsn.get_secret_value():
        folder = store.embedded(settings).folder
        where += f": {folder} ({_room(folder)})"
    return OutOfRoomError(f"{where}. {_WAY_OUT}")


def _memory_is_full(settings: Settings) -> OutOfRoomError:
    return OutOfRoomError(
        "the memory is full: the work does not fit into KEEPLINE_COMPUTE_MEMORY_LIMIT="
        f"{settings.compute_memory_limit}, or this process may not take that much. Raise the limit, end "
        "what else runs here, or take a shorter window, then run the same command again: readers keep "
        "the last release, and nothing half done is left"
    )


_WAY_OUT = (
    "Make room there (`du -xsh` on its folders tells what is large), then run the same command again: "
    "readers keep the last release, and nothing half done is left"
)


def _room(folder: Path) -> str:
    try:
        usage = shutil.disk_usage(_existing(folder))
    except OSError:
        return "how much is left cannot be asked"
    return f"{usage.free / 2**20:,.1f} MiB of {usage.total / 2**20:,.0f} left"


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _embedded_is_full(settings: Settings) -> bool:
    if settings.store_dsn.get_secret_value():
        return False
    try:
        free = shutil.disk_usage(_existing(store.embedded(settings).folder)).free
    except OSError:
        return False
    return free < NOTHING_LEFT_BYTES


def told(error: BaseException) -> str:
    """Return the first line of what to write into the run book about an error.

    The text of an error that is not keepline's own may hold a value.
    """
    if isinstance(error, KeeplineError):
        return str(error).splitlines()[0][:500]
    return f"stopped: {type(error).__name__}"
