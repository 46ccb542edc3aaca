"""A feature snapshot is written once: equal features, equal bytes; changed features never silently."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import models_ml.churn.snapshot as snapshot_module
from models_ml.churn.errors import SnapshotError
from models_ml.churn.immutable import sha256_of_file
from models_ml.churn.snapshot import (
    open_snapshot,
    read_frame,
    read_parts,
    write_snapshot,
    write_snapshots,
)

DAY = date(2025, 6, 30)


def features(usage_days: list[int], day: date = DAY) -> pa.Table:
    """Return a table of one row per given number of usage days."""
    return pa.table(
        {
            "usage_days_30d": usage_days,
            "subscription_id": [f"s{n}" for n in range(len(usage_days))],
            "as_of_date": [day] * len(usage_days),
        }
    )


def current(features_dir: Path) -> str:
    """Return the id of the snapshot that the day's manifest calls the current one."""
    manifest = features_dir / f"as_of_date={DAY}" / "_manifest.json"
    return json.loads(manifest.read_text())["current"]


def test_the_id_is_the_hash_of_the_file(tmp_path):
    snapshot = write_snapshot(features([3, 1]), tmp_path, DAY)

    assert snapshot.sha256 == sha256_of_file(snapshot.path)
    assert snapshot.snapshot_id == snapshot.sha256[:16]
    assert snapshot.rows == 2
    assert open_snapshot(snapshot.path) == snapshot


def test_order_of_rows_and_columns_does_not_matter(tmp_path):
    table = features([3, 1, 4])
    shuffled = table.select(["as_of_date", "usage_days_30d", "subscription_id"]).take([2, 0, 1])

    first = write_snapshot(table, tmp_path / "a", DAY)
    second = write_snapshot(shuffled, tmp_path / "b", DAY)

    assert first.path.read_bytes() == second.path.read_bytes()


def test_a_parquet_file_is_a_source_too(tmp_path):
    exported = tmp_path / "export.parquet"
    pq.write_table(features([3, 1]), exported)

    assert (
        write_snapshot(exported, tmp_path, DAY).snapshot_id
        == write_snapshot(features([3, 1]), tmp_path, DAY).snapshot_id
    )


def test_writing_the_same_features_again_changes_nothing(tmp_path):
    first = write_snapshot(features([3]), tmp_path, DAY)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in first.path.parent.iterdir()}

    assert write_snapshot(features([3]), tmp_path, DAY, rerun=True) == first
    assert {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in first.path.parent.iterdir()
    } == before


def test_other_features_of_the_same_day_are_refused(tmp_path):
    first = write_snapshot(features([3]), tmp_path, DAY)

    with pytest.raises(SnapshotError, match=f"already holds snapshot {first.snapshot_id}"):
        write_snapshot(features([4]), tmp_path, DAY)

    assert current(tmp_path) == open_snapshot(first.path).snapshot_id


def test_a_rerun_adds_a_snapshot_and_keeps_the_old_one(tmp_path):
    first = write_snapshot(features([3]), tmp_path, DAY)
    second = write_snapshot(features([4]), tmp_path, DAY, rerun=True)

    assert current(tmp_path) == second.snapshot_id
    assert open_snapshot(first.path) == first

    back = write_snapshot(features([3]), tmp_path, DAY, rerun=True)
    assert back == open_snapshot(first.path) == first
    assert current(tmp_path) == first.snapshot_id


def test_a_changed_file_is_noticed(tmp_path):
    snapshot = write_snapshot(features([3]), tmp_path, DAY)
    content = bytearray(snapshot.path.read_bytes())
    content[40] ^= 1
    snapshot.path.write_bytes(content)

    with pytest.raises(SnapshotError, match="changed after it was written"):
        open_snapshot(snapshot.path)


def test_one_export_of_several_days_becomes_one_snapshot_each(tmp_path):
    earlier = date(2025, 5, 31)
    both = pa.concat_tables([features([3, 1]), features([2], earlier)])

    found = write_snapshots(both, tmp_path)

    assert [(s.as_of_date, s.rows) for s in found] == [(earlier, 1), (DAY, 2)]
    alone = write_snapshot(features([3, 1]), tmp_path / "alone", DAY)
    assert found[1].snapshot_id == alone.snapshot_id


def test_a_day_is_written_and_read_a_row_group_at_a_time(tmp_path, monkeypatch):
    # Given row groups of two rows and an export whose own groups are of three
    monkeypatch.setattr(snapshot_module, "ROW_GROUP", 2)
    table = features([5, 4, 3, 2, 1])
    pq.write_table(table, tmp_path / "export.parquet", row_group_size=3)

    stored = write_snapshot(tmp_path / "export.parquet", tmp_path / "days", DAY)

    # Then the parts follow each other, and how the rows came does not show in the bytes
    parts = list(read_parts(stored.path))
    assert [len(part) for part in parts] == [2, 2, 1]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), read_frame(stored.path))
    assert write_snapshot(table, tmp_path / "at once", DAY).sha256 == stored.sha256


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (features([1, 2]).take([1, 0]), "not in the order of subscription_id"),
        (
            pa.concat_tables([features([1]), features([1], date(2025, 6, 29))]),
            "not in the order of as_of_date",
        ),
    ],
)
def test_an_export_in_another_order_is_refused(tmp_path, table, message):
    pq.write_table(table, tmp_path / "export.parquet")

    with pytest.raises(SnapshotError, match=message):
        write_snapshots(tmp_path / "export.parquet", tmp_path / "days", rerun=True)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (features([1, 2]).set_column(1, "subscription_id", [["s0", "s0"]]), "1 rows .* repeat"),
        (features([1, 2]).set_column(1, "subscription_id", [["s0", None]]), "1 rows .* have no"),
        (features([1]).drop_columns("as_of_date"), "no column as_of_date"),
        (features([1], date(2025, 6, 29)), "may hold only that day; found 2025-06-29"),
        (features([1]).set_column(2, "as_of_date", [["2025-06-30"]]), "must be a day"),
    ],
    ids=["repeated", "no id", "no day", "other day", "day as text"],
)
def test_a_wrong_table_is_refused(tmp_path, table, message):
    with pytest.raises(SnapshotError, match=message):
        write_snapshot(table, tmp_path, DAY)

    assert list(tmp_path.iterdir()) == []


def test_decimals_and_flags_are_read_as_numbers(tmp_path):
    path = tmp_path / "typed.parquet"
    pq.write_table(
        pa.table(
            {
                "share": pa.array([Decimal("0.250000"), None], pa.decimal128(18, 6)),
                "flag": pa.array([True, None]),
                "name": pa.array(["a", None]).dictionary_encode(),
            }
        ),
        path,
    )

    frame = read_frame(path)

    assert frame["share"].dtype == frame["flag"].dtype == np.float64
    assert frame["share"].tolist()[0] == 0.25
    assert frame["flag"].tolist()[0] == 1
    assert frame["name"].isna().tolist() == [False, True]
