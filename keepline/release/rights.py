"""Who may read what: `roles.yml` brought into the store and read back from its catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import LiteralString

import psycopg
import yaml
from psycopg import sql

from keepline import store, watchdog
from keepline.errors import UsageError
from keepline.ops import Connection
from keepline.release.published import PublishedTable
from keepline.release.tables import STORE, Readers, names_of_views
from keepline.settings import Settings

ROLES_FILE = Path(__file__).with_name("roles.yml")
SCHEMAS = ("ctl", STORE, "mart", "star", "ops", "vault", "watchdog")
# What row security itself has to look up, with the reader's own rights.
POINTER_TABLES = ("ctl.current_release", "ctl.release", "ctl.release_part")
POINTER_FUNCTIONS = ("ctl.business_date()", "ctl.oldest_shown(text)")

# What everybody may call who may connect, and what would fill the server's lock table or its disk: locks of
# a number, large objects, messages in the write-ahead log. Letting locks go does no harm, and pools do it.
OPEN_FUNCTIONS = "^(pg_(try_)?advisory_(xact_)?lock|lo_|lowrite$|loread$|pg_logical_emit_message$)"

Grant = tuple[str, str, str]
"""(object, role, privilege); objects are `schema.name`, or `schema` alone."""


@dataclass(frozen=True)
class Role:
    """A reader: which views it may select from, how long a statement may take and how much disk.

    Attributes:
        max_age: key of the dated parameter that says how many days old may be what it sees.
    """

    name: str
    purpose: str
    reads: tuple[str, ...]
    statement_timeout: str
    temp_file_limit: str
    connection_limit: int
    max_age: str | None = None


def load_roles(path: Path = ROLES_FILE) -> list[Role]:
    """Read the roles.

    Raises:
        UsageError: the file lacks something or says something unknown.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return [
            Role(name, **{**raw, "reads": tuple(raw["reads"])}) for name, raw in document.items()
        ]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path}: a role cannot be read: {error}") from error


def readers(roles: Iterable[Role]) -> Readers:
    """Return the roles, each with the limit of its age."""
    return {role.name: role.max_age for role in roles}


def wanted_grants(tables: Iterable[PublishedTable], roles: Iterable[Role]) -> set[Grant]:
    """Return every right that a reader shall have, and no other."""
    grants: set[Grant] = set()
    tables = list(tables)
    for role in roles:
        for table in tables:
            for view in names_of_views(table):
                if any(fnmatchcase(view, pattern) for pattern in role.reads):
                    # The view asks with the reader's own rights, so that row security binds him.
                    for name in (view, f"{STORE}.{table.name}"):
                        grants.add((name, role.name, "SELECT"))
        grants |= {(name, role.name, "SELECT") for name in POINTER_TABLES}
        grants |= {(name, role.name, "EXECUTE") for name in POINTER_FUNCTIONS}
    grants |= {(name.split(".")[0], role, "USAGE") for name, role, _ in grants}
    return grants


def found_grants(connection: Connection, roles: Iterable[str]) -> set[Grant]:
    """Return what the catalogue grants in the store's schemas to these roles and to everybody."""
    rows = connection.execute(
        """
        with granted as (
            select n.nspname || '.' || c.relname as object, a.grantee, a.privilege_type
            from pg_class as c
            inner join pg_namespace as n on n.oid = c.relnamespace
            cross join lateral aclexplode(c.relacl) as a
            where n.nspname = any(%(schemas)s)
            union all
            select n.nspname || '.' || c.relname || '.' || t.attname, a.grantee, a.privilege_type
            from pg_attribute as t
            inner join pg_class as c on c.oid = t.attrelid
            inner join pg_namespace as n on n.oid = c.relnamespace
            cross join lateral aclexplode(t.attacl) as a
            where n.nspname = any(%(schemas)s)
            union all
            select format('%%s.%%s(%%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)),
                a.grantee, a.privilege_type
            from pg_proc as p
            inner join pg_namespace as n on n.oid = p.pronamespace
            cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
            where n.nspname = any(%(schemas)s)
            union all
            select n.nspname, a.grantee, a.privilege_type
            from pg_namespace as n
            cross join lateral aclexplode(n.nspacl) as a
            where n.nspname = any(%(schemas)s)
        )
        select object, case grantee when 0 then 'public' else pg_get_userbyid(grantee) end,
            privilege_type
        from granted
        where grantee = 0 or pg_get_userbyid(grantee) = any(%(roles)s)
        """,
        {"schemas": list(SCHEMAS), "roles": list(roles)},
    ).fetchall()
    return {(name, role, privilege) for name, role, privilege in rows}


