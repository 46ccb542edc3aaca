"""Files that are no CSV as the relation `records`: JSON-lines and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa

from keepline.contract import Table
from keepline.extract.delivery import BAD_LINES, BAD_LINES_COLUMNS
from keepline.extract.files import SourceFile
from keepline.extract.json_lines import Records
from keepline.extract.records import NUMBER, ROW, FileDelivery
from keepline.extract.scan import JsonScan
from keepline.extract.session import Session, literal, path_literal, quoted
from keepline.extract.sql import LINE, PATH
from keepline.window import Window

# What DuckDB calls the position of a Parquet row, from 0.
NUMBER_COLUMN = "file_row_number"
READ, UNREAD = "json_records", "json_unread"


def file_delivery(
    session: Session, table: Table, window: Window, files: Sequence[SourceFile]
) -> FileDelivery:
    """Return the delivery of files of one set, by the set's format."""
    kinds = {"csv": FileDelivery, "jsonl": JsonDelivery, "parquet": ParquetDelivery}
    return kinds[session.operator.files[files[0].file_set].format](session, table, window, files)


class JsonDelivery(FileDelivery):
    """JSON-lines: read by Python into memory, every value as text."""

    def stage(self) -> dict[str, str]:
        """Read the files; later steps do not read them again."""
        session, header = self._session, self._files[0].header
        columns = ", ".join(f"{quoted(name)} varchar" for name in header)
        session.run(
            f"create or replace temp table {READ}"
            f" ({columns}, {quoted(LINE)} bigint, {quoted(PATH)} varchar)"
        )
        bad: list[tuple[str, date, int, str]] = []
        for file in self._files:
            records = Records(JsonScan(file.path).lines(), self._set.encoding, header)
            self._insert(
                READ,
                pa.RecordBatchReader.from_batches(records.schema, records.batches()),
                f"*, {literal(self._path(file))}",
            )
            day = file.load_date or self.window.from_date
            bad += [(file.name, day, number, code) for number, code in records.bad]
        session.run(f"create or replace temp table {UNREAD} ({BAD_LINES_COLUMNS})")
        if bad:
            names = ["source_file", "load_day", "line_no", "reason_code"]
            self._insert(UNREAD, pa.table(list(zip(*bad, strict=True)), names=names), "*")
        return super().stage()

    def bad_lines(self) -> None:
        """Make the table `BAD_LINES` of the lines that are no object."""
        self._session.run(f"create or replace temp table {BAD_LINES} as from {UNREAD}")

    def close(self) -> None:
        """Drop the records."""
        self._session.run(f"drop table if exists {READ}; drop table if exists {UNREAD}")

    def _path(self, file: SourceFile) -> str:
        return str(file.path)

    def _reader(self, files: Sequence[SourceFile], *, lines: bool, rejects: str = "") -> str:  # noqa: ARG002
        return READ

    def _unread(self) -> list[tuple[str, int]]:
        return self._session.rows(f"select source_file, count(*) from {BAD_LINES} group by 1")


class ParquetDelivery(FileDelivery):
    """Parquet: columns have types of their own and real gaps; the number of a row is its line."""

    def bad_lines(self) -> None:
        """There are none: a damaged file was held."""
        self._session.run(f"create or replace temp table {BAD_LINES} ({BAD_LINES_COLUMNS})")

    def _path(self, file: SourceFile) -> str:
        return str(file.path)

    def _reader(self, files: Sequence[SourceFile], *, lines: bool, rejects: str = "") -> str:  # noqa: ARG002
        paths = ", ".join(path_literal(file.path) for file in files)
        own = ", ".join(quoted(name) for name in files[0].header)
        # Impala, old Hive and others leave out the mark that a text is one.
        reader = (
            f"read_parquet([{paths}], filename = '{PATH}', hive_partitioning = false,"
            " binary_as_string = true)"
        )
        number, path, line = quoted(NUMBER), quoted(PATH), quoted(LINE)
        if NUMBER_COLUMN not in {name.lower() for name in files[0].header}:
            return f"(select {own}, {path}, {NUMBER_COLUMN} + 1 as {line} from {reader})"
        # The file's own column hides DuckDB's; rows come in the order of the files.
        numbered = f"(select *, row_number() over () as {number} from {reader})"
        first = f"min({number}) over (partition by {path})"
        return f"(select {own}, {path}, {number} - {first} + 1 as {line} from {numbered})"

    def _field(self, name: str) -> str:
        return f"{ROW}.{quoted(name)}"

    def _unread(self) -> list[tuple[str, int]]:
        return []
