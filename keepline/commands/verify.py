"""`keepline verify`: counts every hop anew and names the first place where two do not agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

import duckdb
import typer

from keepline import lease, ops, store
from keepline.commands.context import DateOption, FromOption, ToOption, window_of
from keepline.compute import compute_for
from keepline.contract import load_contract
from keepline.errors import BadDataError, UsageError
from keepline.ops import Connection
from keepline.parts import landed_window
from keepline.progress import out
from keepline.recount import (
    Hop,
    by_day,
    first_difference,
    recount_compute,
    recount_landing,
    recount_release,
)
from keepline.settings import Settings
from keepline.window import Window

SHOWN = 10


def verify(
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    recopy: Annotated[
        bool,
        typer.Option("--recopy", help="Let the next stage write damaged parts of the store anew."),
    ] = False,
) -> None:
    """Recount landing against raw, facts and the release; say where the first difference is.

    Everything since the first landed day, unless a window is given. Exit code 2: something differs.

    Example: keepline verify --date 2026-06-30
    """
    settings = Settings.load()
    window = window_of(date, from_, to) if date or from_ or to else whole(settings)
    examine(settings, window, recopy=recopy)


def whole(settings: Settings) -> Window:
    """Return the window of everything that ever landed, also of what has vanished since.

    Raises:
        UsageError: nothing has landed, or the store is of an older version.
    """
    with store.connect(settings) as connection:
        days = {day for _, day in ops.landed_batches(connection)}
    there = landed_window(settings)
    if there is not None:
        days |= {there.from_date, there.last_date}
    if not days:
        raise UsageError("nothing has landed yet, so there is nothing to verify: keepline run")
    return Window(min(days), max(days) + timedelta(days=1))


def examine(settings: Settings, window: Window, *, recopy: bool = False) -> None:
    """Recount a window and print what came of it, one line per hop.

    Args:
        settings: where everything is.
        window: load dates.
        recopy: mark the damaged parts of the store, so that the next stage writes them anew.

    Raises:
        BadDataError: two hops differ.
        UsageError: the store was never migrated.
        SourceUnavailableError: the store cannot be reached, or another run is at work.
    """
    started = time.perf_counter()
    # It writes nothing, but a stage that runs meanwhile would find compute taken, or change it.
    with lease.hold(settings, "verify", str(window)):
        hops = recount(settings, window)
        damaged = hops[-1].damaged_parts
        if recopy and damaged:
            with store.connect(settings) as connection:
                _forget(connection, damaged)
    for hop in hops:
        _print(hop)
    first = first_difference(hops)
    seconds = time.perf_counter() - started
    if first is None:
        out.print(f"verify    {window}: every hop agrees, {seconds:.1f} s", markup=False)
        return
    if recopy and damaged:
        out.print(f"verify    {len(damaged)} parts will be written anew by the next stage")
    out.print(f"first difference: {first}", markup=False)
    out.print(f"next: {first.command}", markup=False)
    count = sum(len(hop.differences) for hop in hops)
    raise BadDataError(
        f"{window}: {count:,} batches or parts differ, the first in {first.hop}, {first.table}"
        + (f", {first.day}" if first.day else "")
    )


def recount(settings: Settings, window: Window) -> list[Hop]:
    """Recount a window, hop by hop from the source to what readers see.

    Raises:
        UsageError: the store was never migrated.
        SourceUnavailableError: the store cannot be reached, or another process holds compute.
    """
    contract = load_contract(settings.dbt_dir)
    with store.connect(settings) as connection, _compute(settings) as (duck, is_attached):
        if store.scalar(connection, "select to_regclass('ops.reconciliation')::text") is None:
            raise UsageError(
                "the store has no tables yet, so there is nothing to verify: keepline run"
            )
        landed, hops = recount_landing(settings, contract, connection, duck, window)
        hops += recount_compute(settings, contract, duck, landed, is_attached=is_attached)
        hops.append(recount_release(connection, duck, window, is_attached=is_attached))
    return hops


@contextmanager
def _compute(settings: Settings) -> Iterator[tuple[duckdb.DuckDBPyConnection, bool]]:
    """Open compute if it holds anything: opening would make it."""
    compute = compute_for(settings)
    if compute.exists():
        with compute.connection() as duck:
            yield duck, True
    else:
        with duckdb.connect() as duck:
            yield duck, False


def _forget(connection: Connection, parts: list[int]) -> None:
    """A stage finds a part by its content: one that has none is written anew."""
    connection.execute(
        "update ctl.part set content = 'damaged', is_audited = false where part_id = any(%s)",
        [parts],
    )


def _print(hop: Hop) -> None:
    count = len(hop.differences)
    verdict = f"{count:,} differences" if count > 1 else "1 difference" if count else "agrees"
    out.print(f"{hop.name:<9} {hop.told}: {verdict}", markup=False)
    for found in sorted(hop.differences, key=by_day)[:SHOWN]:
        place = f"{found.table} {found.day or ''}".strip()
        out.print(f"          {place}: {found.told}", markup=False)
    if count > SHOWN:
        out.print(f"          and {count - SHOWN:,} more", markup=False)
