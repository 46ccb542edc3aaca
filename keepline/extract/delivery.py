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

from keepline.contract import LOAD_DATE, Column, Table
from keepline.errors import UsageError
from keepline.extract.database import Database
from keepline.extract.rules import PROVENANCE
from keepline.extract.session import Session, literal, without_values
from keepline.extract.verdict import Finding
from keepline.window import Window

STAGED = "staged"
# Lines that are no row; `counted` when the numbers of the rows behind count them.
BAD_LINES = "bad_lines"
BAD_LINES_COLUMNS = (
    "source_file varchar, load_day date, line_no bigint, reason_code varchar, counted boolean"
)
# The SQL that all databases share.
DUCKDB = Database()
# Readings of a source whose rows move while they are counted.
ATTEMPTS = 3
NO_DAY = "cast(null as date)"


class UnreadableError(Exception):
    """Rows cannot be read by the operator's SELECT as they are."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.code)


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


class QueryDelivery:
    """Rows of a database, or of files that the SELECT reads by itself."""

    load_date = None
    unseen = True

    def __init__(self, session: Session, table: Table, window: Window) -> None:
        self.window = window
        self._session = session
        self._table = table
        self._counts: dict[date | None, int] = {}
        self._sums: dict[date | None, dict[str, Decimal]] = {}
        self._by_day = True
        self._lost_dates = 0
        self._databases = {
            name: session.database(name) for name in session.operator.connections_of(table.name)
        }

    @property
    def days(self) -> Sequence[date]:
        """All days of the window."""
        return self.window.days()

    @property
    def nul_bytes(self) -> bool:
        """Whether one of the databases keeps them."""
        return any(database.nul_bytes for database in self._databases.values())

    def stage(self) -> dict[str, str]:
        """Take the rows over once; later steps do not ask the source again."""
        session = self._session
        session.attach(self._table.name)
        with session.translated(self._table.name):
            sql = self._sql()
            columns = self._columns(sql)
            check_columns(session, self._table, columns)
            counting, summed = self._counting(sql, columns)
            for attempt in range(1, ATTEMPTS + 1):
                # One transaction: the rows and their count are of one snapshot of the source.
                with session.transaction(self._table.name):
                    self._take(sql)
                    self._count(counting, summed)
                if attempt == ATTEMPTS or self._is_still():
                    break
            session.run(f"create or replace temp view {STAGED} as select * from taken")
        return columns

    def bad_lines(self) -> None:
        """A database has none."""
        self._session.run(f"create or replace temp table {BAD_LINES} ({BAD_LINES_COLUMNS})")

    def look_again(self, days: Sequence[date]) -> None:
        """Do nothing: the rows are still there."""

    def balance(self, arrived: Mapping[date | None, int]) -> Balance:
        """Compare day by day, or the totals when the load cursor is text."""
        ours = dict(arrived) if self._by_day else {None: sum(arrived.values())}
        days = on_days(arrived, self.window)
        if self._lost_dates:
            found = (
                f"{self._lost_dates} date(s) such as 2026-06-00, no day of the calendar: mend them at"
                f" the source, or leave them out in {self._session.operator.path.name}."
            )
            return Balance(days, findings=[Finding("UNBALANCED", self._table.name, found)])
        differ = {*ours, *self._counts}
        wrong = [day for day in differ if ours.get(day, 0) != self._counts.get(day, 0)]
        if not wrong:
            return Balance(physical=days)
        physical = on_days(self._counts, self.window) if self._by_day else days
        return Balance(
            physical, findings=[self._unbalanced(day, ours) for day in sorted(wrong, key=str)]
        )

    def _unbalanced(self, day: date | None, ours: Mapping[date | None, int]) -> Finding:
        inside = day is not None and self.window.from_date <= day < self.window.to_date
        return Finding(
            "UNBALANCED",
            f"{self._table.name} {day or ''}".strip(),
            f"The source counts {self._counts.get(day, 0)} rows, {ours.get(day, 0)} arrived."
            f" Check the SELECT in {self._session.operator.path.name}.",
            day if inside else None,
        )

    def source(self, _day: date) -> dict[str, str]:
        """Name the connections that the SELECT reads."""
        names = self._session.operator.connections_of(self._table.name)
        return (
            {"connection": ", ".join(names)} if names else {"select": self._session.operator.name}
        )

    def stated_sums(self, day: date) -> Mapping[str, Decimal]:
        """Return the totals that the database itself made; of several days only when it knows the day."""
        stated = dict(self._sums.get(day, {}))
        if day == self.window.from_date and (self._by_day or len(self.days) == 1):
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

    def close(self) -> None:
        """Drop the rows."""
        self._session.run("drop table if exists taken")

    def _columns(self, sql: str) -> dict[str, str]:
        """The SELECT's columns; when it fitted the source before, the source has changed."""
        session, name = self._session, self._table.name
        try:
            return session.columns(sql)
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            if not any((session.settings.landing_dir / name).glob(f"{LOAD_DATE}=*")):
                raise
            found = f"{without_values(error)}. Mend the SELECT in {session.operator.path.name}."
            raise UnreadableError(Finding("BREAKING_SCHEMA", name, found)) from None

    def _is_still(self) -> bool:
        """Whether rows came or went between the reading and the count, where these are two snapshots."""
        if all(database.one_snapshot for database in self._databases.values()):
            return True
        return bool(
            self._session.rows("select count(*) from taken")[0][0] == sum(self._counts.values())
        )

    def _take(self, sql: str) -> None:
        try:
            self._session.run(f"create or replace temp table taken as {sql}")
        except duckdb.InvalidInputException as error:
            if "invalid unicode" not in str(error).lower():
                raise
            # SQLite keeps any bytes as text.
            raise UnreadableError(
                Finding("WRONG_ENCODING", self._table.name, "A text of the database is not UTF-8.")
            ) from None

    def _sql(self) -> str:
        kinds = {type(kind): kind for kind in self._databases.values()}
        kind = next(iter(kinds.values())) if len(kinds) == 1 else None
        sql = self._session.operator.render(
            self._table.name, window_values(self._session, self.window, kind)
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
        zone = literal(session.settings.timezone)
        cursor, cursor_type = table.load_cursor, columns[table.load_cursor]
        for name, kind in self._databases.items() if len(self._databases) == 1 else ():
            own = kind.own_words(name, sql)
            if own is None:
                continue
            day = kind.local_day(cursor, cursor_type, zone)
            measures = [
                measure
                for measure, column in measures_of(table).items()
                if columns.get(column.name, "VARCHAR") != "VARCHAR"
                or (kind.sums_text and column.name in columns)
            ]
            sums = "".join(f", {kind.total(measures_of(table)[m].name)}" for m in measures)
            dates = [n for n, type_ in columns.items() if type_ in ("DATE", "TIMESTAMP")]
            counting = (
                f"select {day or NO_DAY} as day, count(*) as n, {kind.lost_dates(dates)} as lost{sums}"
                f" from ({own}) as x group by 1"
            )
            asked = kind.asked(name, counting)
            # Not when the SELECT is in DuckDB's own SQL: then DuckDB asks a second time.
            with contextlib.suppress(duckdb.Error):
                session.columns(asked)
                self._by_day = day is not None
                return asked, measures
        day = DUCKDB.local_day(cursor, cursor_type, zone)
        self._by_day = day is not None
        return (
            f"select {day or NO_DAY} as day, count(*) as n, 0 as lost from ({sql}) as x group by 1",
            [],
        )

    def _count(self, counting: str, summed: Sequence[str]) -> None:
        scales = {name: 100 if name.endswith("fen") else 1 for name in summed}
        self._counts.clear()
        self._sums.clear()
        self._lost_dates = 0
        for day, rows, lost, *sums in self._session.rows(counting):
            self._counts[day] = int(rows)
            self._lost_dates += int(lost)
            self._sums[day] = {
                name: sum_of(text) * scales[name] for name, text in zip(summed, sums, strict=True)
            }


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


def window_values(
    session: Session, window: Window, database: Database | None = None
) -> dict[str, str]:
    """Return the SQL text of the window's placeholders: local midnights, the last one excluded.

    Args:
        session: knows the operator's zone.
        window: load dates.
        database: kind of database that is compared with them; None is DuckDB's own SQL.
    """
    kind = database or DUCKDB
    values = {}
    for side, day in (("from", window.from_date), ("to", window.to_date)):
        midnight = datetime(day.year, day.month, day.day, tzinfo=session.settings.zone)
        values[f"{side}_at"] = kind.instant(midnight)
        values[f"{side}_local"] = kind.local(midnight)
        values[f"{side}_date"] = kind.day(midnight)
    return values


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
