"""Runs a gate: what landed before it is built on, what leaves before readers see it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg

from expectations import keylists, landed, leaving
from expectations.engine import Engine, Evaluation
from expectations.gates import FOLDER, Check, load_gate
from keepline import store
from keepline.contract import LOAD_DATE, Contract
from keepline.errors import CheckCrashedError, SourceUnavailableError
from keepline.ops import Connection, GateResult
from keepline.settings import Settings
from keepline.window import Window

LANDED, LEAVING = "landed", "leaving"


def run_landed(
    settings: Settings,
    contract: Contract,
    window: Window,
    folder: Path = FOLDER,
    *,
    given: Collection[str] = (),
) -> list[GateResult]:
    """Judge the batches of a window by their profile, before anything is built on them.

    Volumes, means and missing values are judged on each day of a window of up to 31 days, of a wider
    one on the last, against the four weeks before it; with less than two weeks of history they are
    recorded as not judged.

    Args:
        settings: where landing is, and where the Data Docs go.
        contract: tables of the contract.
        window: load dates.
        folder: where gates.yml and suites/ are.
        given: contract tables that the operator gives: one of them that never landed is judged, too.

    Raises:
        BadDataError: landing cannot be read.
        CheckCrashedError: a check could not be evaluated.
    """
    checks = [check for check in load_gate(LANDED, folder, contract) if check.tables]
    profiles = {
        "batches": landed.profile(settings, contract, window, given),
        "key_lists": keylists.profile(settings, window),
    }
    engine = Engine()
    results = []
    for check in checks:
        if check.profile not in profiles:
            raise CheckCrashedError(
                f"gates.yml: {check.name}: a profile is one of {', '.join(profiles)}"
            )
        frame = profiles[check.profile]
        if check.profile == "batches":
            frame = frame[frame["table_name"].isin(check.tables)].reset_index(drop=True)
        label = check.tables[0] if len(check.tables) == 1 else check.name
        if frame.empty:
            results += _not_made(LANDED, check, label, None, "nothing has ever landed")
            continue
        evaluations = engine.check_frame(check.name, check.suite, frame)
        results += [
            _of_frame(LANDED, check, label, evaluation, frame, None) for evaluation in evaluations
        ]
    engine.write_docs(settings.data_docs_dir / LANDED)
    return results


def run_leaving(
    settings: Settings, release_id: int, window: Window, folder: Path = FOLDER
) -> list[GateResult]:
    """Judge a staged release in the store, before readers see it.

    Parts that an earlier audit passed are not looked at again, so that an audit costs what is new.

    Args:
        settings: where the store is, and where the Data Docs go.
        release_id: the staged release.
        window: load dates that it was staged for.
        folder: where gates.yml and suites/ are.

    Raises:
        UsageError: there is no such release.
        CheckCrashedError: a check could not be evaluated, or the release is of another window.
        SourceUnavailableError: the store went away.
    """
    checks = load_gate(LEAVING, folder)
    results: list[GateResult] = []
    with store.connect(settings, autocommit=True) as connection:
        release = leaving.read_release(connection, release_id)
        if release.window != window:
            raise CheckCrashedError(
                f"release {release_id} was staged for {release.window}, not for {window}"
            )
        engine = Engine()
        engine.connect(store.url(settings))
        try:
            for check in checks:
                results += _leaving_check(connection, engine, release, check)
        except psycopg.OperationalError:
            raise SourceUnavailableError("the store went away: audit again") from None
        except CheckCrashedError:
            # A check that crashes because the store is gone is worth trying again.
            if not _is_alive(connection):
                raise SourceUnavailableError("the store went away: audit again") from None
            raise
    engine.write_docs(settings.data_docs_dir / LEAVING)
    return results


def critical_failures(results: Sequence[GateResult]) -> list[GateResult]:
    """Return the results that close the gate."""
    return [result for result in results if not result.success and result.severity == "critical"]


# -- inside --------------------------------------------------------------------------------------


def _leaving_check(
    connection: Connection, engine: Engine, release: leaving.Release, check: Check
) -> list[GateResult]:
    table = check.tables[0]
    if not release.has_something_for(check):
        return _not_made(
            LEAVING, check, table, release.release_id, "unchanged since it was last audited"
        )
    if not check.query:
        query = release.rows_of(table, check.rows)
        evaluations = engine.check_query(check.name, check.suite, query)
        return [
            _of_rows(check, table, evaluation, release.release_id) for evaluation in evaluations
        ]
    frame = _frame(connection, release.fill(check.query), check)
    if frame.empty:
        return _not_made(LEAVING, check, table, release.release_id, "there is nothing to judge")
    evaluations = engine.check_frame(check.name, check.suite, frame)
    return [
        _of_frame(LEAVING, check, table, evaluation, frame, release.release_id)
        for evaluation in evaluations
    ]


def _frame(connection: Connection, query: str, check: Check) -> pd.DataFrame:
    """Return a profile; all but its first column, which names the row, become numbers."""
    try:
        cursor = connection.execute(query.encode())
        names = [column.name for column in cursor.description or ()]
        frame = pd.DataFrame(cursor.fetchall(), columns=names)
    except psycopg.errors.Error as error:
        if isinstance(error, psycopg.OperationalError):
            raise
        raise CheckCrashedError(
            f"gates.yml: the query of {check.name} does not run: {error.diag.message_primary}"
        ) from None
    for name in names[1:]:
        frame[name] = frame[name].astype(float)
    return frame


def _not_made(
    gate: str, check: Check, label: str, release_id: int | None, why: str
) -> list[GateResult]:
    return [
        GateResult(
            gate,
            check.suite.name,
            label,
            expectation.words,
            expectation.column,
            "info",
            success=True,
            observed=f"not judged: {why}",
            release_id=release_id,
        )
        for expectation in check.suite.expectations
    ]


def _of_rows(check: Check, table: str, evaluation: Evaluation, release_id: int) -> GateResult:
    found, expectation = evaluation.result, evaluation.expectation
    if "unexpected_count" in found:
        observed = f"{found['unexpected_count']:,} of {found['element_count']:,} rows"
    elif expectation.type == "unexpected_rows_expectation":
        observed = f"{found['observed_value']:,} rows"
    else:
        observed = str(found.get("observed_value", "no value"))
    return GateResult(
        LEAVING,
        check.suite.name,
        table,
        expectation.words,
        expectation.column,
        expectation.severity,
        success=evaluation.success,
        observed=observed,
        release_id=release_id,
    )


def _of_frame(
    gate: str,
    check: Check,
    label: str,
    evaluation: Evaluation,
    frame: pd.DataFrame,
    release_id: int | None,
) -> GateResult:
    """Say what was found in a profile, which holds no personal values, and where."""
    expectation = evaluation.expectation
    names = [name for name in expectation.column.split(", ") if name in frame.columns]
    judged = frame[names].dropna() if names else frame
    severity = expectation.severity
    if judged.empty:
        severity, observed = "info", "not judged: too little to compare with"
    elif evaluation.success or not names:
        observed = _range(judged[names[0]]) if names else f"{len(frame):,} rows"
    else:
        observed = _worst(frame.loc[judged.index], names, expectation.kwargs)
    return GateResult(
        gate,
        check.suite.name,
        label,
        expectation.words,
        expectation.column,
        severity,
        success=evaluation.success,
        observed=observed,
        release_id=release_id,
    )


def _range(values: pd.Series[Any]) -> str:
    low, high = values.min(), values.max()
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"


def _worst(frame: pd.DataFrame, names: list[str], limits: Mapping[str, Any]) -> str:
    """Name the rows of a profile that are farthest out, at most three."""
    value = frame[names[0]]
    if len(names) > 1:
        is_broken = value != frame[names[1]]
    else:
        low, high = limits.get("min_value"), limits.get("max_value")
        is_broken = ~value.between(
            float("-inf") if low is None else low, float("inf") if high is None else high
        )
    broken = frame[is_broken]
    said = []
    for _, row in broken.head(3).iterrows():
        place = str(row.iloc[0])
        if LOAD_DATE in row:
            place += f" {row[LOAD_DATE]}"
        numbers = " and ".join(f"{row[name]:.6g}" for name in names)
        column = row.get(f"{names[0]}_column", "")
        said.append(f"{place}: {numbers}" + (f" ({column})" if column else ""))
    more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
    return "; ".join(said) + more


def _is_alive(connection: Connection) -> bool:
    try:
        connection.execute("select 1")
    except psycopg.Error:
        return False
    return True
