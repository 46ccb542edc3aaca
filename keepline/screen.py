"""The closing screen of `make run`: what happened, whom to call, and what to try next.

Everything is told by words and position; colour only repeats it, and a pipe gets plain text.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from psycopg import conninfo
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from keepline import store
from keepline.report import reading
from keepline.report.formats import (
    TIERS,
    WITHOUT_RISK,
    count,
    plural,
    ratio,
    risk,
    seconds,
    share,
    yuan,
)
from keepline.report.quality import read_sentences
from keepline.report.rows import Arrivals, Check, NotToCall, SetAside, Stage, Tier, Urgent
from keepline.report.tiers import CONTACTED, beyond_reach, not_to_call
from keepline.settings import Settings
from keepline.window import Window

HAS_EARLIER = """
    select exists (
        select from ctl.release as r join ctl.current_release as c on r.release_id < c.release_id
        where r.status = 'published'
    )
"""
EXAMPLE_QUERY = "select risk_tier, tier_rule_id, count(*) from mart.churn_risk_latest group by 1, 2"
MOST_FAILED = 10
MOST_REASONS = 8
DONE = "done"
DEFAULT_OPERATOR = "demo"
# The stage that holds the others of its window.
TITLES = {"history": "in all"}
INDENT = 2


@dataclass(frozen=True)
class Screen:
    """The closing screen, to be printed by any console; lines to copy stay whole if it lets them."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Wrap tables even on a console that was told never to wrap; leave no blanks behind."""
        rendered = console.render(self.content, options.update(no_wrap=None, overflow=None))
        for line in Segment.split_lines(rendered):
            text, style = "", None
            while line and not text:
                text, style, _ = line.pop()
                text = text.rstrip()
            yield from line
            yield Segment(text, style)
            yield Segment.line()


def summary(
    settings: Settings,
    release_id: int,
    windows: Sequence[Window] = (),
    *,
    report: Path | None = None,
    last_day: date | None = None,
) -> Screen:
    """Return the closing screen for rich to print; it fits 80 columns and likes 100.

    Args:
        settings: where the store and its passwords are.
        release_id: the release that readers see now.
        windows: what this run worked on before the release's own window, such as the history.
        report: the morning report of the release, if there is one.
        last_day: the last business day that the operator can give, if it is known.

    Raises:
        UsageError: there is no such release, or readers see another one.
        SourceUnavailableError: the store cannot be reached.
    """
    with store.connect(settings) as connection:
        release = reading.read_release(connection, release_id)
        has_earlier = bool(store.scalar(connection, HAS_EARLIER))
        ran = list(dict.fromkeys([*windows, release.window]))
        stages = [(window, _totals(reading.read_stages(connection, window))) for window in ran]
        whole = Window(min(w.from_date for w in ran), max(w.to_date for w in ran))
        arrivals = reading.read_arrivals(connection, whole)
        set_aside = reading.read_set_aside(connection, whole)
        checks = reading.read_checks(connection, release)
    with store.connect(settings, "bi_reader") as connection:
        reading.require_current(connection, release)
        tiers = reading.read_tiers(connection)
        left_out = reading.read_not_to_call(connection)
        sentences = read_sentences(settings, reading.read_scorings(connection))
        urgent = reading.read_urgent(connection, reading.Names.read(connection))
    head = Text.assemble(
        (f"Release {release_id} is published", "bold"),
        f": {settings.operator}, business date {release.business_date}",
    )
    return Screen(
        Group(
            "",
            head,
            *_part("What ran", _stage_table(stages)),
            *_part("What was set aside", _arrivals(arrivals, whole), *_set_aside(set_aside)),
            *_part("What the gates said", *_gates(checks)),
            *_part("Who may leave", *_tiers(tiers, left_out, sentences)),
            *_part("Call first", *_urgent(urgent)),
            *_part("Connect a BI tool", *_connect(settings)),
            *_part(
                "Next",
                *_next(
                    settings,
                    report,
                    is_last=release.business_date == last_day,
                    has_earlier=has_earlier,
                ),
            ),
            "",
        )
    )


def _totals(attempts: Sequence[Stage]) -> list[Stage]:
    """Return each stage once, added up over the days that it ran for one by one.

    Of several attempts at the same days only the last did work that lasts.
    """
    last: dict[tuple[str, Window], Stage] = {}
    for attempt in attempts:
        # A stage that ran again moves to the end, where its last attempt was.
        last.pop((attempt.title, attempt.window), None)
        last[attempt.title, attempt.window] = attempt
    totals: dict[str, Stage] = {}
    for stage in last.values():
        so_far = totals.pop(stage.title, None)
        totals[stage.title] = (
            stage
            if so_far is None
            else replace(
                stage, rows=stage.rows + so_far.rows, seconds=stage.seconds + so_far.seconds
            )
        )
    return list(totals.values())


