"""`keepline status`: where the operator stands, and the one command to type next."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import typer

from keepline import lease, ops, store, watchdog
from keepline.commands import demo, set_aside
from keepline.errors import UsageError
from keepline.ops import Connection
from keepline.progress import out
from keepline.release import rights
from keepline.settings import Settings
from keepline.window import Window

RUNBOOK = "docs/runbook.md"
MOST_HELD = 10
INCIDENT_DAYS, MOST_INCIDENTS = 7, 3


@dataclass(frozen=True)
class HeldRange:
    """Load dates of a table that did not land for one reason.

    Attributes:
        table_name: contract table.
        code: a code of docs/runbook.md.
        window: from the first to the last of the days.
        days: how many they are.
        since_at: when the first of them was found.
    """

    table_name: str
    code: str
    window: Window
    days: int
    since_at: datetime


def status() -> None:
    """Tell what readers see, what runs, is late, held or set aside, what failed, and what to type next.

    Example: keepline status
    """
    from keepline.screen import make

    settings = Settings.load()
    with store.connect(settings) as connection:
        known = connection.execute("select to_regclass('ctl.current_release')").fetchone()
        if known is None or known[0] is None:
            out.print(f"{settings.operator}: nothing was ever run. Next: {make(settings, 'run')}")
            return
        day = _readers_see(settings, connection)
        runs = ops.last_stages(connection)
        at_work = _at_work(settings, connection)
        late = _late(settings, connection, day)
        held = held_ranges(connection)
    out.print(f"{'stage':<15}{'last window':<25}{'status':<8}{'rows':>11}{'seconds':>9}")
    for run in runs:
        rows = f"{run.rows:,}" if run.rows else "-"
        out.print(
            f"{run.verb:<15}{run.window!s:<25}{run.status:<8}{rows:>11}{run.seconds:>9.1f}",
            markup=False,
        )
    _say_held(settings, held)
    _say_incidents(settings)
    _say_set_aside(settings)
    failed = [run for run in runs if run.status == "failed"]
    for run in failed:
        out.print(f"{run.verb} {run.window} failed: {run.message}", markup=False)
    out.print(f"next: {next_step(settings, failed, held, late, day, at_work)}", markup=False)


def next_step(
    settings: Settings,
    failed: list[ops.StageRun],
    held: list[HeldRange],
    late: Window | None,
    day: date | None,
    at_work: str | None = None,
) -> str:
    """Return the one command to type next, with what to do before.

    Args:
        settings: the operator.
        failed: stages whose last run failed, the latest one last.
        held: what did not land.
        late: days that readers should see by now.
        day: business day that readers see.
        at_work: what runs just now, in words.
    """
    from keepline.screen import make

    if at_work is not None:
        return f"wait for {at_work}, then: keepline status"
    if failed and failed[-1].verb == "extract" and held:
        return f"{mend(held[0])} ({RUNBOOK}, {held[0].code})"
    if failed:
        return f"mend that, then: {command(failed[-1])} ({RUNBOOK})"
    # Not every operator's days are known here: that stops a run, not the status.
    with suppress(UsageError, OSError):
        if day == demo.calendar(settings).end_date and late is None:
            return "nothing, the operator's data end on that day"
    try:
        demo.check_systems(settings)
    except UsageError as error:
        return str(error)
    return f"{make(settings, 'run')} (the next business day)"


def mend(held: HeldRange) -> str:
    """Return what to type about days that are held."""
    days = _days(held.window)
    if held.code == "FILE_CHANGED":
        return (
            f"if the new file is the right one: keepline backfill {days} --table {held.table_name}"
            ' --accept-changed "TICKET"'
        )
    if held.code == "QUARANTINE_LIMIT":
        return f"keepline quarantine list --table {held.table_name} {days}"
    if held.code == "NOT_READY":
        return f"wait for the delivery, then: keepline extract {days}"
    return f"ask for {held.table_name} again, then: keepline extract {days}"


def command(run: ops.StageRun) -> str:
    """Return the command that repeats a stage, or goes on from where it stopped."""
    if run.verb == "history":
        return "make run (which goes on where it stopped)"
    if run.verb == "rebuild":
        return "keepline rebuild"
    # What a release was to take in is on record as decided; a backfill takes in those days.
    verb, _, layer = ("backfill" if run.verb == "release" else run.verb).partition(" ")
    words = ["keepline", verb, *(["--layer", layer] if layer else []), _days(run.window)]
    return " ".join(words)


def held_ranges(connection: Connection) -> list[HeldRange]:
    """Return what did not land at its last extraction, the newest first."""
    if store.scalar(connection, "select to_regclass('ops.held_delivery')") is None:
        return []
    rows = connection.execute(
        "select table_name, code, min(load_date), max(load_date) + 1, count(distinct load_date),"
        " min(since_at) from ops.held_delivery group by 1, 2 order by 4 desc, 1, 2"
    ).fetchall()
    return [
        HeldRange(table, code, Window(first, last), days, since)
        for table, code, first, last, days, since in rows
    ]


# -- inside --------------------------------------------------------------------------------------


def _readers_see(settings: Settings, connection: Connection) -> date | None:
    """Say which release readers see, and whom it is too old for; return its business day."""
    current = connection.execute(
        "select r.release_id, r.to_date - 1 from ctl.release r"
        " join ctl.current_release c on c.release_id = r.release_id"
    ).fetchone()
    kept = connection.execute(
        "select release_id, to_date - 1 from ctl.release where status = 'published'"
        " order by release_id desc"
    ).fetchall()
    if current is None:
        out.print(f"{settings.operator}: readers see nothing yet")
        return None
    day: date = current[1]
    out.print(f"{settings.operator}: readers see release {current[0]}, business day {day}")
    _say_hidden(connection, day)
    listed = ", ".join(f"{number} ({of})" for number, of in kept)
    out.print(f"releases that `keepline rollback --to` can show: {listed}", markup=False)
    return day


def _say_hidden(connection: Connection, day: date) -> None:
    """Say who sees nothing because what there is is too old."""
    if store.scalar(connection, "select to_regclass('ctl.max_age')") is None:
        return  # of an older version, until the next migration
    for role in rights.load_roles():
        if role.max_age is None:
            continue
        row = connection.execute(
            "select ctl.business_date(), ctl.oldest_shown(%s)", [role.max_age]
        ).fetchone()
        expected, oldest = row if row is not None else (None, None)
        if oldest is None or day < oldest:
            out.print(
                f"{role.name} sees nothing: the release is of {day}, the last business day is {expected}, "
                f"and what is older than {oldest} is kept from it ({role.max_age} in param_threshold.csv)",
                markup=False,
            )


def _at_work(settings: Settings, connection: Connection) -> str | None:
    holder = lease.holder(connection)
    if holder is None:
        return None
    told = holder.told(settings)
    if holder.is_alive:
        out.print(f"at work: {told}", markup=False)
        return told
    out.print(f"stopped in the middle of it: {told}; the same command again is safe", markup=False)
    return None


def _late(settings: Settings, connection: Connection, day: date | None) -> Window | None:
    """Return the days between what readers see and what they should see by now.

    They should see what has arrived. An operator that has gone beyond the history of its file lives: of it
    yesterday is expected, too, the only thing here that the clock of this machine decides.
    """
    if day is None:
        return None
    expected = store.scalar(connection, "select max(load_date) from ops.reconciliation")
    with suppress(UsageError, OSError):
        days = demo.calendar(settings)
        if not days.is_synthetic and day > days.end_date:
            yesterday = datetime.now(settings.zone).date() - timedelta(days=1)
            expected = max(expected, yesterday) if isinstance(expected, date) else yesterday
    if not isinstance(expected, date) or expected <= day:
        return None
    late = Window(day + timedelta(days=1), expected + timedelta(days=1))
    count = len(late.days())
    out.print(f"late: {count} business day{'' if count == 1 else 's'}, {late}", markup=False)
    return late


def _say_held(settings: Settings, held: list[HeldRange]) -> None:
    for one in held[:MOST_HELD]:
        since = one.since_at.astimezone(settings.zone)
        many = f" ({one.days} days)" if one.days > 1 else ""
        out.print(
            f"held: {one.table_name} {one.window}{many}: {one.code}, since {since:%Y-%m-%d %H:%M}",
            markup=False,
        )
    if len(held) > MOST_HELD:
        out.print(f"held: {len(held) - MOST_HELD} more in ops.held_delivery")


def _say_incidents(settings: Settings) -> None:
    with store.connect_to_logins(settings) as connection:
        found = watchdog.incidents(connection, INCIDENT_DAYS)
    for one in found[:MOST_INCIDENTS]:
        noticed = one.noticed_at.astimezone(settings.zone)
        out.print(f"readers: {noticed:%Y-%m-%d %H:%M:%S} {one}", markup=False)
    if len(found) > MOST_INCIDENTS:
        out.print(f"readers: {len(found) - MOST_INCIDENTS} more in watchdog.incident", markup=False)


def _say_set_aside(settings: Settings) -> None:
    waiting: Counter[str] = Counter()
    for group in set_aside.groups(settings, set_aside.Chosen()):
        if group.state in set_aside.WAITING:
            waiting[group.reason_code] += group.rows
    if not waiting:
        out.print("quarantine: no row waits for a decision")
        return
    listed = ", ".join(f"{code} {rows:,}" for code, rows in waiting.most_common())
    many = "1 row waits" if waiting.total() == 1 else f"{waiting.total():,} rows wait"
    out.print(f"quarantine: {many} for a decision ({listed}): keepline quarantine list")


def _days(window: Window) -> str:
    if window == Window.day(window.from_date):
        return f"--date {window.from_date}"
    return f"--from {window.from_date} --to {window.to_date}"


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("status")(status)
