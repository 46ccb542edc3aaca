"""The files of landing, read only when they are what their manifest says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import duckdb

from keepline.contract import LOAD_DATE, Table
from keepline.errors import BadDataError

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
