"""The demo operator on this machine: where it lives and which days it has."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from keepline import store
from keepline.contract import load_contract
from keepline.errors import SourceUnavailableError, UsageError
from keepline.progress import out, progress
from keepline.settings import Settings

DATABASE = "operator_demo"


@dataclass(frozen=True)
class Calendar:
    """Which business days an operator's systems can give.

    Attributes:
        first_date: first day of its history.
        last_date: last day of the history: the first one that the daily DAG runs.
        end_date: last day that can ever be run.
        is_synthetic: the operator never existed.
    """

    first_date: date
    last_date: date
    end_date: date
    is_synthetic: bool


def exists(settings: Settings) -> bool:
    """Tell whether the demo operator was created, whole."""
    return _marker(settings).exists()


def remember(settings: Settings, first_date: date, last_date: date, end_date: date) -> None:
    """Note which days a demo operator has that is there, whole; see `Calendar`."""
    from keepline.simulator import SYSTEMS

    marker = {
        "first_date": first_date.isoformat(),
        "last_date": last_date.isoformat(),
        "end_date": end_date.isoformat(),
        "systems": SYSTEMS,
    }
    _marker(settings).write_text(json.dumps(marker))


def check_systems(settings: Settings) -> None:
    """Refuse a demo operator whose systems are those of another version: some columns are not there.

    A real operator's file says what its systems have; the demo's is that of this version.

    Raises:
        UsageError: another version created the demo operator.
    """
    from keepline.simulator import SYSTEMS

    if settings.operator != "demo" or not exists(settings):
        return
    if json.loads(_marker(settings).read_text()).get("systems") != SYSTEMS:
        raise UsageError(
            f"the demo operator in {settings.home} was created by another version of keepline, and its "
            "systems lack what this one reads. What is published stays readable, and what was extracted "
            "can be built again; new days need a new demo: `make clean`, then `make run`, or set "
            "KEEPLINE_HOME to an empty folder"
        )


def _marker(settings: Settings) -> Path:
    return settings.operator_home / "simulation.json"


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Be the only one that creates the demo operator, or throws it away, for a `with` block.

    Raises:
        SourceUnavailableError: another process does.
    """
    settings.operator_home.mkdir(parents=True, exist_ok=True)
    with (settings.operator_home / "simulate.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SourceUnavailableError(
                f"another command creates the demo operator in {settings.home}: wait until it has ended, "
                "then `keepline status`"
            ) from None
        yield


def point_to(settings: Settings) -> None:
    """Give the operator file the addresses of the embedded demo, unless the environment has them."""
    if settings.operator != "demo" or "KEEPLINE_DEMO_DSN" in os.environ:
        return
    server = store.start_embedded(settings)
    os.environ["KEEPLINE_DEMO_DSN"] = server.dsn(
        DATABASE, user="extractor", password=settings.extractor_password.get_secret_value()
    )
    os.environ.setdefault("KEEPLINE_DEMO_DROPS", str(settings.drops_dir))


def create(
    settings: Settings, subscribers: int, days: int, seed: int, last_date: date, mornings: int
) -> None:
    """Simulate the demo operator into its database and the drops folder.

    The database is one of the embedded server, unless `KEEPLINE_DEMO_ADMIN_DSN` names another.

    Raises:
        UsageError: it exists.
        SourceUnavailableError: another process creates it.
    """
    with alone(settings):
        if exists(settings):
            raise UsageError(
                "the demo operator exists, and what was extracted from it would not fit another one: "
                "`make clean` first"
            )
        _create(settings, subscribers, days, seed, last_date, mornings)


def _create(
    settings: Settings, subscribers: int, days: int, seed: int, last_date: date, mornings: int
) -> None:
    from keepline.simulator import simulate

    admin_dsn = os.environ.get("KEEPLINE_DEMO_ADMIN_DSN")
    if admin_dsn is None:
        server = store.start_embedded(settings)
        server.ensure_database(DATABASE)
        admin_dsn = server.dsn(DATABASE)
    first_date = last_date - timedelta(days=days - 1)
    started = time.perf_counter()
    with progress("simulate") as update:
        summary = simulate(
            admin_dsn,
            settings.drops_dir,
            settings.truth_dir,
            subscribers=subscribers,
            days=days,
            seed=seed,
            start=first_date,
            mornings=mornings,
            progress=update,
            extractor_password=settings.extractor_password.get_secret_value(),
        )
    seconds = time.perf_counter() - started
    remember(settings, first_date, last_date, last_date + timedelta(days=mornings))
    out.print(
        f"simulate  {first_date} to {last_date} and {mornings} days for later runs: "
        f"{summary.subscribers:,} subscriptions, "
        f"{summary.usage_records:,} call records in {seconds:.1f} s "
        f"({summary.usage_records / seconds:,.0f} records/s); synthetic: nobody in it exists"
    )


def has_ended(settings: Settings) -> bool:
    """Tell whether it is known that the chosen operator's systems give no days but those that they have."""
    from keepline.extract.operator import load_operator

    if settings.operator == "demo":
        return True
    history = load_operator(settings.operator_file, load_contract(settings.dbt_dir)).history
    return history is not None and history.has_ended


def calendar(settings: Settings) -> Calendar:
    """Return the days of the chosen operator.

    Raises:
        UsageError: its file does not say which days it has.
    """
    from keepline.extract.operator import load_operator

    if settings.operator == "demo":
        marker = json.loads(_marker(settings).read_text())
        first, last, end = (
            date.fromisoformat(marker[name]) for name in ("first_date", "last_date", "end_date")
        )
        return Calendar(first, last, end, is_synthetic=True)
    history = load_operator(settings.operator_file, load_contract(settings.dbt_dir)).history
    if history is None:
        raise UsageError(
            f"{settings.operator_file.name} has no `history:` with the days `from` and `to`, so that "
            "there is no first day to load: add it, or run each stage with --from and --to"
        )
    return Calendar(history.first_date, history.last_date, history.last_date, is_synthetic=False)
