"""A profile of what landed: one row per table and load date, without a value of any row.

Counts come from the manifests and missing values from the footers of the Parquet files. Data are read
of few columns and days: the day of the event, the province, and the measures of the last day and of the
same weekday in the four weeks before.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from keepline.contract import EVENT_DATE, LOAD_DATE, Contract, Table
from keepline.errors import BadDataError
from keepline.settings import Settings
from keepline.window import Window

MANIFEST, PART = "_manifest.json", "part-0.parquet"
HISTORY_DAYS = 28
# Below these a day tells nothing: a ratio of small counts jumps about by itself.
ENOUGH_HISTORY_DAYS, ENOUGH_ROWS, USUAL_ROWS = 14, 200, 20
# A charge is 0 for whoever has a bundle left, so that it says something above 0 alone.
ENOUGH_VALUES, MOSTLY = 50, 0.5
NUMBERS = ("integer", "bigint", "decimal(18,2)")
KEYS = ["table_name", LOAD_DATE]


def profile(settings: Settings, contract: Contract, window: Window) -> pd.DataFrame:
    """Return the profile of the window's batches.

    Columns, each empty where it cannot be said:

    - `landed_rows`, `physical_rows`, `unaccounted_rows` (physical that neither landed nor were set aside),
      `quarantined_share`
    - `rows_when_expected`: rows of a day on which the last weeks make some likely
    - of the last day only, against the same weekdays of the 28 days before: `rows_ratio`,
      `value_ratio` (the measure whose median, of values above 0, moved farthest) with its column and
      `constant_measures`; against all those days: `null_share_rise` with its column and
      `missing_provinces`
    - of the last day only: `late_share` (happened before its load date), `early_rows` (after it)

    Tables that nothing was ever landed for are left out.

    Raises:
        BadDataError: a manifest or a file of landing cannot be read.
    """
    profiles = []
    with duckdb.connect() as duck:
        for table in contract.values():
            folder = settings.landing_dir / table.name
            rows = _manifests(folder, table, window)
            if rows:
                days = _every_day(rows, window)
                profiles.append(_counts(table, days, _last_day(duck, folder, table, days), window))
    if not profiles:
        return pd.DataFrame(columns=[*KEYS, *COLUMNS])
    return pd.concat(profiles, ignore_index=True)


COLUMNS = (
    "landed_rows",
    "physical_rows",
    "unaccounted_rows",
    "quarantined_share",
    "rows_when_expected",
    "rows_ratio",
    "value_ratio",
    "value_ratio_column",
    "null_share_rise",
    "null_share_rise_column",
    "constant_measures",
    "missing_provinces",
    "late_share",
    "early_rows",
)


def _manifests(folder: Path, table: Table, window: Window) -> list[dict[str, Any]]:
    """Read the manifests of the window and of the four weeks before it."""
    first = window.from_date - timedelta(days=HISTORY_DAYS)
    found = []
    for path in sorted(folder.glob(f"{LOAD_DATE}=*/{MANIFEST}")):
        day = date.fromisoformat(path.parent.name.removeprefix(f"{LOAD_DATE}="))
        if not first <= day < window.to_date:
            continue
        try:
            said = json.loads(path.read_bytes())
            found.append(
                {
                    "table_name": table.name,
                    LOAD_DATE: day,
                    "landed_rows": int(said["rows"]),
                    "physical_rows": int(said["physical_rows"]),
                    "quarantined_rows": sum(said["quarantined"].values()),
                    "skipped_rows": int(said["skipped_rows"]),
                }
            )
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadDataError(
                f"{path} cannot be read ({error!r}): extract {table.name} of {day} again"
            ) from error
    return found


def _every_day(rows: list[dict[str, Any]], window: Window) -> pd.DataFrame:
    """Return one row per day from the first that landed to the window's last; days without are 0."""
    found = pd.DataFrame(rows).set_index(LOAD_DATE)
    first = found.index.min()
    days = [first + timedelta(days=n) for n in range((window.to_date - first).days)]
    counts = ["landed_rows", "physical_rows", "quarantined_rows", "skipped_rows"]
    every = found[counts].reindex(days, fill_value=0)
    # The median of the same weekday in the four weeks before, once there are two of them.
    weeks = [every["landed_rows"].shift(7 * n) for n in range(1, HISTORY_DAYS // 7 + 1)]
    usual = pd.concat(weeks, axis=1).median(axis=1)
    is_known = pd.Series([n >= ENOUGH_HISTORY_DAYS for n in range(len(days))], index=every.index)
    every["usual_rows"] = usual.where(is_known)
    return every


def _counts(
    table: Table, days: pd.DataFrame, details: dict[str, float | str], window: Window
) -> pd.DataFrame:
    shown = days[[window.from_date <= day < window.to_date for day in days.index]]
    last = pd.Series([day == window.last_date for day in shown.index], index=shown.index)
    landed, physical, usual = shown["landed_rows"], shown["physical_rows"], shown["usual_rows"]
    accounted = landed + shown["quarantined_rows"] + shown["skipped_rows"]
    frame = pd.DataFrame(
        {
            "table_name": table.name,
            LOAD_DATE: [day.isoformat() for day in shown.index],
            "landed_rows": landed.astype(float),
            "physical_rows": physical.astype(float),
            "unaccounted_rows": (physical - accounted).astype(float),
            "quarantined_share": shown["quarantined_rows"] / physical.where(physical > 0),
            "rows_when_expected": landed.where(usual >= USUAL_ROWS),
            "rows_ratio": (landed / usual).where((usual >= ENOUGH_ROWS) & last),
        }
    ).reset_index(drop=True)
    for name in COLUMNS[COLUMNS.index("value_ratio") :]:
        missing = "" if name.endswith("_column") else float("nan")
        frame[name] = [details.get(name, missing) if is_last else missing for is_last in last]
    return frame


def _last_day(
    duck: duckdb.DuckDBPyConnection, folder: Path, table: Table, days: pd.DataFrame
) -> dict[str, float | str]:
    """Compare the last day of the window with the four weeks before it."""
    rows, last = int(days["landed_rows"].iloc[-1]), days.index[-1]
    if rows == 0:
        return {}
    landed = days["landed_rows"].iloc[-HISTORY_DAYS - 1 : -1]
    files = {day: str(folder / f"{LOAD_DATE}={day}" / PART) for day in [*landed.index, last]}
    before = [files[day] for day in landed.index[landed > 0]]
    weekdays = [
        files[day] for day in landed.index[landed >= ENOUGH_ROWS] if day.weekday() == last.weekday()
    ]
    try:
        found = _clocks(duck, files[last], last)
        if len(days) > ENOUGH_HISTORY_DAYS and rows >= ENOUGH_ROWS:
            found |= _footers(duck, files[last], before)
            found |= _provinces(duck, table, files[last], before, rows)
            if len(weekdays) * 7 >= ENOUGH_HISTORY_DAYS:
                found |= _measures(duck, table, files[last], weekdays)
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.BinderException) as error:
        raise BadDataError(
            f"landing of {table.name} up to {last} cannot be read: "
            f"{str(error).splitlines()[0]}; extract it again"
        ) from error
    return found


def _clocks(duck: duckdb.DuckDBPyConnection, path: str, load_date: date) -> dict[str, float | str]:
    row = duck.execute(
        f"select avg(({EVENT_DATE} < $day)::int), count(*) filter ({EVENT_DATE} > $day)"  # noqa: S608
        " from read_parquet($path, hive_partitioning = false)",
        {"day": load_date, "path": path},
    ).fetchone()
    return {} if row is None else {"late_share": float(row[0] or 0), "early_rows": float(row[1])}


def _measures(
    duck: duckdb.DuckDBPyConnection, table: Table, path: str, weekdays: list[str]
) -> dict[str, float | str]:
    """Find the measure that moved farthest, as after a change of unit, and those that stopped varying."""
    names = [
        column.name
        for column in table.columns
        if column.data_type in NUMBERS and column.name not in table.key
    ]
    if not names:
        return {}
    figures = ", ".join(
        f"count(*) filter ({name} > 0), median({name}::double) filter ({name} > 0),"
        f" (min({name}) = max({name}))::int"
        for name in names
    )
    query = f"select count(*), {figures} from read_parquet($path, hive_partitioning = false)"  # noqa: S608
    last, *before = (
        duck.execute(query, {"path": file}).fetchone() or () for file in (path, *weekdays)
    )
    ratios: dict[str, float] = {}
    constant = 0
    for position, name in enumerate(names):
        values, median, is_constant = last[1 + 3 * position : 4 + 3 * position]
        usual = [row[1 + 3 * position : 4 + 3 * position] for row in before]
        filled = pd.Series([row[0] / day[0] for row, day in zip(usual, before, strict=True)])
        constant += bool(is_constant and filled.median() >= MOSTLY and not any(u[2] for u in usual))
        medians = pd.Series([row[1] for row in usual if row[0] >= ENOUGH_VALUES])
        if values >= ENOUGH_VALUES and len(medians) * 7 >= ENOUGH_HISTORY_DAYS:
            ratios[name] = float(median / medians.median())
    said: dict[str, float | str] = {"constant_measures": float(constant)}
    if ratios:
        name = max(ratios, key=lambda key: max(ratios[key], 1 / ratios[key]))
        said |= {"value_ratio": ratios[name], "value_ratio_column": name}
    return said


def _footers(
    duck: duckdb.DuckDBPyConnection, path: str, before: list[str]
) -> dict[str, float | str]:
    """Find the column that lost most of its values against the days before."""
    row = duck.execute(
        """
        with shares as (
            select path_in_schema as name, file_name = $path as is_last,
                sum(stats_null_count) / sum(num_values) as null_share
            from parquet_metadata($files) group by path_in_schema, file_name
        )
        select name, max(null_share) filter (is_last) - median(null_share) filter (not is_last) as rise
        from shares group by name order by rise desc nulls last, name limit 1
        """,
        {"path": path, "files": [path, *before]},
    ).fetchone()
    if row is None or row[1] is None:
        return {}
    return {"null_share_rise": float(row[1]), "null_share_rise_column": str(row[0])}


def _provinces(
    duck: duckdb.DuckDBPyConnection, table: Table, path: str, before: list[str], rows: int
) -> dict[str, float | str]:
    """Count the provinces that should have sent rows on the last day and sent none."""
    names = [column.name for column in table.landed_columns if "province" in column.name]
    if not names:
        return {}
    query = (
        f"select {names[0]} as province, count(*) as rows"  # noqa: S608
        " from read_parquet($files, hive_partitioning = false) group by 1"
    )
    seen = {row[0] for row in duck.execute(query, {"files": [path]}).fetchall()}
    usual = duck.execute(query, {"files": before}).fetchall()
    total = sum(count for _, count in usual)
    expected = {name for name, count in usual if name and rows * count / total >= USUAL_ROWS}
    return {"missing_provinces": float(len(expected - seen))}
