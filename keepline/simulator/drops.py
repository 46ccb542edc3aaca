"""Mediation's daily drops: compressed call records with a manifest, late and broken ones among them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from keepline.simulator import text, world
from keepline.simulator.course import DayOfOperator
from keepline.simulator.population import Array
from keepline.simulator.rhythm import stream
from keepline.simulator.usage import Records

COMPRESSION_LEVEL: Final = 1
_DAY_FOLDER: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_EVENT: Final = {"cdr_voice": "start_at", "cdr_sms": "sent_at", "cdr_data": "session_start_at"}
_KINDS: Final = {
    "cdr_voice": (
        "negative_duration",
        "unknown_direction",
        "bad_date",
        "three_decimals",
        "duplicate_usage_id",
    ),
    "cdr_sms": ("unknown_direction", "bad_date", "three_decimals", "duplicate_usage_id"),
    "cdr_data": ("bad_date", "three_decimals", "duplicate_usage_id"),
}


@dataclass(frozen=True)
class Drop:
    """One table of one drop before it is compressed: its bytes, and what the manifest says of it."""

    table: str
    content: bytes
    rows: int
    sums: dict[str, int]


class Mediation:
    """Turns the records of days into drops: keeps what is late until its day, and breaks a few rows."""

    def __init__(self, seed: int, start: date) -> None:
        self._seed, self._start = seed, start
        self._waiting: dict[tuple[int, str], list[tuple[Array, dict[str, Array]]]] = defaultdict(
            list
        )
        self.dirty: list[tuple[date, str, str, int]] = []

    def hand_over(self, today: DayOfOperator) -> list[Drop]:
        """The drop of a day, table by table."""
        return [self._drop(today.day, table, made) for table, made in today.records.items()]

    def _drop(self, day: int, table: str, made: Records) -> Drop:
        at = {int(wait): np.flatnonzero(made.wait == wait) for wait in np.unique(made.wait)}
        parts = self._waiting.pop((day, table), [])
        for wait, chosen in at.items():
            part = made.rows[chosen], {name: v[chosen] for name, v in made.measures.items()}
            if wait:
                self._waiting[day + wait, table].append(part)
            else:
                parts.append(self._spoil(day, table, *part))
        sums = {name: sum(int(part[name].sum()) for _, part in parts) for name in made.measures}
        rows = [rows for rows, _ in parts]
        return Drop(table, made.layout.to_bytes(rows), sum(len(part) for part in rows), sums)

    def _spoil(
        self, day: int, table: str, rows: Array, measures: dict[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Break a few rows; the manifest's sums count a value as long as it can be read."""
        rng = stream(self._seed, f"spoil {table}", day)
        kinds = _KINDS[table]
        count = min(int(rng.poisson(world.RATES.dirty_share * len(rows))), len(rows) // 2)
        if count == 0:
            return rows, measures
        hit = rng.choice(len(rows), count, replace=False)
        which = rng.integers(0, len(kinds), count)
        today = self._start + timedelta(days=day)
        for k, kind in enumerate(kinds):
            at = hit[which == k]
            if len(at) == 0:
                continue
            self.dirty.append((today, table, kind, len(at)))
            if kind == "negative_duration":
                seconds = 1 + rng.integers(0, 600, len(at))
                rows["duration_s.0"][at] = np.char.add(b"-", text.SECONDS[seconds])
                measures["duration_s"][at] = -seconds
            elif kind == "unknown_direction":
                rows["direction.0"][at] = b"fwd"
            elif kind == "bad_date":
                rows[f"{_EVENT[table]}.0"][at] = f"{today.year}-02-30 ".encode()
            elif kind == "three_decimals":
                rows["charge_amt.0"][at] = b"0.125"
                measures["charge_fen"][at] = 0
            else:
                rows = np.concatenate([rows, rows[at]])
                measures = {n: np.concatenate([v, v[at]]) for n, v in measures.items()}
        return rows, measures


def compress(content: bytes) -> bytes:
    """Gzip without a time stamp: the same bytes in, the same bytes out."""
    packer = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()


def write_drop(folder: Path, day: date, drops: Sequence[Drop]) -> int:
    """Write the files of one day and, last, the manifest that makes them complete.

    Args:
        folder: the folder that holds a folder per day.
        day: the drop's date.
        drops: the tables.

    Returns:
        Bytes written.
    """
    target = folder / day.isoformat()
    target.mkdir(parents=True)
    files: list[dict[str, Any]] = []
    for drop in drops:
        packed = compress(drop.content)
        name = f"{drop.table}.csv.gz"
        (target / name).write_bytes(packed)
        files.append(
            {
                "name": name,
                "table": drop.table,
                "rows": drop.rows,
                "bytes": len(packed),
                "sha256": hashlib.sha256(packed).hexdigest(),
                "sums": drop.sums,
            }
        )
    manifest = json.dumps({"date": day.isoformat(), "files": files}, indent=1) + "\n"
    (target / "manifest.json").write_text(manifest)
    return sum(int(file["bytes"]) for file in files) + len(manifest)


class DropWriter:
    """Writes drops behind the simulation: compressing holds no lock that it needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._running: list[Future[int]] = []
        self.bytes_written = 0

    def put(self, day: date, drops: Sequence[Drop]) -> None:
        """Write a day's drop soon; waits when the writer is far behind.

        Raises:
            OSError: an earlier drop could not be written.
        """
        self._running.append(self._pool.submit(write_drop, self._folder, day, drops))
        while len(self._running) > 4:
            self.bytes_written += self._running.pop(0).result()

    def close(self) -> None:
        """Finish all writing."""
        for running in self._running:
            self.bytes_written += running.result()
        self._running.clear()
        self._pool.shutdown()


def clear(folder: Path) -> None:
    """Remove the drops of an earlier run; other files in the folder stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for child in folder.iterdir():
        if child.is_dir() and _DAY_FOLDER.fullmatch(child.name):
            shutil.rmtree(child)
