"""The verbs that a DAG calls, one per stage; each runs the same in a terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from keepline.commands import modelling, pipeline
from keepline.commands.context import DateOption, FromOption, ToOption, day_of, window_of
from keepline.errors import UsageError
from keepline.progress import out
from keepline.settings import Settings

ReleaseOption = Annotated[
    int | None,
    typer.Option(
        metavar="RELEASE",
        help="The release that `stage` printed: any other one that was staged last is refused.",
    ),
]
LAYERS = ("core", "features", "marts")


def extract(
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this contract table; may be repeated.")
    ] = None,
    accept_changed: Annotated[
        str,
        typer.Option(
            metavar="TICKET",
            help="Let files replace those that landed; the ticket is recorded.",
        ),
    ] = "",
) -> None:
    """Copy what the operator recorded in the window to landing, checked and pseudonymised.

    Example: keepline extract --date 2026-06-30
    """
    pipeline.extract(Settings.load(), window_of(date, from_, to), table, accept_changed)


def load(date: DateOption = None, from_: FromOption = None, to: ToOption = None) -> None:
    """Load the window's landing into the compute engine's raw tables.

    Example: keepline load --from 2026-06-01 --to 2026-07-01
    """
    pipeline.load(Settings.load(), window_of(date, from_, to))


def check(date: DateOption = None, from_: FromOption = None, to: ToOption = None) -> None:
    """Ask the gate `landed` whether the window's batch looks like a normal day.

    Example: keepline check --date 2026-06-30
    """
    pipeline.check(Settings.load(), window_of(date, from_, to))


def build(
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    layer: Annotated[str, typer.Option("--layer", help=f"One of {', '.join(LAYERS)}.")] = "core",
    full_refresh: Annotated[
        bool,
        typer.Option("--full-refresh", help="Rebuild from all that is loaded: after new columns."),
    ] = False,
) -> None:
    """Build and test one layer of the dbt project for the window.

    Example: keepline build --layer core --date 2026-06-30
    """
    if layer not in LAYERS:
        raise UsageError(f"no layer {layer!r}: choose one of {', '.join(LAYERS)}")
    pipeline.build(Settings.load(), layer, window_of(date, from_, to), full_refresh=full_refresh)


def train(date: DateOption = None) -> None:
    """Train the churn models on what was known, and matured, at the end of a day.

    Example: keepline train --date 2026-06-29
    """
    modelling.train(Settings.load(), day_of(date))


def score(
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    champion: Annotated[
        bool,
        typer.Option("--champion", help="Also where another model has scored the day before."),
    ] = False,
) -> None:
    """Score every subscription as of the end of each day of the window with the champion model.

    A day that has scores keeps the model that made them, unless --champion is given.

    Example: keepline score --date 2026-06-30
    """
    settings = Settings.load()
    for day in window_of(date, from_, to).days():
        modelling.score(settings, day, use_champion=champion)


def stage_release(date: DateOption = None, from_: FromOption = None, to: ToOption = None) -> None:
    """Copy the candidate marts to the store as a new release that no reader can see yet.

    Example: keepline stage --date 2026-06-30
    """
    pipeline.stage_release(Settings.load(), window_of(date, from_, to))


def audit(
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    release: ReleaseOption = None,
) -> None:
    """Ask the gate `leaving` whether the staged release may be shown.

    Example: keepline audit --date 2026-06-30
    """
    pipeline.audit(Settings.load(), window_of(date, from_, to), release)


def publish(
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    release: ReleaseOption = None,
) -> None:
    """Show the audited release to the readers, all marts at once.

    Example: keepline publish --date 2026-06-30
    """
    pipeline.publish(Settings.load(), window_of(date, from_, to), release)


def report(date: DateOption = None) -> None:
    """Write the morning report of the current release, one HTML file.

    Example: keepline report --date 2026-06-30
    """
    pipeline.report(Settings.load(), day_of(date))


def rollback(
    to: Annotated[
        int | None, typer.Option("--to", metavar="RELEASE", help="Release to show again.")
    ] = None,
) -> None:
    """Show an earlier release again: the one before, or the one named.

    Example: keepline rollback --to 12
    """
    from keepline import release

    settings = Settings.load()
    info = release.rollback(settings, to)
    out.print(f"rollback  readers now see release {info.release_id} ({info.window})", markup=False)


def migrate() -> None:
    """Make the reader-facing tables, views, roles and control tables in the store.

    Example: keepline migrate
    """
    pipeline.migrate(Settings.load())
    out.print("migrate   the store is up to date")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    for name, verb in (
        ("extract", extract),
        ("load", load),
        ("check", check),
        ("build", build),
        ("train", train),
        ("score", score),
        ("stage", stage_release),
        ("audit", audit),
        ("publish", publish),
        ("report", report),
        ("rollback", rollback),
        ("migrate", migrate),
    ):
        app.command(name)(verb)
