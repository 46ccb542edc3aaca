"""The run book of the store: what each stage did, counted, in the schema `ops`.

Every function replaces what it wrote before for the same window, so that a rerun leaves one answer.
Tables are made by `keepline migrate` (keepline/release/sql/ops.sql).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg.rows import TupleRow

from keepline.errors import UsageError
from keepline.window import Window


@dataclass(frozen=True)
class Reconciliation:
    """Whether a table's day balances: physical = loaded + quarantined + skipped.

    Attributes:
        table_name: contract table.
        load_date: business day of the batch.
        physical_rows: rows counted at the source by a reader other than the loader.
        loaded_rows: rows in landing.
        quarantined_rows: rows set aside, by reason code.
        skipped_rows: rows that the contract says to leave out.
        sums: totals of amounts and measures in landing, in the smallest unit.
        balanced: the counts agree.
    """

    table_name: str
    load_date: date
    physical_rows: int
    loaded_rows: int
    quarantined_rows: Mapping[str, int]
    skipped_rows: int
    sums: Mapping[str, int]
    balanced: bool


@dataclass(frozen=True)
class StageRun:
    """One stage of one run: `rows` is what it moved, `seconds` how long it took."""

    verb: str
    window: Window
    rows: int
    seconds: float
    status: str
    message: str = ""


@dataclass(frozen=True)
class ModelRun:
    """One dbt model or test of one build."""

    model: str
    layer: str
    seconds: float
    status: str
    rows: int | None = None


@dataclass(frozen=True)
class GateResult:
    """One expectation, evaluated.

    Attributes:
        gate: `landed` or `leaving`.
        suite: name of the suite file.
        table_name: what was checked.
        expectation: the expectation in words that a person on call understands.
        column_name: column, or empty.
        severity: critical, warning or info.
        success: the expectation was met.
        observed: what was found, without personal values.
        release_id: the staged release, or None for `landed`.
    """

    gate: str
    suite: str
    table_name: str
    expectation: str
    column_name: str
    severity: str
    success: bool
    observed: str
    release_id: int | None = None


@dataclass(frozen=True)
class Held:
    """A load date of a table that did not land.

    Attributes:
        table_name: contract table.
        load_date: business day of the batch.
        code: a code of docs/runbook.md.
        place: file or table, never a personal value.
        detail: figures, and what to do.
    """

    table_name: str
    load_date: date
    code: str
    place: str
    detail: str


@dataclass(frozen=True)
class LandedBatch:
    """What landed of a table on a load date.

    Attributes:
        rows: rows in the file.
        manifest_sha256: checksum of the manifest, which names that of the file; None is not known.
    """

    rows: int
    manifest_sha256: str | None


Connection = psycopg.Connection[TupleRow]


def record_landed(
    connection: Connection, table: str, days: Sequence[date], batches: Mapping[date, LandedBatch]
) -> None:
    """Replace what is known to have landed of a table on these days; a day without a batch has none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "delete from ops.landed_batch where table_name = %s and load_date = any(%s)",
            [table, [day for day in days if day not in batches]],
        )
        cursor.executemany(
            "insert into ops.landed_batch as b (table_name, load_date, rows, manifest_sha256)"
            " values (%s, %s, %s, %s) on conflict (table_name, load_date) do update set"
            " rows = excluded.rows, manifest_sha256 = excluded.manifest_sha256, landed_at = now()"
            " where b.manifest_sha256 is distinct from excluded.manifest_sha256",
            [(table, day, batch.rows, batch.manifest_sha256) for day, batch in batches.items()],
        )


def landed_batches(
    connection: Connection, window: Window | None = None
) -> dict[tuple[str, date], LandedBatch]:
    """Return what is known to have landed, of a window or ever, by table and load date.

    Raises:
        UsageError: the store is of an older version.
    """
    sql = "select table_name, load_date, rows, manifest_sha256 from ops.landed_batch"
    try:
        if window is None:
            found = connection.execute(sql).fetchall()
        else:
            bounds = [window.from_date, window.to_date]
            found = connection.execute(
                sql + " where load_date >= %s and load_date < %s", bounds
            ).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise UsageError(
            "the store does not say yet what has landed: run `keepline migrate` first"
        ) from None
    return {(table, day): LandedBatch(rows, sha256) for table, day, rows, sha256 in found}


