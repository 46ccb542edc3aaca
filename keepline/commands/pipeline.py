"""The stages, wired: what each verb does, shared by the single verbs and by `keepline run`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import date
from typing import TYPE_CHECKING

from keepline import lease, ops, store
from keepline.commands import demo
from keepline.commands.context import stage
from keepline.commands.mending import mends
from keepline.compute import compute_for
from keepline.contract import load_contract
from keepline.errors import BadDataError, GateFailedError, UsageError
from keepline.failpoint import reach
from keepline.landed_files import expect_recorded
from keepline.progress import err, progress
from keepline.settings import Settings
from keepline.window import Window

if TYPE_CHECKING:
    from keepline.extract import TableResult

# What the owner should know of a delivery that landed; the same is mostly true of many files.
NOTES_SHOWN = 5


def migrate(settings: Settings) -> None:
    """Bring the store's objects up to the dbt project."""
    from keepline import release
    from keepline.build import parse

    with lease.hold(settings, "migrate"):
        release.migrate(settings, parse(settings), has_ended=demo.has_ended(settings))


def extract(
    settings: Settings,
    window: Window,
    tables: Sequence[str] | None = None,
    accept_changed: str = "",
) -> int:
    """Extract the window; returns the rows landed."""
    from keepline.extract import IncompleteError, extract_window
    from keepline.extract.operator import confirm_there

    confirm_there(settings.operator_file)
    demo.point_to(settings)
    with stage(settings, "extract", window) as clock, progress("extract") as update:
        try:
            results = extract_window(settings, window, tables, update, accept_changed)
        except IncompleteError as held:
            # What was held must be on record, too: it is what the person on call looks for.
            _record_balances(settings, window, held.results)
            for note in _notes(held.results):
                err.print(f"  {note}", markup=False)
            raise
        reach("extract.unrecorded")
        quarantined = _record_balances(settings, window, results)
        clock.rows = sum(result.rows for result in results)
        clock.message = "; ".join(
            [f"{quarantined:,} rows quarantined{_left_out(results)}", *_notes(results)]
        )
        return clock.rows


def _left_out(results: Sequence[TableResult]) -> str:
    """Say which tables the operator does not give; only how many, when they are many."""
    names = [result.table_name for result in results if not result.provided]
    if not names:
        return ""
    return f", not given: {', '.join(names) if len(names) < 4 else f'{len(names)} tables'}"


def _notes(results: Sequence[TableResult]) -> list[str]:
    return [str(note) for result in results for note in result.notes][:NOTES_SHOWN]


def _record_balances(settings: Settings, window: Window, results: Sequence[TableResult]) -> int:
    """Write the balance of every table and day and what was held; returns the rows in quarantine."""
    balances = [balance for result in results for balance in result.reconciliations]
    held = [
        ops.Held(result.table_name, day, finding.code, finding.place, finding.detail)
        for result in results
        for finding in result.findings
        for day in ([finding.load_date] if finding.load_date else result.held_days)
    ]
    with store.connect(settings) as connection:
        lease.fence(connection)
        ops.record_reconciliation(connection, balances)
        ops.record_held(connection, [result.table_name for result in results], window, held)
    return sum(sum(balance.quarantined_rows.values()) for balance in balances)


@mends
def load(settings: Settings, window: Window) -> None:
    """Load landing into raw."""
    with stage(settings, "load", window) as clock, progress("load") as update:
        _expect_compute(settings, window)
        contract = load_contract(settings.dbt_dir)
        with store.connect(settings) as connection:
            recorded = ops.landed_batches(connection, window)
        expect_recorded(settings.landing_dir, recorded, contract, window)
        rows = compute_for(settings).load(contract, window, update)
        clock.rows = sum(rows.values())


def _expect_compute(settings: Settings, window: Window) -> None:
    """Refuse to begin anew in compute with less than was loaded before.

    Raises:
        BadDataError: what it held is gone, and the window is only a part of that.
    """
    compute = compute_for(settings)
    if compute.exists():
        return
    with store.connect(settings) as connection:
        row = connection.execute(
            "select min(from_date), max(to_date) from ops.stage_run"
            " where verb = 'load' and status = 'done' and (from_date < %s or to_date > %s)",
            [window.from_date, window.to_date],
        ).fetchone()
    if row is not None and row[0] is not None:
        held = Window(*row)
        raise BadDataError(
            f"{compute.place} is gone; it held {held}, and would now hold {window} alone. "
            "Nothing is lost, and readers keep the last release: `keepline rebuild` makes it anew from "
            "landing"
        )


@mends
def check(settings: Settings, window: Window) -> None:
    """Ask the gate `landed`."""
    from expectations import runner
    from keepline.extract.operator import load_operator

    with stage(settings, "check", window) as clock:
        contract = load_contract(settings.dbt_dir)
        given = load_operator(settings.operator_file, contract).tables
        results = runner.run_landed(settings, contract, window, given=set(given))
        _record_gate(settings, "landed", window, results)
        _judge("landed", window, results)
        clock.message = _verdict(results)


