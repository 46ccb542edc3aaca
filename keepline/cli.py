"""The `keepline` command: parses words, runs a verb, turns errors into exit codes."""

from __future__ import annotations

import os
import sys

import click
import typer

from keepline.commands import operate, read, stages
from keepline.errors import EXIT_CODES, KeeplineError, UsageError
from keepline.progress import err

HELP = """The customer warehouse that a telecom operator runs every night.

Each stage takes a window of business days: --date 2026-06-30, or --from 2026-06-01 --to 2026-07-01
(the last day is out). A stage replaces what it made for that window, so any of them can run again.

Exit codes: {codes}.
""".format(codes="; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()))

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
        app(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(UsageError.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(UsageError.exit_code)
    except (click.Abort, KeyboardInterrupt):
        err.print("stopped; running the same command again is safe")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeeplineError as error:
        err.print(f"keepline: {error}", markup=False)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
