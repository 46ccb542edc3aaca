"""The hops `raw` and `facts`: what compute holds of what landed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from keepline.compute import compute_for
from keepline.contract import LOAD_DATE, Column, Contract, Table
from keepline.landed_files import unrecorded
from keepline.ops import LandedBatch
from keepline.recount.landed import CONTENT, Landed, figures_sql, named
from keepline.recount.outcome import ROWS, Difference, Hop, compared, over
from keepline.settings import Settings
from keepline.window import Window

Figured = dict[date, dict[str, int]]
SET_ASIDE, LEFT_OUT = "core.set_aside", "DUP_EARLIER"
# Facts that are made of other facts.
DERIVED = ("fct_activity_daily", "fct_churn_event", "fct_subscription_month")


@dataclass(frozen=True)
class Flow:
    """How a fact is filled from a raw table.

    Attributes:
        fact: table in `core`.
        table: contract table.
        totals: what adds up in both: expression over the raw table by the fact's column, in DuckDB's
            SQL. `rows` is compared besides, unless `counted` names the column that holds the number of rows.
        only: condition that the fact's rows of this table meet.
        counted: column of the fact that counts the raw rows, or ''.
    """

    fact: str
    table: str
    totals: Mapping[str, str]
    only: str = "true"
    counted: str = ""


def flows(contract: Contract) -> list[Flow]:
    """Return every fact that carries rows of one load date as they came, by the contract's `feeds`."""
    return [
        Flow(
            feed.model,
            table.name,
            {
                **{column.staged_name: _smallest_unit(column) for column in table.totals},
                **feed.totals,
            },
            feed.only,
            feed.counted,
        )
        for table in contract.values()
        if (feed := table.feeds) and feed.is_fact
    ]


def _smallest_unit(column: Column) -> str:
    return f"{column.name} * 100" if column.is_money else column.name


def _dimensions(contract: Contract) -> Iterator[tuple[str, str, str]]:
    """Return dimension, master and key of what may not be forgotten."""
    for table in contract.values():
        if table.feeds and not table.feeds.is_fact:
            yield table.feeds.model, table.name, table.identity[0]


def recount_compute(
    settings: Settings,
    contract: Contract,
    duck: duckdb.DuckDBPyConnection,
    landed: Landed,
    *,
    is_attached: bool,
) -> list[Hop]:
    """Recount raw against landing, and the facts against raw.

    Args:
        settings: where compute is.
        contract: tables of the contract.
        duck: DuckDB that reads compute.
        landed: what landing holds, and of which window.
        is_attached: compute holds something; without it all is missing.
    """
    raw, facts = Hop("raw"), Hop("facts")
    if not is_attached:
        told = f"nothing was loaded into {compute_for(settings).place}"
        raw.told = told
        facts.told = "not counted"
        raw.differences.append(Difference("raw", "all tables", None, told, "keepline rebuild"))
        return [raw, facts]
    found: dict[str, Figured] = {}
    for table in contract.values():
        found[table.name] = _raw_figures(duck, table, landed)
        _compare_raw(table, landed, found[table.name], raw)
    counted = sum(figures[ROWS] for days in found.values() for figures in days.values())
    raw.told = f"{counted:,} rows in {sum(1 for days in found.values() if days)} tables"
    _recount_facts(duck, contract, landed, facts)
    return [raw, facts]


def _raw_figures(duck: duckdb.DuckDBPyConnection, table: Table, landed: Landed) -> Figured:
    rows = _by_day(duck, f"raw.{table.name}", figures_sql(table), "true", landed)
    return {day: named(table, figures) for day, figures in rows.items()}


def _compare_raw(table: Table, landed: Landed, found: Figured, hop: Hop) -> None:
    nothing: dict[str, int] = {}
    days = {day for name, day in landed.manifests if name == table.name}
    for day in sorted(days | set(found)):
        expected, figures = landed.expected((table.name, day)), found.get(day, nothing)
        names = [name for name in expected if name != CONTENT]
        told = compared(expected or {ROWS: 0}, figures, ("landing", "raw"), names or [ROWS])
        if (
            not told
            and expected.get(ROWS)
            and expected.get(CONTENT, figures[CONTENT]) != figures[CONTENT]
        ):
            told = f"{figures[ROWS]:,} rows in both with equal totals, but not the same rows"
        if told:
            again = f"keepline load {over(day)}"
            if (table.name, day) in landed.unproven | landed.spoiled:
                # What landing holds may be the wrong one of the two.
                again = f"keepline extract {over(day)} --table {table.name}"
            hop.differences.append(Difference(hop.name, table.name, day, told, again))


def recount_record(
    settings: Settings,
    contract: Contract,
    recorded: Mapping[tuple[str, date], LandedBatch],
    duck: duckdb.DuckDBPyConnection | None,
    window: Window,
) -> list[Difference]:
    """Compare landing's manifests, and the number of rows in raw, with what is on record; cheap.

    Args:
        settings: where landing is.
        contract: tables of the contract.
        recorded: what landed in the window; see `ops.landed_batches`.
        duck: DuckDB that reads compute, or None when nothing was loaded.
        window: load dates.
    """
    unproven = unrecorded(settings.landing_dir, recorded, contract, window)
    found = [
        Difference("landing", one.table_name, one.load_date, one.told, one.command)
        for one in unproven
    ]
    if found or duck is None:
        return found
    for table in contract:
        of_table = {day: batch.rows for (name, day), batch in recorded.items() if name == table}
        loaded = _by_day(duck, f"raw.{table}", "count(*)", "true", Landed(window))
        for day in sorted({*of_table, *loaded}):
            was, now = {ROWS: of_table.get(day, 0)}, {ROWS: int(loaded.get(day, (0,))[0])}
            if told := compared(was, now, ("landing", "raw")):
                again = f"keepline load {over(day)}"
                found.append(Difference("raw", table, day, told, again))
    return found