def make_roles(connection: Connection, settings: Settings, roles: list[Role]) -> None:
    """Make the roles that are missing, and write down their limits for `watchdog`.

    In an embedded store they get passwords and limits anew, committed at once, as logins belong to the
    server and not to one of its databases.

    Raises:
        UsageError: a role is missing and this login may not make it, or has no password here.
    """
    if not store.is_embedded(settings):
        _make_roles(connection, settings, roles)
        return
    with store.connect_to_logins(settings) as server, server.transaction():
        _make_roles(server, settings, roles)
        for database in ("postgres", "template1"):
            server.execute(
                sql.SQL("revoke all on database {} from public").format(sql.Identifier(database))
            )


def set_grants(connection: Connection, tables: list[PublishedTable], roles: list[Role]) -> None:
    """Give the roles just what `roles.yml` says, and everybody else nothing."""
    names = [role.name for role in roles]
    _close_to_the_public(connection, names)
    wanted, found = wanted_grants(tables, roles), found_grants(connection, names)
    for name, role, privilege in sorted(found - wanted):
        _change(connection, "revoke {} on {} {} from {}", name, role, privilege)
    for name, role, privilege in sorted(wanted - found):
        _change(connection, "grant {} on {} {} to {}", name, role, privilege)


def problems(connection: Connection, tables: list[PublishedTable], roles: list[Role]) -> list[str]:
    """Compare the catalogue with `roles.yml`; returns what differs, in words."""
    names = [role.name for role in roles]
    wanted, found = wanted_grants(tables, roles), found_grants(connection, names)
    said = [
        f"{role} has {what} on {name}, which roles.yml does not give"
        for name, role, what in sorted(found - wanted)
    ]
    said += [f"{role} lacks {what} on {name}" for name, role, what in sorted(wanted - found)]
    mighty = connection.execute(
        "select rolname from pg_roles where rolname = any(%s) and (rolsuper or rolbypassrls)"
        " order by 1",
        [names],
    ).fetchall()
    said += [f"{row[0]} is bound by no row security (superuser or bypassrls)" for row in mighty]
    return said + [
        f"everybody may call {function}"
        for function, may_revoke in _open_functions(connection)
        if may_revoke
    ]


def unrevoked(connection: Connection) -> str:
    """Return what a DBA has to type, as this login may not revoke what everybody may call; '' for nothing."""
    functions = [function for function, may in _open_functions(connection) if not may]
    return f"revoke execute on function {', '.join(functions)} from public" if functions else ""


# -- inside --------------------------------------------------------------------------------------


def _make_roles(connection: Connection, settings: Settings, roles: list[Role]) -> None:
    try:
        with connection.transaction():
            connection.execute(watchdog.TABLES)
    except psycopg.errors.UniqueViolation:
        pass  # Another operator's migration made them a moment ago.
    # Two at once would change one login, which PostgreSQL refuses.
    connection.execute("lock table watchdog.reader in share row exclusive mode")
    may_limit_files = connection.execute(
        "select has_parameter_privilege('temp_file_limit', 'set')"
    ).fetchone() == (True,)
    for role in roles:
        limits = {
            "default_transaction_read_only": "on",
            "statement_timeout": role.statement_timeout,
            "idle_in_transaction_session_timeout": "10min",
            "search_path": "mart, star",
        }
        if may_limit_files:
            limits["temp_file_limit"] = role.temp_file_limit
        verifier = _make(connection, role, settings, limits)
        watchdog.remember(connection, role.name, limits, verifier)


