"""`keepline run`: from whatever state the folder is in to the next published business day."""

from __future__ import annotations

import time
from datetime import date, timedelta
from functools import partial

from keepline import store
from keepline.commands import demo, modelling, pipeline
from keepline.commands.context import stage
from keepline.errors import KeeplineError, UsageError
from keepline.progress import out
from keepline.settings import Settings
from keepline.window import Window


def run(settings: Settings, day: date | None) -> None:
    """Run the business day `day`, or the next one, and print what came of it.

    Raises:
        UsageError: the operator has no such day.
        KeeplineError: a stage failed; readers keep the release they had.
    """
    started = time.perf_counter()
    windows: list[Window] = []
    if settings.operator == "demo" and not demo.exists(settings):
        demo.create(
            settings, subscribers=3000, days=400, seed=7, last_date=date(2026, 6, 30), mornings=30
        )
    demo.check_systems(settings)
    demo.point_to(settings)
    days = demo.calendar(settings)
    pipeline.migrate(settings)
    history = Window(days.first_date, days.last_date)
    if not _was_done(settings, "history", history):
        _load_history(settings, history)
        windows.append(history)
    following = _following(settings, days)
    wanted = day or following
    if wanted > days.end_date and day is None:
        out.print(
            f"the operator's data end on {days.end_date}, and that day is published: nothing is left to run"
        )
    else:
        _check_day(wanted, following, days)
        _daily(settings, wanted)
    _show(settings, windows, days)
    out.print(f"all of it took {time.perf_counter() - started:.0f} s")


def _show(settings: Settings, windows: list[Window], days: demo.Calendar) -> None:
    from keepline import release
    from keepline.screen import summary

    current = release.current_release(settings)
    if current is None:
        raise UsageError("nothing is published: keepline status")
    report = settings.reports_dir / str(current.release_id) / "index.html"
    out.print(
        summary(
            settings,
            current.release_id,
            windows,
            report=report if report.exists() else None,
            last_day=days.end_date,
        )
    )
    if days.is_synthetic:
        out.print(
            "The operator is synthetic: nobody in it exists. What you saw proves the machinery; its"
            " figures say nothing about a real market."
        )


def _load_history(settings: Settings, history: Window) -> None:
    out.print(f"history   {history}: extract, load, build, then train (first run only)")
    with stage(settings, "history", history) as clock:
        clock.rows = pipeline.extract(settings, history)
        pipeline.load(settings, history)
        pipeline.build(settings, "core", history)
        modelling.train(settings, history.last_date)
        pipeline.build(settings, "marts", history)


def _daily(settings: Settings, day: date) -> None:
    from keepline.airflow import test_dag

    out.print(f"\ndaily     Airflow runs keepline_daily for {day} in this process")
    code = test_dag(settings, "keepline_daily", day, partial(out.print, markup=False))
    if code != 0:
        raise DailyRunError(code)


class DailyRunError(KeeplineError):
    """The daily DAG failed; it has said why."""

    def __init__(self, code: int) -> None:
        super().__init__(
            "the daily run did not publish; readers keep the last release. `keepline status` tells "
            "where it stopped and what to type next"
        )
        self.exit_code = code


def _was_done(settings: Settings, verb: str, window: Window) -> bool:
    with store.connect(settings) as connection:
        found = connection.execute(
            "select 1 from ops.stage_run where verb = %s and status = 'done' and from_date = %s"
            " and to_date = %s limit 1",
            [verb, window.from_date, window.to_date],
        ).fetchone()
    return found is not None


def _following(settings: Settings, days: demo.Calendar) -> date:
    """Return the day after the one that readers see: after a rollback that one is run again."""
    from keepline import release

    current = release.current_release(settings)
    return days.last_date if current is None else current.window.to_date


def _check_day(day: date, following: date, days: demo.Calendar) -> None:
    if day > following and day <= days.end_date:
        raise UsageError(
            f"the business days from {following} to {day - timedelta(days=1)} would be left out: run them "
            f"first, each with `keepline run`"
        )
    if not days.first_date <= day <= days.end_date:
        raise UsageError(
            f"the operator has no business day {day}: its days are {days.first_date} to {days.end_date}"
        )
