"""The store's tables and the readers' views of one published model, as DDL.

Readers see a row when its part belongs to the current release. That is said twice: by the forced
row security of the table, which also guards whoever reads `store` directly, and by the view, which
also guards a superuser, whom row security does not bind. What is too old for a reader, row security
alone keeps from him. Every row of a view says of which business day its release is, and how old.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import LiteralString

from psycopg import sql

from keepline.errors import UsageError
from keepline.ops import Connection
from keepline.release.published import DAY, STATE, PublishedColumn, PublishedTable

STORE = "store"
OWNER_POLICY, READER_POLICY = "pipeline", "readers"
# The newest period of a daily mart, under a name of its own.
LATEST_VIEWS = {"churn_risk_daily": "churn_risk_latest"}


Readers = Mapping[str, str | None]
"""Roles, each with the key of `ctl.max_age` that says how old may be what it sees, or None."""


def names_of_views(table: PublishedTable) -> list[str]:
    """Return the readers' views of a table as `schema.name`."""
    names = [table.name]
    if table.name in LATEST_VIEWS and table.period is not None:
        names.append(LATEST_VIEWS[table.name])
    return [f"{table.reader_schema}.{name}" for name in names]


def policies(readers: Readers) -> list[str]:
    """Return the names of the policies of every stored table."""
    return sorted([OWNER_POLICY, READER_POLICY, *(_fresh(name) for name in _limits(readers))])


def definition(table: PublishedTable, readers: Readers) -> str:
    """Return a fingerprint of everything that the DDL of a table says."""
    parts = [repr(table), repr(sorted(readers.items(), key=str)), _VISIBLE_STATE, _VISIBLE_PERIODS]
    parts += [_LATEST, _FRESH, _FRESH_DAY, *(query for _, query, _ in _OWN)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def columns_in_store(connection: Connection, name: str) -> list[PublishedColumn]:
    """Return a stored table's columns without the store's own; empty when there is no table."""
    rows = connection.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped"
        " and attname <> 'part_id' order by attnum",
        [f"{STORE}.{name}"],
    ).fetchall()
    return [PublishedColumn(column, store_type, "") for column, store_type in rows]


def bring_up_to_date(
    connection: Connection, table: PublishedTable, readers: Readers, *, may_rebuild: bool
) -> None:
    """Create or change the stored table, its row security and its views.

    A column that the contract now marks as personal goes, from all kept releases.

    Args:
        connection: of the store, inside a transaction.
        table: the published model.
        readers: roles that the reader policy is for, each with the limit of its age.
        may_rebuild: no release was published yet, so that a table may be made anew.

    Raises:
        UsageError: the contract lost or retyped a column that readers already have.
    """
    found = columns_in_store(connection, table.name)
    wanted = {column.name: column.store_type for column in table.columns}
    personal = [column.name for column in found if column.name in table.withheld]
    found = [column for column in found if column.name not in personal]
    broken = [column for column in found if wanted.get(column.name) != column.store_type]
    if broken or (found and _is_partitioned_otherwise(connection, table)):
        if not may_rebuild:
            raise UsageError(_why_not(table, broken, wanted))
        connection.execute(
            sql.SQL("drop table {} cascade").format(sql.Identifier(STORE, table.name))
        )
        # Its parts went with it: no later stage may take them for known.
        for control in ("release_part", "part"):
            connection.execute(
                sql.SQL("delete from {} where table_name = %s").format(
                    sql.Identifier("ctl", control)
                ),
                [table.name],
            )
        found = []
    if not found:
        _create(connection, table)
    else:
        _forget(connection, table, personal)
        known = {column.name for column in found}
        for column in table.columns:
            if column.name not in known:
                connection.execute(
                    sql.SQL("alter table {} add column {}").format(
                        sql.Identifier(STORE, table.name), _declared(column)
                    )
                )
    _secure(connection, table, readers)
    _make_views(connection, table)


