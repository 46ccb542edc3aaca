"""Feature snapshots: what a model saw, kept as immutable Parquet with a SHA-256.

    features/as_of_date=2025-06-30/features-<snapshot id>.parquet
                                   _manifest.json      which file is current, and all earlier ones

Rows are sorted by subscription, columns by name, so equal features give equal bytes and the same
`feature_snapshot_id`: the first 16 hex digits of the file's SHA-256. Scoring and training read
nothing but snapshots.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
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
    put_in_place,
    sha256_of_file,
    write_atomically,
)

KEY = "subscription_id"
AS_OF = "as_of_date"
MANIFEST = "_manifest.json"
ID_LENGTH = 16
# Rows that are in memory at once, all their columns; the same as a chunk of prediction.
ROW_GROUP = 65_536


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
        source: a Parquet file in the order of `as_of_date` and `subscription_id`, of which a few rows at a
            time are in memory, or an Arrow table in any order; one row per subscription and date.
        features_dir: folder that gets `as_of_date=.../`.
        rerun: as in `write_snapshot`.

    Returns:
        the snapshots, one per date.
    """
    return [
        _write(rows, features_dir, as_of, rerun=rerun)
        for as_of, rows in itertools.groupby(_days(source), key=itemgetter(0))
    ]


def write_snapshot(
    source: Path | pa.Table, features_dir: Path, as_of_date: date, *, rerun: bool = False
) -> Snapshot:
    """Write the features of one as-of date, once.

    Args:
        source: as in `write_snapshots`, of this date alone.
        features_dir: folder that gets `as_of_date=.../`.
        as_of_date: the date that every row must carry.
        rerun: the date was built again on purpose (late rows, a correction). Different content
            then becomes a new snapshot beside the old one; without it, it is refused.

    Returns:
        the snapshot; the one already there when its content is the same.

    Raises:
        SnapshotError: a row has no or a repeated subscription or another date, rows are not in order, or
            the date has a different snapshot already and this is no rerun.
    """
    return _write(_days(source), features_dir, as_of_date, rerun=rerun)


def _write(
    rows: Iterable[tuple[date, pa.Table]], features_dir: Path, as_of_date: date, *, rerun: bool
) -> Snapshot:
    features_dir.mkdir(parents=True, exist_ok=True)
    # One name, so that the next run writes over what a killed one left.
    draft = features_dir / f".{as_of_date.isoformat()}.draft"
    try:
        count, columns = _write_parquet(rows, as_of_date, draft)
        digest = sha256_of_file(draft)
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
            put_in_place(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    reach("snapshot.unlisted")
    if current != snapshot_id or snapshot_id not in manifest["snapshots"]:
        manifest["current"] = snapshot_id
        manifest["snapshots"][snapshot_id] = {
            "file": path.name,
            "sha256": digest,
            "rows": count,
            "columns": columns,
        }
        write_atomically(folder / MANIFEST, canonical_json(manifest).encode())
    return Snapshot(snapshot_id, as_of_date, path, digest, count, tuple(columns))


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


def read_parts(path: Path) -> Iterator[pd.DataFrame]:
    """Read a snapshot as `read_frame` does, `ROW_GROUP` rows at a time, in its order."""
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield to_frame(file.read_row_group(number))


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


def _days(source: Path | pa.Table) -> Iterator[tuple[date, pa.Table]]:
    """Yield rows in order of date, columns sorted by name, with the date that they all have."""
    last = date.min
    for rows in _pieces(source):
        for day, part in _cut(rows):
            if day < last:
                raise SnapshotError(f"the features are not in the order of {AS_OF}")
            last = day
            yield day, part


def _pieces(source: Path | pa.Table) -> Iterator[pa.Table]:
    if isinstance(source, Path):
        with pq.ParquetFile(source) as file:
            columns = _columns(file.schema_arrow.names)
            for batch in file.iter_batches(ROW_GROUP, columns=columns):
                yield pa.Table.from_batches([batch]).select(columns)
    else:
        rows = source.select(_columns(source.column_names))
        yield rows.sort_by([(AS_OF, "ascending"), (KEY, "ascending")])


def _columns(names: Sequence[str]) -> list[str]:
    missing = sorted({KEY, AS_OF} - set(names))
    if missing:
        raise SnapshotError(f"the features have no column {', '.join(missing)}")
    return sorted(names)


def _cut(rows: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    """Cut rows where the date changes."""
    column = rows[AS_OF].combine_chunks()
    if column.null_count or not (
        pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)
    ):
        raise SnapshotError(
            f"{AS_OF} must be a day in every row; it is {column.type} with {column.null_count} "
            "rows without one"
        )
    runs = pc.run_end_encode(pc.cast(column, pa.date32()))
    start = 0
    for end, day in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):  # noqa: PD011 - of Arrow
        yield day, rows.slice(start, end - start)
        start = end


def _write_parquet(
    rows: Iterable[tuple[date, pa.Table]], as_of_date: date, path: Path
) -> tuple[int, list[str]]:
    """Write checked rows in row groups that do not depend on how they came; returns count and columns."""
    count, columns = 0, []
    writer = None
    try:
        for group in _in_groups(_checked(rows, as_of_date)):
            if writer is None:
                columns = group.column_names
                writer = pq.ParquetWriter(path, group.schema, compression="zstd", version="2.6")
            writer.write_table(group.cast(writer.schema), row_group_size=ROW_GROUP)
            count += group.num_rows
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise SnapshotError(f"there are no features of {as_of_date}")
    return count, columns


def _checked(rows: Iterable[tuple[date, pa.Table]], as_of_date: date) -> Iterator[pa.Table]:
    """Pass on rows of one date, each with a subscription of its own, in their order.

    Raises:
        SnapshotError: a row has no or a repeated subscription or another date, or comes too late.
    """
    last = pa.scalar("")
    for day, part in rows:
        if day != as_of_date:
            raise SnapshotError(f"a snapshot of {as_of_date} may hold only that day; found {day}")
        keys = pc.cast(part[KEY], pa.string()).combine_chunks()
        if keys.null_count:
            raise SnapshotError(f"{keys.null_count} rows of {as_of_date} have no {KEY}")
        before = pa.concat_arrays(
            [pa.array([last.as_py()], pa.string()), keys.slice(0, len(keys) - 1)]
        )
        repeated = pc.sum(pc.equal(keys, before)).as_py()
        if repeated:
            raise SnapshotError(f"{repeated} rows of {as_of_date} repeat a {KEY}")
        if pc.any(pc.less(keys, before)).as_py():
            raise SnapshotError(f"the features of {as_of_date} are not in the order of {KEY}")
        last = keys[-1]
        yield part.replace_schema_metadata(None)


def _in_groups(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put parts together to `ROW_GROUP` rows each; the last may have fewer."""
    waiting: list[pa.Table] = []
    for part in parts:
        waiting.append(part)
        if sum(one.num_rows for one in waiting) >= ROW_GROUP:
            rows = pa.concat_tables(waiting)
            while rows.num_rows >= ROW_GROUP:
                yield rows.slice(0, ROW_GROUP).combine_chunks()
                rows = rows.slice(ROW_GROUP)
            waiting = [rows]
    rows = pa.concat_tables(waiting) if waiting else None
    if rows is not None and rows.num_rows:
        yield rows.combine_chunks()


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
