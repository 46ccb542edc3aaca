"""The verbs for the person at the machine: run, simulate, airflow, doctor, clean."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from keepline import store
from keepline.commands import demo, morning
from keepline.commands.context import DateOption
from keepline.commands.verify import verify
from keepline.errors import UsageError
from keepline.progress import out
from keepline.settings import Settings, parse_date


def run(date: DateOption = None) -> None:
    """Publish the next business day through the daily Airflow DAG, from an empty folder if need be.

    The first run creates the demo operator, loads its history and trains; each later one runs the
    next business day. Safe to stop and to run again at any point.

    Example: KEEPLINE_OPERATOR=demo keepline run
    """
    morning.run(Settings.load(), parse_date(date) if date else None)


def simulate(
    subscribers: Annotated[int, typer.Option(help="Subscriptions at the start.", min=50)] = 3000,
    days: Annotated[int, typer.Option(help="Days of history.", min=30)] = 400,
    seed: Annotated[int, typer.Option(help="Same seed, same operator.")] = 7,
    end: Annotated[
        str, typer.Option(metavar="DAY", help="Last business day of the history.")
    ] = "2026-06-30",
    mornings: Annotated[int, typer.Option(help="Further business days, for later runs.")] = 30,
) -> None:
    """Create the demo operator: a telecom operator that never existed, the same for the same seed.

    It fills the database operator_demo of the embedded PostgreSQL and the folder of call-record drops.

    Example: keepline simulate --subscribers 10000 --days 400
    """
    settings = Settings.load()
    if demo.exists(settings):
        raise UsageError(
            "the demo operator exists, and what was extracted from it would not fit another one: "
            "`make clean` first"
        )
    demo.create(settings, subscribers, days, seed, parse_date(end), mornings)


def airflow(
    port: Annotated[int, typer.Option(help="Port of the web page on 127.0.0.1.")] = 8080,
) -> None:
    """Start Airflow with the DAGs loaded, and print where to look.

    Example: keepline airflow --port 8080
    """
    from keepline.airflow import standalone

    settings = Settings.load()
    demo.point_to(settings)
    raise typer.Exit(standalone(settings, port))


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Really throw it all away.")] = False,
) -> None:
    """Stop the embedded PostgreSQL and throw away everything below KEEPLINE_HOME.

    Example: keepline clean --yes
    """
    settings = Settings.load()
    if not yes:
        raise UsageError(f"this throws away {settings.home} and all in it: add --yes")
    store.embedded(settings).remove()
    shutil.rmtree(settings.home, ignore_errors=True)
    out.print(f"clean     {settings.home} is gone", markup=False)


def stop() -> None:
    """Stop the embedded PostgreSQL; everything stays, and the next command starts it again.

    Example: keepline stop
    """
    settings = Settings.load(need_keys=False)
    store.embedded(settings).stop()
    out.print("stop      the embedded PostgreSQL is stopped")


def doctor() -> None:
    """Check this machine, the settings, the operator and the store; say what to mend.

    Example: keepline doctor
    """
    from keepline.commands.doctor import examine

    raise typer.Exit(examine(Settings.load(need_keys=False)))


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    for name, verb in (
        ("run", run),
        ("simulate", simulate),
        ("airflow", airflow),
        ("doctor", doctor),
        ("verify", verify),
        ("stop", stop),
        ("clean", clean),
    ):
        app.command(name)(verb)
