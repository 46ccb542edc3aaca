"""What every verb shares: the window options and the clock that writes the run book."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import date
from typing import Annotated, ParamSpec, TypeVar

import typer

from keepline import lease, ops, room, store, watchdog
from keepline.compute import compute_for
from keepline.compute.base import ComputeDamagedError
from keepline.errors import FencedError, KeeplineError, SourceUnavailableError, UsageError
from keepline.progress import out
from keepline.settings import Settings, parse_date
from keepline.window import Window

Given = ParamSpec("Given")
Result = TypeVar("Result")
# Verbs that change nothing that another run reads: they wait for nobody.
READ_ONLY = {"report"}

DateOption = Annotated[
    str | None, typer.Option("--date", metavar="DAY", help="One business day, such as 2026-06-30.")
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="DAY", help="First business day of the window.")
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="DAY", help="Day after the last one of the window.")
]


def window_of(day: str | None, from_day: str | None, to_day: str | None) -> Window:
    """Return the window that the options name.

    Raises:
        UsageError: they name none, or two.
    """
    if day is not None and from_day is None and to_day is None:
        return Window.day(parse_date(day))
    if day is None and from_day is not None and to_day is not None:
        return Window(parse_date(from_day), parse_date(to_day))
    raise UsageError(
        "say which business days: --date 2026-06-30, or --from 2026-06-01 --to 2026-07-01"
    )


def day_of(day: str | None) -> date:
    """Return the day that --date names.

    Raises:
        UsageError: it names none.
    """
    if day is None:
        raise UsageError("say which business day: --date 2026-06-30")
    return parse_date(day)


@dataclass
class Clock:
    """What a stage says of itself when it is done."""

    rows: int = 0
    message: str = ""


@contextmanager
def stage(settings: Settings, verb: str, window: Window) -> Iterator[Clock]:
    """Time a stage, print one line and write it to `ops.stage_run`, also when it fails.

    Stages that write hold the operator's lease for their length, and begin by clearing away what a
    killed run left half done in compute.

    Raises:
        SourceUnavailableError: another run is at work, or took over from this one.
        OutOfRoomError: a disk or the memory is full.
        ComputeDamagedError: compute cannot be read.
        UsageError: the store was never migrated, or not since an update.
    """
    clock = Clock()
    started = time.perf_counter()
    try:
        with (
            nullcontext() if verb in READ_ONLY else lease.hold(settings, verb, str(window)),
            _watched(settings) if verb not in READ_ONLY else nullcontext(),
        ):
            _confirm_migrated(settings)
            if verb not in READ_ONLY:
                compute_for(settings).forget_killed()
            started = time.perf_counter()
            yield clock
            run = _run(verb, window, clock, started, "done", clock.message)
            _record(settings, run)
    except FencedError:
        # What the run that took over says of this stage is what counts.
        raise
    except BaseException as error:
        clearer = _clearer(settings, error)
        # Ctrl-C and a time limit of Airflow's are ends, too.
        run = _run(verb, window, clock, started, "failed", room.told(clearer or error))
        # The error itself is the news; a store that is down must not hide it.
        with suppress(Exception):
            _record(settings, run)
        if clearer is None or clearer is error:
            raise
        raise clearer from error
    speed = f", {run.rows / run.seconds:,.0f} rows/s" if run.rows and run.seconds else ""
    note = f"  {run.message}" if run.message else ""
    moved = f"{run.rows:,} rows in " if run.rows else ""
    out.print(f"{verb:<9} {window}: {moved}{run.seconds:.1f} s{speed}{note}", markup=False)


def _watched(settings: Settings) -> AbstractContextManager[None]:
    """Put back what readers change for their own logins; beside an embedded store a process does."""
    if store.is_embedded(settings):
        return nullcontext()
    return watchdog.watching(lambda: store.connect_to_logins(settings))


def _confirm_migrated(settings: Settings) -> None:
    """Begin no stage whose end the store cannot take: what landed would be on no record."""
    with store.connect(settings) as connection:
        # The youngest of its tables; `migrate` makes all of them or none.
        is_migrated = store.scalar(connection, "select to_regclass('ops.landed_batch')")
    if is_migrated is None:
        raise UsageError("the store has no record of what landed yet: run `keepline migrate` first")


def _clearer(settings: Settings, error: BaseException) -> KeeplineError | None:
    """Return what an error means if it, or what it was raised from, has one of three plain causes."""
    if (full := room.explained(settings, error)) is not None:
        return full
    if isinstance(error, SourceUnavailableError | ComputeDamagedError):
        return None
    for link in room.chain(error):
        if found := compute_for(settings).damage(link) or store.lost(link):
            return found
    return None


def _run(
    verb: str, window: Window, clock: Clock, started: float, status: str, message: str
) -> ops.StageRun:
    return ops.StageRun(
        verb, window, clock.rows, time.perf_counter() - started, status, message.strip()
    )


def _record(settings: Settings, run: ops.StageRun) -> None:
    with store.connect(settings) as connection:
        ops.record_stage(connection, run)
