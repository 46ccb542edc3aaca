"""The hop `release`: what readers see, beside the parts on record and beside compute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, LiteralString

import duckdb
from psycopg import sql

from keepline.contract import LOAD_DATE
from keepline.ops import Connection
from keepline.recount.outcome import ROWS, Difference, Hop, compared, over
from keepline.release.published import MONTH, PublishedColumn, PublishedTable, from_store
from keepline.window import Window

Period = date | None
Figured = dict[Period, dict[str, int]]

# A total of each kind of value that PostgreSQL and DuckDB agree on to the unit. A floating-point
# number counts as whole millionths: a sum of such numbers would depend on their order.
_DAYS, _MICROSECONDS = "1970-01-01", 1_000_000
IN_STORE: dict[str, LiteralString] = {
    "text": "octet_length({})",
    "date": f"({{}} - date '{_DAYS}')",
    "timestamp without time zone": f"(extract(epoch from {{}}) * {_MICROSECONDS})",
    "boolean": "({}::int)",
    "double precision": f"floor({{}} * {_MICROSECONDS})::bigint",
}
IN_COMPUTE = {
    "text": "strlen({})",
    "date": f"date_diff('day', date '{_DAYS}', {{}})",
    "timestamp without time zone": "epoch_us({})",
    "boolean": "({}::int)",
    "double precision": f"floor({{}} * {_MICROSECONDS})::bigint",
}
NUMERIC = "numeric"
# A part is written once and found by its content, so that no stage would write it again by itself.
RECOPY = "keepline verify --recopy, then stage, audit and publish"


@dataclass(frozen=True)
class _Shown:
    """The release that readers see, the last load date of its facts, and whether compute has later ones."""

    release_id: int
    window: Window
    last_date: date
    is_behind: bool


def recount_release(
    connection: Connection, duck: duckdb.DuckDBPyConnection, window: Window, *, is_attached: bool
) -> Hop:
    """Recount what readers see.

    Each part must hold the rows that it was written with. What has load dates must agree with compute
    up to the release's last day; other tables when compute has no later day than the release.

    Args:
        connection: of the store, as the pipeline's login.
        duck: DuckDB that reads compute.
        window: load dates.
        is_attached: compute holds something.
    """
    hop = Hop("release")
    shown = _shown(connection, duck, is_attached=is_attached)
    if shown is None:
        hop.told = "nothing is published yet"
        return hop
    rows = 0
    tables = from_store(connection)
    for table in tables:
        found, parts = _in_store(connection, table, shown, window)
        rows += sum(figures[ROWS] for figures in found.values())
        is_damaged = _check_parts(connection, table, shown, parts, hop, window)
        if is_attached and not is_damaged and (table.period == LOAD_DATE or not shown.is_behind):
            _check_compute(connection, duck, table, shown, found, window, hop)
    hop.told = (
        f"{rows:,} rows of {len(tables)} tables in release {shown.release_id} ({shown.window})"
    )
    if shown.is_behind:
        hop.told += "; compute has later days, so that tables without load dates were not compared"
    return hop


# -- inside --------------------------------------------------------------------------------------


def _shown(
    connection: Connection, duck: duckdb.DuckDBPyConnection, *, is_attached: bool
) -> _Shown | None:
    row = connection.execute(
        "select r.release_id, r.from_date, r.to_date, (select max(rp.period) from ctl.release_part as rp"
        " inner join ctl.published_table as t on t.table_name = rp.table_name"
        " where rp.release_id = r.release_id and t.period_column = %s) from ctl.release as r"
        " inner join ctl.current_release as c on c.release_id = r.release_id",
        [LOAD_DATE],
    ).fetchone()
    if row is None:
        return None
    release = Window(row[1], row[2])
    # After a repair of old days, a release shows far later ones than those that it was staged for.
    shown = max(release.last_date, row[3] or release.last_date)
    last: date | None = None
    if is_attached:
        tables = duck.execute(
            "select table_name from information_schema.tables where table_schema = 'raw'"
        ).fetchall()
        for (name,) in tables:
            found = duck.execute(f'select max({LOAD_DATE}) from raw."{name}"').fetchone()  # noqa: S608
            if found and found[0] and (last is None or found[0] > last):
                last = found[0]
    return _Shown(row[0], release, shown, last is not None and last > shown)


def _store_sums(table: PublishedTable) -> sql.Composed:
    """Return one sum per column in PostgreSQL's SQL, as text: both engines write it alike."""
    return sql.Composed(
        [
            sql.SQL(", cast(coalesce(sum({}), 0) as text)").format(
                sql.SQL("{} * {}").format(sql.Identifier(column.name), sql.Literal(10**scale))
                if (scale := _scale(column))
                else sql.SQL(IN_STORE.get(column.store_type, "{}")).format(
                    sql.Identifier(column.name)
                )
            )
            for column in table.columns
        ]
    )


def _compute_sums(table: PublishedTable) -> str:
    """Return the same sums in DuckDB's SQL."""
    said = ""
    for column in table.columns:
        quoted = '"' + column.name.replace('"', '""') + '"'
        scale = _scale(column)
        value = (
            f"cast({quoted} as decimal(38, {scale})) * {10**scale}"
            if scale
            else IN_COMPUTE.get(column.store_type, "{}").format(quoted)
        )
        said += f", cast(coalesce(sum({value}), 0) as varchar)"
    return said


def _scale(column: PublishedColumn) -> int:
    """Return the digits after the point of a decimal number, else 0."""
    is_decimal = column.store_type.startswith(NUMERIC)
    return int(column.store_type.rstrip(")").split(",")[1]) if is_decimal else 0


