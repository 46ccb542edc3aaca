"""Extract a window: every table that the operator file fills, from its source to landing."""

from __future__ import annotations

import os
from collections.abc import Sequence

from keepline.contract import load_contract
from keepline.errors import UsageError
from keepline.extract.operator import load_operator
from keepline.extract.registry import Registry
from keepline.extract.result import TableResult
from keepline.extract.session import Session
from keepline.extract.table import TableExtract
from keepline.extract.verdict import Finding, incomplete
from keepline.failpoint import reach
from keepline.progress import Update
from keepline.settings import Settings
from keepline.window import Window


def extract_window(
    settings: Settings,
    window: Window,
    tables: Sequence[str] | None = None,
    progress: Update | None = None,
    accept_changed: str = "",
) -> list[TableResult]:
    """Bring the window's rows from the operator's sources to landing, quarantine and vault.

    Whole load dates are replaced, also those that became empty; running it again changes nothing. A load
    date of a table that is held keeps its landing as it was, and the others land all the same.

    Args:
        settings: where things are, the operator's zone and the keys.
        window: load dates, the operator's local days.
        tables: contract tables to extract; None means all.
        progress: called as `progress(table, done, total)` before each table and after it.
        accept_changed: ticket under which files may replace other ones of the same name; it is recorded.

    Returns:
        One result per contract table, in the contract's order; those that the operator file leaves out
        have `provided` false.

    Raises:
        HeldError: at least one load date of a table was held (a BadDataError); it carries the results.
        NotReadyError: nothing worse than deliveries that are not complete yet; it carries the results.
        SourceUnavailableError: a source or the store cannot be reached, or another run has taken over.
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
    with (
        Session(settings, operator) as session,
        Registry(settings, accept_changed) as registry,
    ):
        for done, name in enumerate(wanted):
            if progress is not None:
                progress(name, done, len(wanted))
            if name in operator.tables:
                results.append(TableExtract(session, registry, contract[name], window).run())
            else:
                results.append(TableResult(name, provided=False))
            if progress is not None:
                progress(name, done + 1, len(wanted))
            reach("extract.landed")
    os.sync()
    findings: list[Finding] = [finding for result in results for finding in result.findings]
    if findings:
        raise incomplete(findings, results)
    return results
