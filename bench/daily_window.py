"""What a business day costs when the history is ten times as long, stage by stage.

    python -m bench.daily_window                        1,500 lines, 90 and 900 days
    python -m bench.daily_window --lines 500 --days 200 --rounds 5

One operator is simulated. The first warehouse holds all of its history; the second one the last tenth:
its operator has the same lines with what was known of them, and the same records since. Both then run
the same business days, stage by stage in one warm process, in turns; the days' rows are the same.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import shutil
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psycopg
from psycopg import sql

from keepline import store
from keepline.commands import demo, modelling, pipeline
from keepline.contract import Table, load_contract
from keepline.embedded import EmbeddedPostgres
from keepline.settings import Settings
from keepline.window import Window

from .results import write_section
from .row import Row

PART_DAYS = 400
TARGET_RATIO = 1.2
LAST_DATE = date(2026, 6, 30)
STAGES = (
    *(
        "extract",
        "load",
        "check",
        "build core",
        "build features",
        "score",
        "build marts",
        "stage",
        "audit",
    ),
    "publish",
)
# A few milliseconds more of a stage that takes a few are no ratio.
NOTICEABLE_S = 0.2


class Warehouse:
    """A warehouse with a home and a store of its own, and the operator that it reads."""

    def __init__(self, server: EmbeddedPostgres, home: Path, database: str, drops: Path) -> None:
        server.ensure_database(f"store_{database}")
        self.settings = Settings(
            home=home,
            store_dsn=server.dsn(f"store_{database}"),
            store_password="bench",
            extractor_password="bench",
            bi_reader_password="bench",
            marketing_password="bench",
            pseudonym_key="11" * 32,
            vault_key="22" * 32,
        )
        self._database = database
        self._dsn = server.dsn(database, "extractor", "bench")
        self._drops = drops

    def __enter__(self) -> Settings:
        os.environ |= {"KEEPLINE_DEMO_DSN": self._dsn, "KEEPLINE_DEMO_DROPS": str(self._drops)}
        return self.settings

    def __exit__(self, *_: object) -> None:
        return

    def load(self, history: Window, models: Path | None) -> int:
        """Bring the history in, and publish its last day; returns the rows extracted.

        Args:
            history: load dates.
            models: models to score with; None trains them.
        """
        with self as settings:
            pipeline.migrate(settings)
            rows = 0
            for part in _parts(history):
                rows += pipeline.extract(settings, part)
                pipeline.load(settings, part)
                pipeline.build(settings, "core", part)
            if models is None:
                modelling.train(settings, history.last_date)
            else:
                shutil.copytree(models, settings.models_dir)
            pipeline.build(settings, "marts", history)
        return rows

    def run(self, day: date) -> dict[str, tuple[int, float]]:
        """Run a business day; returns rows and seconds by stage."""
        window = Window.day(day)
        with self as settings:
            for stage in (
                lambda: pipeline.extract(settings, window),
                lambda: pipeline.load(settings, window),
                lambda: pipeline.check(settings, window),
                lambda: pipeline.build(settings, "core", window),
                lambda: pipeline.build(settings, "features", window),
                lambda: modelling.score(settings, day),
                lambda: pipeline.build(settings, "marts", window),
                lambda: pipeline.stage_release(settings, window),
                lambda: pipeline.audit(settings, window),
                lambda: pipeline.publish(settings, window),
            ):
                # A night's stages are processes of their own: none looks through what others left behind.
                gc.collect()
                gc.freeze()
                stage()
            with store.connect(settings) as connection:
                found = connection.execute(
                    "select verb, rows, seconds from ops.stage_run where from_date = %s and to_date = %s",
                    [window.from_date, window.to_date],
                ).fetchall()
        return {verb: (rows, float(seconds)) for verb, rows, seconds in found}


def _parts(history: Window) -> list[Window]:
    """Cut a history into windows that memory holds."""
    days = [*history.days(), history.to_date]
    edges = [*days[:-1:PART_DAYS], days[-1]]
    return [Window(first, last) for first, last in itertools.pairwise(edges)]


def shorten(settings: Settings, dsn: str, drops: Path, cut: date) -> None:
    """Make an operator forget what is older than a day, but for what its masters said by then."""
    midnight = f"{cut} 00:00:00+08:00"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table in load_contract(settings.dbt_dir).values():
            name = _source_of(connection, table)
            if name is not None:
                _forget(connection, name, table, midnight)
        connection.execute("vacuum analyze")
    for folder in drops.iterdir():
        if folder.is_dir() and folder.name < cut.isoformat():
            shutil.rmtree(folder)


def _source_of(connection: psycopg.Connection, table: Table) -> sql.Identifier | None:
    row = connection.execute(
        "select table_schema from information_schema.tables where table_name = %s"
        " and table_schema not in ('pg_catalog', 'information_schema')",
        [table.name],
    ).fetchone()
    return None if row is None else sql.Identifier(row[0], table.name)


def _forget(
    connection: psycopg.Connection, name: sql.Identifier, table: Table, midnight: str
) -> None:
    cursor = sql.Identifier(table.load_cursor)
    if table.load_cursor not in table.key or table.event_cursor != table.load_cursor:
        # Events; a feed of changes to bookings counts as them.
        keeps = table.name in ("subscription_offering", "number_range", "brand")
        if not keeps:
            connection.execute(
                sql.SQL("delete from {} where {} < %s").format(name, cursor), [midnight]
            )
            return
    entity = sql.SQL(", ").join(
        sql.Identifier(_own_name(column)) for column in table.key if column != table.load_cursor
    )
    connection.execute(
        sql.SQL(
            "delete from {name} where ctid in (select id from (select ctid as id, row_number() over"
            " (partition by {entity} order by {cursor} desc) as nth from {name} where {cursor} < %s)"
            " as old where nth > 1)"
        ).format(name=name, entity=entity, cursor=cursor),
        [midnight],
    )
    connection.execute(
        sql.SQL("update {name} set {cursor} = %s where {cursor} < %s").format(
            name=name, cursor=cursor
        ),
        [midnight, midnight],
    )


def _own_name(column: str) -> str:
    """The demo operator calls a number what the contract calls its pseudonym."""
    return "number" if column == "number_hash" else column


@dataclass(frozen=True)
class Comparison:
    """The same business days on a short and on a long history.

    Attributes:
        lines: subscriptions.
        days: days of the short history; the long one has ten times as many.
        rounds: business days.
        rows: of each history, by `short` and `long`.
        day_rows: rows of a business day.
        seconds: median seconds by stage of `short` and `long`.
    """

    lines: int
    days: int
    rounds: int
    rows: Mapping[str, int]
    day_rows: Mapping[str, float]
    seconds: Mapping[str, Mapping[str, float]]

    @property
    def totals(self) -> dict[str, float]:
        """Seconds of the day."""
        return {name: sum(stages.values()) for name, stages in self.seconds.items()}

    @property
    def ratio(self) -> float:
        """The day on the long history by the day on the short one."""
        return self.totals["long"] / self.totals["short"]

    @property
    def missed(self) -> list[str]:
        """Stages that miss the aim, with their ratios."""
        pairs = (
            (stage, self.seconds["short"][stage], self.seconds["long"][stage]) for stage in STAGES
        )
        return [
            f"{stage} ({long / short:.2f})"
            for stage, short, long in pairs
            if long > TARGET_RATIO * short and long - short > NOTICEABLE_S
        ]


def measure(lines: int, days: int, rounds: int) -> list[Row]:
    """Compare the same business days on a history and on ten times as much; see `compare`."""
    with tempfile.TemporaryDirectory(prefix="keepline-bench-") as folder:
        found = compare(lines, days, rounds, Path(folder))
    missed = f"; beyond it: {', '.join(found.missed)}" if found.missed else ""
    return [
        Row(
            name="daily window",
            size=f"{lines:,} lines, {found.day_rows['long']:,.0f} rows a day",
            measured=f"keepline, {10 * days:,} days of history",
            against=f"keepline, {days:,} days",
            ratio=found.ratio,
            aim=TARGET_RATIO,
            seconds=found.totals["long"],
            note=f"all stages in one warm process{missed}.",
        )
    ]


def compare(lines: int, days: int, rounds: int, folder: Path) -> Comparison:
    """Build both warehouses in a folder and run the days in turns."""
    server = EmbeddedPostgres(folder / "server", "bench")
    server.start()
    try:
        long_home, short_home = folder / "long", folder / "short"
        first = Settings(home=long_home, store_password="bench", extractor_password="bench")
        drops = first.drops_dir
        server.ensure_database("operator_long")
        os.environ["KEEPLINE_DEMO_ADMIN_DSN"] = server.dsn("operator_long")
        first.operator_home.mkdir(parents=True)
        demo.create(first, lines, 10 * days, seed=7, last_date=LAST_DATE, mornings=rounds + 1)
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
            connection.execute("create database operator_short template operator_long")
        shutil.copytree(drops, folder / "drops")
        cut = LAST_DATE - timedelta(days=days - 1)
        shorten(first, server.dsn("operator_short"), folder / "drops", cut)
        long = Warehouse(server, long_home, "operator_long", drops)
        short = Warehouse(server, short_home, "operator_short", folder / "drops")
        end = LAST_DATE + timedelta(days=1)
        rows = {
            "long": long.load(Window(LAST_DATE - timedelta(days=10 * days - 1), end), None),
            "short": short.load(Window(cut, end), long.settings.models_dir),
        }
        seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        moved: dict[str, list[int]] = defaultdict(list)
        for turn in range(rounds + 1):
            day = end + timedelta(days=turn)
            pair = [("short", short), ("long", long)]
            for name, warehouse in pair if turn % 2 else reversed(pair):
                said = warehouse.run(day)
                if turn:  # The first day warms up, and stages the whole history.
                    moved[name].append(said["extract"][0])
                    for stage in STAGES:
                        seconds[name][stage].append(said[stage][1])
        return Comparison(
            lines,
            days,
            rounds,
            rows,
            {name: statistics.median(counts) for name, counts in moved.items()},
            {
                name: {stage: statistics.median(stages[stage]) for stage in STAGES}
                for name, stages in seconds.items()
            },
        )
    finally:
        server.remove()


def as_section(found: Comparison) -> str:
    """Return the section of bench/README.md."""
    short, long = found.seconds["short"], found.seconds["long"]
    text = [
        f"{found.lines:,} lines; history of {found.days} days ({found.rows['short']:,} rows) and"
        f" {10 * found.days:,} days ({found.rows['long']:,} rows); {found.rounds} business days each, in"
        f" turns, medians. Rows of a day: {found.day_rows['short']:,.0f} and {found.day_rows['long']:,.0f}.",
        "",
        "| stage | 1 x history, s | 10 x history, s | ratio |",
        "|---|---|---|---|",
        *(
            f"| {stage} | {short[stage]:.2f} | {long[stage]:.2f} | {long[stage] / short[stage]:.2f} |"
            for stage in STAGES
        ),
        f"| **the day** | {found.totals['short']:.2f} | {found.totals['long']:.2f} | **{found.ratio:.2f}** |",
    ]
    is_met = found.ratio <= TARGET_RATIO and not found.missed
    text += [
        "",
        f"The aim, at most {TARGET_RATIO} for the day and for each stage (a difference below"
        f" {NOTICEABLE_S} s is none), is {'met' if is_met else 'missed'}"
        + (f": {', '.join(found.missed)}." if found.missed else "."),
    ]
    return "\n".join(text)


def main() -> None:
    """Measure, print, and write the table into bench/README.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=int, default=1500)
    parser.add_argument("--days", type=int, default=90, help="days of the shorter history")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keepline-bench-") as folder:
        table = as_section(compare(given.lines, given.days, given.rounds, Path(folder)))
    write_section("daily window", table)
    print(table)


if __name__ == "__main__":
    main()
