"""Landing and quarantine on disk: whole partitions, replaced whole, the same bytes for the same rows.

A partition is written beside its place and moved there when the whole table of the window is in order.
In landing the manifest moves last and goes first, and it names the checksum of the data: a reader that
finds no manifest, or another checksum, met an extraction that was killed; running it again mends it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from keepline.contract import LOAD_DATE, Table
from keepline.failpoint import reach
from keepline.ops import LandedBatch

PART = "part-0.parquet"
MANIFEST = "_manifest.json"
QUARANTINE_ROWS = "rows.parquet"
INCOMING = ".incoming-"
ROW_GROUP = 122_880
LOAD_DAY = "load_day"

ARROW_TYPES = {
    "text": pa.string(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "decimal(18,2)": pa.decimal128(18, 2),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "boolean": pa.bool_(),
}
QUARANTINE_SCHEMA = pa.schema(
    [
        ("table_name", pa.string()),
        ("load_date", pa.date32()),
        ("reason_code", pa.string()),
        ("column_name", pa.string()),
        ("source_file", pa.string()),
        ("line_no", pa.int64()),
        ("row_json", pa.string()),
    ]
)


def landed_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a table's landing."""
    return pa.schema([(c.name, ARROW_TYPES[c.data_type]) for c in table.landed_columns])


def fingerprint(table: Table) -> str:
    """Return a checksum of the part of the contract that decides what lands."""
    columns = [{**dataclasses.asdict(column), "description": None} for column in table.columns]
    times = [table.load_cursor, table.event_cursor, table.max_ahead_s, table.max_age_days]
    said = [table.name, list(table.key), *times, columns]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


class Partitions:
    """One table's new partitions, beside their places until they are moved; a context manager.

    Leaving without moving them leaves the table as it was.
    """

    def __init__(self, folder: Path, table: Table, schema: pa.Schema, file_name: str) -> None:
        self.rows: dict[date, int] = {}
        self.checksums: dict[date, str] = {}
        self._table = table
        self._folder = folder / table.name
        # Of its own: a run that was overtaken may still write into the one that it had.
        self._incoming = self._folder / f"{INCOMING}{uuid.uuid4().hex}"
        self._schema = schema
        self._file_name = file_name

    def __enter__(self) -> Partitions:
        # What a killed run left behind.
        for left in self._folder.glob(f"{INCOMING}*"):
            shutil.rmtree(left, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._incoming, ignore_errors=True)

    def write(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Write rows that come by load date and carry it in `load_day`.

        A load date that was written before is written again.
        """
        day: date | None = None
        part: _PartWriter | None = None
        try:
            for rows, value in _runs_by_day(batches):
                if part is None or value != day:
                    self._finish(day, part)
                    day, part = value, _PartWriter(self._new(value), self._schema)
                part.add(rows.select(self._schema.names))
            self._finish(day, part)
        finally:
            if part is not None:
                part.abandon()

    def land(
        self, manifests: Mapping[date, Mapping[str, Any]], days: Iterable[date]
    ) -> dict[date, LandedBatch]:
        """Move partitions with their manifests; returns what to keep on record of each.

        Args:
            manifests: what to say of each day that has a partition; rows and checksum are added.
            days: every day of the window; those without a manifest end up without a partition.
        """
        changed = []
        landed = {}
        columns = {c.name: c.data_type for c in self._table.landed_columns}
        contract = fingerprint(self._table)
        for day in manifests:
            if day not in self.rows:
                self._finish(day, _PartWriter(self._new(day), self._schema))
            said = {
                "table": self._table.name,
                "load_date": day.isoformat(),
                "rows": self.rows[day],
                "sha256": self.checksums[day],
                "columns": columns,
                "contract": contract,
                **manifests[day],
            }
            # One line: an indent would make Python's slow encoder do the work, thousands of times.
            manifest = (json.dumps(said, ensure_ascii=False) + "\n").encode()
            landed[day] = LandedBatch(self.rows[day], hashlib.sha256(manifest).hexdigest())
            if not self._is_there(self._target(day), manifest):
                (self._new(day).parent / MANIFEST).write_bytes(manifest)
                reach("landing.manifest")
                changed.append(day)
        self._replace(changed, PART, MANIFEST)
        self._empty([day for day in days if day not in manifests], MANIFEST, PART)
        return landed

    def set_aside(self, days: Collection[date]) -> None:
        """Move partitions that have no manifest; days without one end up without."""
        self._replace([day for day in self.rows if day in days], self._file_name)
        self._empty([day for day in days if day not in self.rows], self._file_name)

    def _replace(self, days: Sequence[date], *names: str) -> None:
        """Put files in place of what is there, in the order of their names."""
        if days:
            # What is moved must be on disk first. One sync for all: a thousand single ones take seconds.
            os.sync()
        for day in days:
            new, target = self._new(day).parent, self._target(day)
            if target.exists():
                for name in names:
                    (new / name).replace(target / name)
                    reach("landing.file")
            else:
                new.rename(target)
            reach("landing.day")

    def _empty(self, days: Sequence[date], *names: str) -> None:
        for day in days:
            target = self._target(day)
            if target.exists():
                for name in names:
                    (target / name).unlink(missing_ok=True)
                    reach("landing.emptying")
                target.rmdir()

    def _target(self, day: date) -> Path:
        return self._folder / f"{LOAD_DATE}={day}"

    def _new(self, day: date) -> Path:
        return self._incoming / f"{LOAD_DATE}={day}" / self._file_name

    def _finish(self, day: date | None, part: _PartWriter | None) -> None:
        if day is not None and part is not None:
            self.rows[day], self.checksums[day] = part.close()

    def _is_there(self, target: Path, manifest: bytes) -> bool:
        try:
            with (target / PART).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            same = (target / MANIFEST).read_bytes() == manifest
        except FileNotFoundError:
            return False
        return same and json.loads(manifest)["sha256"] == found


class _PartWriter:
    """Writes one Parquet file, hashing as it goes, in row groups that do not depend on the batches."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._schema = schema
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._writer = pq.ParquetWriter(_Sink(self._put), schema, compression="zstd")
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        while self._waiting_rows >= ROW_GROUP:
            self._write_group()

    def close(self) -> tuple[int, str]:
        """Finish the file; returns its rows and checksum."""
        if self._waiting_rows:
            self._write_group()
        self._writer.close()
        self._file.close()
        return self._rows, self._digest.hexdigest()

    def abandon(self) -> None:
        """Let go of the file, finished or not."""
        self._file.close()

    def _write_group(self) -> None:
        rows = pa.Table.from_batches(self._waiting)
        # In one piece and typed by the contract: the bytes must not show how DuckDB cut the rows.
        group = rows.slice(0, ROW_GROUP).cast(self._schema).combine_chunks()
        self._writer.write_table(group, row_group_size=ROW_GROUP)
        self._rows += group.num_rows
        self._waiting = rows.slice(ROW_GROUP).to_batches()
        self._waiting_rows = rows.num_rows - group.num_rows

    def _put(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)


class _Sink:
    """The file object that Parquet's writer asks for."""

    closed = False

    def __init__(self, put: Callable[[bytes], int]) -> None:
        self.write = put

    def flush(self) -> None:
        return

    def close(self) -> None:
        return


def _runs_by_day(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, date]]:
    """Cut batches where the load date changes."""
    for batch in batches:
        runs = pc.run_end_encode(batch.column(LOAD_DAY))
        start = 0
        for end, day in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
            yield batch.slice(start, end - start), day
            start = end