def drop(connection: Connection, name: str, reader_schema: str) -> None:
    """Drop a table that no model publishes any more, and its views."""
    connection.execute(
        sql.SQL("drop table if exists {} cascade").format(sql.Identifier(STORE, name))
    )
    for view in (name, LATEST_VIEWS.get(name, name)):
        connection.execute(
            sql.SQL("drop view if exists {}").format(sql.Identifier(reader_schema, view))
        )


# -- inside --------------------------------------------------------------------------------------

_CURRENT: LiteralString = "(select c.release_id from ctl.current_release as c)"
# One part: PostgreSQL finds it first and never opens the partitions of other releases.
_VISIBLE_STATE = (
    "{part_id} = (select rp.part_id from ctl.release_part as rp"
    " where rp.table_name = {name} and rp.release_id = {current})"
)
# Many parts: hashed once per query. `= any (array(...))` would be compared row by row.
_VISIBLE_PERIODS = (
    "{part_id} in (select rp.part_id from ctl.release_part as rp"
    " where rp.table_name = {name} and rp.release_id = {current})"
)
_LATEST = (
    "{part_id} = (select rp.part_id from ctl.release_part as rp where rp.table_name = {name}"
    " and rp.release_id = {current} order by rp.period desc limit 1)"
    " and {period} = (select max(rp.period) from ctl.release_part as rp"
    " where rp.table_name = {name} and rp.release_id = {current})"
)
_RELEASE_DATE: LiteralString = (
    "(select r.to_date - 1 from ctl.release as r where r.release_id = {current})"
)
# The scalar selects are found out once per query, not once per row.
_FRESH: LiteralString = _RELEASE_DATE + " >= (select ctl.oldest_shown({key}))"
_FRESH_DAY: LiteralString = " and {period} >= (select ctl.oldest_shown({key}))"
# Columns that every view ends with: name, expression, meaning.
_OWN: tuple[tuple[str, LiteralString, str], ...] = (
    ("release_id", "{current}", "Release that the row belongs to."),
    (
        "release_business_date",
        _RELEASE_DATE,
        "Business day whose end the release describes.",
    ),
    (
        "release_age_days",
        "((select ctl.business_date()) - " + _RELEASE_DATE + ")",
        "Business days by which the release is behind: 0 is fresh, 1 and more is stale.",
    ),
)


def _fresh(role: str) -> str:
    """Return the name of the policy that keeps what is too old from a role."""
    return f"fresh_{role}"


def _limits(readers: Readers) -> dict[str, str]:
    return {role: key for role, key in readers.items() if key is not None}


def _predicate(template: str, table: PublishedTable, alias: str) -> sql.Composed:
    return sql.SQL(template).format(
        part_id=sql.Identifier(alias, "part_id"),
        name=sql.Literal(table.name),
        current=sql.SQL(_CURRENT),
        period=sql.Identifier(alias, table.period or "part_id"),
    )


def _visible(table: PublishedTable, alias: str) -> sql.Composed:
    return _predicate(_VISIBLE_STATE if table.kind == STATE else _VISIBLE_PERIODS, table, alias)


def _declared(column: PublishedColumn) -> sql.Composed:
    # The type comes from a fixed list, or is numeric(p,s) with digits.
    kind = sql.SQL(column.store_type)
    return sql.SQL("{} {}").format(sql.Identifier(column.name), kind)


def _create(connection: Connection, table: PublishedTable) -> None:
    name = sql.Identifier(STORE, table.name)
    key = (
        sql.SQL("list (part_id)")
        if table.period is None
        else sql.SQL("range ({})").format(sql.Identifier(table.period))
    )
    connection.execute(
        sql.SQL("create table {} (part_id integer not null, {}) partition by {}").format(
            name, sql.SQL(", ").join(_declared(column) for column in table.columns), key
        )
    )
    if table.period is not None:
        connection.execute(
            sql.SQL("create index on {} ({}, part_id)").format(name, sql.Identifier(table.period))
        )


def _forget(connection: Connection, table: PublishedTable, personal: list[str]) -> None:
    """Drop columns of a stored table; the views, which show them, are made again afterwards."""
    if not personal:
        return
    for view in names_of_views(table):
        connection.execute(
            sql.SQL("drop view if exists {}").format(sql.Identifier(*view.split(".")))
        )
    for column in personal:
        connection.execute(
            sql.SQL("alter table {} drop column {}").format(
                sql.Identifier(STORE, table.name), sql.Identifier(column)
            )
        )


