"""One row of the table of all measurements, and what it takes to fill one."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keepline.embedded import EmbeddedPostgres
from keepline.settings import Settings

from .alone import ContenderFailedError, Run

# Throw-away logins of a throw-away server on the loopback address.
PASSWORD = "bench"  # noqa: S105


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: what was measured, such as `extract`.
        size: on how much.
        measured: the contender, such as `keepline`.
        against: the limit or the peer, measured in the same run.
        ratio: the contender's seconds by those of the limit or peer; None when there is no figure.
        aim: the most that the ratio may be; None for contenders that nothing is asked of.
        peak_mb: the most memory that the contender's process took; None when it was not measured.
        aim_mb: the most that it may be.
        seconds: median of the contender's seconds.
        note: what the figure leaves open, in a sentence.
        unit: `x` for a ratio; `s`, `ms` for what is a plain figure.
        at_least: the aim is the least, not the most.
    """

    name: str
    size: str
    measured: str
    against: str
    ratio: float | None
    aim: float | None = None
    peak_mb: float | None = None
    aim_mb: float | None = None
    seconds: float | None = None
    note: str = ""
    unit: str = "x"
    at_least: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether every aim is met; None when there is none."""
        if self.aim is None or self.ratio is None:
            return None
        good = self.ratio >= self.aim if self.at_least else self.ratio <= self.aim
        return good and not (self.aim_mb and self.peak_mb and self.peak_mb > self.aim_mb)


COLUMNS = ("row", "size", "measured", "against", "ratio", "aim", "met?", "peak MB", "seconds")


def as_table(rows: Sequence[Row]) -> str:
    """Return rows as a table of Markdown, with their notes below."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        met = {None: "", True: "met", False: "**missed**"}[row.is_met]
        cells = (
            *(row.name, row.size, row.measured, row.against, _figure(row.ratio, row.unit)),
            *(_aim(row), met, "" if row.peak_mb is None else f"{row.peak_mb:,.0f}"),
            "" if row.seconds is None else f"{row.seconds:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"- {row.name}, {row.measured}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, "", *notes] if notes else lines)


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    if unit != "x":
        return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _aim(row: Row) -> str:
    if row.aim is None:
        return ""
    sign = ">=" if row.at_least else "<="
    memory = f", < {row.aim_mb:,.0f} MB" if row.aim_mb else ""
    return f"{sign} {_figure(row.aim, row.unit)}{memory}"


@dataclass
class Contest:
    """Runs of several contenders in turns.

    Attributes:
        runs: by contender, in the order of the rounds; none for one that failed.
        failures: by contender that failed, what it said.
    """

    runs: dict[str, list[Run]]
    failures: dict[str, str]

    def seconds(self, contender: str) -> float:
        """Return the median of a contender's seconds."""
        return statistics.median(run.seconds for run in self.runs[contender])

    def peak_mb(self, contender: str) -> float:
        """Return the most memory that any of its runs took."""
        return max(run.peak_mb for run in self.runs[contender])

    def ratio(self, contender: str, against: str) -> float:
        """Return the median over the rounds of one contender's seconds by another's.

        By round, because what else the machine does falls on neighbours alike.
        """
        pairs = zip(self.runs[contender], self.runs[against], strict=False)
        return statistics.median(one.seconds / other.seconds for one, other in pairs)


def contest(
    contenders: Mapping[str, Callable[[], Run]], rounds: int, once: Sequence[str] = ()
) -> Contest:
    """Run contenders in turns, every second round the other way round.

    Args:
        contenders: what runs each once; all must move as many rows as the first one.
        rounds: how often each runs.
        once: contenders that run in the first round only, because they take long.

    Raises:
        ContenderFailedError: the first two, the limit and keepline, must come to their end.
        AssertionError: a contender moved another number of rows.
    """
    names = list(contenders)
    found = Contest({name: [] for name in names}, {})
    for number in range(rounds):
        for name in reversed(names) if number % 2 else names:
            if name in found.failures or (number and name in once):
                continue
            try:
                found.runs[name].append(contenders[name]())
            except ContenderFailedError as error:
                if name in names[:2]:
                    raise
                found.failures[name] = str(error)
    counted = {name: runs[0].rows for name, runs in found.runs.items() if runs}
    assert len(set(counted.values())) == 1, f"contenders moved different rows: {counted}"
    return found


@contextmanager
def workplace(name: str) -> Iterator[tuple[Path, EmbeddedPostgres]]:
    """Give a folder and a running PostgreSQL of its own, and throw both away at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"keepline-{name}-"))
    server = EmbeddedPostgres(folder / "server", PASSWORD)
    try:
        server.start()
        yield folder, server
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)


def settings_for(folder: Path, server: EmbeddedPostgres, **more: str) -> Settings:
    """Return settings with a home in a folder and a store in a database of the server."""
    server.ensure_database("store")
    given = dict.fromkeys(
        ("store_password", "extractor_password", "bi_reader_password", "marketing_password"),
        PASSWORD,
    )
    keys = {"pseudonym_key": "11" * 32, "vault_key": "22" * 32}
    return Settings(home=folder / "home", store_dsn=server.dsn("store"), **given, **keys, **more)


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables by which another process has the same settings."""
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith("KEEPLINE_")
    }
    own = {}
    for name in ("home", "operator", "compute", "compute_memory_limit", "compute_threads"):
        own[f"KEEPLINE_{name.upper()}"] = str(getattr(settings, name))
    for name in (
        *("store_dsn", "pseudonym_key", "vault_key", "store_password", "extractor_password"),
        *("bi_reader_password", "marketing_password"),
    ):
        own[f"KEEPLINE_{name.upper()}"] = getattr(settings, name).get_secret_value()
    return outside | own


def print_rows(
    about: str | None,
    measure: Callable[..., list[Row]],
    arguments: Sequence[str] | None = None,
    **sizes: int,
) -> None:
    """Be the command of one row: take its sizes as options, measure, print.

    Args:
        about: the module's docstring.
        measure: takes the sizes and `rounds`.
        arguments: words of the command line; None are those of this process.
        sizes: options with their defaults.
    """
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=3)
    print(as_table(measure(**vars(parser.parse_args(arguments)))))