@mends
def build(
    settings: Settings,
    layer: str,
    window: Window,
    *,
    full_refresh: bool = False,
    as_of_dates: Sequence[date] | None = None,
) -> None:
    """Build one dbt layer and test it; features describe the end of every day of the window, or of some."""
    from keepline.build import BuildFailedError
    from keepline.build import build as build_layer

    described = window.days() if as_of_dates is None else as_of_dates
    asked = {
        "as_of_dates": [day.isoformat() for day in described],
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
        reach("build.unrecorded")
        _record_models(settings, window, results)
        models = [result for result in results if result.rows is not None]
        clock.rows = sum(result.rows or 0 for result in models)
        clock.message = f"{len(models)} models, {len(results) - len(models)} tests"


def _record_models(settings: Settings, window: Window, results: Sequence[ops.ModelRun]) -> None:
    with store.connect(settings) as connection:
        lease.fence(connection)
        ops.record_models(connection, window, results)


@mends
def stage_release(settings: Settings, window: Window) -> int:
    """Copy the candidate marts under a new release; returns its number, to be audited and published."""
    from keepline import release

    with stage(settings, "stage", window) as clock:
        with progress("stage") as update:
            staged = release.stage(settings, window, update)
        clock.rows = staged.rows
        clock.message = f"release {staged.release_id}" + (
            "" if staged.is_new else ": nothing changed, so it is the one that is there"
        )
        return staged.release_id


@mends
def audit(settings: Settings, window: Window, release_id: int | None = None) -> int:
    """Ask the gate `leaving` about the staged release; returns its number.

    Args:
        settings: where things are.
        window: load dates that the release was staged for.
        release_id: the release that `stage` gave; None takes the one that was staged last.

    Raises:
        UsageError: another release was staged last, or none.
    """
    from expectations import runner
    from keepline import release

    with stage(settings, "audit", window) as clock:
        if _is_overtaken(settings, window):
            release_id = stage_release(settings, window)
        staged = release.staged_release(settings, window, release_id)
        if staged.status in ("audited", "published"):
            # What was found stays on record: the release that it was compared with may be gone.
            clock.message = f"release {staged.release_id} has passed before"
            return staged.release_id
        results = runner.run_leaving(settings, staged.release_id, window)
        # First what was found, then the mark: a release that is marked is not audited again.
        _record_gate(settings, "leaving", window, results)
        reach("audit.unmarked")
        release.mark_audited(settings, staged.release_id, not runner.critical_failures(results))
        _judge("leaving", window, results)
        clock.message = f"release {staged.release_id}: {_verdict(results)}"
        return staged.release_id


@mends
def publish(settings: Settings, window: Window, release_id: int | None = None) -> None:
    """Flip the pointer to the audited release; see `audit` for the arguments."""
    from keepline import release

    with stage(settings, "publish", window) as clock:
        if _is_overtaken(settings, window):
            release_id = audit(settings, window, stage_release(settings, window))
        audited = release.staged_release(settings, window, release_id)
        if audited.status not in ("staged", "rejected"):  # which says so itself
            _recount(settings, window)
        info = release.publish(settings, audited.release_id)
        clock.message = f"readers see release {info.release_id}"


def _recount(settings: Settings, window: Window) -> None:
    """Look once more, cheaply, whether the window's landing and raw are what is on record.

    Raises:
        BadDataError: they are not; readers keep the release that they have.
    """
    from keepline.recount import recount_record

    compute = compute_for(settings)
    with store.connect(settings) as connection:
        recorded = ops.landed_batches(connection, window)
    attached = compute.connection() if compute.exists() else nullcontext()
    with attached as duck:
        found = recount_record(settings, load_contract(settings.dbt_dir), recorded, duck, window)
    if found:
        raise BadDataError(
            f"{window} is not published, as what it was built from is not what is on record: {found[0]}"
            + (f", and {len(found) - 1:,} more batches differ" if found[1:] else "")
            + ". Readers keep the last release. `keepline verify` shows all of it; next: "
            + found[0].command
        )


def _is_overtaken(settings: Settings, window: Window) -> bool:
    """Tell whether a repair of earlier days was published since this window was staged.

    What it mended belongs to this window's release, too, which is retired and must be staged again.
    """
    from keepline import release

    known = release.history(settings)
    staged = next((info for info in known if info.window == window), None)
    return (
        staged is not None
        and staged.published_at is None
        and any(
            info.published_at is not None
            and info.release_id > staged.release_id
            and info.window.to_date <= window.to_date
            for info in known
        )
    )


def report(settings: Settings, day: date) -> None:
    """Write the morning report of the current release."""
    from keepline.report import write_report

    with stage(settings, "report", Window.day(day)) as clock, store.connect(settings) as connection:
        current = store.scalar(connection, "select release_id from ctl.current_release")
        if not isinstance(current, int):
            raise UsageError("nothing is published yet, so there is nothing to report: make run")
        path = write_report(settings, current)
        clock.message = f"file://{path}"


def _record_gate(
    settings: Settings, gate: str, window: Window, results: Sequence[ops.GateResult]
) -> None:
    with store.connect(settings) as connection:
        lease.fence(connection)
        reach("gate.judged")
        ops.record_gate(connection, gate, window, results)


def _judge(gate: str, window: Window, results: Sequence[ops.GateResult]) -> None:
    from expectations import runner

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
