"""Extract a window: every table that the operator file fills, from its source to landing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

from keepline.contract import load_contract
from keepline.errors import SourceUnavailableError, UsageError
from keepline.extract.operator import load_operator
from keepline.extract.result import TableResult
from keepline.extract.session import Session
from keepline.extract.table import TableExtract
from keepline.extract.verdict import Finding, HeldError
from keepline.progress import Update
from keepline.settings import Settings
from keepline.window import Window


def extract_window(
    settings: Settings,
    window: Window,
    tables: Sequence[str] | None = None,
    progress: Update | None = None,
) -> list[TableResult]:
    """Bring the window's rows from the operator's sources to landing, quarantine and vault.

    Whole load dates are replaced, also those that became empty; running it again changes nothing. A table
    that is held keeps its landing as it was, and the others land all the same.

    Args:
        settings: where things are, the operator's zone and the keys.
        window: load dates, the operator's local days.
        tables: contract tables to extract; None means all.
        progress: called as `progress(table, done, total)` before each table and after it.

    Returns:
        One result per contract table, in the contract's order; those that the operator file leaves out
        have `provided` false.

    Raises:
        HeldError: at least one table was held (a BadDataError); it carries the results.
        SourceUnavailableError: a source or the store cannot be reached, or another extraction runs.
        UsageError: the operator file, a setting or `tables` is wrong.
    """
    contract = load_contract(settings.dbt_dir)
    operator = load_operator(settings.operator_file, contract)
    unknown = sorted(set(tables or ()) - set(contract))
    if unknown:
        raise UsageError(
            f"the contract has no table {', '.join(unknown)}; it has {', '.join(contract)}"
        )
    wanted = [name for name in contract if tables is None or name in tables]
    results: list[TableResult] = []
    settings.operator_home.mkdir(parents=True, exist_ok=True)
    with (
        (settings.operator_home / "extract.lock").open("w") as lock,
        Session(settings, operator) as session,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SourceUnavailableError(
                f"another extraction of {settings.operator} is running: wait for it, then run again"
            ) from None
        for done, name in enumerate(wanted):
            if progress is not None:
                progress(name, done, len(wanted))
            if name in operator.tables:
                results.append(TableExtract(session, contract[name], window).run())
            else:
                results.append(TableResult(name, provided=False))
            if progress is not None:
                progress(name, done + 1, len(wanted))
    os.sync()
    findings: list[Finding] = [finding for result in results for finding in result.findings]
    if findings:
        raise HeldError(findings, results)
    return results
