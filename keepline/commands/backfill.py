"""`keepline backfill`: days are taken in again, and everything that was built on them is built again.

This is the one way in which anything is repaired: late or corrected deliveries, a mended rule, rows
released from quarantine. Whole days are replaced, and every later day that was built is built again, so
that the order of repairs cannot matter. Releases that readers have had stay as they were; the new one is
right.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated

import typer

from keepline import lease, ops, store
from keepline.commands import demo, modelling, pipeline
from keepline.commands.context import DateOption, FromOption, ToOption, stage, window_of
from keepline.commands.rebuild import rebuild
from keepline.compute import compute_for
from keepline.errors import BadDataError, UsageError
from keepline.ops import Connection
from keepline.progress import out
from keepline.settings import Settings
from keepline.window import Window

ONE_DAY = timedelta(days=1)
# As-of dates whose features are built in one go: more would cost memory, fewer a start of dbt each.
DATES_AT_ONCE = 15


@dataclass(frozen=True)
class Past:
    """How far an operator's warehouse has come.

    Attributes:
        last_built: last day that the star schema was built for.
        is_published: readers have had a release.
    """

    last_built: date
    is_published: bool


def backfill(
    settings: Settings,
    window: Window,
    tables: Sequence[str] | None = None,
    accept_changed: str = "",
) -> None:
    """Take the window in again and build again, up to the last day, all that was built on it.

    Args:
        settings: where things are.
        window: days to take in again; days that were never built may follow the last one that was.
        tables: contract tables to extract; None means all.
        accept_changed: ticket under which files may replace other ones of the same name.

    Raises:
        UsageError: the operator has no such days, or days before them would be left out.
        KeeplineError: a stage failed; readers keep the release they had, running it again is safe.
    """
    demo.point_to(settings)
    with lease.hold(settings, "backfill", str(window)):
        past = read_past(settings)
        _check_window(settings, window, past)
        with stage(settings, "backfill", window) as clock:
            clock.message = repair(settings, past, [(window, tables)], accept_changed)


def repair(
    settings: Settings,
    past: Past,
    deliveries: Sequence[tuple[Window, Sequence[str] | None]],
    accept_changed: str = "",
) -> str:
    """Extract, load and check some windows, then build, score and publish from the first day on.

    Args:
        settings: where things are.
        past: how far the warehouse had come.
        deliveries: days to take in again, each with the contract tables to extract; None means all.
        accept_changed: ticket under which files may replace other ones of the same name.

    Returns:
        What was done, in words.

    Raises:
        KeeplineError: a stage failed.
    """
    windows = [window for window, _ in deliveries]
    again = rebuilt_window(past, windows)
    for window, tables in deliveries:
        pipeline.extract(settings, window, tables, accept_changed)
        pipeline.load(settings, window)
        pipeline.check(settings, window)
    pipeline.build(settings, "core", again)
    if not past.is_published:
        pipeline.build(settings, "marts", again)
        return f"{again} built again; nothing was published so far, so nothing is now"
    scored = _score(settings, again, windows)
    pipeline.build(settings, "marts", again)
    # A daily run at work may have built a day that it has not scored yet: it will publish that day.
    shown = Window(again.from_date, max(scored, default=again.last_date) + ONE_DAY)
    release_id = pipeline.stage_release(settings, shown)
    release_id = pipeline.audit(settings, shown, release_id)
    pipeline.publish(settings, shown, release_id)
    return f"{again} built again, {len(scored)} score dates, published as {shown.last_date}"


def rebuilt_window(past: Past, windows: Sequence[Window]) -> Window:
    """Return the days that are built again when these are taken in again."""
    first = min(window.from_date for window in windows)
    last = max(past.last_built, *(window.last_date for window in windows))
    return Window(first, last + ONE_DAY)


def read_past(settings: Settings) -> Past:
    """Return how far the warehouse has come.

    Raises:
        UsageError: nothing was built yet.
        BadDataError: what was built is gone.
    """
    from keepline.screen import make

    with store.connect(settings) as connection:
        last_built = ops.last_done(connection, "build core")
        published = None if last_built is None else _first_published(connection)
    if last_built is None:
        raise UsageError(
            f"nothing was built yet, so there is nothing to repair: {make(settings, 'run')}"
        )
    compute = compute_for(settings)
    if not compute.exists():
        raise BadDataError(
            f"{compute.place} is not there, though days up to {last_built} were built: "
            "keepline rebuild"
        )
    return Past(last_built, published is not None)


def _first_published(connection: Connection) -> object:
    return store.scalar(connection, "select min(published_at) from ctl.release")


def _check_window(settings: Settings, window: Window, past: Past) -> None:
    following = past.last_built + ONE_DAY
    days = None
    # An operator's file need not say which days there are.
    with suppress(UsageError, OSError):
        days = demo.calendar(settings)
    if days is not None:
        last = max(days.end_date, past.last_built)
        if window.from_date < days.first_date or window.last_date > last:
            raise UsageError(
                f"the operator has not all of {window}: its days are {days.first_date} to {last}"
            )
    if window.from_date > following:
        raise UsageError(
            f"the business days from {following} to {window.from_date - ONE_DAY} would be left out: "
            "`keepline run` runs the next one; a backfill of new days begins with "
            f"--from {following}"
        )


def _score(settings: Settings, again: Window, windows: Sequence[Window]) -> list[date]:
    """Score the windows' days again, and those after them that were scored before."""
    wanted = {day for window in windows for day in window.days()}
    days = sorted(wanted | _days_of(settings, "ml.fct_churn_score", "score_date", again))
    # Also of days that a daily run at work has not scored yet.
    described = _days_of(settings, "features.feat_subscription_asof", "as_of_date", again)
    dates = sorted(described | set(days))
    for start in range(0, len(dates), DATES_AT_ONCE):
        chunk = dates[start : start + DATES_AT_ONCE]
        pipeline.build(settings, "features", again, as_of_dates=chunk)
    for day in days:
        modelling.score(settings, day)
    return days


