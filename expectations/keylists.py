"""A profile of the key lists: how many keys of a master are gone since its list before, without a key."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb
import pandas as pd

from keepline.contract import LOAD_DATE
from keepline.errors import BadDataError
from keepline.settings import Settings
from keepline.window import Window

TABLE, MASTER, KEY = "source_key", "table_name", "key_text"
# How far back the list before may be.
BEFORE_DAYS = 31
# One key or two are no mass, however short the list.
FEW_KEYS = 2
COLUMNS = [MASTER, LOAD_DATE, "listed_keys", "gone_keys", "gone_share"]


def profile(settings: Settings, window: Window) -> pd.DataFrame:
    """Return one row per master and load date of the window that has a list.

    `gone_share` is the share of the keys of the list before that this one lacks, 0 when that are no more
    than two; it is empty for a first list.

    Raises:
        BadDataError: a list cannot be read.
    """
    first = window.from_date - timedelta(days=BEFORE_DAYS)
    files = {
        day: str(path)
        for path in sorted((settings.landing_dir / TABLE).glob(f"{LOAD_DATE}=*/part-0.parquet"))
        if first <= (day := _day_of(path.parent.name)) < window.to_date
    }
    found: list[tuple[str, str, float, float, float]] = []
    with duckdb.connect() as duck:
        try:
            masters = {day: _masters(duck, path) for day, path in files.items()}
            for day in files:
                if day < window.from_date or not masters[day]:
                    continue
                before = [known for known in masters if known < day and masters[known]]
                for master in sorted(masters[day]):
                    earlier = [known for known in before if master in masters[known]]
                    last = files[earlier[-1]] if earlier else None
                    found.append((master, day.isoformat(), *_gone(duck, master, files[day], last)))
        except (duckdb.IOException, duckdb.InvalidInputException, duckdb.BinderException) as error:
            raise BadDataError(
                f"landing of {TABLE} cannot be read: {str(error).splitlines()[0]}; extract it again"
            ) from error
    return pd.DataFrame(found, columns=COLUMNS)


def _masters(duck: duckdb.DuckDBPyConnection, path: str) -> set[str]:
    rows = duck.execute(
        f"select distinct {MASTER} from read_parquet(?, hive_partitioning = false)",  # noqa: S608
        [path],
    ).fetchall()
    return {str(row[0]) for row in rows}


def _gone(
    duck: duckdb.DuckDBPyConnection, master: str, path: str, before: str | None
) -> tuple[float, float, float]:
    """Return how many keys are listed, how many are gone, and which share that is."""
    keys = (
        f"select distinct {KEY} from read_parquet($path, hive_partitioning = false)"  # noqa: S608
        f" where {MASTER} = $master"
    )
    if before is None:
        row = duck.execute(f"select count(*) from ({keys})", {"path": path, "master": master})  # noqa: S608
        return float((row.fetchone() or (0,))[0]), float("nan"), float("nan")
    earlier = keys.replace("$path", "$before")
    query = f"""
        select
            count(now.{KEY}), count(*) filter (now.{KEY} is null), count(was.{KEY})
        from ({keys}) as now full join ({earlier}) as was on was.{KEY} = now.{KEY}"""  # noqa: S608
    row = duck.execute(query, {"path": path, "before": before, "master": master})
    listed, gone, known = row.fetchone() or (0, 0, 0)
    share = gone / known if gone > FEW_KEYS else 0.0
    return float(listed), float(gone), float(share)


def _day_of(folder: str) -> date:
    return date.fromisoformat(folder.removeprefix(f"{LOAD_DATE}="))
