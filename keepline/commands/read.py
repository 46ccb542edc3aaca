"""The verb that looks and changes nothing: query."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import psycopg
import typer
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types import datetime as datetimes
from psycopg.types import json as json_types
from rich.markup import escape
from rich.table import Table

from keepline import store
from keepline.errors import SourceUnavailableError, UsageError
from keepline.progress import harmless, out
from keepline.settings import Settings

# Digits of an integer in JSON; what has more comes as a text.
LONGEST_INTEGER = 300
FORMATS = ("table", "csv", "json")
# A spreadsheet runs a cell that begins with one of these, plain or as wide as a Chinese character; and a
# cell begins wherever a separator or a quote of some country's lets one begin.
FORMULA = re.compile(
    r"""((?:^|[,;|\t\r\n"'])[\s\x00-\x20\ufeff\u200b]*)(?=[=+@\-\uff1d\uff0b\uff20\uff0d\u2212\ufe62\ufe63\ufe66])"""
)
# These begin a cell that some of them run as well.
STARTS = ("\t", "\r")
CONTROLS = re.compile("[\x7f-\x9f]")


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
        show_what_python_cannot_hold(connection)
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


def show_what_python_cannot_hold(connection: psycopg.Connection[Any]) -> None:
    """Have a value that no type of Python holds, such as the year 10000 or infinity, come as its text."""
    for loader in (
        *(datetimes.DateLoader, datetimes.TimeLoader, datetimes.TimetzLoader),
        *(datetimes.TimestampLoader, datetimes.TimestamptzLoader, datetimes.IntervalLoader),
        *(json_types.JsonLoader, json_types.JsonbLoader),
    ):
        kind = loader.__name__.removesuffix("Loader").lower()
        connection.adapters.register_loader(kind, _or_text(loader))


def _or_text(loader: type[Loader]) -> type[Loader]:
    class OrText(loader):  # type: ignore[misc, valid-type]
        def load(self, data: Buffer) -> Any:  # noqa: ANN401
            try:
                return super().load(data)
            except (psycopg.DataError, ValueError, OverflowError, RecursionError):
                return bytes(data).decode()

    return OrText


def write_rows(names: list[str], rows: list[tuple[Any, ...]], format_: str) -> None:
    """Print rows as a table, CSV (safe to open in a spreadsheet) or JSON."""
    if format_ == "csv":
        plain = csv.writer(sys.stdout, lineterminator="\n")
        # The writer quotes only the line end that is its own.
        quoting = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in [names, *rows]:
            returns = any(isinstance(value, str) and "\r" in value for value in row)
            (quoting if returns else plain).writerow([_cell(value) for value in row])
    elif format_ == "json":
        records = [dict(zip(names, map(_finite, row), strict=True)) for row in rows]
        text = json.dumps(records, default=_plain, ensure_ascii=False, indent=2)
        # JSON escapes one of the two sets of control characters by itself.
        sys.stdout.write(CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")
    else:
        # Before columns are made as wide as what is in them.
        names = [harmless(name) for name in names]
        cells = [
            ["" if value is None else harmless(_shown(value)) for value in row] for row in rows
        ]
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
        table.add_column(escape(name), justify="right" if number else "left", no_wrap=True)
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
    """Return a value as a spreadsheet shows it: a quote makes text of what it would run."""
    if not isinstance(value, str):
        return value
    disarmed = FORMULA.sub(r"\1'", value)
    if (disarmed.startswith((*STARTS, " ")) and disarmed != value) or disarmed.startswith(STARTS):
        disarmed = "'" + disarmed
    # In a file a value stays as it is; a terminal would obey it.
    return harmless(disarmed) if sys.stdout.isatty() else disarmed


def _finite(value: object) -> object:
    """JSON has no word for what is no number: it comes as the text that PostgreSQL writes."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        if not value.is_finite():
            return str(value)
        if value.adjusted() > LONGEST_INTEGER:  # which Python would not write
            return str(value)
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("query")(query)
