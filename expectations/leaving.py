"""What a staged release shows, as queries: the parts of its tables, whether readers see it or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import LiteralString

from psycopg import sql

from expectations.gates import Check
from keepline.errors import CheckCrashedError, UsageError
from keepline.ops import Connection
from keepline.window import Window

# Parts that are written out by number and period, so that PostgreSQL opens no other partition and
# plans with the statistics of these.
MOST_WRITTEN = 200
# The parts that no audited release has shown: what was audited once is never changed.
NEW = " and not p.is_audited"
CURRENT = sql.SQL("(select c.release_id from ctl.current_release as c)")
# Days before a new or the last day that `near` shows.
NEAR_DAYS = 8
Part = tuple[int, date | None]
Parts = Sequence[Part]


@dataclass(frozen=True)
class Release:
    """A release to be audited.

    Attributes:
        release_id: its number.
        window: load dates that it was staged for.
        tables: names of its published tables.
        new_parts: by table, the parts that were never audited: number and period.
        near_parts: by table that has periods, the parts of the days up to `NEAR_DAYS` before any
            new part's or the window's last day.
        few_parts: by `all` or `current` and by table, the parts of a table that has few.
        period_columns: by table that has periods, the column that says which.
    """

    release_id: int
    window: Window
    tables: frozenset[str]
    new_parts: Mapping[str, Parts]
    near_parts: Mapping[str, Parts]
    few_parts: Mapping[str, Mapping[str, Parts]]
    period_columns: Mapping[str, str]

    def rows_of(self, table: str, which: str) -> str:
        """Return the SELECT of a table's rows: `new`, `near` or `all` of this release, or `current`.

        `current` is what readers see now, whichever release that is.
        """
        if which not in ("new", "near", "all", "current"):
            raise CheckCrashedError(f"gates.yml: rows is new or all, not {which!r}")
        if table not in self.tables:
            raise CheckCrashedError(f"gates.yml asks for {table}, which no model publishes")
        parts = self._parts_of(table, which)
        if parts is not None and len(parts) <= MOST_WRITTEN:
            return self._written(table, parts)
        return (
            sql.SQL(
                "select t.* from {table} as t where t.part_id in (select rp.part_id from ctl.release_part"
                " as rp inner join ctl.part as p on p.part_id = rp.part_id"
                " where rp.release_id = {release} and rp.table_name = {name}{new})"
            )
            .format(
                table=sql.Identifier("store", table),
                release=CURRENT if which == "current" else sql.Literal(self.release_id),
                name=sql.Literal(table),
                new=sql.SQL(NEW if which == "new" else ""),
            )
            .as_string()
        )

    def _parts_of(self, table: str, which: str) -> Parts | None:
        """The parts to be read, or None when they are too many to have been listed."""
        if which == "new":
            return self.new_parts.get(table, ())
        if which == "near":
            return self.near_parts.get(table, ())
        return self.few_parts[which].get(table)

    def _written(self, table: str, parts: Parts) -> str:
        select = sql.SQL("select t.* from {} as t where ").format(sql.Identifier("store", table))
        if not parts:
            return (select + sql.SQL("false")).as_string()
        select += sql.SQL("t.part_id in ({})").format(
            sql.SQL(", ").join(sql.Literal(number) for number, _ in parts)
        )
        if table in self.period_columns:
            select += sql.SQL(" and t.{} in ({})").format(
                sql.Identifier(self.period_columns[table]),
                sql.SQL(", ").join(sql.Literal(period) for _, period in parts),
            )
        return select.as_string()

    def fill(self, query: str) -> str:
        """Fill a query's `{new[table]}`, `{near[table]}`, `{all[table]}`, `{current[table]}`, and so on."""
        return query.format_map(
            {
                "new": _Tables(self, "new"),
                "near": _Tables(self, "near"),
                "all": _Tables(self, "all"),
                "current": _Tables(self, "current"),
                "release": self.release_id,
                "first_date": f"date '{self.window.from_date}'",
                "last_date": f"date '{self.window.last_date}'",
            }
        )

    def has_something_for(self, check: Check) -> bool:
        """Whether a check has anything to look at: parts that were audited before are not again."""
        return check.rows == "all" or check.tables[0] in self.new_parts


class _Tables(Mapping[str, str]):
    """`{new[table]}` in a query: looked up only when it is asked for."""

    def __init__(self, release: Release, which: str) -> None:
        self._release, self._which = release, which

    def __getitem__(self, table: str) -> str:
        return f"({self._release.rows_of(table, self._which)})"

    def __iter__(self) -> Iterator[str]:
        return iter(self._release.tables)

    def __len__(self) -> int:
        return len(self._release.tables)


def read_release(connection: Connection, release_id: int) -> Release:
    """Read which tables and parts a release has.

    Raises:
        UsageError: there is no such release, or its rows are gone.
    """
    row: tuple[date, date] | None = connection.execute(
        "select from_date, to_date from ctl.release where release_id = %s and status <> 'retired'",
        [release_id],
    ).fetchone()
    if row is None:
        raise UsageError(f"there is no release {release_id} to audit: run `keepline stage`")
    window = Window(*row)
    new = _by_table(
        connection,
        "select rp.table_name, rp.part_id, rp.period from ctl.release_part as rp inner join ctl.part as p"
        " on p.part_id = rp.part_id where rp.release_id = %(release)s and not p.is_audited order by 1, 2",
        {"release": release_id},
    )
    tables = connection.execute(
        "select table_name, period_column from ctl.published_table where not is_withdrawn"
    ).fetchall()
    return Release(
        release_id,
        window,
        frozenset(str(name) for name, _ in tables),
        new,
        _near(connection, release_id, window, new),
        {
            "all": _few(connection, sql.Literal(release_id)),
            "current": _few(connection, CURRENT),
        },
        {str(name): str(column) for name, column in tables if column is not None},
    )


def _near(
    connection: Connection, release_id: int, window: Window, new: Mapping[str, Parts]
) -> dict[str, list[Part]]:
    """Return the parts of the days up to `NEAR_DAYS` before a new part's or the window's last day."""
    edges = {period for parts in new.values() for _, period in parts if period is not None}
    edges.add(window.last_date)
    days = {edge - timedelta(days=back) for edge in edges for back in range(NEAR_DAYS + 1)}
    return _by_table(
        connection,
        "select table_name, part_id, period from ctl.release_part"
        " where release_id = %(release)s and period = any (%(days)s) order by 1, 2",
        {"release": release_id, "days": sorted(days)},
    )


def _few(connection: Connection, release: sql.Composable) -> dict[str, list[Part]]:
    """Return the parts of a release by table, of tables that have few."""
    return _by_table(
        connection,
        sql.SQL(
            "select table_name, part_id, period from (select *, count(*) over (partition by table_name)"
            " as parts from ctl.release_part where release_id = {}) as rp where parts <= {}"
            " order by 1, 2"
        ).format(release, sql.Literal(MOST_WRITTEN)),
    )


def _by_table(
    connection: Connection,
    query: sql.Composed | LiteralString,
    values: Mapping[str, object] | None = None,
) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    for name, part_id, period in connection.execute(query, values).fetchall():
        found.setdefault(str(name), []).append((part_id, period))
    return found
