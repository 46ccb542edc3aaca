"""Whether the store's catalogue still says what the last migration made of it."""

from __future__ import annotations

from typing import LiteralString

from keepline.ops import Connection
from keepline.release import rights
from keepline.release.published import PublishedTable
from keepline.release.tables import STORE, Readers, names_of_views
from keepline.release.tables import policies as policy_names


def problems(connection: Connection, tables: list[PublishedTable]) -> list[str]:
    """Return what a reader could see or do beyond his rights, or would miss; empty when all is well.

    Looks at row security (on, forced, its policies unchanged), at the views (asking with the
    reader's own rights, no leak past the barrier) and at every grant to a reader or to everybody.
    """
    roles = rights.load_roles()
    return [
        *_row_security(connection, tables, rights.readers(roles)).values(),
        *_views(connection, tables).values(),
        *rights.problems(connection, tables, roles),
    ]


def unguarded(connection: Connection, tables: list[PublishedTable], readers: Readers) -> set[str]:
    """Return the names of tables that are missing or not guarded as the last migration left them."""
    broken_views = _views(connection, tables)
    return set(_row_security(connection, tables, readers)) | {
        table.name for table in tables if broken_views.keys() & set(names_of_views(table))
    }


def conditions(connection: Connection, name: str) -> str:
    """Return the conditions of a table's policies as the catalogue holds them, or ''."""
    row = connection.execute(
        f"select {_CONDITIONS} from pg_class as c where c.oid = to_regclass(%s)",  # noqa: S608
        [f"{STORE}.{name}"],
    ).fetchone()
    return "" if row is None else str(row[0])


_CONDITIONS: LiteralString = """
    (select string_agg(
        format('%%s %%s %%s: %%s', p.polname, p.polpermissive, p.polcmd, pg_get_expr(p.polqual, p.polrelid)),
        E'\n' order by p.polname
    ) from pg_policy as p where p.polrelid = c.oid)
"""


def _row_security(
    connection: Connection, tables: list[PublishedTable], readers: Readers
) -> dict[str, str]:
    """Return what is wrong, by table name."""
    rows = connection.execute(
        f"""
        select c.relname, c.relrowsecurity and c.relforcerowsecurity,
            (select array_agg(p.polname::text order by p.polname) from pg_policy as p
             where p.polrelid = c.oid),
            {_CONDITIONS}
        from pg_class as c
        where c.relnamespace = %s::regnamespace and not c.relispartition
        """,  # noqa: S608
        [STORE],
    ).fetchall()
    found = {row[0]: row[1:] for row in rows}
    policies: dict[str, str] = dict(
        connection.execute("select table_name, policy from ctl.published_table").fetchall()
    )
    said = {}
    for table in tables:
        is_forced, names, condition = found.get(table.name, (None, None, None))
        if is_forced is None:
            said[table.name] = f"{STORE}.{table.name} is missing"
        elif not is_forced:
            said[table.name] = f"{STORE}.{table.name} has no forced row security"
        elif names != policy_names(readers) or condition != policies.get(table.name):
            said[table.name] = f"the policies of {STORE}.{table.name} were changed"
    return said


def _views(connection: Connection, tables: list[PublishedTable]) -> dict[str, str]:
    """Return what is wrong, by `schema.view`."""
    wanted = {view for table in tables for view in names_of_views(table)}
    rows = connection.execute(
        """
        select n.nspname || '.' || c.relname,
            coalesce(c.reloptions, '{}') @> '{security_invoker=true,security_barrier=true}'
        from pg_class as c
        inner join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname in ('mart', 'star') and c.relkind = 'v'
        """
    ).fetchall()
    found: dict[str, bool] = dict(rows)
    said = {view: f"the view {view} is missing" for view in sorted(wanted - set(found))}
    for view, is_safe in sorted(found.items()):
        if view not in wanted:
            said[view] = f"{view} is not published by any model"
        elif not is_safe:
            said[view] = f"the view {view} does not ask with the reader's own rights"
    return said
