"""The stages, wired: what each verb does, shared by the single verbs and by `keepline run`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from keepline import ops, store
from keepline.commands import demo
from keepline.commands.context import stage
from keepline.compute.duckdb import DuckDBCompute
from keepline.contract import load_contract
from keepline.errors import GateFailedError
from keepline.progress import err, out, progress
from keepline.settings import Settings
from keepline.window import Window


def migrate(settings: Settings) -> None:
    """Bring the store's objects up to the dbt project."""
    from keepline import release
    from keepline.build import parse

    release.migrate(settings, parse(settings))


def extract(settings: Settings, window: Window, tables: Sequence[str] | None = None) -> int:
    """Extract the window; returns the rows landed."""
    from keepline.extract import extract_window

    demo.point_to(settings)
    with stage(settings, "extract", window) as clock, progress("extract") as update:
        results = extract_window(settings, window, tables, update)
        balances = [balance for result in results for balance in result.reconciliations]
        with store.connect(settings) as connection:
            ops.record_reconciliation(connection, balances)
        clock.rows = sum(result.rows for result in results)
        held = sum(sum(balance.quarantined_rows.values()) for balance in balances)
        missing = sum(1 for result in results if not result.is_provided)
        clock.message = f"{held:,} rows quarantined" + (
            f", {missing} tables not provided" if missing else ""
        )
        return clock.rows


def load(settings: Settings, window: Window) -> None:
    """Load landing into raw."""
    with stage(settings, "load", window) as clock, progress("load") as update:
        rows = DuckDBCompute(settings).load(load_contract(settings.dbt_dir), window, update)
        clock.rows = sum(rows.values())


def check(settings: Settings, window: Window) -> None:
    """Ask the gate `landed`."""
    from expectations import runner

    with stage(settings, "check", window) as clock:
        results = runner.run_landed(settings, load_contract(settings.dbt_dir), window)
        _judge(settings, "landed", window, results)
        clock.message = _verdict(results)


def build(
    settings: Settings, layer: str, window: Window, variables: dict[str, object] | None = None
) -> None:
    """Build one dbt layer and test it."""
    from keepline.build import build as build_layer

    with stage(settings, "build", window) as clock, progress("build") as update:
        results = build_layer(settings, layer, window, variables, progress=update)
        with store.connect(settings) as connection:
            ops.record_models(connection, window, results)
        models = [result for result in results if result.rows is not None]
        clock.rows = sum(result.rows or 0 for result in models)
        clock.message = f"{layer}: {len(models)} models, {len(results) - len(models)} tests"


def _judge(
    settings: Settings, gate: str, window: Window, results: Sequence[ops.GateResult]
) -> None:
    from expectations import runner

    with store.connect(settings) as connection:
        ops.record_gate(connection, gate, window, results)
    for result in results:
        if not result.success:
            err.print(
                f"  {result.severity}: {result.table_name}.{result.column_name}"
                f" {result.expectation}; found {result.observed}",
                markup=False,
            )
    failures = runner.critical_failures(results)
    if failures:
        first = failures[0]
        raise GateFailedError(
            f"the gate {gate!r} stopped {window}: {len(failures)} of {len(results)} checks failed, first "
            f"{first.table_name} {first.column_name}: {first.expectation} (found {first.observed}). "
            f"Details: select * from ops.gate_result where gate = '{gate}' and not success"
        )


def _verdict(results: Sequence[ops.GateResult]) -> str:
    passed = sum(1 for result in results if result.success)
    return f"{passed} of {len(results)} checks passed"


__all__ = ["Path", "date", "err", "out", "timedelta"]
