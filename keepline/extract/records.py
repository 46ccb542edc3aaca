"""A table's files as the relation `records`, and the operator's SELECT over it.

Its columns have the names of the header and are text, but for those of Parquet. Besides them `records` has
`source_file`, `line_no` and, for files of one day each, `load_date`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa

from keepline.contract import LOAD_DATE, Table
from keepline.errors import UsageError
from keepline.extract import encodings
from keepline.extract.delivery import (
    BAD_LINES,
    BAD_LINES_COLUMNS,
    STAGED,
    Balance,
    Delivery,
    FileReadError,
    UnreadableError,
    check_columns,
    on_days,
    window_values,
)
from keepline.extract.files import SourceFile, header_told
from keepline.extract.own_files import own_folders
from keepline.extract.places import Numbers, Places
from keepline.extract.rules import FOUND_IN, LINE_NO, SOURCE_FILE
from keepline.extract.scan import CHUNK, CsvScan
from keepline.extract.session import (
    LOST,
    MEMORY_FILES,
    Session,
    literal,
    memory_told,
    path_literal,
    quoted,
)
from keepline.extract.sql import LINE, OWN, PATH
from keepline.extract.verdict import Finding
from keepline.window import Window

# Text read at once, unpacked; more would not fit into memory together with its typed copy.
BATCH_BYTES = 128 << 20
GZIP_RATIO = 6
# Errors that no file can cause.
NO_SUCH_COLUMN = re.compile("Referenced column|does not have a column named")
WRONG_SELECT = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)
# DuckDB's words for a line that it cannot read.
LINE_REASONS = {
    "MISSING COLUMNS": "COLUMN_COUNT",
    "TOO MANY COLUMNS": "COLUMN_COUNT",
    "UNQUOTED VALUE": "BAD_QUOTE",
    "INVALID ENCODING": "BAD_ENCODING",
    "LINE SIZE OVER MAXIMUM": "LINE_TOO_LONG",
}
NUMBER = f"{OWN}number"
ROW, PLACE, SHIFT = quoted(f"{OWN}row"), quoted(f"{OWN}place"), quoted(f"{OWN}shift")


class FileDelivery:
    """CSV files with the same header, read in one query; other formats inherit from it."""

    def __init__(
        self, session: Session, table: Table, window: Window, files: Sequence[SourceFile]
    ) -> None:
        self.window = window
        self.nul_bytes = any(file.nul_bytes for file in files)
        self.unseen = any(file.unseen for file in files)
        self._session = session
        self._table = table
        self._files = list(files)
        self._dated = files[0].load_date is not None
        self._set = session.operator.files[files[0].file_set]
        self._decoded: dict[str, int] = {}
        self._unread_at: dict[str, Numbers] = {}

    @property
    def days(self) -> Sequence[date]:
        """The days of the files, or of the window when their rows carry their own."""
        dated = [file.load_date for file in self._files if file.load_date is not None]
        return dated or self.window.days()

    @property
    def load_date(self) -> str | None:
        """A file of one day says which; other rows carry their own dates."""
        return LOAD_DATE if self._dated else None

    def stage(self) -> dict[str, str]:
        """Make views only: the files are read while their rows are judged."""
        return self._stage(self._files, lines=False)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn an error about what stands in a file into the finding that holds that file."""
        session, name = self._session, self._table.name
        with session.translated(name):
            try:
                with memory_told():
                    yield
            except WRONG_SELECT:
                raise
            except duckdb.Error as error:
                if isinstance(error, duckdb.OutOfMemoryException) or LOST.search(str(error)):
                    raise
                found = f"{session.told(name, error)}. Ask for it again, or mend the SELECT."
                day = self._files[0].load_date if len(self._files) == 1 else None
                finding = Finding("BAD_FILE", self._files[0].name, found, day)
                raise FileReadError(finding) from None

    def look_again(self, days: Sequence[date]) -> None:
        """Read the files of some days once more, now numbering their lines."""
        self._stage(
            [file for file in self._files if file.load_date is None or file.load_date in days],
            lines=True,
        )

    def bad_lines(self) -> None:
        """Make the table `BAD_LINES` of the lines that the last reading left out."""
        reasons = " ".join(
            f"when {literal(word)} then {literal(code)}" for word, code in LINE_REASONS.items()
        )
        first_day = f"date {literal(self.window.from_date)}"
        # A line can have several errors; it is one line.
        found = self._session.rows(
            f"""select
                source_file, line_byte_position - 1 as position,
                min(case error_type {reasons} else 'BAD_LINE' end)
            from bad_line join bad_scan using (scan_id, file_id)
            join delivered on delivered.path = bad_scan.file_path
            group by all order by all"""
        )
        self._session.run(f"create or replace temp table {BAD_LINES} ({BAD_LINES_COLUMNS})")
        self._unread_at = {}
        for name, lines in itertools.groupby(found, key=lambda row: row[0]):
            self._add_unread(str(name), [(int(at), str(code)) for _, at, code in lines])
        again = [file for file in self._files if file.repeated_header]
        if again:
            self._session.run(
                f"""insert into {BAD_LINES}
                select
                    {PLACE}.source_file, coalesce({PLACE}.load_date, {first_day}), {ROW}.{quoted(LINE)},
                    'REPEATED_HEADER'
                from {self._reader(again, lines=True, rejects="other")} as {ROW}
                join delivered as {PLACE} on {PLACE}.path = {ROW}.{quoted(PATH)}
                where {self._is_header()}"""
            )
            self._session.run("drop table other_line; drop table other_scan")

    def balance(self, arrived: Mapping[date | None, int]) -> Balance:
        """Compare with the records counted in the bytes of the files."""
        session = self._session
        bad = dict(
            session.rows(f"select source_file, count(*) from {BAD_LINES} group by source_file")
        )
        physical: dict[date, int] = {}
        skipped: dict[date, int] = {}
        findings = []
        odd = []
        for file in self._files:
            rows = arrived.get(file.load_date, 0) if self._dated else sum(arrived.values())
            if rows + bad.get(file.name, 0) != file.records:
                odd.append((file, rows + bad.get(file.name, 0)))
            if file.load_date is not None:
                physical[file.load_date] = rows + bad.get(file.name, 0)
        # The SELECT may leave records out or make several rows of one: then count what DuckDB read.
        parsed = self._parsed() if odd else {}
        for file, rows in odd:
            if parsed.get(file.name, 0) != file.records:
                findings.append(
                    Finding(
                        "UNBALANCED",
                        file.name,
                        f"It holds {file.records} records, {parsed.get(file.name, 0)} were read."
                        " Look for quotes that do not pair.",
                        file.load_date,
                    )
                )
            if file.load_date is not None and rows < file.records:
                physical[file.load_date] = file.records
                skipped[file.load_date] = file.records - rows
        if not self._dated:
            lines = sum(bad.values())
            physical = on_days({**arrived, None: arrived.get(None, 0) + lines}, self.window)
        return Balance(physical, skipped, findings)

    def source(self, day: date) -> dict[str, str]:
        """Name the file and its checksum."""
        file = next(f for f in self._files if f.load_date in (None, day))
        return {"file": file.name, "sha256": file.sha256}

    def stated_sums(self, day: date) -> Mapping[str, Decimal]:
        """Return the totals of the day's manifest."""
        stated = next((file.sums for file in self._files if file.load_date == day), {})
        return {name: Decimal(total) for name, total in stated.items()}

    def halves(self) -> Sequence[Delivery]:
        """Return the two halves of the files."""
        middle = len(self._files) // 2
        parts = [self._files[:middle], self._files[middle:]] if middle else []
        return [type(self)(self._session, self._table, self.window, part) for part in parts]

    def close(self) -> None:
        """Forget the files that were decoded into memory."""
        for descriptor in self._decoded.values():
            os.close(descriptor)
        self._decoded.clear()

    # -- views -----------------------------------------------------------------------------------

    def _stage(self, files: Sequence[SourceFile], *, lines: bool) -> dict[str, str]:
        session, name = self._session, self._table.name
        self._make_records(files, lines=lines)
        with self.reading():
            sql = session.operator.select(
                name, window_values(session, self.window), own_folders(session.settings)
            )
            try:
                columns = self._make_staged(sql)
            except duckdb.BinderException as error:
                if NO_SUCH_COLUMN.search(str(error)):
                    raise UnreadableError(self._breaking(error)) from None
                # A SELECT that fitted before meets a column of another kind: that holds these files.
                if not any((session.settings.landing_dir / name).glob(f"{LOAD_DATE}=*")):
                    raise
                found = f"{session.told(name, error)}. Agree on the change, or mend the SELECT."
                finding = Finding("BREAKING_SCHEMA", self._files[0].name, found)
                raise UnreadableError(finding) from None
            check_columns(session, self._table, columns)
        return columns

    def _make_records(self, files: Sequence[SourceFile], *, lines: bool) -> None:
        session = self._session
        session.run("drop table if exists bad_line")
        session.run("drop table if exists bad_scan")
        rows = ", ".join(
            f"({literal(self._path(file))}, {literal(file.name)}, {_date(file.load_date)})"
            for file in files
        )
        session.run(
            "create or replace temp table delivered as"
            f" select * from (values {rows}) as t (path, source_file, load_date)"
        )
        fields = ", ".join(f"{self._field(name)} as {quoted(name)}" for name in files[0].header)
        day = f"{PLACE}.load_date as {LOAD_DATE}, " if self._dated else ""
        again = f" where ({self._is_header()}) is not true"
        session.run(
            f"""create or replace temp view records as
            select
                {fields}, {day}{PLACE}.source_file as {SOURCE_FILE}, {ROW}.{quoted(LINE)} as {LINE_NO}
            from {self._reader(files, lines=lines)} as {ROW}
            join delivered as {PLACE} on {PLACE}.path = {ROW}.{quoted(PATH)}
            {again if any(file.repeated_header for file in files) else ""}"""
        )

    def _path(self, file: SourceFile) -> str:
        """Where DuckDB finds the text in UTF-8; in clear it may only be in memory."""
        if self._set.encoding == "utf-8" and not file.odd_gzip:
            return str(file.path)
        if file.name not in self._decoded:
            self._decoded[file.name] = encodings.decoded(file.path, self._set.encoding)
        return f"{MEMORY_FILES}/{self._decoded[file.name]}"

    def _reader(self, files: Sequence[SourceFile], *, lines: bool, rejects: str = "bad") -> str:
        """Return the relation of the records with the path of their file and, if wanted, their lines."""
        columns = ", ".join(f"{literal(name)}: 'varchar'" for name in files[0].header)
        paths = ", ".join(path_literal(self._path(file)) for file in files)
        reader = f"""read_csv(
            [{paths}], columns = {{{columns}}}, header = true, auto_detect = false, delim = ',',
            quote = '"', escape = '"', strict_mode = true, filename = '{PATH}', encoding = 'utf-8',
            hive_partitioning = false,
            store_rejects = true, rejects_table = '{rejects}_line', rejects_scan = '{rejects}_scan'
        )"""
        if not lines:
            return f"(select *, cast(null as bigint) as {quoted(LINE)} from {reader})"
        # Numbering keeps the order of the files and makes the reading slow: only for files with bad rows.
        number, path, line = quoted(NUMBER), quoted(PATH), quoted(LINE)
        numbered = f"(select *, row_number() over () as {number} from {reader})"
        if len(files) > 1:
            # The rows of one file pass by; to know where each of several begins, all must be in memory.
            first = f"min({number}) over (partition by {path})"
            numbered = f"(select * replace ({number} - {first} + 1 as {number}) from {numbered})"
        self._make_shifts(files)
        return f"""(
            select {ROW}.*, {ROW}.{number} + coalesce({SHIFT}.ahead, 1) as {line}
            from {numbered} as {ROW} asof left join line_shift as {SHIFT}
                on {ROW}.{path} = {SHIFT}.path and {ROW}.{number} >= {SHIFT}.number
        )"""

    def _places(self, file: SourceFile) -> Places:
        """Look where the records of a file stand."""
        if file.name in self._decoded:
            return Places(_pieces(self._decoded[file.name]))
        return Places(CsvScan(file.path).unpacked())

    def _add_unread(self, name: str, found: Sequence[tuple[int, str]]) -> None:
        """Add lines of a file, which DuckDB names by their bytes, to `BAD_LINES`."""
        file = next(file for file in self._files if file.name == name)
        places = self._places(file)
        self._unread_at[name] = places.at(position for position, _ in found)
        day = file.load_date or self.window.from_date
        lines = places.lines[self._unread_at[name]].tolist()
        rows = pa.table(
            {"line_no": lines, "reason_code": [code for _, code in found]},
            schema=pa.schema([("line_no", pa.int64()), ("reason_code", pa.string())]),
        )
        self._insert(BAD_LINES, rows, f"{literal(name)}, date {literal(day)}, line_no, reason_code")

    def _make_shifts(self, files: Sequence[SourceFile]) -> None:
        """Make the table by which the numbers of records become those of physical lines."""
        self._session.run(
            "create or replace temp table line_shift (path varchar, number bigint, ahead bigint)"
        )
        for file in files:
            unread = self._unread_at.get(file.name)
            if file.odd_lines or unread is not None:
                none = np.empty(0, np.int64)
                numbers, ahead = self._places(file).shifts(none if unread is None else unread)
                rows = pa.table({"number": numbers, "ahead": ahead})
                self._insert("line_shift", rows, f"{literal(self._path(file))}, number, ahead")

    def _insert(self, table: str, batches: pa.RecordBatchReader | pa.Table, columns: str) -> None:
        connection = self._session.connection
        connection.register("batches", batches)
        try:
            self._session.run(f"insert into {table} select {columns} from batches")
        finally:
            connection.unregister("batches")

    def _field(self, name: str) -> str:
        """A column as it is delivered; the words that mean no value become none."""
        words = ", ".join(literal(word) for word in self._set.nulls)
        field = f"{ROW}.{quoted(name)}"
        return f"case when {field} not in ({words}) then {field} end" if words else field

    def _is_header(self) -> str:
        """Whether a record repeats the header."""
        return " and ".join(
            f"{ROW}.{quoted(name)} = {literal(name)}" for name in self._files[0].header
        )

    def _make_staged(self, sql: str) -> dict[str, str]:
        """Make the view over the SELECT, which gets the columns that say where a row came from."""
        session = self._session
        own = {column.name for column in self._table.columns}
        called = {
            name: FOUND_IN[name] if name in own else name
            for name in [*([LOAD_DATE] if self._dated else []), *FOUND_IN]
        }
        wanted = list(called.values())
        columns = session.columns(sql)
        missing = [f"{name} as {word}" for name, word in called.items() if word not in columns]
        if missing:
            sql, changed = re.subn(r"(?i)\A\s*select\b", f"select {', '.join(missing)},", sql)
            try:
                columns = session.columns(sql) if changed else {}
            except duckdb.Error:
                columns = {}
            if not set(wanted) <= set(columns):
                raise UsageError(
                    f"{session.operator.path.name}, table {self._table.name}: the SELECT is more than one"
                    f" plain `select ... from records`, so it must return {', '.join(wanted)} itself"
                )
        session.run(f"create or replace temp view {STAGED} as {sql}")
        return columns

    def _breaking(self, error: duckdb.Error) -> Finding:
        column = re.search(r'(?:Referenced column|a column named) "([^"]*)"', str(error))
        sql = self._session.operator.tables[self._table.name].sql
        name = column.group(1) if column and column.group(1).lower() in sql.lower() else "a column"
        others = f" and {len(self._files) - 1} more" if len(self._files) > 1 else ""
        known = re.findall(r"\w+", sql)
        return Finding(
            "BREAKING_SCHEMA",
            self._files[0].name + others,
            f"{self._session.operator.path.name} asks for {name}; {header_told(self._files[0].header, known)}"
            " Agree on the change, then change the SELECT.",
        )

    def _parsed(self) -> dict[str, int]:
        """Count the records that DuckDB reads, those that it sets aside among them."""
        session = self._session
        self._make_records(self._files, lines=False)
        # Every column, because an encoding is only checked where a column is read.
        every = ", ".join(f"max({quoted(name)})" for name in self._files[0].header)
        rows = session.rows(f"select {SOURCE_FILE}, count(*), {every} from records group by 1")
        counts = {row[0]: row[1] for row in rows}
        for name, lines in self._unread():
            counts[name] = counts.get(name, 0) + lines
        return counts

    def _unread(self) -> list[tuple[str, int]]:
        """Count the lines that are no row, by file."""
        return self._session.rows(
            f"""select source_file, count(distinct line_byte_position) from bad_line
            join bad_scan using (scan_id, file_id) join delivered on path = file_path group by 1
            union all
            select source_file, count(*) from {BAD_LINES} where reason_code = 'REPEATED_HEADER'
            group by 1"""
        )


def in_batches(files: Sequence[SourceFile]) -> list[list[SourceFile]]:
    """Group files by columns, in order, so that no group is too much for memory."""
    groups: list[list[SourceFile]] = []
    room = 0
    for file in files:
        text = file.size * (GZIP_RATIO if file.path.suffix in (".gz", ".parquet") else 1)
        columns = (file.header, file.types)
        other = not groups or (groups[-1][-1].header, groups[-1][-1].types) != columns
        if other or text > room:
            groups.append([])
            room = BATCH_BYTES
        groups[-1].append(file)
        room -= text
    return groups


def _pieces(descriptor: int) -> Iterator[bytes]:
    """Yield what is in a file in memory, whose place is left alone."""
    at = 0
    while piece := os.pread(descriptor, CHUNK, at):
        at += len(piece)
        yield piece


def _date(day: date | None) -> str:
    return "cast(null as date)" if day is None else f"date {literal(day)}"