def _part(title: str, *content: RenderableType) -> list[RenderableType]:
    # Padding cuts a line that is too long, so a line to copy brings its own.
    indented = (
        part if isinstance(part, Text) and part.no_wrap else Padding(part, (0, 0, 0, INDENT))
        for part in content
    )
    return ["", Text(title, style="bold"), *indented]


def _stage_table(stages: Sequence[tuple[Window, Sequence[Stage]]]) -> RenderableType:
    known = [(window, found) for window, found in stages if found]
    if not known:
        return Text("No stage is on record.")
    table = _table(
        ("stage", ""), ("rows", "right"), ("time", "right"), ("rows/s", "right"), ("", "")
    )
    for window, found in known:
        if len(known) > 1:
            table.add_row(Text(str(window), style="italic", no_wrap=True))
        for stage in found:
            table.add_row(
                ("  " if len(known) > 1 else "") + TITLES.get(stage.title, stage.title),
                count(stage.rows) if stage.rows else "-",
                seconds(stage.seconds),
                count(stage.rows / stage.seconds) if stage.rows and stage.seconds else "-",
                "" if stage.status == DONE else stage.status,
            )
    return table


def _arrivals(arrived: Arrivals, window: Window) -> Text:
    if not arrived.batches:
        return Text(f"No arrival is on record for {window}.")
    verdict = (
        f"{plural(arrived.unbalanced, 'batch does', 'batches do')} NOT add up"
        if arrived.unbalanced
        else "every batch adds up"
    )
    return Text(
        f"{plural(arrived.physical, 'row')} arrived: {count(arrived.loaded)} loaded, "
        f"{count(arrived.quarantined)} set aside, {count(arrived.skipped)} left out; {verdict}."
    )


def _set_aside(rows: Sequence[SetAside]) -> list[RenderableType]:
    if not rows:
        return []
    table = _table(("reason", ""), ("table", ""), ("rows", "right"))
    for row in rows[:MOST_REASONS]:
        table.add_row(row.reason_code, row.table_name, count(row.rows))
    if len(rows) > MOST_REASONS:
        rest = rows[MOST_REASONS:]
        table.add_row("others", "", count(sum(row.rows for row in rest)))
    return [table]


def _gates(checks: Sequence[Check]) -> list[RenderableType]:
    if not checks:
        return [Text("No check is on record: do not rely on this release.", style="red")]
    whole = Counter(check.gate for check in checks)
    failed = [check for check in checks if not check.success]
    lost = Counter(check.gate for check in failed)
    unjudged = Counter(check.gate for check in checks if not check.is_judged)
    lines: list[RenderableType] = [
        Text(
            f"{gate}: {whole[gate] - lost[gate]} of {plural(whole[gate], 'check')} passed"
            + (f", {unjudged[gate]} of them with too little to judge by" if unjudged[gate] else "")
        )
        for gate in sorted(whole)
    ]
    for check in failed[:MOST_FAILED]:
        place = ".".join(name for name in (check.table_name, check.column_name) if name)
        lines.append(
            Text(
                f"failed, {check.severity}: {place}: {check.expectation} ({check.observed})", "red"
            )
        )
    if len(failed) > MOST_FAILED:
        lines.append(Text(f"and {len(failed) - MOST_FAILED} more: see the report"))
    return lines


def _tiers(
    tiers: Sequence[Tier], left_out: Sequence[NotToCall], sentences: Sequence[str]
) -> list[RenderableType]:
    if not tiers:
        return [Text("Nobody was scored.")]
    found = {tier.tier: tier for tier in tiers}
    whole = sum(tier.lines for tier in tiers)
    table = _table(
        ("tier", ""),
        ("lines", "right"),
        ("of all", "right"),
        ("12-month revenue", "right"),
        ("expected loss", "right"),
        ("to contact", "right"),
    )
    for name in TIERS:
        tier = found.get(name)
        judged = tier is not None and name not in WITHOUT_RISK
        table.add_row(
            name,
            count(tier.lines if tier else 0),
            share(ratio(tier.lines if tier else 0, whole)),
            yuan(tier.revenue_fen) if tier and judged else "-",
            yuan(tier.at_risk_fen) if tier and judged else "-",
            count(tier.callable) if tier and name in CONTACTED else "-",
        )
    table.add_row(
        "all",
        count(whole),
        share(ratio(whole, whole)),
        yuan(sum(tier.revenue_fen for tier in tiers)),
        yuan(sum(tier.at_risk_fen for tier in tiers)),
        count(sum(tier.callable for tier in tiers if tier.tier in CONTACTED)),
    )
    lines: list[RenderableType] = [table]
    lines += [
        Text(f"{name}: {words}.") for name in CONTACTED if (words := not_to_call(left_out, name))
    ]
    silent = beyond_reach(tiers)
    if silent:
        lines.append(Text(silent))
    if set(found) <= {"NEW", "NODATA"}:
        lines.append(Text("There is no model, so nobody has a risk."))
        lines += [Text(said) for said in sentences]
    return lines


