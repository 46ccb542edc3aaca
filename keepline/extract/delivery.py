"""What a source delivers for some days: rows for the rules, and a count that the loader did not make."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from keepline.contract import Column, Table
from keepline.errors import UsageError
from keepline.extract.database import Database
from keepline.extract.rules import PROVENANCE, has_text
from keepline.extract.session import Session
from keepline.extract.verdict import Finding
from keepline.window import Window

STAGED = "staged"
# Lines that are no row.
BAD_LINES = "bad_lines"
BAD_LINES_COLUMNS = "source_file varchar, load_day date, line_no bigint, reason_code varchar"
# The SQL that all databases share.
DUCKDB = Database()


class UnreadableError(Exception):
    """Rows cannot be read by the operator's SELECT as they are."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.code)


class FileReadError(UnreadableError):
    """One of several files cannot be read; which one is found out by reading fewer of them."""


@dataclass(frozen=True)
class Balance:
    """What an independent count says of a delivery.

    Attributes:
        physical: records by load date.
        skipped: of these, records that the SELECT leaves out.
        findings: counts that do not agree.
    """

    physical: Mapping[date, int]
    skipped: Mapping[date, int] = field(default_factory=dict)
    findings: Sequence[Finding] = ()


class Delivery(Protocol):
    """Some days of a table, ready to be judged; see `QueryDelivery` and `FileDelivery`."""

    window: Window

    @property
    def days(self) -> Sequence[date]:
        """Load dates that it can bring."""

    @property
    def load_date(self) -> str | None:
        """Column of `STAGED` that holds the load date; None when the load cursor decides."""

    @property
    def nul_bytes(self) -> bool:
        """Whether a text may hold a NUL byte."""

    @property
    def unseen(self) -> bool:
        """Whether a text may hold more than visible ASCII characters."""

    def stage(self) -> dict[str, str]:
        """Make the relation `STAGED`; returns its columns with their types."""

    def reading(self) -> AbstractContextManager[None]:
        """Turn DuckDB's errors while rows are read into ours; see `Session.translated`."""

    def bad_lines(self) -> None:
        """Make the table `BAD_LINES` of the lines that could not be read."""

    def look_again(self, days: Sequence[date]) -> None:
        """Make `STAGED` again for days with bad rows, now with file and line."""

    def balance(self, arrived: Mapping[date | None, int]) -> Balance:
        """Compare the rows that arrived, by load date or None, with the independent count."""

    def source(self, day: date) -> dict[str, str]:
        """Return what the manifest says about where a day's rows came from."""

    def stated_sums(self, day: date) -> Mapping[str, Decimal]:
        """Return totals of a day that the loader did not make, by measure in the smallest unit."""

    def halves(self) -> Sequence[Delivery]:
        """Return the delivery in two, or nothing when it cannot be cut."""

    def close(self) -> None:
        """Give back what `stage` took; a second time does nothing."""


def sum_of(text: str | None) -> Decimal:
    """Return a total that a database states as text, in one part or in several."""
    return sum((Decimal(part) for part in (text or "").split()), Decimal(0))


def measures_of(table: Table) -> dict[str, Column]:
    """Return the numeric columns that are summed, by their name in the smallest unit."""
    return {
        re.sub("amt$", "fen", column.name): column
        for column in table.columns
        if column.data_type in ("integer", "bigint", "decimal(18,2)")
        and column.name not in table.key
    }


def on_days(counts: Mapping[date | None, int], window: Window) -> dict[date, int]:
    """Return the counts of a window's days; rows without a day belong to its first one."""
    days: dict[date, int] = {}
    for day, rows in counts.items():
        known = window.from_date if day is None else day
        if window.from_date <= known < window.to_date:
            days[known] = days.get(known, 0) + rows
    return days


def midnights(session: Session, window: Window) -> tuple[datetime, datetime]:
    """Return the local midnights at both ends of a window."""
    first, last = (
        datetime(day.year, day.month, day.day, tzinfo=session.settings.zone)
        for day in (window.from_date, window.to_date)
    )
    return first, last


def window_values(session: Session, window: Window) -> dict[str, str]:
    """Return the words of the window's placeholders in DuckDB's own SQL: local midnights."""
    from_at, to_at = midnights(session, window)
    return {**words("from", from_at, DUCKDB), **words("to", to_at, DUCKDB)}


def words(side: str, at: datetime, kind: Database) -> dict[str, str]:
    """Return the placeholders of one side of a window, in the SQL of the database that compares them."""
    return {
        f"{side}_at": kind.instant(at),
        f"{side}_local": kind.local(at),
        f"{side}_date": kind.day(at),
    }


def check_columns(session: Session, table: Table, given: Mapping[str, str]) -> None:
    """Compare the columns that a SELECT returns with the contract.

    Raises:
        UsageError: one is not in the contract, or one that must have a value is not returned.
        UnreadableError: one has a type that no text can be made of.
    """
    where = f"{session.operator.path.name}, table {table.name}"
    names = [column.name for column in table.columns]
    unknown = [name for name in given if name not in names and name not in PROVENANCE]
    if unknown:
        # What `*` brings in are words of a file, which may be its first record.
        written = set(re.findall(r"\w+", session.operator.tables[table.name].sql.lower()))
        said = [name for name in unknown if name.lower() in written]
        if others := len(unknown) - len(said):
            said.append(f"{others} column{'s' if others > 1 else ''} that it does not name")
        raise UsageError(
            f"{where}: the SELECT returns {', '.join(said)}, which the contract does not have; "
            f"it has {', '.join(names)}"
        )
    # The kind alone: the fields of a structure are names of a file's, too.
    shapeless = [
        f"{name} ({kind.partition('(')[0]})" for name, kind in given.items() if not has_text(kind)
    ]
    if shapeless:
        found = f"{', '.join(shapeless)}: no text, number, date or truth. Cast it in the SELECT of {where}."
        raise UnreadableError(Finding("BREAKING_SCHEMA", table.name, found))
    missing = [c.name for c in table.columns if not c.nullable and c.name not in given]
    if missing:
        raise UsageError(f"{where}: the SELECT must return {', '.join(missing)}")
