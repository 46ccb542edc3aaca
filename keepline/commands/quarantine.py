"""`keepline quarantine`: what was set aside, and what people decide about it."""

from __future__ import annotations

import os
import pwd
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any

import typer

from keepline import lease, store
from keepline.commands import backfill, demo, set_aside
from keepline.commands.context import DateOption, FromOption, ToOption, stage, window_of
from keepline.commands.read import FORMATS, write_rows
from keepline.commands.set_aside import DISCARDED, WAITING, Chosen, Group
from keepline.errors import UsageError
from keepline.progress import out
from keepline.settings import Settings
from keepline.window import Window

HELP = """Look at the rows that were set aside, and decide what becomes of them.

A row that breaks the contract, or a rule that only the history can judge, does not reach the facts. It
waits here with its reason. Either the rule was wrong (or a code table old): mend it, then `release`, and
the rows arrive in the days on which they happened. Or the row is wrong for good: `discard`. Both are
recorded with who, why and when. docs/runbook.md has a section per reason.
"""
LISTED = ("table_name", "load_date", "reason_code", "step", "columns", "rows", "state")

TableOption = Annotated[str | None, typer.Option("--table", help="Only this contract table.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="CODE", help="Only this reason, such as BAD_DATE.")
]
FormatOption = Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")]

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)


@dataclass(frozen=True)
class _Arrivals:
    """What came of the release of one table's load date."""

    group: tuple[str, date]
    arrived: Counter[date]
    lost: int
    stayed: Sequence[Group]

    def __str__(self) -> str:
        table, day = self.group
        days = ", ".join(f"{event} {rows:,}" for event, rows in sorted(self.arrived.items()))
        said = f"{table} {day}: {self.arrived.total():,} rows arrived"
        said += f", by the day on which they happened: {days}" if days else ""
        if self.lost:
            said += f"; {self.lost:,} that were in the facts are not any more"
        if self.stayed:
            why = ", ".join(f"{group.reason_code} {group.rows:,}" for group in self.stayed)
            said += f"; {sum(group.rows for group in self.stayed):,} stay: {why}"
        return said


@app.command("list")
def list_(
    table: TableOption = None,
    reason: ReasonOption = None,
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Also what was decided.")] = False,
    format_: FormatOption = "table",
) -> None:
    """Tell how many rows are set aside, by table, load date and reason.

    Example: keepline quarantine list --table cdr_voice
    """
    _check_format(format_)
    settings = Settings.load()
    chosen = _chosen(table, reason, date, from_, to)
    found = set_aside.groups(settings, chosen)
    shown = [group for group in found if all_ or group.state != DISCARDED]
    if all_:
        shown += set_aside.released(settings, chosen, found)
    names, lines = list(LISTED), [_line(group) for group in shown]
    if format_ != "table":
        meant = [(*_line(group), set_aside.meaning(group)) for group in shown]
        write_rows([*names, "meaning"], meant, format_)
        return
    write_rows(names, lines, format_)
    for code, said in sorted({(group.reason_code, set_aside.meaning(group)) for group in shown}):
        out.print(f"  {code}: {said}", markup=False)
    waiting = [group for group in shown if group.state in WAITING]
    if waiting:
        first = waiting[0]
        out.print(
            f"next: keepline quarantine show --table {first.table_name} --date {first.load_date}"
            f" --reason {first.reason_code}",
            markup=False,
        )


@app.command()
def show(
    table: TableOption = None,
    reason: ReasonOption = None,
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    limit: Annotated[int, typer.Option("--limit", help="Rows at most.", min=1)] = 20,
    format_: FormatOption = "table",
) -> None:
    """Show rows that are set aside: file, line, column and what was found, without personal values.

    Example: keepline quarantine show --table cdr_voice --date 2026-06-30 --reason BAD_DATE
    """
    _check_format(format_)
    settings = Settings.load()
    chosen = _chosen(table, reason, date, from_, to)
    found = _meant(settings, chosen)
    for step in sorted({group.step for group in found}, reverse=True):
        names, lines = set_aside.rows(settings, chosen, step, limit)
        write_rows(names, lines, format_)
        count = sum(group.rows for group in found if group.step == step)
        if format_ == "table" and count > len(lines):
            out.print(f"of {count:,}: --limit {count} shows all", markup=False)


@app.command()
def release(
    table: TableOption = None,
    reason: ReasonOption = None,
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    why: Annotated[str, typer.Option("--why", help="What was mended; recorded.")] = "",
) -> None:
    """Take set-aside rows in again, after a rule or a code table was mended, and publish.

    Their tables and load dates are extracted anew (the source still holds the rows) and everything that was
    built on those days is built again. Rows that still break a rule stay, and you are told why.

    Example: keepline quarantine release --table cdr_voice --reason UNKNOWN_CODE --why "new roam type"
    """
    release_rows(Settings.load(), _chosen(table, reason, date, from_, to), why)


@app.command()
def discard(
    why: Annotated[str, typer.Option("--why", help="Why they stay out; recorded.")],
    table: TableOption = None,
    reason: ReasonOption = None,
    date: DateOption = None,
    from_: FromOption = None,
    to: ToOption = None,
) -> None:
    """Decide that set-aside rows stay out. They are kept, but nobody is asked about them again.

    The decision is about the rows that are there now: others of the same day and reason are open again.

    Example: keepline quarantine discard --table cdr_voice --date 2026-06-30 --why "test calls"
    """
    discard_rows(Settings.load(), _chosen(table, reason, date, from_, to), why)


