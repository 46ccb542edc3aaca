"""Progress of long work: a bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment

Update = Callable[[str, int, int], None]
"""Call it with (what, done, total) after each step."""

# What a terminal obeys instead of showing it: control characters of both sets (an escape sequence begins with
# one), and those that turn the direction of what follows or begin a line.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Return a text of the same length that a terminal shows and does not obey."""
    return OBEYED.sub("?", text)


class SafeConsole(Console):
    """A console that prints texts of others: names of files, values of rows, words of a server."""

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        """Render what is to be written; colours are added here, behind the texts."""
        return super()._render_buffer(
            segment if segment.control else segment._replace(text=harmless(segment.text))
            for segment in buffer
        )


# Results go to standard output, so that they can be piped; progress and errors do not.
PLAIN_WIDTH = None if "COLUMNS" in os.environ or sys.stdout.isatty() else 100
err = SafeConsole(stderr=True, highlight=False, soft_wrap=True)
out = SafeConsole(highlight=False, soft_wrap=True, width=PLAIN_WIDTH)


@contextmanager
def progress(title: str) -> Iterator[Update]:
    """Show how far a stage is; yields the function to call after each step."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    columns = (
        TextColumn(f"{title:<10}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield update
