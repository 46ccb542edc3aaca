"""The delivery of a database: the operator's SELECT, taken over and counted by the database itself."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from decimal import Decimal

import duckdb

from keepline.contract import LOAD_DATE, Table
from keepline.extract.database import Database
from keepline.extract.delivery import (
    BAD_LINES,
    BAD_LINES_COLUMNS,
    DUCKDB,
    STAGED,
    Balance,
    Delivery,
    UnreadableError,
    check_columns,
    measures_of,
    midnights,
    on_days,
    sum_of,
    words,
)
from keepline.extract.own_files import own_folders
from keepline.extract.pacing import paced
from keepline.extract.session import TEXT_PROTOCOL, Session, literal, without_values
from keepline.extract.verdict import Finding
from keepline.window import Window

# Readings of a source whose rows move while they are counted.
ATTEMPTS = 3
NO_DAY = "cast(null as date)"
# What DuckDB says of such a number that comes as text.
NOT_FINITE = re.compile(r'string "(NaN|-?Infinity)" to DECIMAL')
# Placeholders that can stand for a part of a day, and all of the window's.
TIME_WORDS = {"from_at", "to_at", "from_local", "to_local"}
WINDOW_WORDS = {*TIME_WORDS, "from_date", "to_date"}


class _MovedError(Exception):
    """Rows came or went between the reading of a piece and its count."""


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
            from_at, to_at = midnights(session, self.window)
            whole = self._sql(from_at, to_at)
            columns = self._columns(whole)
            check_columns(session, self._table, columns)
            counting, summed, is_sure = self._counting(whole, columns)
            self._read_exactly(not is_sure)
            session.run("drop table if exists taken")
            self._counts, self._sums, self._lost_dates = {}, {}, 0
            for piece in self._pieces(from_at, to_at):
                sql = self._sql(*piece)
                self._take_piece(sql, counting(sql), summed)
            session.run(f"create or replace temp view {STAGED} as select * from taken")
        return columns

    def reading(self) -> AbstractContextManager[None]:
        """The rows are there; what is wrong is the SELECT."""
        return self._session.translated(self._table.name)

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

    def _pieces(self, from_at: datetime, to_at: datetime) -> Iterable[tuple[datetime, datetime]]:
        """The window as a whole, or in pieces with rests where the operator file asks for that."""
        session, name = self._session, self._table.name
        share = session.operator.busy_share(name)
        used = session.operator.placeholders(name) & WINDOW_WORDS
        if share is None or not used:
            return [(from_at, to_at)]
        # Where the clock is changed, or days are compared, a piece is a whole number of days.
        by_time = used <= TIME_WORDS and session.steady_clock(self.window) is not None
        finest = timedelta(seconds=1) if by_time else timedelta(days=1)
        return paced(from_at, to_at, share, finest)

    def _take_piece(self, sql: str, counting: str, summed: Sequence[str]) -> None:
        """Take a piece and count it; again when rows came or went between these two."""
        for attempt in range(1, ATTEMPTS + 1):
            before = dict(self._counts), copy.deepcopy(self._sums), self._lost_dates
            with contextlib.suppress(_MovedError):
                # One transaction: the rows and their count are of one snapshot of the source.
                with self._session.transaction(self._table.name):
                    self._take(sql)
                    self._count(counting, summed)
                    if attempt < ATTEMPTS and not self._is_still():
                        raise _MovedError
                return
            self._counts, self._sums, self._lost_dates = before

    def _is_still(self) -> bool:
        """Whether rows came or went between the reading and the count, where these are two snapshots."""
        if all(database.one_snapshot for database in self._databases.values()):
            return True
        return bool(
            self._session.rows("select count(*) from taken")[0][0] == sum(self._counts.values())
        )

    def _take(self, sql: str) -> None:
        first = not self._session.rows("select 1 from duckdb_tables() where table_name = 'taken'")
        try:
            self._session.run(
                f"create temp table taken as {sql}" if first else f"insert into taken {sql}"
            )
        except duckdb.ConversionException as error:
            if not NOT_FINITE.search(str(error)):
                raise
            found = "A number of the source is NaN or infinite: no amount. Mend it at the source, or leave"
            told = f"{found} the row out in {self._session.operator.path.name}."
            raise UnreadableError(Finding("SUM_MISMATCH", self._table.name, told)) from None
        except duckdb.InvalidInputException as error:
            if "invalid unicode" not in str(error).lower():
                raise
            # SQLite keeps any bytes as text.
            raise UnreadableError(
                Finding("WRONG_ENCODING", self._table.name, "A text of the database is not UTF-8.")
            ) from None

    def _sql(self, from_at: datetime, to_at: datetime) -> str:
        kinds = {type(kind): kind for kind in self._databases.values()}
        kind = next(iter(kinds.values())) if len(kinds) == 1 else DUCKDB
        return self._session.operator.select(
            self._table.name,
            {**words("from", from_at, kind), **words("to", to_at, kind)},
            own_folders(self._session.settings),
        )

    def _counting(
        self, whole: str, columns: Mapping[str, str]
    ) -> tuple[Callable[[str], str], list[str], bool]:
        """Return what makes of a SELECT the query that counts its rows, the summed measures, and who counts.

        The last one says that the database itself counts and sums.

        The database itself counts and sums when it understands the SELECT. Its sums matter: DuckDB reads a
        NaN or an infinity in a `numeric` as 0 and a `numeric` without a scale as a floating-point number.
        """
        session, table = self._session, self._table
        zone = literal(session.settings.timezone)
        cursor, cursor_type = table.load_cursor, columns[table.load_cursor]
        for name, kind in self._databases.items() if len(self._databases) == 1 else ():
            if kind.own_words(name, whole) is None:
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
            counted = f"select {day or NO_DAY} as day, count(*) as n, {kind.lost_dates(dates)} as lost{sums}"

            def ask(
                sql: str, name: str = name, kind: Database = kind, counted: str = counted
            ) -> str:
                own = kind.own_words(name, sql)
                return kind.asked(name, f"{counted} from ({own}) as x group by 1")

            # Not when the SELECT is in DuckDB's own SQL: then DuckDB asks a second time.
            with contextlib.suppress(duckdb.Error):
                session.columns(ask(whole))
                self._by_day = day is not None
                return ask, measures, True
        day = DUCKDB.local_day(cursor, cursor_type, zone)
        self._by_day = day is not None
        counted = f"select {day or NO_DAY} as day, count(*) as n, 0 as lost"
        return lambda sql: f"{counted} from ({sql}) as x group by 1", [], False

    def _read_exactly(self, wanted: bool) -> None:
        """Have PostgreSQL send numbers as text where no sum of its own would show a lost one.

        DuckDB takes the NaN or the infinity of a binary `numeric` for 0, and those of a text for none.
        """
        if any(database.sends_text for database in self._databases.values()):
            self._session.run(f"set {TEXT_PROTOCOL} = {str(wanted).lower()}")

    def _count(self, counting: str, summed: Sequence[str]) -> None:
        scales = {name: 100 if name.endswith("fen") else 1 for name in summed}
        for day, rows, lost, *sums in self._session.rows(counting):
            self._counts[day] = self._counts.get(day, 0) + int(rows)
            self._lost_dates += int(lost)
            totals = self._sums.setdefault(day, dict.fromkeys(summed, Decimal(0)))
            for name, text in zip(summed, sums, strict=True):
                totals[name] += sum_of(text) * scales[name]
