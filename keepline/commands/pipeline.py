"""The stages, wired: what each verb does, shared by the single verbs and by `keepline run`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from keepline import ops, store
from keepline.commands import demo
from keepline.commands.context import stage
from keepline.compute.duckdb import DuckDBCompute
from keepline.contract import load_contract
from keepline.errors import GateFailedError, UsageError
from keepline.progress import err, progress
from keepline.settings import Settings
from keepline.window import Window

if TYPE_CHECKING:
    from keepline.extract import TableResult


def migrate(settings: Settings) -> None:
    """Bring the store's objects up to the dbt project."""
    from keepline import release
    from keepline.build import parse

    release.migrate(settings, parse(settings))


def extract(settings: Settings, window: Window, tables: Sequence[str] | None = None) -> int:
    """Extract the window; returns the rows landed."""
    from keepline.extract import HeldError, extract_window

    demo.point_to(settings)
    with stage(settings, "extract", window) as clock, progress("extract") as update:
        try:
            results = extract_window(settings, window, tables, update)
        except HeldError as held:
            # What was held must be on record, too: it is what the person on call looks for.
            _record_balances(settings, held.results)
            raise
        quarantined = _record_balances(settings, results)
        clock.rows = sum(result.rows for result in results)
        missing = sum(1 for result in results if not result.provided)
        clock.message = f"{quarantined:,} rows quarantined" + (
            f", {missing} tables not provided" if missing else ""
        )
        return clock.rows


def _record_balances(settings: Settings, results: Sequence[TableResult]) -> int:
    """Write the balance of every table and day; returns the rows in quarantine."""
    balances = [balance for result in results for balance in result.reconciliations]
    with store.connect(settings) as connection:
        ops.record_reconciliation(connection, balances)
    return sum(sum(balance.quarantined_rows.values()) for balance in balances)


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


def build(settings: Settings, layer: str, window: Window, *, full_refresh: bool = False) -> None:
    """Build one dbt layer and test it; features describe the end of every day of the window."""
    from keepline.build import BuildFailedError
    from keepline.build import build as build_layer

    asked = {
        "as_of_dates": [day.isoformat() for day in window.days()],
        "known_on": window.last_date.isoformat(),
    }
    with stage(settings, f"build {layer}", window) as clock, progress("build") as update:
        try:
            results = build_layer(
                settings, layer, window, asked, full_refresh=full_refresh, progress=update
            )
        except BuildFailedError as failed:
            _record_models(settings, window, failed.results)
            raise
        _record_models(settings, window, results)
        models = [result for result in results if result.rows is not None]
        clock.rows = sum(result.rows or 0 for result in models)
        clock.message = f"{len(models)} models, {len(results) - len(models)} tests"


def _record_models(settings: Settings, window: Window, results: Sequence[ops.ModelRun]) -> None:
    with store.connect(settings) as connection:
        ops.record_models(connection, window, results)


def stage_release(settings: Settings, window: Window) -> None:
    """Copy the candidate marts under a new release."""
    from keepline import release

    with stage(settings, "stage", window) as clock:
        with progress("stage") as update:
            staged = release.stage(settings, window, update)
        clock.rows = staged.rows
        clock.message = f"release {staged.release_id}" + (
            "" if staged.is_new else ": nothing changed, so it is the one that is there"
        )


def audit(settings: Settings, window: Window) -> None:
    """Ask the gate `leaving` about the staged release."""
    from expectations import runner
    from keepline import release

    with stage(settings, "audit", window) as clock:
        staged = release.staged_release(settings, window)
        results = runner.run_leaving(settings, staged.release_id, window)
        passed = not runner.critical_failures(results)
        release.mark_audited(settings, staged.release_id, passed)
        _judge(settings, "leaving", window, results)
        clock.message = f"release {staged.release_id}: {_verdict(results)}"


def publish(settings: Settings, window: Window) -> None:
    """Flip the pointer to the audited release."""
    from keepline import release

    with stage(settings, "publish", window) as clock:
        audited = release.staged_release(settings, window)
        info = release.publish(settings, audited.release_id)
        clock.message = f"readers see release {info.release_id}"


def report(settings: Settings, day: date) -> None:
    """Write the morning report of the current release."""
    from keepline.report import write_report

    with stage(settings, "report", Window.day(day)) as clock, store.connect(settings) as connection:
        current = store.scalar(connection, "select release_id from ctl.current_release")
        if not isinstance(current, int):
            raise UsageError("nothing is published yet, so there is nothing to report: make run")
        path = write_report(settings, current)
        clock.message = f"file://{path}"


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
            "Details: the rows of ops.gate_result that did not succeed"
        )


def _verdict(results: Sequence[ops.GateResult]) -> str:
    passed = sum(1 for result in results if result.success)
    return f"{passed} of {len(results)} checks passed"