def discard_rows(settings: Settings, chosen: Chosen, why: str) -> None:
    """Record that the chosen rows stay out.

    Raises:
        UsageError: no reason is given, or nothing is set aside there.
    """
    if not why.strip():
        raise UsageError('say why: --why "test calls of the roaming team"')
    found = _waiting(settings, chosen)
    _record(settings, "discard", found, why)
    out.print(f"discard   {sum(g.rows for g in found):,} rows in {len(found)} groups stay out")


def release_rows(settings: Settings, chosen: Chosen, why: str) -> None:
    """Take the chosen rows in again and build again all that was built on their days.

    Raises:
        UsageError: nothing is set aside there.
        KeeplineError: a stage failed; `keepline backfill` over the same days goes on from there.
    """
    demo.point_to(settings)
    with lease.hold(settings, "quarantine release"):
        past = backfill.read_past(settings)
        found = _waiting(settings, chosen, and_discarded=True)
        keys = sorted({(group.table_name, group.load_date) for group in found})
        deliveries = [(window, [table]) for table, window in _windows(keys)]
        days = Window(min(day for _, day in keys), max(day for _, day in keys) + timedelta(days=1))
        decisions = _record(settings, "release", found, why)
        before = _counted(settings, keys)
        with stage(settings, "release", days) as clock:
            clock.message = backfill.repair(settings, past, deliveries)
        after = _counted(settings, keys)
        left = set_aside.groups(settings, Chosen())
        _complete(settings, decisions, left)
        for key in keys:
            diff = {day: after[key][day] - before[key][day] for day in before[key] | after[key]}
            arrived = Counter({day: rows for day, rows in diff.items() if rows > 0})
            lost = -sum(rows for rows in diff.values() if rows < 0)
            stayed = [group for group in left if (group.table_name, group.load_date) == key]
            out.print(f"released  {_Arrivals(key, arrived, lost, stayed)}", markup=False)


# -- inside --------------------------------------------------------------------------------------


def _check_format(format_: str) -> None:
    if format_ not in FORMATS:
        raise UsageError(f"no format {format_!r}: choose one of {', '.join(FORMATS)}")


def _chosen(
    table: str | None, reason: str | None, day: str | None, first: str | None, last: str | None
) -> Chosen:
    window = None if day is None and first is None and last is None else window_of(day, first, last)
    return Chosen(table, window, reason.upper() if reason else None)


def _meant(settings: Settings, chosen: Chosen) -> list[Group]:
    if chosen == Chosen():
        raise UsageError("say which rows: --table, --date (or --from and --to), --reason")
    found = set_aside.groups(settings, chosen)
    if not found:
        raise UsageError(
            "nothing is set aside there: `keepline quarantine list` tells what is. After a release that"
            " was interrupted, `keepline status` tells how to go on"
        )
    return found


def _waiting(settings: Settings, chosen: Chosen, *, and_discarded: bool = False) -> list[Group]:
    """Return the chosen groups of which a decision makes sense."""
    wanted = (*WAITING, DISCARDED) if and_discarded else WAITING
    found = [group for group in _meant(settings, chosen) if group.state in wanted]
    if not found:
        raise UsageError(
            "nothing there waits for a decision: rows that are only noted are in the facts, and what was"
            " discarded is decided (`keepline quarantine list --all`)"
        )
    return found


def _line(group: Group) -> tuple[Any, ...]:
    return tuple(getattr(group, name) for name in LISTED)


def _windows(keys: Sequence[tuple[str, date]]) -> list[tuple[str, Window]]:
    """Return the load dates of each table as windows without gaps."""
    found: list[tuple[str, Window]] = []
    for table, day in keys:
        if found and found[-1][0] == table and found[-1][1].to_date == day:
            found[-1] = (table, Window(found[-1][1].from_date, day + timedelta(days=1)))
        else:
            found.append((table, Window.day(day)))
    return found


def _counted(
    settings: Settings, keys: Sequence[tuple[str, date]]
) -> dict[tuple[str, date], Counter[date]]:
    """Return the rows that reach the facts, by table and load date, by the day on which they happened."""
    counted = {}
    for table, day in keys:
        rows = set_aside.landed_by_event_day(settings, table, day)
        rows.subtract(set_aside.core_by_event_day(settings, table, day))
        counted[table, day] = rows
    return counted


def _record(
    settings: Settings, action: str, found: Sequence[Group], why: str
) -> dict[int, tuple[str, date, str]]:
    """Write a decision about each group; returns their numbers. A release is completed when it is over."""
    decisions = {}
    with store.connect(settings) as connection:
        if store.scalar(connection, "select to_regclass('ops.quarantine_decision')") is None:
            raise UsageError("the store is older than this command: keepline migrate, then again")
        for group in found:
            row = connection.execute(
                "insert into ops.quarantine_decision (action, table_name, load_date, reason_code, content,"
                " rows_before, rows_after, decided_by, why) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
                " returning decision_id",
                [action, *group.key, group.content, group.rows, group.rows, _who(), why.strip()],
            ).fetchone()
            if row:
                decisions[int(row[0])] = group.key
    return decisions


def _complete(
    settings: Settings, decisions: dict[int, tuple[str, date, str]], left: Sequence[Group]
) -> None:
    remaining = {group.key: group for group in left}
    with store.connect(settings) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "update ops.quarantine_decision set rows_after = %s, content = %s where decision_id = %s",
            [
                (group.rows, group.content, number) if group else (0, "", number)
                for number, key in decisions.items()
                for group in [remaining.get(key)]
            ],
        )


def _who() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def register(parent: typer.Typer) -> None:
    """Add the verbs to the command."""
    parent.add_typer(app, name="quarantine")
