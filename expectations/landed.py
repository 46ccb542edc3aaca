"""A profile of what landed: one row per table and load date, without a value of any row.

Counts come from the manifests and missing values from the footers of the Parquet files. Data are read
of few columns and days: the day of the event, the province, and the measures of the judged days and of
the same weekday in the four weeks before.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from expectations import batches
from keepline.contract import LOAD_DATE, Contract, Table
from keepline.errors import BadDataError
from keepline.settings import Settings
from keepline.window import Window

MANIFEST, PART = "_manifest.json", "part-0.parquet"
HISTORY_DAYS = 28
# What lands but once a month is compared with the last times that it did.
RARE_DAYS, RARE_BATCHES = 100, 4
# Below these a day tells nothing: a ratio of small counts jumps about by itself.
ENOUGH_HISTORY_DAYS, ENOUGH_WEEKS, ENOUGH_ROWS, USUAL_ROWS = 14, 2, 200, 20
# A wider window is a history, not a repair: days that were odd once would stop it for ever.
JUDGED_DAYS = 31
COUNTS = ["landed_rows", "physical_rows", "quarantined_rows", "skipped_rows"]
KEYS = ["table_name", LOAD_DATE]
COLUMNS = (
    "landed_rows",
    "physical_rows",
    "rows_so_far",
    "unaccounted_rows",
    "quarantined_share",
    "rows_when_expected",
    "rows_ratio",
    "value_ratio",
    "value_ratio_column",
    "null_share_rise",
    "null_share_rise_column",
    "constant_columns",
    "constant_columns_column",
    "missing_provinces",
    "late_share",
    "early_rows",
)


def profile(
    settings: Settings, contract: Contract, window: Window, given: Collection[str] = ()
) -> pd.DataFrame:
    """Return the profile of the window's batches.

    Columns, each empty where it cannot be said:

    - `landed_rows`, `physical_rows`, `unaccounted_rows` (physical that neither landed nor were set aside),
      `quarantined_share`, `rows_so_far` (landed up to that day)
    - `rows_when_expected`: rows of a day on which the last weeks make some likely
    - of the judged days, against the same weekdays of the 28 days before: `rows_ratio`,
      `value_ratio` (the measure whose median, of values above 0, moved farthest) with its column and
      `constant_columns` with the first of them; against all those days: `null_share_rise` with its
      column and `missing_provinces`
    - of the judged days: `late_share` (happened before its load date), `early_rows` (after it)

    Judged is each day of a window of at most 31 days, else the last one. What lands too seldom to have
    batches of the same weekday is compared with its last batches of 100 days.

    Args:
        settings: where landing is.
        contract: tables of the contract.
        window: load dates.
        given: tables that the operator gives; one of them that nothing ever landed for has a profile,
            too. Other such tables are left out.

    Raises:
        BadDataError: a manifest or a file of landing cannot be read.
    """
    profiles = []
    with duckdb.connect() as duck:
        for table in contract.values():
            history = _History(settings.landing_dir / table.name, table, window)
            if history.first_day is not None:
                profiles.append(_of_table(duck, history))
            elif table.name in given:
                profiles.append(_of_nothing(table, window))
    if not profiles:
        return pd.DataFrame(columns=[*KEYS, *COLUMNS])
    return pd.concat(profiles, ignore_index=True)


class _History:
    """What the manifests say of the window and of the four weeks before it.

    Attributes:
        first_day: first load date that ever landed, or None.
        rows: counts by load date, days without a manifest being 0.
        rows_before: rows that landed before the first of these days, at least.
    """

    def __init__(self, folder: Path, table: Table, window: Window) -> None:
        self.folder, self.table, self.window = folder, table, window
        # By name alone: to look into each folder of a long history costs more than the day's check.
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        self.days = sorted(
            date.fromisoformat(name.removeprefix(f"{LOAD_DATE}="))
            for name in names
            if name.startswith(f"{LOAD_DATE}=")
        )
        self.first_day = next((day for day in self.days if day < window.to_date), None)
        if self.first_day is None:
            return
        begin = max(self.first_day, window.from_date - timedelta(days=HISTORY_DAYS))
        shown = [day for day in self.days if begin <= day < window.to_date]
        found = pd.DataFrame(
            [_counts_of(self._manifest(day), table, day) for day in shown],
            columns=COUNTS,
            index=shown,
        )
        every = [begin + timedelta(days=n) for n in range((window.to_date - begin).days)]
        self.rows = found.reindex(every, fill_value=0)
        self.rows_before = self._rows_before(begin)

    def path(self, day: date) -> str:
        return str(self.folder / f"{LOAD_DATE}={day}" / PART)

    def usual_rows(self) -> tuple[pd.Series[Any], pd.Series[Any]]:
        """The median of the same weekday in the four weeks before, and whether that is a rhythm.

        There is none before two of them are known, and no rhythm when more than one of them had no rows: what
        lands now and then lands elsewhere next week. The first day that ever landed may have brought
        all there was: it is no day like others.
        """
        landed = self.rows["landed_rows"].astype(float)
        landed = landed.mask(pd.Series(landed.index == self.first_day, index=landed.index))
        weeks = pd.concat(
            [landed.shift(7 * n) for n in range(1, HISTORY_DAYS // 7 + 1)], axis="columns"
        )
        usual: pd.Series[Any] = weeks.median(axis="columns")
        known = weeks.notna().sum(axis="columns")
        is_steady = (weeks > 0).sum(axis="columns") >= known.clip(upper=len(weeks.columns) - 1)
        return usual.where(known >= ENOUGH_WEEKS), is_steady

    def earlier_batches(self, day: date) -> list[str]:
        """Return the files of the last batches before a day, the newest first."""
        first = day - timedelta(days=RARE_DAYS)
        found: list[str] = []
        for known in reversed([known for known in self.days if first <= known < day]):
            if self._manifest(known)["rows"] >= batches.ENOUGH_VALUES:
                found.append(self.path(known))
            if len(found) == RARE_BATCHES:
                break
        return found

    def _rows_before(self, day: date) -> int:
        """Whether anything landed before; one batch with rows is answer enough."""
        for known in self.days:
            if known < day and (rows := int(self._manifest(known)["rows"])):
                return rows
        return 0

    def _manifest(self, day: date) -> dict[str, Any]:
        path = self.folder / f"{LOAD_DATE}={day}" / MANIFEST
        try:
            said = json.loads(path.read_bytes())
            return {**said, "rows": int(said["rows"])}
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise _unreadable(path, self.table, day, error) from error


def _counts_of(said: dict[str, Any], table: Table, day: date) -> list[int]:
    try:
        return [
            said["rows"],
            int(said["physical_rows"]),
            sum(said["quarantined"].values()),
            int(said["skipped_rows"]),
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(f"{LOAD_DATE}={day}/{MANIFEST}", table, day, error) from error


def _unreadable(path: object, table: Table, day: date, error: Exception) -> BadDataError:
    return BadDataError(f"{path} cannot be read ({error!r}): extract {table.name} of {day} again")


def _of_nothing(table: Table, window: Window) -> pd.DataFrame:
    """Return the profile of a table that should have landed and never did."""
    frame = pd.DataFrame(
        {"table_name": table.name, LOAD_DATE: [window.last_date.isoformat()]},
        columns=[*KEYS, *COLUMNS],
    )
    for name in COLUMNS:
        frame[name] = "" if name.endswith("_column") else float("nan")
    frame["rows_so_far"] = 0.0
    return frame


def _of_table(duck: duckdb.DuckDBPyConnection, history: _History) -> pd.DataFrame:
    window, rows = history.window, history.rows
    judged = window.days() if len(window.days()) <= JUDGED_DAYS else [window.last_date]
    shown = rows[[day >= window.from_date for day in rows.index]]
    is_judged = pd.Series([day in judged for day in shown.index], index=shown.index)
    usual, is_steady = (series.reindex(shown.index) for series in history.usual_rows())
    landed, physical = shown["landed_rows"].astype(float), shown["physical_rows"].astype(float)
    accounted = landed + shown["quarantined_rows"] + shown["skipped_rows"]
    so_far = rows["landed_rows"].cumsum().reindex(shown.index) + history.rows_before
    frame = pd.DataFrame(
        {
            "table_name": history.table.name,
            LOAD_DATE: [day.isoformat() for day in shown.index],
            "landed_rows": landed,
            "physical_rows": physical,
            "rows_so_far": so_far.astype(float),
            "unaccounted_rows": physical - accounted,
            # A handful of a small batch is what the contract allows; see `QuarantineLimit`.
            "quarantined_share": (shown["quarantined_rows"] / physical.where(physical > 0)).where(
                shown["quarantined_rows"] > history.table.quarantine_limit.rows, 0.0
            ),
            "rows_when_expected": landed.where(usual >= USUAL_ROWS),
            "rows_ratio": (landed / usual).where((usual >= ENOUGH_ROWS) & is_steady & is_judged),
        }
    )
    details = [_details(duck, history, day) if day in judged else {} for day in shown.index]
    for name in COLUMNS[COLUMNS.index("value_ratio") :]:
        missing = "" if name.endswith("_column") else float("nan")
        frame[name] = [found.get(name, missing) for found in details]
    return frame.reset_index(drop=True)


def _details(
    duck: duckdb.DuckDBPyConnection, history: _History, day: date
) -> dict[str, float | str]:
    """Compare a day's rows with those of the four weeks before it."""
    table, path = history.table, history.path(day)
    rows = int(history.rows["landed_rows"][day])
    if rows == 0 or history.first_day is None:
        return {}
    first = day - timedelta(days=HISTORY_DAYS)
    landed = history.rows["landed_rows"]
    landed = landed[[first <= known < day for known in landed.index]]
    before = [history.path(known) for known in landed.index[landed > 0]]
    weekdays = [
        history.path(known)
        for known in landed.index[landed >= batches.ENOUGH_VALUES]
        if known.weekday() == day.weekday()
    ]
    try:
        found = batches.clocks(duck, path, day)
        if (day - history.first_day).days < ENOUGH_HISTORY_DAYS:
            return found
        if len(weekdays) < ENOUGH_WEEKS:
            weekdays = history.earlier_batches(day)
        if rows >= batches.ENOUGH_VALUES and len(weekdays) >= ENOUGH_WEEKS:
            found |= batches.moved_measure(duck, table, path, weekdays)
        if rows >= ENOUGH_ROWS:
            if len(weekdays) >= ENOUGH_WEEKS:
                found |= batches.constants(duck, table, path, weekdays)
            if before:
                found |= batches.lost_values(duck, path, before)
                found |= batches.missing_provinces(duck, table, path, before, rows)
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.BinderException) as error:
        raise BadDataError(
            f"landing of {table.name} up to {day} cannot be read: "
            f"{str(error).splitlines()[0]}; extract it again"
        ) from error
    return found
