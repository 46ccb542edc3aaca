"""The `keepline` command: parses words, runs a verb, turns errors into exit codes."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import traceback
from pathlib import Path

import typer

from keepline import room, store
from keepline.commands import (
    backfill,
    contract,
    generate,
    operate,
    quarantine,
    read,
    stages,
    status,
)
from keepline.errors import EXIT_CODES, KeeplineError, OutOfRoomError, UsageError
from keepline.progress import err
from keepline.settings import HOME, Settings

HELP = """The customer warehouse that a telecom operator runs every night.

Each stage takes a window of business days: --date 2026-06-30, or --from 2026-06-01 --to 2026-07-01
(the last day is out). A stage replaces what it made for that window, so any of them can run again.

Exit codes: {codes}.
""".format(codes="; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()))

PARSER_USAGE_ERROR = 2
# Made in time: later there is no memory to put a sentence together.
NO_MEMORY = (
    b"keepline: the memory is full: this process may not take more. Lower KEEPLINE_COMPUTE_MEMORY_LIMIT"
    b" or end what else runs here, then run the same command again: readers keep the last release, and"
    b" nothing half done is left\n"
)
INTERRUPTED = 130

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
stages.register(app)
read.register(app)
status.register(app)
backfill.register(app)
quarantine.register(app)
operate.register(app)
generate.register(app)
contract.register(app)


def main() -> None:
    """Run the command and leave with one of `EXIT_CODES`."""
    # What this process and those that it starts write, nobody else reads.
    os.umask(0o077)
    # What every library's client of PostgreSQL is sent, whatever the terminal of a person shows.
    os.environ["PGCLIENTENCODING"] = "UTF8"
    # A library that cannot write its log, as the disk is full, must not fill the screen with frames.
    logging.raiseExceptions = False
    threading.excepthook = _end_with_thread
    try:
        app()
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            err.print(
                "keepline: stopped; readers keep what they have, and running it again is safe"
            )
        # The parser leaves with 2 when the words make no sense; here 2 means bad data.
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        room.leave(UsageError.exit_code if code == PARSER_USAGE_ERROR else code)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough.
        _say_no_more()
        sys.exit(0)
    except Exception as error:  # the last stop
        room.leave(_leave(error))


def _leave(error: Exception) -> int:
    """Say in one sentence what went wrong; returns the exit code."""
    told = room.explained(_settings(), error) or store.lost(error) or error
    code = told.exit_code if isinstance(told, KeeplineError) else KeeplineError.exit_code
    try:
        sentence = str(told) if isinstance(told, KeeplineError) else _unexpected(told)
        err.print(f"keepline: {sentence}", markup=False)
        sys.stdout.flush()
    except OSError:  # The log that this goes to is on a full disk: the code must do.
        _say_no_more()
    return code


def _end_with_thread(died: threading.ExceptHookArgs) -> None:
    """End a process that has no memory left for its own threads: nobody would ever wake the others.

    It ends as if it were killed, which nothing is harmed by. Where not even an error could be made, the
    interpreter raises a SystemError.
    """
    if not issubclass(died.exc_type, MemoryError | SystemError):
        threading.__excepthook__(died)
        return
    try:
        os.write(sys.__stderr__.fileno(), NO_MEMORY)  # type: ignore[union-attr]
    finally:
        os._exit(OutOfRoomError.exit_code)


def _say_no_more() -> None:
    """Let what is still to be printed go nowhere, so that leaving does not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _settings() -> Settings:
    try:
        return Settings.load()
    except (KeeplineError, OSError):
        return Settings.model_construct(home=_home())


def _home() -> Path:
    return Path(os.environ.get("KEEPLINE_HOME") or HOME or tempfile.gettempdir()).resolve()


def _unexpected(error: Exception) -> str:
    """Write where it happened to a file beside the run's data, and say where that is."""
    folder = _home() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, path = tempfile.mkstemp(prefix="error-", suffix=".txt", dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        # Frames and kind, not the text: a database puts the row into it.
        file.writelines([*traceback.format_tb(error.__traceback__), type(error).__name__, "\n"])
    return (
        f"unexpected {type(error).__name__}, which is a defect in keepline; nothing was published. "
        f"Running the same command again is safe. What happened is in {path}"
    )


if __name__ == "__main__":
    main()