def _days_of(settings: Settings, table: str, column: str, window: Window) -> set[date]:
    """Return the days of a window that a table has; none when there is no such table yet."""
    compute = compute_for(settings)
    schema, name = table.split(".")
    known = compute.execute(
        "select 1 from information_schema.tables where table_schema = ? and table_name = ?",
        [schema, name],
    )
    if not known:
        return set()
    found = compute.execute(
        f"select distinct {column} from {table} where {column} >= ? and {column} < ?",  # noqa: S608
        [window.from_date, window.to_date],
    )
    return {day for (day,) in found}


def _backfill(
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Extract only this contract table; may be repeated."),
    ] = None,
    accept_changed: Annotated[
        str,
        typer.Option(
            "--accept-changed",
            metavar="TICKET",
            help="Let files replace others of the same name that landed before; recorded.",
        ),
    ] = "",
) -> None:
    """Take past days in again and build again all that was built on them, then publish.

    For deliveries that came late or were corrected, and for days that a run left out. Whole days are
    replaced and every later day that was built is built again, so that neither the order of backfills nor
    their number matters. A day that was scored keeps its model. Releases that readers have had do not move.

    Example: keepline backfill --from 2026-06-10 --to 2026-06-13
    """
    backfill(Settings.load(), window_of(date, from_, to), table, accept_changed)
    out.print("backfill  done: keepline status", markup=False)


def _rebuild() -> None:
    """Make anew what compute holds, from landing and the kept scores, when it is damaged or gone.

    The old is replaced when the new is complete; until then nothing has changed. What readers
    see is in the store and stays as it is.

    Example: keepline rebuild
    """
    rebuild(Settings.load())


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command("backfill")(_backfill)
    app.command("rebuild")(_rebuild)
