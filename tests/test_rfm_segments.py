"""The names of the segments mean what they say: who stood in one left less, or more, than the base.

Asked of a simulated operator, with the knowledge of the day: the month's scores as its last day made
them, and who was lost by the end of the three months after, as known when such losses are settled.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from keepline.build import build
from keepline.compute import compute_for
from keepline.contract import load_contract
from keepline.settings import Settings
from keepline.window import Window

LAST = date(2026, 6, 30)
DECEMBER = date(2025, 12, 31)
KEEPERS = ("CHAMPIONS", "LOYAL")
# Used within the best band of days, whatever they pay.
USED_LATELY = (*KEEPERS, "FREQUENT", "OCCASIONAL", "OTHER")
LEAVERS = ("NEED_ATTENTION", "AT_RISK", "CANT_LOSE", "ABOUT_TO_SLEEP", "LOST")


@dataclass
class Fate:
    """How many stood in a segment, over some months, and how many of them had left three months later."""

    lines: int = 0
    left: int = 0

    @property
    def share(self) -> float:
        return self.left / self.lines


@pytest.mark.deep
def test_the_silent_leave_and_the_keen_stay(tmp_path: Path):
    fates = fates_of(tmp_path / "home", 600, 270, [DECEMBER])

    base = total(fates.values())
    silent = total(fates[name] for name in LEAVERS if name in fates)
    keen = total(fates[name] for name in KEEPERS if name in fates)
    assert silent.share > 3 * base.share
    assert keen.share < base.share
    assert base.lines > 500


@pytest.mark.deep
def test_each_name_means_what_it_says(tmp_path: Path):
    ends = [date(2025, 8, 31), date(2025, 9, 30), date(2025, 10, 31), date(2025, 11, 30), DECEMBER]
    fates = fates_of(tmp_path / "home", 3000, 400, ends)

    base = total(fates.values()).share
    used_lately = total(fates[name] for name in USED_LATELY).share
    assert {name for name in KEEPERS if fates[name].share > 0.7 * base} == set()
    assert {name for name in LEAVERS if fates[name].share <= base} == set()
    assert {name for name in LEAVERS if fates[name].share < 2 * used_lately} == set()
    # The longer the silence, the more of them left.
    by_silence = [fates[name].share for name in ("NEED_ATTENTION", "AT_RISK", "ABOUT_TO_SLEEP")]
    assert [used_lately, *by_silence] == sorted([used_lately, *by_silence])


def total(fates: Iterable[Fate]) -> Fate:
    """Return the fate of several segments together."""
    together = Fate()
    for fate in fates:
        together.lines += fate.lines
        together.left += fate.left
    return together


def fates_of(home: Path, subscribers: int, history: int, ends: Sequence[date]) -> dict[str, Fate]:
    """Simulate an operator, build it up to each month's end in turn, and see what became of everybody.

    Args:
        home: folder of the operator.
        subscribers: subscriptions at the start.
        history: days of history up to `LAST`.
        ends: last days of months, so long before `LAST` that what follows is settled.

    Returns:
        The fates by segment, over all these months.
    """
    first = LAST - timedelta(days=history - 1)
    sizes = ("--subscribers", str(subscribers), "--days", str(history), "--mornings", "0")
    try:
        _keepline(home, "simulate", *sizes, "--end", LAST.isoformat())
        _keepline(home, "migrate")
        until = (LAST + timedelta(days=1)).isoformat()
        _keepline(home, "extract", "--from", first.isoformat(), "--to", until)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KEEPLINE_HOME", str(home))
            return _fates(Settings.load(), first, ends)
    finally:
        _keepline(home, "clean", "--yes")


def _fates(settings: Settings, first: date, ends: Sequence[date]) -> dict[str, Fate]:
    compute, contract = compute_for(settings), load_contract(settings.dbt_dir)
    told: list[tuple[date, str, str]] = []
    for last in (*ends, LAST):
        window = Window(first, last + timedelta(days=1))
        compute.load(contract, window)
        for layer in ("core", "marts"):
            build(settings, layer, window)
        if last in ends:
            told += [
                (last, str(line), str(segment))
                for line, segment in _rows(
                    settings,
                    "select subscription_id, segment from marts.mart_rfm_month"
                    f" where month_start = date '{last.replace(day=1)}'",
                )
            ]
        first = last + timedelta(days=1)
    losses: dict[str, list[tuple[date, date]]] = defaultdict(list)
    for line, happened, confirmed in _rows(
        settings,
        "select subscription_id, event_date, confirmed_date from core.fct_churn_event"
        " where corrected_date is null",
    ):
        losses[line].append((happened, confirmed))
    fates: dict[str, Fate] = defaultdict(Fate)
    for month_end, line, segment in told:
        until = _three_months_after(month_end)
        fates[segment].lines += 1
        fates[segment].left += any(
            confirmed > month_end and happened <= until for happened, confirmed in losses[line]
        )
    return dict(fates)


def _three_months_after(month_end: date) -> date:
    month = month_end.month + 4
    return date(month_end.year + (month - 1) // 12, (month - 1) % 12 + 1, 1) - timedelta(days=1)


def _rows(settings: Settings, query: str) -> list[tuple]:
    with duckdb.connect(settings.compute_path, read_only=True) as connection:
        return connection.execute(query).fetchall()


def _keepline(home: Path, *words: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEEPLINE_")}
    done = subprocess.run(
        [sys.executable, "-m", "keepline", *words],
        env={**kept, "KEEPLINE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"keepline {' '.join(words)}\n{done.stdout}\n{done.stderr}"
