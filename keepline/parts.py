"""A wide window of load dates, cut into parts that memory holds.

The parts follow the rows that landed and not the calendar: ten days of a small operator are less than
one day of a large one, and a month with its bills is more than a month without.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import duckdb

from keepline.contract import LOAD_DATE
from keepline.errors import UsageError
from keepline.landed_files import MANIFEST, landed_days
from keepline.settings import Settings
from keepline.window import Window

# Memory that a build of the core is given for each row of its window, bytes. Measured: 376 are enough
# (half a million rows within 200 MB), 95 are not (19 million within 1.8 GB).
BYTES_PER_ROW = 400
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "bytes": 1, "byte": 1}


def parts_that_fit(settings: Settings, window: Window) -> list[Window]:
    """Cut a window into parts of whole days whose landed rows fit into the memory limit, in order.

    A day is never cut: one that alone is too large is a part of its own.
    """
    if len(window.days()) == 1:
        return [window]
    most = _memory_limit(settings.compute_memory_limit) // BYTES_PER_ROW
    rows = landed_rows(settings, window)
    parts = []
    first, held = window.from_date, 0
    for day in sorted(rows):
        if held and held + rows[day] > most:
            parts.append(Window(first, day))
            first, held = day, 0
        held += rows[day]
    return [*parts, Window(first, window.to_date)]


def landed_rows(settings: Settings, window: Window) -> Mapping[date, int]:
    """Return the rows of all tables by load date, as the manifests of landing count them."""
    rows: Counter[date] = Counter()
    for table in _tables(settings):
        for day in window.days():
            manifest = table / f"{LOAD_DATE}={day}" / MANIFEST
            # Looked for by opening: most tables have few of the days.
            try:
                rows[day] += int(json.loads(manifest.read_bytes()).get("rows", 0))
            except FileNotFoundError:
                continue
    return rows


def landed_window(settings: Settings) -> Window | None:
    """Return the window from the first to the last day that landed, or None when none did."""
    days = [day for folder in _tables(settings) for day, _ in landed_days(folder)]
    return Window(min(days), max(days) + timedelta(days=1)) if days else None


def _tables(settings: Settings) -> list[Path]:
    if not settings.landing_dir.exists():
        return []
    return [folder for folder in settings.landing_dir.iterdir() if folder.is_dir()]


def _memory_limit(text: str) -> int:
    """Return a limit as DuckDB understands it ("2GB", "80%"), bytes.

    Raises:
        UsageError: DuckDB does not understand it.
    """
    try:
        with duckdb.connect(config={"memory_limit": text}) as connection:
            row = connection.execute("select current_setting('memory_limit')").fetchone()
    except duckdb.Error as error:
        raise UsageError(
            f"KEEPLINE_COMPUTE_MEMORY_LIMIT={text!r} is no memory limit, such as 2GB: {error}"
        ) from None
    said = re.fullmatch(r"([\d.]+) (\w+)", row[0]) if row else None
    if said is None:
        raise UsageError(f"KEEPLINE_COMPUTE_MEMORY_LIMIT={text!r} is no memory limit, such as 2GB")
    return int(float(said[1]) * UNITS[said[2]])