def _named(table: PublishedTable, figures: Sequence[Any]) -> dict[str, int]:
    """Name figures; sums come as text, with a point but nothing behind it."""
    numbers = (int(str(value).partition(".")[0]) for value in figures)
    return dict(zip([ROWS, *table.column_names], numbers, strict=True))


def _in_store(
    connection: Connection,
    table: PublishedTable,
    shown: _Shown,
    window: Window,
) -> tuple[Figured, dict[int, int]]:
    """Return the figures by day and the rows by part of what readers see in the window."""
    day: sql.Composable = sql.SQL("null::date")
    only: sql.Composable = sql.SQL("")
    if table.period:
        day = sql.Identifier(table.period)
        only = sql.SQL(" and t.{} >= {} and t.{} < {}").format(
            day, sql.Literal(_first(table, window)), day, sql.Literal(window.to_date)
        )
    query = sql.SQL(
        "select t.part_id, {day}, count(*) {sums} from {relation} as t where t.part_id in"
        " (select part_id from ctl.release_part where release_id = {release} and table_name = {name})"
        "{only} group by 1, 2"
    ).format(
        day=day,
        sums=_store_sums(table),
        relation=sql.Identifier("store", table.name),
        release=sql.Literal(shown.release_id),
        name=sql.Literal(table.name),
        only=only,
    )
    found: Figured = {}
    parts: dict[int, int] = defaultdict(int)
    for part_id, period, *figures in connection.execute(query).fetchall():
        named = _named(table, figures)
        parts[part_id] += named[ROWS]
        known = found.setdefault(period, dict.fromkeys(named, 0))
        for name, value in named.items():
            known[name] += value
    return found, parts


def _first(table: PublishedTable, window: Window) -> date:
    """Return the first period of a table that the window touches."""
    return window.from_date.replace(day=1) if table.kind == MONTH else window.from_date


def _check_parts(
    connection: Connection,
    table: PublishedTable,
    shown: _Shown,
    parts: Mapping[int, int],
    hop: Hop,
    window: Window,
) -> bool:
    """Compare the rows of each part with what was written; says whether one is damaged."""
    recorded = connection.execute(
        "select p.part_id, p.period, p.rows from ctl.release_part as rp inner join ctl.part as p"
        " on p.part_id = rp.part_id where rp.release_id = %s and rp.table_name = %s"
        " and (p.period is null or (p.period >= %s and p.period < %s)) order by p.period",
        [shown.release_id, table.name, _first(table, window), window.to_date],
    ).fetchall()
    is_damaged = False
    for part_id, period, rows in recorded:
        told = compared(
            {ROWS: rows}, {ROWS: parts.get(part_id, 0)}, ("the part's record", "the store")
        )
        if told:
            is_damaged = True
            hop.damaged_parts.append(part_id)
            hop.differences.append(Difference(hop.name, table.name, period, told, RECOPY))
    return is_damaged


def _check_compute(
    connection: Connection,
    duck: duckdb.DuckDBPyConnection,
    table: PublishedTable,
    shown: _Shown,
    found: Figured,
    window: Window,
    hop: Hop,
) -> None:
    expected = _in_compute(duck, table, window)
    nothing = dict.fromkeys([ROWS, *table.column_names], 0)
    for period in sorted(set(expected) | set(found), key=lambda one: one or date.min):
        if period is not None and period > shown.last_date:
            continue
        if period not in expected and table.period not in (None, LOAD_DATE):
            # Compute may forget periods of long ago; the release keeps them.
            continue
        told = compared(
            expected.get(period, nothing), found.get(period, nothing), (table.relation, "the store")
        )
        if told:
            part_id = _unchanged_part(connection, duck, table, period, shown)
            command = f"keepline stage {over(shown.window)}, then audit and publish"
            if part_id is not None:
                hop.damaged_parts.append(part_id)
                command = RECOPY
            hop.differences.append(Difference(hop.name, table.name, period, told, command))


def _in_compute(duck: duckdb.DuckDBPyConnection, table: PublishedTable, window: Window) -> Figured:
    only, values = "", list[date]()
    if table.period:
        only = f" where {table.period} >= ? and {table.period} < ?"
        values = [_first(table, window), window.to_date]
    query = (
        f"select {table.period or 'cast(null as date)'}, count(*) {_compute_sums(table)}"  # noqa: S608
        f" from {table.relation}{only} group by 1"
    )
    try:
        rows = duck.execute(query, values).fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):
        return {}
    return {row[0]: _named(table, row[1:]) for row in rows}


def _unchanged_part(
    connection: Connection,
    duck: duckdb.DuckDBPyConnection,
    table: PublishedTable,
    period: Period,
    shown: _Shown,
) -> int | None:
    """Return the part of a period if compute still holds what it was written from, else None."""
    # Hashed anew, as `stage` does it: what that noted of a period would hide a change by hand.
    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in table.column_names)
    only, values = ("", []) if period is None else (f" where {table.period} = ?", [period])
    held = duck.execute(
        f"select cast(sum(hash({columns})) as varchar) from {table.relation}{only}",  # noqa: S608
        values,
    ).fetchone()
    row = connection.execute(
        "select p.part_id, p.content from ctl.release_part as rp"
        " inner join ctl.part as p on p.part_id = rp.part_id"
        " where rp.release_id = %s and rp.table_name = %s and rp.period is not distinct from %s",
        [shown.release_id, table.name, period],
    ).fetchone()
    is_same = held is not None and row is not None and held[0] == row[1]
    return int(row[0]) if row is not None and is_same else None
