"""The files of landing, read only when they are what their manifest says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from keepline.contract import LOAD_DATE, Table
from keepline.errors import BadDataError
from keepline.ops import LandedBatch
from keepline.window import Window

PART = "part-0.parquet"
MANIFEST = "_manifest.json"


def whole_parts(partition: Path) -> list[Path]:
    """Return the Parquet files of a partition after comparing them with its manifest.

    Hashing is faster than the loading that follows, and it is what tells a damaged disk, a file that
    somebody changed or removed, and an extraction that was killed, from a day as it was extracted.

    Args:
        partition: folder `landing/<table>/load_date=<day>`; one that is not there is a day without rows.

    Raises:
        BadDataError: file and manifest do not agree, or one of them is missing.
    """
    part, manifest = partition / PART, partition / MANIFEST
    if not part.exists() and not manifest.exists():
        return []
    try:
        stated = json.loads(manifest.read_bytes())["sha256"]
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        reason = "" if stated == found else "its file is not the one that its manifest names"
    except FileNotFoundError as error:
        reason = f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError):
        reason = "its manifest cannot be read"
    if reason:
        day = partition.name.partition("=")[2]
        raise BadDataError(
            f"landing of {partition.parent.name} {day} is damaged: {reason}. "
            f"Run: keepline extract --date {day} --table {partition.parent.name}"
        )
    return [part]


@dataclass(frozen=True)
class Unrecorded:
    """A batch of landing that is not what is on record.

    Attributes:
        table_name: contract table.
        load_date: business day of the batch.
        told: what differs, in words.
        is_on_record: something landed; what is put back from a backup can be compared with it.
    """

    table_name: str
    load_date: date
    told: str
    is_on_record: bool

    @property
    def command(self) -> str:
        """What makes landing and record agree again: neither is believed without the source."""
        return f"keepline extract --date {self.load_date} --table {self.table_name}"

    @property
    def way_out(self) -> str:
        """What a person can do, in words."""
        again = f"ake the day in again: {self.command}"
        back = "Put the folder back from the backup, which is compared with the record, or t"
        return f"{back if self.is_on_record else 'T'}{again}"


def unrecorded(
    landing_dir: Path,
    recorded: Mapping[tuple[str, date], LandedBatch],
    tables: Iterable[str],
    window: Window | None = None,
) -> list[Unrecorded]:
    """Compare the manifests of landing with what is on record of what landed.

    A folder that vanished looks like a day without rows, and one that was forged with its manifest looks
    whole. Only the record tells them: it lies in the store and not beside them. Files are not read here.

    Args:
        landing_dir: folder of the landing.
        recorded: what landed, by table and load date; see `ops.landed_batches`.
        tables: contract tables to look at.
        window: load dates to look at; None means all.

    Returns:
        The batches that differ, the earliest day first.
    """
    found = []
    for table in tables:
        there = dict(landed_days(landing_dir / table, window))
        known = {day for name, day in recorded if name == table and _is_in(day, window)}
        for day in {*there, *known}:
            told = _told(there.get(day), recorded.get((table, day)))
            if told:
                found.append(Unrecorded(table, day, told, (table, day) in recorded))
    return sorted(found, key=lambda one: (one.load_date, one.table_name))


def expect_recorded(
    landing_dir: Path,
    recorded: Mapping[tuple[str, date], LandedBatch],
    tables: Iterable[str],
    window: Window | None = None,
) -> None:
    """Refuse a landing that is not what is on record; see `unrecorded`.

    Raises:
        BadDataError: a batch vanished, was changed or is on no record.
    """
    found = unrecorded(landing_dir, recorded, tables, window)
    if found:
        first = found[0]
        place = landing_dir / first.table_name / f"{LOAD_DATE}={first.load_date}"
        more = f", and {len(found) - 1:,} more batches differ" if found[1:] else ""
        raise BadDataError(
            f"landing of {first.table_name} {first.load_date} is not what is on record: {first.told} "
            f"({place}){more}. Nothing was loaded. {first.way_out}"
        )


def _told(folder: Path | None, batch: LandedBatch | None) -> str:
    """Say how a batch differs from what is on record, or ''."""
    try:
        content = None if folder is None else (folder / MANIFEST).read_bytes()
    except OSError:
        content = None
    if batch is None:
        is_empty = folder is None or (content is None and not (folder / PART).exists())
        return "" if is_empty else "a folder is there, and no record says that it landed"
    if content is None:
        what = "folder" if folder is None else "manifest"
        return f"{batch.rows:,} rows landed on record, and the {what} is gone"
    if batch.manifest_sha256 is not None:
        same = hashlib.sha256(content).hexdigest() == batch.manifest_sha256
        return (
            "" if same else f"{batch.rows:,} rows landed on record, and the manifest is another one"
        )
    # All that an older version kept of it.
    try:
        rows = int(json.loads(content)["rows"])
    except (ValueError, KeyError, TypeError):
        return "its manifest cannot be read"
    return "" if rows == batch.rows else f"{batch.rows:,} rows on record, {rows:,} in the manifest"


def landed_before(landing_dir: Path, table: str) -> dict[date, LandedBatch]:
    """Return what landing holds of a table, by its manifests: to begin a record where there is none."""
    found = {}
    for day, path in landed_days(landing_dir / table):
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = (path / MANIFEST).read_bytes()
            rows = int(json.loads(content)["rows"])
            found[day] = LandedBatch(rows, hashlib.sha256(content).hexdigest())
    return found


def landed_days(folder: Path, window: Window | None = None) -> Iterator[tuple[date, Path]]:
    """Yield the folders of a table; of a window by name, as a long history has thousands of others."""
    if window is not None:
        named = ((day, folder / f"{LOAD_DATE}={day}") for day in window.days())
        yield from ((day, path) for day, path in named if path.exists())
        return
    for path in folder.glob(f"{LOAD_DATE}=*"):
        # A folder that is named by hand, such as `load_date=2026-06-30.old`, is nobody's day.
        with suppress(ValueError):
            yield date.fromisoformat(path.name.partition("=")[2]), path


def _is_in(day: date, window: Window | None) -> bool:
    return window is None or window.from_date <= day < window.to_date


GLOB = re.compile(r"[*?\[]")
# What DuckDB calls the path of a row's file: no column of the contract has this name.
_PATH = "keepline_part_path"
# Files whose rows carry every column themselves; `?` is the list of files.
OWN_COLUMNS = "read_parquet(?, hive_partitioning = false)"


def exact(path: object) -> str:
    """Return the pattern that means this one file, whatever its folders are called."""
    return GLOB.sub(lambda mark: f"[{mark[0]}]", str(path))


def parts_sql(day: str = LOAD_DATE, *, by_name: bool = False) -> str:
    """Return a relation of the rows of keepline's own partitions, with their day; `?` is the list of files.

    The day is read from the last folder, which keepline named. Every other `name=value` in a path is
    somebody's folder and never data: DuckDB's own reading of such folders takes all of them, and each
    would replace the column that bears its name.

    Args:
        day: the partition's name in the path, and the column that it becomes.
        by_name: look into each file for its columns, as they may not all have the same.
    """
    found = f"regexp_extract({_PATH}, '/{day}=([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})/[^/]*$', 1)"
    return (
        f"(select * exclude ({_PATH}), cast({found} as date) as {day} from read_parquet(?,"  # noqa: S608
        f" hive_partitioning = false, union_by_name = {str(by_name).lower()}, filename = '{_PATH}'))"
    )


class OlderContractError(Exception):
    """Files lack a column that the contract needs."""


def columns_sql(duck: duckdb.DuckDBPyConnection, table: Table, files: Sequence[str]) -> str:
    """Return the SELECT list of a table's landed columns, for `parts_sql(by_name=True)` of these files.

    A contract gains columns, and landing keeps what was extracted before: a column that may be empty is
    empty in files that do not have it.

    Args:
        duck: any DuckDB connection.
        table: of the contract.
        files: patterns of `exact`; at least one.

    Raises:
        OlderContractError: a column that may not be empty is not in every file.
        duckdb.Error: a file cannot be read.
    """
    found = dict(
        duck.execute(
            "select name, count(distinct file_name) from parquet_schema(?)"
            " where num_children is null group by name",
            [list(files)],
        ).fetchall()
    )
    needed = [
        column.name
        for column in table.landed_columns
        if not column.nullable and found.get(column.name, 0) < len(files)
    ]
    if needed:
        raise OlderContractError(f"not every file has {', '.join(needed)}, which may not be empty")
    return ", ".join(
        column.name
        if column.name in found
        else f"cast(null as {column.data_type}) as {column.name}"
        for column in table.landed_columns
    )
