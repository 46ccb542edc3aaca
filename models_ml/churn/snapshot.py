"""Feature snapshots: what a model saw, kept as immutable Parquet with a SHA-256.

    features/as_of_date=2025-06-30/features-<snapshot id>.parquet
                                   _manifest.json      which file is current, and all earlier ones

Rows are sorted by subscription, columns by name, so equal features give equal bytes and the same
`feature_snapshot_id`: the first 16 hex digits of the file's SHA-256. Scoring and training read
nothing but snapshots.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from keepline.failpoint import reach
from models_ml.churn.errors import SnapshotError
from models_ml.churn.immutable import (
    canonical_json,
    sha256_of_bytes,
    sha256_of_file,
    write_atomically,
)

KEY = "subscription_id"
AS_OF = "as_of_date"
MANIFEST = "_manifest.json"
ID_LENGTH = 16


@dataclass(frozen=True)
class Snapshot:
    """One stored snapshot of the features of one as-of date.

    Attributes:
        snapshot_id: first 16 hex digits of `sha256`.
        as_of_date: business day whose end the features describe.
        path: the Parquet file.
        sha256: hash of the file's bytes.
        rows: subscriptions in it.
        columns: its columns, sorted by name.
    """

    snapshot_id: str
    as_of_date: date
    path: Path
    sha256: str
    rows: int
    columns: tuple[str, ...]


def write_snapshots(
    source: Path | pa.Table, features_dir: Path, *, rerun: bool = False
) -> list[Snapshot]:
    """Write one snapshot per `as_of_date` that the source holds, oldest first.

    Args:
        source: a Parquet file or an Arrow table with one row per subscription and as-of date.
        features_dir: folder that gets `as_of_date=.../`.
        rerun: as in `write_snapshot`.

    Returns:
        the snapshots, one per date.
    """
    table = _read(source)
    _require_columns(table)
    return [
        write_snapshot(
            table.filter(pc.equal(pc.cast(table[AS_OF], pa.date32()), pa.scalar(as_of))),
            features_dir,
            as_of,
            rerun=rerun,
        )
        for as_of in sorted(_dates(table))
    ]


def write_snapshot(
    source: Path | pa.Table, features_dir: Path, as_of_date: date, *, rerun: bool = False
) -> Snapshot:
    """Write the features of one as-of date, once.

    Args:
        source: a Parquet file or an Arrow table with `subscription_id`, `as_of_date` and features.
        features_dir: folder that gets `as_of_date=.../`.
        as_of_date: the date that every row must carry.
        rerun: the date was built again on purpose (late rows, a correction). Different content
            then becomes a new snapshot beside the old one; without it, it is refused.

    Returns:
        the snapshot; the one already there when its content is the same.

    Raises:
        SnapshotError: a row has no or a repeated subscription or another date, or the date has a
            different snapshot already and this is no rerun.
    """
    table = _canonical(_read(source), as_of_date)
    content = _parquet_bytes(table)
    digest = sha256_of_bytes(content)
    snapshot_id = digest[:ID_LENGTH]
    folder = features_dir / f"{AS_OF}={as_of_date.isoformat()}"
    manifest = _read_manifest(folder)
    current = manifest["current"]
    if current not in (None, snapshot_id) and not rerun:
        raise SnapshotError(
            f"{folder} already holds snapshot {current} and the features are now {snapshot_id}: a "
            "snapshot never changes; if the day was rebuilt on purpose, run it as a rerun"
        )
    path = folder / f"features-{snapshot_id}.parquet"
    if not path.exists() or sha256_of_file(path) != digest:
        write_atomically(path, content)
    reach("snapshot.unlisted")
    if current != snapshot_id or snapshot_id not in manifest["snapshots"]:
        manifest["current"] = snapshot_id
        manifest["snapshots"][snapshot_id] = {
            "file": path.name,
            "sha256": digest,
            "rows": table.num_rows,
            "columns": table.column_names,
        }
        write_atomically(folder / MANIFEST, canonical_json(manifest).encode())
    return Snapshot(
        snapshot_id, as_of_date, path, digest, table.num_rows, tuple(table.column_names)
    )


def open_snapshot(path: Path) -> Snapshot:
    """Return a stored snapshot after comparing its bytes with its manifest.

    Raises:
        SnapshotError: the file is missing, unknown to the manifest or changed since.
    """
    known = _read_manifest(path.parent)["snapshots"]
    entry = next((e for e in known.values() if e["file"] == path.name), None)
    if entry is None or not path.is_file():
        raise SnapshotError(f"{path} is not a snapshot that {path.parent / MANIFEST} knows")
    if sha256_of_file(path) != entry["sha256"]:
        raise SnapshotError(f"{path} was changed after it was written: export that day again")
    day = date.fromisoformat(path.parent.name.removeprefix(f"{AS_OF}="))
    return Snapshot(
        entry["sha256"][:ID_LENGTH],
        day,
        path,
        entry["sha256"],
        int(entry["rows"]),
        tuple(entry["columns"]),
    )


def read_frame(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read Parquet, or some columns of it, into a frame of numbers, texts and dates.

    Decimals and booleans become numbers (a model knows nothing else); a missing number is NaN and
    a missing text None.
    """
    return to_frame(pq.read_table(path, columns=None if columns is None else list(columns)))


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as `read_frame` would read it."""
    fields = []
    for field in table.schema:
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_decimal(kind):
            kind = pa.float64()
        elif pa.types.is_boolean(kind):
            kind = pa.int8()
        elif pa.types.is_large_string(kind):
            kind = pa.string()
        fields.append(pa.field(field.name, kind))
    frame: pd.DataFrame = table.cast(pa.schema(fields)).to_pandas()
    return frame


def _read(source: Path | pa.Table) -> pa.Table:
    return pq.read_table(source) if isinstance(source, Path) else source


def _require_columns(table: pa.Table) -> None:
    missing = sorted({KEY, AS_OF} - set(table.column_names))
    if missing:
        raise SnapshotError(f"the features have no column {', '.join(missing)}")


def _canonical(table: pa.Table, as_of_date: date) -> pa.Table:
    """Return the rows sorted by subscription and the columns sorted by name, checked."""
    _require_columns(table)
    dates = _dates(table)
    if dates - {as_of_date}:
        found = ", ".join(map(str, sorted(dates)))
        raise SnapshotError(f"a snapshot of {as_of_date} may hold only that day; found {found}")
    keys = table[KEY]
    if keys.null_count:
        raise SnapshotError(f"{keys.null_count} rows of {as_of_date} have no {KEY}")
    repeated = table.num_rows - len(pc.unique(keys))
    if repeated:
        raise SnapshotError(f"{repeated} rows of {as_of_date} repeat a {KEY}")
    table = table.select(sorted(table.column_names)).sort_by(KEY)
    return table.replace_schema_metadata(None).combine_chunks()


def _parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=131_072, version="2.6")
    return buffer.getvalue()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.exists():
        return {
            "as_of_date": folder.name.removeprefix(f"{AS_OF}="),
            "current": None,
            "snapshots": {},
        }
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {
            "as_of_date": manifest["as_of_date"],
            "current": manifest["current"],
            "snapshots": dict(manifest["snapshots"]),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(
            f"{path} is damaged: remove {folder} and export that day again"
        ) from error


def _dates(table: pa.Table) -> set[date]:
    column = table[AS_OF]
    if column.null_count or not (
        pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)
    ):
        raise SnapshotError(
            f"{AS_OF} must be a day in every row; it is {column.type} with {column.null_count} "
            "rows without one"
        )
    return set(pc.unique(pc.cast(column, pa.date32())).to_pylist())
