"""The `keepline` command: parses words, runs a verb, turns errors into exit codes."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path

import typer

from keepline.commands import operate, read, stages
from keepline.errors import EXIT_CODES, KeeplineError, UsageError
from keepline.progress import err
from keepline.settings import HOME

HELP = """The customer warehouse that a telecom operator runs every night.

Each stage takes a window of business days: --date 2026-06-30, or --from 2026-06-01 --to 2026-07-01
(the last day is out). A stage replaces what it made for that window, so any of them can run again.

Exit codes: {codes}.
""".format(codes="; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()))

PARSER_USAGE_ERROR = 2
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
operate.register(app)


def main() -> None:
    """Run the command and leave with one of `EXIT_CODES`."""
    try:
        app()
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            err.print(
                "keepline: stopped; readers keep what they have, and running it again is safe"
            )
        # The parser leaves with 2 when the words make no sense; here 2 means bad data.
        sys.exit(UsageError.exit_code if leaving.code == PARSER_USAGE_ERROR else leaving.code)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeeplineError as error:
        err.print(f"keepline: {error}", markup=False)
        sys.exit(error.exit_code)
    except Exception as error:  # the last stop: a sentence here, the rest in a file
        err.print(f"keepline: {_unexpected(error)}", markup=False)
        sys.exit(KeeplineError.exit_code)


def _unexpected(error: Exception) -> str:
    """Write where it happened to a file beside the run's data, and say where that is."""
    folder = Path(os.environ.get("KEEPLINE_HOME") or HOME).resolve() / "logs"
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
