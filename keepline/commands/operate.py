"""The verbs for the person at the machine: run, simulate, airflow, doctor, watch, stop, clean."""

from __future__ import annotations

import shutil
from datetime import datetime
from typing import Annotated

import typer

from keepline import home, lease, store, watchdog
from keepline.commands import demo, morning
from keepline.commands.context import DateOption
from keepline.commands.verify import verify
from keepline.embedded import EmbeddedPostgres
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
    mornings: Annotated[
        int, typer.Option(help="Further business days, for later runs.", min=0)
    ] = 30,
) -> None:
    """Create the demo operator: a telecom operator that never existed, the same for the same seed.

    It fills the database operator_demo of the embedded PostgreSQL and the folder of call-record drops.

    Example: keepline simulate --subscribers 10000 --days 400
    """
    demo.create(Settings.load(), subscribers, days, seed, parse_date(end), mornings)


def airflow(
    port: Annotated[
        int, typer.Option(help="Port of the web page on 127.0.0.1.", min=1, max=65535)
    ] = 8080,
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

    Never beside a stage: it says who is at work. A store elsewhere (KEEPLINE_STORE_DSN) keeps all its rows.

    Example: keepline clean --yes
    """
    settings = Settings.load(need_keys=False)
    if not yes:
        raise UsageError(f"this throws away {settings.home} and all in it: add --yes")
    # Whoever is at work goes on: it is for the person to end that first.
    settings = settings.model_copy(update={"lease_wait_s": 1})
    server = store.embedded(settings)
    runs = _runs(server)
    with demo.alone(settings), lease.hold_all(_stores(settings, server, runs=runs), "clean"):
        _give_up(settings)
        server.remove(running=runs)
        shutil.rmtree(settings.home, ignore_errors=True)
    if settings.home.exists() and any(settings.home.iterdir()):
        raise UsageError(
            f"not all of {settings.home} could be removed: look at who owns what is left"
        )
    out.print(f"clean     {settings.home} is gone", markup=False)


def _runs(server: EmbeddedPostgres) -> bool:
    """Tell whether a home's own server runs: where it does not, no stage is at work in its stores."""
    try:
        return server.is_running()
    except home.AnotherHomeError:
        return False


def _stores(settings: Settings, server: EmbeddedPostgres, *, runs: bool) -> list[Settings]:
    """Return the settings of every operator whose store a home has."""
    if settings.store_dsn.get_secret_value():
        with store.connect(settings, confirmed=False) as connection:
            return [settings] if home.owns(connection, settings) else []
    prefix = settings.store_database.removesuffix(settings.operator)
    return [
        settings.model_copy(update={"operator": name.removeprefix(prefix)})
        for name in (server.databases() if runs else [])
        if name.startswith(prefix)
    ]


def _give_up(settings: Settings) -> None:
    """Let a store that is elsewhere take a new home."""
    if not settings.store_dsn.get_secret_value():
        return
    with store.connect(settings, confirmed=False) as connection:
        if home.owns(connection, settings):
            connection.execute(home.TAKE_OVER)


def stop() -> None:
    """Stop the embedded PostgreSQL; everything stays, and the next command starts it again.

    Example: keepline stop
    """
    settings = Settings.load(need_keys=False)
    store.embedded(settings).stop()
    out.print("stop      the embedded PostgreSQL is stopped")


def watch(
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
) -> None:
    """Put back within ten seconds what readers change for their own logins, until Ctrl-C.

    For a store on your own PostgreSQL (KEEPLINE_STORE_DSN): let a service manager run it. The embedded
    server has a process of its own for that. It needs neither the keys nor the readers' passwords.

    Example: keepline watch
    """
    settings = Settings.load(need_keys=False)

    def say(text: str) -> None:
        now = datetime.now(settings.zone)
        out.print(f"watch     {now:%Y-%m-%d %H:%M:%S} {text}", markup=False)

    if once:
        with store.connect_to_logins(settings) as connection:
            for one in watchdog.look(connection, everywhere=store.is_embedded(settings)):
                say(str(one))
        return
    if store.is_embedded(settings):
        say("the embedded server has a process of its own that looks: keepline doctor tells")
        return
    say(f"looks every {watchdog.EVERY_S:.0f} s; Ctrl-C ends it")
    if not watchdog.watch(lambda: store.connect_to_logins(settings), say):
        say("another process looks already: nothing to do")


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
        ("watch", watch),
        ("stop", stop),
        ("clean", clean),
    ):
        app.command(name)(verb)