def _make(
    connection: Connection, role: Role, settings: Settings, limits: Mapping[str, str]
) -> str | None:
    """Make a login, or set it right; returns what the server keeps of a password that is ours to set."""
    name = sql.Identifier(role.name)
    found = connection.execute("select 1 from pg_roles where rolname = %s", [role.name]).fetchone()
    if found is not None and not store.is_embedded(settings):
        return None
    secret = getattr(settings, f"{role.name}_password", None)
    if secret is None or not secret.get_secret_value():
        raise UsageError(
            f"the role {role.name} has no password: set KEEPLINE_{role.name.upper()}_PASSWORD"
        )
    # Only the verifier travels, so that no log of the server can hold the password.
    verifier = connection.pgconn.encrypt_password(
        secret.get_secret_value().encode(), role.name.encode(), b"scram-sha-256"
    ).decode()
    if found is None:
        try:
            with connection.transaction():
                connection.execute(
                    sql.SQL("create role {} login noinherit password {}").format(
                        name, sql.Literal(verifier)
                    )
                )
        except psycopg.errors.InsufficientPrivilege:
            raise UsageError(
                f"the role {role.name} is missing and this login may not make it: ask a DBA for "
                f"`create role {role.name} login noinherit`, then migrate again"
            ) from None
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            return None  # Another store of the same server made it a moment ago.
    else:
        connection.execute(sql.SQL("alter role {} password {}").format(name, sql.Literal(verifier)))
    watchdog.apply(connection, role.name, limits)
    connection.execute(
        sql.SQL("alter role {} connection limit {}").format(
            name, sql.Literal(role.connection_limit)
        )
    )
    return verifier if store.is_embedded(settings) else None


def _close_to_the_public(connection: Connection, readers: list[str]) -> None:
    row = connection.execute(
        "select current_database(), pg_has_role(datdba, 'usage') from pg_database"
        " where datname = current_database()"
    ).fetchone()
    if row is not None and row[1]:
        database = sql.Identifier(row[0])
        connection.execute(sql.SQL("revoke all on database {} from public").format(database))
        connection.execute(
            sql.SQL("grant connect on database {} to {}").format(
                database, sql.SQL(", ").join(sql.Identifier(reader) for reader in readers)
            )
        )
        connection.execute("revoke all on schema public from public")
    for function, _ in [found for found in _open_functions(connection) if found[1]]:
        connection.execute(
            sql.SQL("revoke execute on function {} from public").format(sql.SQL(function))
        )


def _open_functions(connection: Connection) -> list[tuple[LiteralString, bool]]:
    """Return the functions that everybody may call but no reader needs, and whether we may revoke that."""
    rows: list[tuple[LiteralString, bool]] = connection.execute(
        "select p.oid::regprocedure::text, pg_has_role(p.proowner, 'usage') from pg_proc as p"
        " where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ %s"
        " and has_function_privilege('public', p.oid, 'execute') order by 1",
        [OPEN_FUNCTIONS],
    ).fetchall()
    return rows


def _change(connection: Connection, template: str, name: str, role: str, privilege: str) -> None:
    bare, is_function, arguments = name.partition("(")
    words = bare.split(".")
    what, target = "schema", sql.Composed([sql.Identifier(*words)])
    right = sql.Composed([sql.SQL(privilege)])
    if len(words) > 1:
        what, target = "table", sql.Composed([sql.Identifier(*words[:2])])
    if len(words) > 2:
        right = sql.SQL("{} ({})").format(right, sql.Identifier(words[2]))
    if is_function:
        what = "function"
        # Of the catalogue's own making.
        target += sql.SQL("(" + arguments)
    connection.execute(
        sql.SQL(template).format(
            right,
            sql.SQL(what),
            target,
            sql.SQL("public") if role == "public" else sql.Identifier(role),
        )
    )
