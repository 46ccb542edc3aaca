"""What a warehouse holds, as one SHA-256 per table and file: equal states hold equal rows.

Left out is what tells runs apart and says nothing of the data: clocks, seconds, numbers that a
sequence gives out (releases, parts), the list of attempts (`ops.stage_run`) and who holds the lease.
Personal values are compared in clear: each sealing differs.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable
from pathlib import Path

import duckdb
import psycopg

from keepline import store
from keepline.extract.vault import open_value, place
from keepline.settings import Settings

State = dict[str, str]

FOLDERS = ("landing", "quarantine", "exchange", "models")
# dbt's own views and DuckDB's schemas hold no rows of their own.
COMPUTE_TABLES = (
    "select table_schema || '.' || table_name from information_schema.tables"
    " where table_type = 'BASE TABLE' order by 1"
)
NOT_COMPARED = ("stage_run", "lease")
# The headers at the beginning of a DuckDB file, before its first block.
HEADERS_BYTES = 3 * 4096
RUN_COLUMNS = ("seconds", "release_id")
RELEASES = """
    select
        rank() over (order by r.release_id) as nth, r.from_date, r.to_date, r.status,
        c.release_id is not null as is_current, rp.table_name, rp.period, p.rows, p.content, p.is_audited
    from ctl.release as r
    left join ctl.current_release as c on c.release_id = r.release_id
    left join ctl.release_part as rp on rp.release_id = r.release_id
    left join ctl.part as p on p.part_id = rp.part_id
"""
READERS_VIEWS = """
    select table_schema || '.' || table_name from information_schema.views
    where table_schema in ('mart', 'star')
        and has_table_privilege(quote_ident(table_schema) || '.' || quote_ident(table_name), 'select')
    order by 1
"""


def whole(settings: Settings) -> State:
    """Return all that a run makes: files, compute, control tables, vault, releases, readers' rows."""
    return {**files(settings), **compute(settings), **control(settings), **readers(settings)}


def files(settings: Settings) -> State:
    """Return the hash of the bytes of every file that stages hand to each other."""
    home = settings.operator_home
    return {
        str(path.relative_to(home)): _sha256(path.read_bytes())
        for name in FOLDERS
        for path in sorted((home / name).rglob("*"))
        if path.is_file()
    }


def compute(settings: Settings) -> State:
    """Return the hash of the rows of every table of the compute engine."""
    with duckdb.connect(str(settings.compute_path), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        names = [name for (name,) in connection.execute(COMPUTE_TABLES).fetchall()]
        return {
            f"compute {name}": str(
                connection.execute(
                    "select count(*), sha256(coalesce(string_agg(line, '' order by line), ''))"
                    f" from (select sha256(cast(t as varchar)) as line from {name} as t)"
                ).fetchone()
            )
            for name in names
        }


def tear_block(path: Path, table: str) -> None:
    """Let the second half of a block of a table's rows be an older write, as after a kill in between."""
    with duckdb.connect(str(path), read_only=True) as connection:
        (block,) = connection.execute(
            f"select max(block_id) from pragma_storage_info('{table}') where persistent"
        ).fetchone()
        (size,) = connection.execute("select block_size from pragma_database_size()").fetchone()
    with path.open("r+b") as file:
        file.seek(HEADERS_BYTES + block * size + size // 2)
        # Not one byte again and again: pairs of equal words cancel each other in DuckDB's checksum.
        file.write(random.Random(block).randbytes(size // 2))  # noqa: S311


def control(settings: Settings) -> State:
    """Return the hash of the control tables, of the vault in clear, and of what releases show."""
    with store.connect(settings) as connection:
        state = {
            f"ops.{table}": _rows_hash(connection.execute(f"select {columns} from ops.{table}"))
            for table, columns in _compared_columns(connection)
        }
        state["releases"] = _rows_hash(connection.execute(RELEASES))
        parts = "select table_name, period, rows, content, is_audited from ctl.part"
        state["parts"] = _rows_hash(connection.execute(parts))
        state["rows of parts"] = _rows_hash(_rows_by_part(connection))
        sealed = connection.execute(
            "select table_name, key_text, column_name, load_date, ciphertext from vault.personal_value"
        ).fetchall()
    clear = (
        (*row[:4], open_value(settings, row[4], place(*row[:4])))  # each with its place
        for row in sealed
    )
    return {**state, "vault": _rows_hash(clear)}


def readers(settings: Settings) -> State:
    """Return the hash of what each login sees in each view, whatever the release's number and age."""
    state = {}
    for login in store.READERS:
        with store.connect(settings, login) as connection:
            # One snapshot for all views, as a report would take it.
            connection.execute("set transaction isolation level repeatable read")
            for (name,) in connection.execute(READERS_VIEWS).fetchall():
                row = connection.execute(
                    "select count(*), encode(sha256(convert_to(coalesce(string_agg(line, '' order by line"
                    " collate \"C\"), ''), 'UTF8')), 'hex') from"
                    " (select (to_jsonb(t) - 'release_id' - 'release_age_days')::text as line"
                    f" from {name} as t) as x"
                ).fetchone()
                state[f"{login} {name}"] = str(row)
    return state


def differences(expected: State, found: State) -> list[str]:
    """Return what differs, for a person to read."""
    return [
        f"{name}: {expected.get(name, 'nothing')[:90]} expected, {found.get(name, 'nothing')[:90]} found"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


def last_runs_failed(settings: Settings) -> list[str]:
    """Return the verbs whose last attempt is not on record as done."""
    with store.connect(settings) as connection:
        return [
            f"{verb}: {status} {message}"
            for verb, status, message in connection.execute(
                "select distinct on (verb) verb, status, message from ops.stage_run"
                " order by verb, stage_run_id desc"
            )
            if status != "done"
        ]


def _compared_columns(connection: psycopg.Connection) -> list[tuple[str, str]]:
    return [
        (table, columns)
        for table, columns in connection.execute(
            "select table_name, string_agg(quote_ident(column_name), ', ' order by ordinal_position)"
            " from information_schema.columns where table_schema = 'ops' and is_identity = 'NO'"
            " and table_name <> all(%s) and column_name <> all(%s)"
            " and data_type <> 'timestamp with time zone' group by 1 order by 1",
            [list(NOT_COMPARED), list(RUN_COLUMNS)],
        )
    ]


def _rows_by_part(connection: psycopg.Connection) -> Iterable[tuple]:
    """Return the rows that lie in the store by table and period, and what the parts say of them."""
    lying: dict[int, int] = {}
    for (name,) in connection.execute("select table_name from ctl.published_table").fetchall():
        lying.update(
            connection.execute(f"select part_id, count(*) from store.{name} group by 1").fetchall()
        )
    said = {
        part_id: (table, period, rows)
        for part_id, table, period, rows in connection.execute(
            "select part_id, table_name, period, rows from ctl.part"
        )
    }
    for part_id in {*lying, *said}:
        yield (*said.get(part_id, ("no part", None, 0)), lying.get(part_id, 0))


def _rows_hash(rows: Iterable[tuple]) -> str:
    lines = sorted(json.dumps(list(row), default=str) for row in rows)
    return f"{len(lines)} rows, {_sha256(chr(10).join(lines).encode())}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