def _secure(connection: Connection, table: PublishedTable, readers: Readers) -> None:
    name = sql.Identifier(STORE, table.name)
    found = connection.execute(
        "select polname from pg_policy where polrelid = to_regclass(%s)", [f"{STORE}.{table.name}"]
    ).fetchall()
    for (policy,) in found:
        connection.execute(
            sql.SQL("drop policy if exists {} on {}").format(sql.Identifier(policy), name)
        )
    connection.execute(
        sql.SQL("alter table {} enable row level security, force row level security").format(name)
    )
    connection.execute(
        sql.SQL("create policy {} on {} to current_user using (true) with check (true)").format(
            sql.Identifier(OWNER_POLICY), name
        )
    )
    connection.execute(
        sql.SQL("create policy {} on {} for select to {} using ({})").format(
            sql.Identifier(READER_POLICY),
            name,
            sql.SQL(", ").join(sql.Identifier(reader) for reader in readers),
            _visible(table, table.name),
        )
    )
    for role, key in _limits(readers).items():
        condition = _FRESH + (_FRESH_DAY if table.kind == DAY else "")
        connection.execute(
            sql.SQL("create policy {} on {} as restrictive for select to {} using ({})").format(
                sql.Identifier(_fresh(role)),
                name,
                sql.Identifier(role),
                sql.SQL(condition).format(
                    current=sql.SQL(_CURRENT),
                    key=sql.Literal(key),
                    period=sql.Identifier(table.name, table.period or "part_id"),
                ),
            )
        )


def _make_views(connection: Connection, table: PublishedTable) -> None:
    predicates = [_visible(table, "t"), _predicate(_LATEST, table, "t")]
    for view, predicate in zip(names_of_views(table), predicates, strict=False):
        name = sql.Identifier(*view.split("."))
        connection.execute(sql.SQL("drop view if exists {}").format(name))
        columns = [sql.Identifier("t", column) for column in table.column_names]
        own = [
            sql.SQL("{} as {}").format(
                sql.SQL(query).format(current=sql.SQL(_CURRENT)), sql.Identifier(own_name)
            )
            for own_name, query, _ in _OWN
        ]
        connection.execute(
            sql.SQL(
                "create view {} with (security_invoker = true, security_barrier = true) as"
                " select {} from {} as t where {}"
            ).format(
                name,
                sql.SQL(", ").join([*columns, *own]),
                sql.Identifier(STORE, table.name),
                predicate,
            )
        )
        _comment(connection, "view", view, table.description)
        for column in table.columns:
            _comment(connection, "column", f"{view}.{column.name}", column.description)
        for own_name, _, meaning in _OWN:
            _comment(connection, "column", f"{view}.{own_name}", meaning)


def _comment(connection: Connection, what: str, name: str, text: str) -> None:
    connection.execute(
        sql.SQL("comment on {} {} is {}").format(
            sql.SQL(what),
            sql.Identifier(*name.split(".")),
            sql.Literal(text),
        )
    )


def _is_partitioned_otherwise(connection: Connection, table: PublishedTable) -> bool:
    row = connection.execute(
        "select pg_get_partkeydef(to_regclass(%s))", [f"{STORE}.{table.name}"]
    ).fetchone()
    wanted = "LIST (part_id)" if table.period is None else f"RANGE ({table.period})"
    return row is None or row[0] != wanted


def _why_not(table: PublishedTable, broken: list[PublishedColumn], wanted: dict[str, str]) -> str:
    changes = [
        f"{column.name} was {column.store_type} and is now {wanted.get(column.name, 'gone')}"
        for column in broken
    ] or ["the period column or the kind of meta.publish changed"]
    return (
        f"model {table.model} breaks what readers of {table.reader_schema}.{table.name} rely on: "
        f"{'; '.join(changes)}. Keep the column as it was and add the new meaning under a new name, "
        f"or publish the change as a new model, such as {table.model}_v2"
    )