def record_reconciliation(connection: Connection, rows: Sequence[Reconciliation]) -> None:
    """Replace the balance of each (table, load date)."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "delete from ops.reconciliation where table_name = %s and load_date = %s",
            [(row.table_name, row.load_date) for row in rows],
        )
        cursor.executemany(
            "delete from ops.quarantine_count where table_name = %s and load_date = %s",
            [(row.table_name, row.load_date) for row in rows],
        )
        copy_rows = "copy ops.reconciliation (table_name, load_date, physical_rows, loaded_rows, \
quarantined_rows, skipped_rows, sums, balanced) from stdin"
        with cursor.copy(copy_rows) as copy:
            for row in rows:
                copy.write_row(
                    (
                        row.table_name,
                        row.load_date,
                        row.physical_rows,
                        row.loaded_rows,
                        sum(row.quarantined_rows.values()),
                        row.skipped_rows,
                        json.dumps(dict(row.sums)),
                        row.balanced,
                    )
                )
        copy_counts = (
            "copy ops.quarantine_count (table_name, load_date, reason_code, rows) from stdin"
        )
        with cursor.copy(copy_counts) as copy:
            for row in rows:
                for reason, count in sorted(row.quarantined_rows.items()):
                    copy.write_row((row.table_name, row.load_date, reason, count))


def record_held(
    connection: Connection, tables: Sequence[str], window: Window, rows: Sequence[Held]
) -> None:
    """Replace what is held of these tables in this window; what was held before keeps its moment."""
    keys = [(row.table_name, row.load_date, row.code, row.place) for row in rows]
    known = connection.execute(
        "select table_name, load_date, code, place from ops.held_delivery"
        " where table_name = any(%s) and load_date >= %s and load_date < %s",
        [list(tables), window.from_date, window.to_date],
    ).fetchall()
    with connection.cursor() as cursor:
        cursor.executemany(
            "delete from ops.held_delivery"
            " where table_name = %s and load_date = %s and code = %s and place = %s",
            [key for key in known if tuple(key) not in keys],
        )
        cursor.executemany(
            "insert into ops.held_delivery (table_name, load_date, code, place, detail)"
            " values (%s, %s, %s, %s, %s) on conflict (table_name, load_date, code, place)"
            " do update set detail = excluded.detail",
            [(*key, row.detail) for key, row in zip(keys, rows, strict=True)],
        )


def record_stage(connection: Connection, run: StageRun) -> None:
    """Append one stage run; the history of attempts is kept."""
    connection.execute(
        "insert into ops.stage_run (verb, from_date, to_date, rows, seconds, status, message)"
        " values (%s, %s, %s, %s, %s, %s, %s)",
        [
            run.verb,
            run.window.from_date,
            run.window.to_date,
            run.rows,
            round(run.seconds, 3),
            run.status,
            run.message,
        ],
    )


def last_stages(connection: Connection) -> list[StageRun]:
    """Return the latest run of each stage, in the order in which they ran."""
    rows = connection.execute(
        "select verb, from_date, to_date, rows, seconds, status, message from ops.stage_run as r"
        " where stage_run_id = (select max(stage_run_id) from ops.stage_run as l where l.verb = r.verb)"
        " order by stage_run_id"
    ).fetchall()
    return [
        StageRun(verb, Window(first, last), count, float(seconds), status, message)
        for verb, first, last, count, seconds, status, message in rows
    ]


def last_done(connection: Connection, verb: str) -> date | None:
    """Return the last business day for which a stage was done, or None."""
    found = connection.execute("select to_regclass('ops.stage_run')").fetchone()
    if found is None or found[0] is None:
        return None
    row = connection.execute(
        "select max(to_date) - 1 from ops.stage_run where verb = %s and status = 'done'", [verb]
    ).fetchone()
    last: date | None = row[0] if row else None
    return last


def record_models(connection: Connection, window: Window, runs: Sequence[ModelRun]) -> None:
    """Replace the results of these models for this window."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "delete from ops.model_run where model = %s and from_date = %s and to_date = %s",
            [(run.model, window.from_date, window.to_date) for run in runs],
        )
        cursor.executemany(
            "insert into ops.model_run (model, layer, from_date, to_date, seconds, status, rows)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    run.model,
                    run.layer,
                    window.from_date,
                    window.to_date,
                    round(run.seconds, 3),
                    run.status,
                    run.rows,
                )
                for run in runs
            ],
        )


def record_gate(
    connection: Connection, gate: str, window: Window, results: Sequence[GateResult]
) -> None:
    """Replace what this gate said about this window."""
    connection.execute(
        "delete from ops.gate_result where gate = %s and from_date = %s and to_date = %s",
        [gate, window.from_date, window.to_date],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.gate_result (gate, suite, table_name, expectation, column_name, severity,"
            " success, observed, release_id, from_date, to_date)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    result.gate,
                    result.suite,
                    result.table_name,
                    result.expectation,
                    result.column_name,
                    result.severity,
                    result.success,
                    result.observed,
                    result.release_id,
                    window.from_date,
                    window.to_date,
                )
                for result in results
            ],
        )
