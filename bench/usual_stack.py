"""A whole business day with keepline, against the same night as it is usually written.

    python -m bench.usual_stack                              2,000 lines, 90 days
    python -m bench.usual_stack --lines 5000 --rounds 3

The usual stack (bench/usual_run.py) has no history to go on from: it reads everything and builds
everything, every night. keepline has its history and runs one day of it, each stage in a process of its
own, with its gates and data tests, which the usual stack has not. Both end with the same risk tiers and
the same marts, row by row, or there is no figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from keepline import store
from keepline.embedded import EmbeddedPostgres
from keepline.settings import Settings

from .alone import Run, run_alone
from .business_day import FACTOR_DAYS, FACTOR_LINES, Operator, simulate, trained_models
from .row import Row, print_rows, workplace

# Marts that must be equal, and of each the rows that both have made.
COMPARED = {
    "churn_risk_daily": "score_date = {day}",
    "subscriber_movement": "true",
    "rfm_month": "true",
    "pareto_month": "true",
}
# How a run is named after the bytes of its inputs; no answer.
STAMPS = ("feature_snapshot_id", "score_run_id")
SIGNIFICANT = 9
AIMS = {"duckdb": 10.0, "postgres": 3.0}


@dataclass(frozen=True)
class Night:
    """One business day by both: seconds, the most memory of one process, and what the peer's steps took."""

    keepline: Mapping[str, Run]
    usual: Run

    @property
    def keepline_s(self) -> float:
        """Seconds of all stages."""
        return sum(run.seconds for run in self.keepline.values())


def measure(
    lines: int, days: int, rounds: int, engines: Sequence[str] = ("duckdb", "postgres")
) -> list[Row]:
    """Run business days by keepline and by the usual stack, in turns, and compare their answers.

    Args:
        lines: subscriptions.
        days: length of the history.
        rounds: business days.
        engines: compute engines of keepline.

    Raises:
        AssertionError: the answers differ.
    """
    with workplace("usual") as (folder, server):
        models = trained_models(folder / "trained", server)
        operators = {
            engine: simulate(folder / engine, server, lines, days, rounds, compute=engine)
            for engine in engines
        }
        for operator in operators.values():
            operator.bring_history(models)
        nights: dict[str, list[Night]] = {engine: [] for engine in engines}
        for number in range(rounds):
            keepline = {engine: one.run_day(number) for engine, one in operators.items()}
            # Each engine has the same operator, made from the same seed: one night of the peer does for all.
            usual = run_usual(folder, server, operators[engines[0]], number)
            for engine, operator in operators.items():
                day = operator.day(number).from_date
                different = differences(operator.settings, server.dsn("usual_store"), day)
                assert different == {}, f"the usual stack gives other answers: {different}"
                nights[engine].append(Night(keepline[engine], usual))
    return [_row(engine, lines, days, found) for engine, found in nights.items()]


def run_usual(folder: Path, server: EmbeddedPostgres, operator: Operator, number: int) -> Run:
    """Run a night of the usual stack, in databases of its own."""
    for database in ("usual_warehouse", "usual_store"):
        server.ensure_database(database)
    given = {
        "operator": operator.dsn,
        "warehouse": server.dsn("usual_warehouse"),
        "store": server.dsn("usual_store"),
        "drops": str(operator.drops),
        "models": str(operator.settings.models_dir),
        "work": str(folder / "usual_dbt"),
        "first": str(operator.history.from_date),
        "day": str(operator.day(number).from_date),
    }
    return run_alone("bench.usual_run", "usual", given, dict(operator.environment))


def differences(settings: Settings, usual_store: str, day: date) -> dict[str, str]:
    """Return what differs by mart: rows on either side and an example; empty when all is equal.

    Whole numbers, texts, dates and decimals are compared exactly, what a model puts out to nine digits.
    """
    found = {}
    with store.connect(settings) as ours, psycopg.connect(usual_store) as theirs:
        for mart, which in COMPARED.items():
            columns = [
                name
                for (name,) in theirs.execute(
                    "select column_name from information_schema.columns where table_name = %s order by 1",
                    [f"mart_{mart}"],
                )
                if name not in STAMPS
            ]
            query = sql.SQL("select {} from {} where " + which.format(day=f"date '{day}'"))
            names = sql.SQL(", ").join(map(sql.Identifier, columns))
            left, right = (
                sorted(_plain(row) for row in connection.execute(query.format(names, table)))
                for connection, table in (
                    (ours, sql.Identifier("mart", mart)),
                    (theirs, sql.Identifier(f"mart_{mart}")),
                )
            )
            if left != right or not left:
                odd = sorted(set(left) ^ set(right))[:2]
                found[mart] = f"{len(left)} and {len(right)} rows, such as {odd}"
    return found


def _plain(row: Sequence[Any]) -> str:
    return "|".join(_plain_value(value) for value in row)


def _plain_value(value: object) -> str:
    if isinstance(value, float | Decimal):
        return f"{float(value):.{SIGNIFICANT}g}"
    return str(value.date() if isinstance(value, datetime) else value)


def _row(engine: str, lines: int, days: int, nights: Sequence[Night]) -> Row:
    seconds = statistics.median(night.keepline_s for night in nights)
    ratio = statistics.median(night.usual.seconds / night.keepline_s for night in nights)
    usual = nights[-1].usual
    steps = ", ".join(f"{name} {spent:.0f}" for name, spent in usual.more["steps"].items())
    stages = ", ".join(f"{verb} {run.seconds:.1f}" for verb, run in nights[-1].keepline.items())
    return Row(
        name="business day",
        size=f"SF {lines * days / FACTOR_LINES / FACTOR_DAYS:g}: {lines:,} lines x {days} days,"
        f" {usual.rows:,} rows",
        measured=f"keepline on {engine}",
        against="the usual stack",
        ratio=ratio,
        aim=AIMS[engine],
        at_least=True,
        peak_mb=max(run.peak_mb for night in nights for run in night.keepline.values()),
        seconds=seconds,
        note=f"seconds {stages}; the usual stack {usual.seconds:.0f} s ({steps}), {usual.peak_mb:,.0f} MB. "
        "The same risk tiers and marts, row by row.",
    )


if __name__ == "__main__":
    print_rows(__doc__, measure, lines=2000, days=90)
