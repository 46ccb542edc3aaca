"""What a source delivers for some days: rows for the rules, and a count that the loader did not make."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

import duckdb

from keepline.contract import Column, Table
from keepline.errors import UsageError
from keepline.extract.rules import PROVENANCE
from keepline.extract.session import Session, literal
from keepline.extract.verdict import Finding
from keepline.window import Window

STAGED = "staged"
# Lines that DuckDB could not read: source_file, load_day, line_no, reason_code.
BAD_LINES = "bad_lines"
# The local day of a load cursor, in words that DuckDB and PostgreSQL share.
DAY_TYPES = {
    "TIMESTAMP WITH TIME ZONE": "case when isfinite(x.{cursor})"
    " then cast(x.{cursor} at time zone {zone} as date) end",
    "TIMESTAMP": "case when isfinite(x.{cursor}) then cast(x.{cursor} as date) end",
    "DATE": "case when isfinite(x.{cursor}) then x.{cursor} end",
}


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
    def load_date(self) -> str | None:
        """Column of `STAGED` that holds the load date; None when the load cursor decides."""

    @property
    def nul_bytes(self) -> bool:
        """Whether a text may hold a NUL byte."""

    def stage(self) -> dict[str, str]:
        """Make the relation `STAGED`; returns its columns with their types."""

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


class QueryDelivery:
    """Rows of a database, or of files that the SELECT reads by itself."""

    load_date = None
    nul_bytes = False

    def __init__(self, session: Session, table: Table, window: Window) -> None:
        self.window = window
        self._session = session
        self._table = table
        self._counts: dict[date | None, int] = {}
        self._sums: dict[date | None, dict[str, Decimal]] = {}
        self._by_day = True

    def stage(self) -> dict[str, str]:
        """Take the rows over once; later steps do not ask the source again."""
        session = self._session
        with session.translated(self._table.name):
            sql = self._sql()
            columns = session.columns(sql)
            check_columns(session, self._table, columns)
            counting, summed = self._counting(sql, columns)
            # One transaction: the rows and their count are of one snapshot of the source.
            session.run("begin")
            try:
                session.run(f"create or replace temp table taken as {sql}")
                self._count(counting, summed)
                session.run("commit")
            except duckdb.Error:
                with contextlib.suppress(duckdb.Error):
                    session.run("rollback")
                raise
            session.run(f"create or replace temp view {STAGED} as select * from taken")
        return columns

    def bad_lines(self) -> None:
        """A database has none."""
        self._session.run(
            f"create or replace temp table {BAD_LINES}"
            " (source_file varchar, load_day date, line_no bigint, reason_code varchar)"
        )

    def look_again(self, days: Sequence[date]) -> None:
        """Do nothing: the rows are still there."""

    def balance(self, arrived: Mapping[date | None, int]) -> Balance:
        """Compare day by day, or the totals when the load cursor is text."""
        ours = dict(arrived) if self._by_day else {None: sum(arrived.values())}
        days = on_days(arrived, self.window)
        if ours == self._counts:
            return Balance(physical=days)
        wrong = [day for day in {**ours, **self._counts} if ours.get(day) != self._counts.get(day)]
        first = min(wrong, key=str)
        finding = Finding(
            "UNBALANCED",
            f"{self._table.name} {first or ''}".strip(),
            f"The source counts {self._counts.get(first, 0)} rows, {ours.get(first, 0)} arrived"
            f" ({len(wrong)} day(s) differ). Check the SELECT in {self._session.operator.path.name}.",
        )
        physical = on_days(self._counts, self.window) if self._by_day else days
        return Balance(physical, findings=[finding])

    def source(self, _day: date) -> dict[str, str]:
        """Name the connections that the SELECT reads."""
        names = self._session.operator.connections_of(self._table.name)
        return (
            {"connection": ", ".join(names)} if names else {"select": self._session.operator.name}
        )

    def stated_sums(self, day: date) -> Mapping[str, Decimal]:
        """Return the totals that the database itself made."""
        stated = dict(self._sums.get(day, {}))
        if day == self.window.from_date:
            for name, total in self._sums.get(None, {}).items():
                stated[name] = stated.get(name, Decimal(0)) + total
        return stated

    def halves(self) -> Sequence[Delivery]:
        """Return the two halves of the window."""
        days = self.window.days()
        if len(days) == 1:
            return []
        middle = days[len(days) // 2]
        windows = [Window(self.window.from_date, middle), Window(middle, self.window.to_date)]
        return [QueryDelivery(self._session, self._table, window) for window in windows]

    def _sql(self) -> str:
        sql = self._session.operator.render(
            self._table.name, window_values(self._session, self.window)
        )
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UsageError(
                f"{self._session.operator.path.name}, table {self._table.name}: `sql` must be one SELECT"
            )
        return sql

    def _counting(self, sql: str, columns: Mapping[str, str]) -> tuple[str, list[str]]:
        """Return the query that counts the rows by load date, and the measures that it sums.

        The database itself counts and sums when it understands the SELECT. Its sums matter: DuckDB reads a
        NaN or an infinity in a `numeric` as 0 and a `numeric` without a scale as a floating-point number.
        """
        session, table = self._session, self._table
        cursor_type = columns[table.load_cursor]
        self._by_day = cursor_type in DAY_TYPES
        day = DAY_TYPES.get(cursor_type, "cast(null as date)").format(
            cursor=table.load_cursor, zone=literal(session.settings.timezone)
        )
        names = session.operator.connections_of(table.name)
        if len(names) == 1:
            measures = [
                name
                for name, column in measures_of(table).items()
                if columns.get(column.name, "VARCHAR") != "VARCHAR"
            ]
            sums = "".join(
                f", cast(sum(cast(x.{measures_of(table)[name].name} as numeric)) as text)"
                for name in measures
            )
            own = re.sub(rf"\b{names[0]}\.(?=\w+\.)", "", sql)
            counting = f"select {day} as day, count(*) as n{sums} from ({own}) as x group by 1"
            asked = f"select * from postgres_query({literal(names[0])}, {literal(counting)})"
            # Not when the SELECT is in DuckDB's own SQL: then DuckDB asks a second time.
            with contextlib.suppress(duckdb.BinderException):
                session.columns(asked)
                return asked, measures
        return f"select {day} as day, count(*) as n from ({sql}) as x group by 1", []

    def _count(self, counting: str, summed: Sequence[str]) -> None:
        scales = {name: 100 if name.endswith("fen") else 1 for name in summed}
        for day, rows, *sums in self._session.rows(counting):
            self._counts[day] = rows
            self._sums[day] = {
                name: Decimal(text or 0) * scales[name]
                for name, text in zip(summed, sums, strict=True)
            }


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


def window_values(session: Session, window: Window) -> dict[str, str]:
    """Return the SQL text of the window's placeholders: local midnights, the last one excluded."""

    def midnight(day: date) -> str:
        at = datetime(day.year, day.month, day.day, tzinfo=session.settings.zone)
        return f"timestamptz {literal(at.isoformat(sep=' '))}"

    return {
        "from_at": midnight(window.from_date),
        "to_at": midnight(window.to_date),
        "from_date": f"date {literal(window.from_date)}",
        "to_date": f"date {literal(window.to_date)}",
    }


def check_columns(session: Session, table: Table, given: Mapping[str, str]) -> None:
    """Compare the columns that a SELECT returns with the contract.

    Raises:
        UsageError: one is not in the contract, or one that must have a value is not returned.
    """
    where = f"{session.operator.path.name}, table {table.name}"
    names = [column.name for column in table.columns]
    unknown = [name for name in given if name not in names and name not in PROVENANCE]
    if unknown:
        raise UsageError(
            f"{where}: the SELECT returns {', '.join(unknown)}, which the contract does not have; "
            f"it has {', '.join(names)}"
        )
    missing = [c.name for c in table.columns if not c.nullable and c.name not in given]
    if missing:
        raise UsageError(f"{where}: the SELECT must return {', '.join(missing)}")
