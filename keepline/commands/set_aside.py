"""What is set aside and what was decided about it: rows that broke the contract or a rule of the history.

Rows that broke the contract lie beside landing, one file per table and load date. Rows that only the
history can judge (the same event again, a number used again too soon) are set aside by the model `set_aside`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from keepline import store
from keepline.compute import compute_for
from keepline.contract import LOAD_DATE
from keepline.errors import SourceUnavailableError
from keepline.landed_files import OWN_COLUMNS, exact
from keepline.ops import Connection
from keepline.progress import err
from keepline.settings import Settings
from keepline.window import Window

LANDING, CORE = "landing", "core"
OPEN, STAYED, NOTED, DISCARDED, RELEASED = "open", "stayed", "noted", "discarded", "released"
WAITING = (OPEN, STAYED)
# Of what the star schema sets aside, only these rows are left out of the facts; the others are noted.
LEFT_OUT = ("DUP_EARLIER",)
CORE_REASONS = {
    "DUP_EARLIER": "the same event had come a few load dates before",
    "EARLY_FACT": "no master row of this key was known; in the facts as UNKNOWN",
    "UNKNOWN_CODE": "no reference row of this code was known; in the facts as UNKNOWN",
    "SUSPECT_REUSE": "somebody else had the number less than 90 days before; in the facts",
}
SHOWN = {
    LANDING: ("source_file", "line_no", "column_name", "reason_code", "row_json"),
    CORE: ("key_text", "column_name", "row_cnt", "event_date", "first_load_date", "reason_code"),
}


@dataclass(frozen=True)
class Chosen:
    """Which rows a person means; what is None or empty means all.

    Attributes:
        table_name: contract table.
        window: load dates.
        reason_code: a code of docs/runbook.md.
    """

    table_name: str | None = None
    window: Window | None = None
    reason_code: str | None = None

    def has(self, table_name: str, load_date: date, reason_code: str) -> bool:
        """Tell whether a group is meant."""
        return (
            self.table_name in (None, table_name)
            and self.reason_code in (None, reason_code)
            and (self.window is None or self.window.from_date <= load_date < self.window.to_date)
        )


@dataclass(frozen=True)
class Group:
    """The rows of one table and load date that were set aside for one reason.

    Attributes:
        table_name: contract table.
        load_date: business day whose batch brought them.
        reason_code: a code of docs/runbook.md.
        step: `landing` or `core`, which set them aside.
        columns: columns that the reason is about.
        rows: how many.
        content: hash of the rows, by which a decision finds them again.
        state: `open`, `stayed` (released, and still here), `noted` (in the facts all the same),
            `discarded` or `released` (gone).
    """

    table_name: str
    load_date: date
    reason_code: str
    step: str
    columns: str
    rows: int
    content: str
    state: str = OPEN

    @property
    def key(self) -> tuple[str, date, str]:
        """What a decision is about."""
        return self.table_name, self.load_date, self.reason_code


def groups(settings: Settings, chosen: Chosen) -> list[Group]:
    """Return what is set aside, with its state, by table, load date and reason.

    Raises:
        SourceUnavailableError: the store cannot be reached.
    """
    with store.connect(settings) as connection:
        decided = _decisions(connection)
    found = [
        replace(group, state=_state(group, decided))
        for group in (*_landing(settings, chosen), *_core(settings, chosen))
    ]
    return sorted(found, key=lambda group: (*group.key, group.step))


def released(settings: Settings, chosen: Chosen, present: Sequence[Group]) -> list[Group]:
    """Return the groups of which a release has left nothing."""
    there = {group.key for group in present}
    with store.connect(settings) as connection:
        return [
            Group(*key, "", "", 0, "", RELEASED)
            for key, (action, _) in sorted(_decisions(connection).items())
            if action == "release" and key not in there and chosen.has(*key)
        ]


def meaning(group: Group) -> str:
    """Return in words why rows were set aside."""
    from keepline.extract.verdict import ROW_REASONS  # Arrow comes with it

    reasons = CORE_REASONS if group.step == CORE else ROW_REASONS
    return reasons.get(group.reason_code, "see docs/runbook.md")


def rows(
    settings: Settings, chosen: Chosen, step: str, limit: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the names of the columns and the first rows of what is meant, in the order of the source."""
    names = ", ".join(SHOWN[step])
    if step == LANDING:
        files = _files(settings, chosen)
        if not files:
            return list(SHOWN[step]), []
        sql = (
            f"select {names} from {_relation(files)} where coalesce(reason_code = ?, true)"  # noqa: S608
            f" order by all limit {limit}"
        )
        return list(SHOWN[step]), duckdb.execute(sql, [chosen.reason_code]).fetchall()
    condition, values = _condition(chosen)
    compute = compute_for(settings)
    sql = f"select {names} from core.set_aside where {condition} order by all limit {limit}"  # noqa: S608
    return list(SHOWN[step]), compute.execute(sql, values)


