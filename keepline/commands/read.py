"""The verbs that look and change nothing: query, status."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import psycopg
import typer
from rich.markup import escape
from rich.table import Table

from keepline import ops, store
from keepline.commands import demo
from keepline.errors import SourceUnavailableError, UsageError
from keepline.progress import out
from keepline.settings import Settings
from keepline.window import Window

FORMATS = ("table", "csv", "json")
# A spreadsheet runs a cell that begins with one of these; a leading quote makes it text again.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT against the store.")],
    role: Annotated[
        str, typer.Option("--role", help=f"Whose rights: {' or '.join(store.READERS)}.")
    ] = "bi_reader",
    format_: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")
    ] = "table",
) -> None:
    """Run a SELECT against the current release, with a reader's rights.

    Example: keepline query "select risk_tier, count(*) from mart.churn_risk_latest group by 1" --format csv
    """
    if format_ not in FORMATS:
        raise UsageError(f"no format {format_!r}: choose one of {', '.join(FORMATS)}")
    with store.connect(Settings.load(), role) as connection:
        try:
            cursor = connection.execute(sql.encode())
        except psycopg.OperationalError as error:
            raise SourceUnavailableError(
                f"the store gave up: {error.diag.message_primary}"
            ) from None
        except psycopg.Error as error:
            hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
            raise UsageError(
                f"the query failed as {role}: {error.diag.message_primary}{hint}; "
                "docs/dictionary.md lists every table and column"
            ) from None
        if cursor.description is None:
            raise UsageError("only a SELECT gives rows, and nothing else is allowed here")
        names = [column.name for column in cursor.description]
        rows = cursor.fetchall()
    write_rows(names, rows, format_)


def write_rows(names: list[str], rows: list[tuple[Any, ...]], format_: str) -> None:
    """Print rows as a table, CSV (safe to open in a spreadsheet) or JSON."""
    if format_ == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(value) for value in row] for row in rows)
    elif format_ == "json":
        records = [dict(zip(names, row, strict=True)) for row in rows]
        sys.stdout.write(json.dumps(records, default=_plain, ensure_ascii=False, indent=2) + "\n")
    else:
        cells = [["" if value is None else _shown(value) for value in row] for row in rows]
        columns = list(zip(names, *cells, strict=True))
        if sum(max(map(len, column)) + 1 for column in columns) > out.width:
            _print_records(names, cells)
        else:
            _print_table(names, cells, rows)
        out.print(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


def _print_table(names: list[str], cells: list[list[str]], rows: list[tuple[Any, ...]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, sample in zip(names, rows[0] if rows else names, strict=True):
        number = isinstance(sample, int | float | Decimal) and not isinstance(sample, bool)
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for line in cells:
        table.add_row(*(escape(cell) for cell in line))
    out.print(table)


def _print_records(names: list[str], cells: list[list[str]]) -> None:
    """One value per line, for rows that are wider than the screen."""
    width = max(map(len, names))
    for number, line in enumerate(cells, start=1):
        out.print(f"-- row {number}", markup=False)
        for name, cell in zip(names, line, strict=True):
            out.print(f"{name:<{width}}  {cell}", markup=False)


def _shown(value: object) -> str:
    """Return a value for people: no zeros that say nothing behind a decimal point."""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return str(value)


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return "'" + value
    return value


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)


def status() -> None:
    """Tell what readers see, what ran last, what failed, and what to type next.

    Example: keepline status
    """
    from keepline.screen import make

    settings = Settings.load()
    with store.connect(settings) as connection:
        known = connection.execute("select to_regclass('ctl.current_release')").fetchone()
        if known is None or known[0] is None:
            out.print(f"{settings.operator}: nothing was ever run. Next: {make(settings, 'run')}")
            return
        current = connection.execute(
            "select r.release_id, r.from_date, r.to_date - 1 from ctl.release r"
            " join ctl.current_release c on c.release_id = r.release_id"
        ).fetchone()
        runs = ops.last_stages(connection)
        held = store.scalar(
            connection, "select coalesce(sum(rows), 0)::bigint from ops.quarantine_count"
        )
        kept = connection.execute(
            "select release_id, to_date - 1 from ctl.release where status = 'published'"
            " order by release_id desc"
        ).fetchall()
    if current is None:
        out.print(f"{settings.operator}: readers see nothing yet")
    else:
        out.print(
            f"{settings.operator}: readers see release {current[0]}, business day {current[2]}"
        )
        listed = ", ".join(f"{number} ({day})" for number, day in kept)
        out.print(f"releases that `keepline rollback --to` can show: {listed}", markup=False)
    out.print(f"{'stage':<15}{'last window':<25}{'status':<8}{'rows':>11}{'seconds':>9}")
    for run in runs:
        rows = f"{run.rows:,}" if run.rows else "-"
        out.print(
            f"{run.verb:<15}{run.window!s:<25}{run.status:<8}{rows:>11}{run.seconds:>9.1f}",
            markup=False,
        )
    out.print(f"rows in quarantine: {held:,} (below {settings.quarantine_dir})", markup=False)
    failed = [run for run in runs if run.status == "failed"]
    for run in failed:
        out.print(f"{run.verb} {run.window} failed: {run.message}", markup=False)
    if failed:
        out.print(f"next: mend that, then: {_command(failed[0])}", markup=False)
    else:
        out.print(_next(settings, current[2] if current else None), markup=False)


def _next(settings: Settings, day: date | None) -> str:
    """Return what to type when nothing failed; `day` is the business day that readers see."""
    from keepline.screen import make

    # An operator's days may not be known here: that stops a run, not the status.
    with suppress(UsageError, OSError):
        if day == demo.calendar(settings).end_date:
            return "next: nothing, the operator's data end on that day"
    return f"next: {make(settings, 'run')} (the next business day)"


def _command(run: ops.StageRun) -> str:
    """Return the command that repeats a stage."""
    if run.verb == "history":
        return "make run (which goes on where it stopped)"
    verb, _, layer = run.verb.partition(" ")
    words = ["keepline", verb, *(["--layer", layer] if layer else [])]
    if run.window == Window.day(run.window.from_date):
        words += ["--date", str(run.window.from_date)]
    else:
        words += ["--from", str(run.window.from_date), "--to", str(run.window.to_date)]
    return " ".join(words)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command("query")(query)
    app.command("status")(status)
