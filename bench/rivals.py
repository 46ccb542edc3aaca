"""What a user would take instead of keepline to bring a PostgreSQL table into Parquet.

Runs in `.venv-bench` (requirements-bench.lock), which keepline is not part of. Each is used the way its own
documentation begins with, with nothing tuned but a batch size where the default is for a handful of rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .alone import Clock, serve

BATCH = 100_000


def connectorx(given: Mapping[str, Any], clock: Clock) -> int:
    """Read the table with ConnectorX as Arrow and write it to one Parquet file."""
    import connectorx as cx
    import pyarrow.parquet as pq

    with clock:
        table = cx.read_sql(
            given["url"],
            f"select * from {given['table']}",
            return_type="arrow",
            partition_on="line_no",
            partition_num=2,
        )
        pq.write_table(table, Path(given["folder"]) / "connectorx.parquet", compression="zstd")
    return int(table.num_rows)


def dlt(given: Mapping[str, Any], clock: Clock) -> int:
    """Let dlt read the table in Arrow batches and leave Parquet files in a folder."""
    os.environ["DLT_DATA_DIR"] = str(Path(given["folder"]) / "dlt_data")
    import dlt as dlt_package
    from dlt.destinations import filesystem
    from dlt.sources.sql_database import sql_table

    schema, name = given["table"].split(".")
    with clock:
        source = sql_table(
            _with_driver(given["url"]),
            table=name,
            schema=schema,
            backend="pyarrow",
            chunk_size=BATCH,
        )
        pipeline = dlt_package.pipeline(
            "bench",
            pipelines_dir=str(Path(given["folder"]) / "dlt_pipelines"),
            destination=filesystem(bucket_url=(Path(given["folder"]) / "dlt").as_uri()),
            dataset_name="landing",
        )
        pipeline.run(source, loader_file_format="parquet", write_disposition="replace")
        rows = pipeline.last_trace.last_normalize_info.row_counts[name]
    return int(rows)


def pandas(given: Mapping[str, Any], clock: Clock) -> int:
    """Read the table whole with pandas and write it to one Parquet file."""
    import pandas as pd
    from sqlalchemy import create_engine

    with clock:
        frame = pd.read_sql(
            f"select * from {given['table']}", create_engine(_with_driver(given["url"]))
        )
        frame.to_parquet(Path(given["folder"]) / "pandas.parquet", compression="zstd")
    return len(frame)


def _with_driver(url: str) -> str:
    # SQLAlchemy's own choice, psycopg 3, is slower here.
    return url.replace("postgresql://", "postgresql+psycopg2://")


CONTENDERS = {"connectorx": connectorx, "dlt": dlt, "pandas": pandas}

if __name__ == "__main__":
    serve(CONTENDERS)
