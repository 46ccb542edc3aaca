"""Rows out of compute into one Parquet file: the same for every engine, as DuckDB reads them all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import duckdb

from keepline.failpoint import reach


def export(
    connected: AbstractContextManager[duckdb.DuckDBPyConnection], sql: str, path: Path
) -> int:
    """Write the rows of a query to one Parquet file, whole or not at all, and count them.

    Args:
        connected: an engine's `connection()`, opened here.
        sql: query in DuckDB's SQL; the file keeps its order.
        path: file to write or replace.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name, so that the next run writes over what a killed one left.
    draft = path.with_name(f".{path.name}.draft")
    quoted = str(draft).replace("'", "''")
    try:
        with connected as connection:
            row = connection.execute(
                f"copy ({sql}) to '{quoted}' (format parquet, compression zstd)"
            ).fetchone()
            reach("export.drafted")
            # Before the connection is given up: nobody else writes this draft.
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return int(row[0]) if row else 0