def _urgent(rows: Sequence[Urgent]) -> list[RenderableType]:
    if not rows:
        return [Text("Nobody today.")]
    table = _table(("line", ""), ("risk", "right"), ("revenue", "right"), ("why", ""))
    for row in rows:
        reasons = Table.grid(padding=(0, 1, 0, 0))
        for reason in row.reasons:
            reasons.add_row("-", Text(reason))
        table.add_row(
            Text(f"{row.msisdn_masked or '-'}\n{row.brand}\n{row.tier}"),
            risk(row.probability),
            yuan(row.revenue_fen),
            reasons,
        )
    return [table]


def _connect(settings: Settings) -> list[RenderableType]:
    parts = conninfo.conninfo_to_dict(store.dsn(settings, "bi_reader"))
    url = f"postgresql://bi_reader@{parts['host']}:{parts.get('port') or 5432}/{parts['dbname']}"
    file = _password_file(settings)
    lines = [f"URL       {url}"]
    if file is None:
        lines.append("password  the variable KEEPLINE_BI_READER_PASSWORD")
        lines.append(f'psql      PGPASSWORD=$KEEPLINE_BI_READER_PASSWORD psql "{url}"')
    else:
        lines.append(f"password  in the file {file}")
        lines.append(f'psql      PGPASSWORD=$(cat {shlex.quote(str(file))}) psql "{url}"')
    lines.append("tables    mart.* (risk, value, movement) and star.* (dimensions and facts)")
    return [_whole(line) for line in lines]


def _password_file(settings: Settings) -> Path | None:
    name = "keepline_bi_reader_password"
    for folder in (Path("/run/secrets"), settings.home / "secrets"):
        path = folder / name
        if path.exists() and path.read_text() == settings.bi_reader_password.get_secret_value():
            return path
    return None


def _next(
    settings: Settings, report: Path | None, *, is_last: bool, has_earlier: bool
) -> list[RenderableType]:
    command = _command(settings)
    lines = [("read", report.as_uri())] if report else []
    lines.append(("ask", f'{command} query "{EXAMPLE_QUERY}"'))
    if is_last:
        lines.append(("go on", "the operator's data end here: there is no next business day"))
    else:
        lines.append(("go on", f"{make(settings, 'run'):<20} # the next business day"))
    lines += [
        ("watch", f"{make(settings, 'airflow'):<20} # the same DAGs in Airflow's web page"),
        ("stop", f"{make(settings, 'stop'):<20} # PostgreSQL runs on until then; nothing is lost"),
    ]
    if has_earlier:
        undo = f"{command} rollback    # readers get the release before this one"
        lines.append(("undo", undo))
    return [_whole(f"{word:<6} {line}") for word, line in lines]


def make(settings: Settings, target: str) -> str:
    """Return what to type for a target of the Makefile, for the chosen operator."""
    chosen = "" if settings.operator == DEFAULT_OPERATOR else f" OPERATOR={settings.operator}"
    return f"make {target}{chosen}"


def _command(settings: Settings) -> str:
    """Return how to call keepline from here: by its path unless the shell finds it."""
    chosen = ""
    if settings.operator != DEFAULT_OPERATOR:
        chosen = f"KEEPLINE_OPERATOR={settings.operator} "
    if shutil.which("keepline"):
        return f"{chosen}keepline"
    path = Path(sys.executable).with_name("keepline")
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{chosen}{shown}"


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for title, justify in columns:
        table.add_column(title, justify="right" if justify == "right" else "left", overflow="fold")
    return table


def _whole(line: str) -> Text:
    """A line to copy: the terminal may break it, rich may not."""
    return Text(" " * INDENT + line, no_wrap=True, overflow="ignore")
