"""What the rows of one batch say beside those of earlier ones, as figures without a value of any row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

import duckdb
import pandas as pd

from keepline.contract import EVENT_DATE, Table

# A charge is 0 for whoever has a bundle left, so that it says something above 0 alone.
ENOUGH_VALUES, MOSTLY = 50, 0.5
# A code that is this usual may be the only one of a day by chance; one that is less may not.
NEARLY_ALWAYS = 0.9
# A province that would send as many rows as this, were it as usual, is missing when it sends none.
ENOUGH_OF_PROVINCE = 20
NUMBERS = ("integer", "bigint", "decimal(18,2)")
READ = "read_parquet($files, hive_partitioning = false, filename = true)"

Figures = dict[str, float | str]


def clocks(duck: duckdb.DuckDBPyConnection, path: str, load_date: date) -> Figures:
    """Say which share of a batch happened before its load date, and how many rows after it."""
    row = duck.execute(
        f"select avg(({EVENT_DATE} < $day)::int), count(*) filter ({EVENT_DATE} > $day)"  # noqa: S608
        " from read_parquet($path, hive_partitioning = false)",
        {"day": load_date, "path": path},
    ).fetchone()
    return {} if row is None else {"late_share": float(row[0] or 0), "early_rows": float(row[1])}


def moved_measure(
    duck: duckdb.DuckDBPyConnection, table: Table, path: str, before: Sequence[str]
) -> Figures:
    """Find the measure that moved farthest against earlier batches, as after a change of unit."""
    names = _measures(table)
    if not names:
        return {}
    figures = ", ".join(
        f"count(*) filter ({name} > 0), median({name}::double) filter ({name} > 0)"
        for name in names
    )
    last, *usual = _by_file(duck, figures, [path, *before])
    ratios: dict[str, float] = {}
    for position, name in enumerate(names):
        values, median = last[2 * position : 2 * position + 2]
        earlier = [row[2 * position : 2 * position + 2] for row in usual]
        medians = pd.Series([row[1] for row in earlier if row[0] >= ENOUGH_VALUES])
        # Amounts below the smallest unit could make a median of nothing.
        if values >= ENOUGH_VALUES and len(medians) >= 2 and median > 0 and medians.median() > 0:
            ratios[name] = float(median / medians.median())
    if not ratios:
        return {}
    name = max(ratios, key=lambda key: abs(math.log(ratios[key])))
    return {"value_ratio": ratios[name], "value_ratio_column": name}


def constants(
    duck: duckdb.DuckDBPyConnection, table: Table, path: str, before: Sequence[str]
) -> Figures:
    """Count the measures and codes that used to vary and are the same in every row of a batch."""
    names = [*_measures(table), *_codes(table)]
    if not names:
        return {}
    figures = ", ".join(
        f"(count({name}) = count(*) and min({name}) = max({name}))::int" for name in names
    )
    (last,) = _by_file(duck, figures, [path])
    found = [
        name
        for name, is_constant in zip(names, last, strict=True)
        if is_constant and _used_to_vary(duck, name, before, is_code=name in _codes(table))
    ]
    return {
        "constant_columns": float(len(found)),
        "constant_columns_column": found[0] if found else "",
    }


def _used_to_vary(
    duck: duckdb.DuckDBPyConnection, name: str, before: Sequence[str], *, is_code: bool
) -> bool:
    if is_code:
        row = duck.execute(
            f"""select max(share) from (
                select max(n) / sum(n) as share from (
                    select filename, {name}, count(*) as n from {READ} group by all
                ) group by filename
            )""",  # noqa: S608
            {"files": list(before)},
        ).fetchone()
        return row is not None and row[0] is not None and float(row[0]) <= NEARLY_ALWAYS
    figures = f"avg(({name} > 0)::int), (min({name}) = max({name}))::int"
    usual = _by_file(duck, figures, before)
    filled = pd.Series([float(row[0] or 0) for row in usual])
    return bool(filled.median() >= MOSTLY and not any(row[1] for row in usual))


def lost_values(duck: duckdb.DuckDBPyConnection, path: str, before: Sequence[str]) -> Figures:
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


def missing_provinces(
    duck: duckdb.DuckDBPyConnection, table: Table, path: str, before: Sequence[str], rows: int
) -> Figures:
    """Count the provinces that should have sent rows in a batch of so many and sent none."""
    names = [column.name for column in table.landed_columns if "province" in column.name]
    if not names:
        return {}
    query = f"select {names[0]} as province, count(*) as rows from {READ} group by 1"  # noqa: S608
    seen = {row[0] for row in duck.execute(query, {"files": [path]}).fetchall()}
    usual = duck.execute(query, {"files": list(before)}).fetchall()
    total = sum(count for _, count in usual)
    expected = {
        name for name, count in usual if name and rows * count / total >= ENOUGH_OF_PROVINCE
    }
    return {"missing_provinces": float(len(expected - seen))}


def _measures(table: Table) -> list[str]:
    return [c.name for c in table.columns if c.data_type in NUMBERS and c.name not in table.key]


def _codes(table: Table) -> list[str]:
    return [c.name for c in table.columns if c.codes or c.data_type == "boolean"]


def _by_file(
    duck: duckdb.DuckDBPyConnection, figures: str, files: Sequence[str]
) -> list[tuple[int | float, ...]]:
    query = f"select {figures} from read_parquet($path, hive_partitioning = false)"  # noqa: S608
    return [duck.execute(query, {"path": file}).fetchone() or () for file in files]