def _recount_facts(
    duck: duckdb.DuckDBPyConnection,
    contract: Contract,
    landed: Landed,
    hop: Hop,
) -> None:
    counted = left_out = 0
    carried = flows(contract)
    for flow in carried:
        table = contract[flow.table]
        aside = _left_out(duck, table, flow, landed)
        expected = _expected(duck, table, flow, landed, aside)
        found = _fact_figures(duck, flow, landed)
        counted += sum(figures[ROWS] for figures in found.values())
        left_out += sum(figures[ROWS] for figures in aside.values())
        for day in sorted(set(expected) | set(found)):
            told = compared(
                {**dict.fromkeys([ROWS, *flow.totals], 0), **expected.get(day, {})},
                found.get(day, {}),
                (f"raw.{flow.table}", flow.fact),
            )
            if told:
                again = f"keepline build --layer core {over(day)}"
                hop.differences.append(Difference(hop.name, flow.fact, day, told, again))
    for dimension, master, key in _dimensions(contract):
        _look_for_keys(duck, dimension, master, key, landed, hop)
    hop.told = f"{counted:,} rows of {len(carried)} tables carried" + (
        f", {left_out:,} left out as known from an earlier day" if left_out else ""
    )


def _look_for_keys(
    duck: duckdb.DuckDBPyConnection,
    dimension: str,
    master: str,
    key: str,
    landed: Landed,
    hop: Hop,
) -> None:
    """Find the keys of a master that its dimension lacks, whatever else may have changed."""
    known = _by_day(duck, f"raw.{master}", f"count(distinct {key})", "true", landed)
    absent = f"not exists (select 1 from core.{dimension} as d where d.{key} = t.{key})"  # noqa: S608
    try:
        duck.execute(f"select {key} from core.{dimension} limit 0")  # noqa: S608
        lost = _by_day(duck, f"raw.{master}", f"count(distinct {key})", absent, landed)
    except (duckdb.CatalogException, duckdb.BinderException):
        lost = known
    for day, (count,) in sorted(lost.items()):
        told = f"{count:,} of {known[day][0]:,} keys of raw.{master} are not there"
        again = f"keepline build --layer core {over(day)}"
        hop.differences.append(Difference(hop.name, dimension, day, told, again))


def _expected(
    duck: duckdb.DuckDBPyConnection, table: Table, flow: Flow, landed: Landed, aside: Figured
) -> Figured:
    """Return what a fact should hold: the totals of raw, less what was left out by rule."""
    totals = _figures(duck, f"raw.{table.name}", "count(*)", flow.totals, "true", landed)
    return {
        day: {name: value - aside.get(day, {}).get(name, 0) for name, value in figures.items()}
        for day, figures in totals.items()
    }


def _left_out(duck: duckdb.DuckDBPyConnection, table: Table, flow: Flow, landed: Landed) -> Figured:
    """Return the figures of the raw rows that the facts leave out, by load date."""
    try:
        duck.execute(f"select 1 from {SET_ASIDE} limit 0")  # noqa: S608
    except duckdb.CatalogException:
        return {}
    key = ", ".join(f"cast({name} as varchar)" for name in table.key)
    listed = (
        f"exists (select 1 from {SET_ASIDE} as s where s.table_name = '{table.name}'"  # noqa: S608
        f" and s.reason_code = '{LEFT_OUT}' and s.load_date = t.load_date"
        f" and s.key_text = concat_ws('|', {key}))"
    )
    return _figures(duck, f"raw.{table.name}", "count(*)", flow.totals, listed, landed)


def _fact_figures(duck: duckdb.DuckDBPyConnection, flow: Flow, landed: Landed) -> Figured:
    rows = f"coalesce(sum({flow.counted}), 0)" if flow.counted else "count(*)"
    columns = {name: name for name in flow.totals}
    return _figures(duck, f"core.{flow.fact}", rows, columns, flow.only, landed)


def _figures(
    duck: duckdb.DuckDBPyConnection,
    relation: str,
    rows: str,
    totals: Mapping[str, str],
    only: str,
    landed: Landed,
) -> Figured:
    sums = "".join(f", coalesce(sum({expression}), 0)" for expression in totals.values())
    found = _by_day(duck, relation, rows + sums, only, landed)
    return {
        day: {name: int(value) for name, value in zip([ROWS, *totals], figures, strict=True)}
        for day, figures in found.items()
    }


def _by_day(
    duck: duckdb.DuckDBPyConnection, relation: str, figures: str, only: str, landed: Landed
) -> dict[date, Sequence[Any]]:
    """Return figures by load date; a table that is not there, or is of an older contract, has none."""
    window = landed.window
    try:
        rows = duck.execute(
            f"select {LOAD_DATE}, {figures} from {relation} as t"  # noqa: S608
            f" where {LOAD_DATE} >= ? and {LOAD_DATE} < ? and {only} group by 1",
            [window.from_date, window.to_date],
        ).fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):
        return {}
    return {row[0]: row[1:] for row in rows}