def landed_by_event_day(settings: Settings, table_name: str, load_date: date) -> Counter[date]:
    """Return the rows that landed with a load date, by the day on which they happened."""
    folder = settings.landing_dir / table_name / f"{LOAD_DATE}={load_date}"
    files = [exact(path) for path in sorted(folder.glob("part-*.parquet"))]
    if not files:
        return Counter()
    counted = duckdb.execute(
        f"select event_date, count(*) from {OWN_COLUMNS} group by 1",  # noqa: S608
        [files],
    )
    return Counter(dict(counted.fetchall()))


def core_by_event_day(settings: Settings, table_name: str, load_date: date) -> Counter[date]:
    """Return the rows that the star schema leaves out of its facts, by the day on which they happened."""
    if not _has_core(settings):
        return Counter()
    counted = compute_for(settings).execute(
        "select event_date, sum(row_cnt)::bigint from core.set_aside where table_name = ?"
        " and load_date = ? and list_contains(?, reason_code) group by 1",
        [table_name, load_date, list(LEFT_OUT)],
    )
    return Counter(dict(counted))


# -- inside --------------------------------------------------------------------------------------


def _decisions(connection: Connection) -> dict[tuple[str, date, str], tuple[str, str]]:
    """Return the last decision of each group and the rows that it was about."""
    if store.scalar(connection, "select to_regclass('ops.quarantine_decision')") is None:
        return {}
    found = connection.execute(
        "select table_name, load_date, reason_code, action, content from ops.quarantine_decision"
        " order by decision_id"
    ).fetchall()
    return {(table, day, code): (action, content) for table, day, code, action, content in found}


def _state(group: Group, decided: dict[tuple[str, date, str], tuple[str, str]]) -> str:
    action, content = decided.get(group.key, ("", ""))
    if group.step == CORE and group.reason_code not in LEFT_OUT:
        return NOTED
    if content != group.content:
        return OPEN
    return DISCARDED if action == "discard" else STAYED


def _landing(settings: Settings, chosen: Chosen) -> list[Group]:
    files = _files(settings, chosen)
    if not files:
        return []
    found = duckdb.sql(
        f"""
        select table_name, load_date, reason_code,
            coalesce(string_agg(distinct column_name, ', ' order by column_name), ''),
            count(*), md5(string_agg(line, chr(10) order by line))
        from (
            select *, concat_ws('|', coalesce(column_name, ''), coalesce(source_file, ''),
                coalesce(cast(line_no as varchar), ''), row_json) as line
            from {_relation(files)}
        )
        group by all
        """  # noqa: S608
    ).fetchall()
    listed = [
        Group(table, day, code, LANDING, columns, count, content)
        for table, day, code, columns, count, content in found
    ]
    return [group for group in listed if chosen.has(*group.key)]


def _core(settings: Settings, chosen: Chosen) -> list[Group]:
    try:
        if not _has_core(settings):
            return []
        condition, values = _condition(chosen)
        found = compute_for(settings).execute(
            f"""
            select table_name, load_date, reason_code,
                string_agg(distinct column_name, ', ' order by column_name), sum(row_cnt)::bigint,
                md5(string_agg(line, chr(10) order by line))
            from (
                select *, concat_ws('|', column_name, key_text, row_cnt::varchar) as line
                from core.set_aside where {condition}
            )
            group by all
            """,  # noqa: S608
            values,
        )
    except SourceUnavailableError:
        err.print("what the star schema set aside is not shown: another run is writing it just now")
        return []
    return [
        Group(table, day, code, CORE, columns, count, content)
        for table, day, code, columns, count, content in found
    ]


def _has_core(settings: Settings) -> bool:
    if not compute_for(settings).exists():
        return False
    found = compute_for(settings).execute(
        "select 1 from information_schema.tables where table_schema = 'core' and table_name = 'set_aside'"
    )
    return bool(found)


def _condition(chosen: Chosen) -> tuple[str, list[object]]:
    parts, values = ["true"], list[object]()
    if chosen.table_name is not None:
        parts.append("table_name = ?")
        values.append(chosen.table_name)
    if chosen.reason_code is not None:
        parts.append("reason_code = ?")
        values.append(chosen.reason_code)
    if chosen.window is not None:
        parts.append("load_date >= ? and load_date < ?")
        values += [chosen.window.from_date, chosen.window.to_date]
    return " and ".join(parts), values


def _files(settings: Settings, chosen: Chosen) -> list[Path]:
    """Return the quarantine files of what is meant, told by their folders."""
    found = []
    for path in sorted(settings.quarantine_dir.glob(f"*/{LOAD_DATE}=*/rows.parquet")):
        with suppress(ValueError):
            day = date.fromisoformat(path.parent.name.removeprefix(f"{LOAD_DATE}="))
            if chosen.has(path.parent.parent.name, day, chosen.reason_code or ""):
                found.append(path)
    return found


def _relation(files: Sequence[Path]) -> str:
    listed = ", ".join("'" + exact(path).replace("'", "''") + "'" for path in files)
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"
