"""The fault catalogue and the figures that `make test-deep` prints.

A test says which items of the catalogue it shows with `@pytest.mark.case(4, 5)`, and what it counted
with the fixture `tally`. An item counts when each test that shows it has passed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

CATALOGUE = range(1, 98)
CASE, TALLY = "case", "tally"
# What a whole deep run comes to; a run of a part says what it ran.
WHOLE = {"kills": 200, "reruns": 50, "shuffled backfills": 10, "histories": 10_000}

# What strangers met in the field, by the file that shows it: each of its tests is one case.
KINDS = {
    "deliveries": (
        *("test_extract_bombs", "test_extract_hidden_rows", "test_extract_left_out"),
        *("test_extract_lines", "test_extract_names", "test_extract_paths", "test_extract_rules"),
        *("test_extract_select", "test_extract_times", "test_extract_told"),
    ),
    "homes": (
        *("test_home_keys", "test_home_older", "test_home_privacy", "test_home_refusals"),
        *("test_home_server", "test_home_terminal", "test_home_upgrade"),
    ),
    "absence and clocks": ("test_landing_record", "test_leftovers"),
    "readers": ("test_reader_logins", "test_release_age"),
}


class Scoreboard:
    """Collects what the tests of all workers report."""

    def __init__(self) -> None:
        self._cases: dict[int, list[bool]] = defaultdict(list)
        self._skipped: set[int] = set()
        self._tallies: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._kinds: dict[str, dict[str, bool]] = defaultdict(dict)

    def add(self, report: pytest.TestReport) -> None:
        """Take a finished phase of a test."""
        own = [value for name, value in report.user_properties if name == CASE]
        if report.skipped:
            self._skipped.update(own)
        elif report.when == "call" or report.failed:
            for number in own:
                self._cases[number].append(report.passed)
        if not report.skipped and (report.when == "call" or report.failed):
            stem = Path(report.nodeid.partition("::")[0]).stem
            for kind, files in KINDS.items():
                if stem in files:
                    self._kinds[kind][report.nodeid] = report.passed
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == TALLY:
                    self._tallies[value[0]].append((value[1], value[2]))

    def lines(self) -> Iterable[str]:
        """Say what was shown, and what was not."""
        if not self._cases and not self._tallies and not self._kinds:
            return
        good = {number for number, results in self._cases.items() if all(results)}
        yield f"cases: {len(good)}/{len(CATALOGUE)}"
        failed = sorted(set(self._cases) - good)
        missing = sorted(set(CATALOGUE) - set(self._cases))
        if failed:
            yield f"  failed: {', '.join(map(str, failed))}"
        if missing:
            skipped = [str(number) for number in missing if number in self._skipped]
            yield f"  not run: {', '.join(map(str, missing))}" + (
                f" (skipped: {', '.join(skipped)})" if skipped else ""
            )
        for kind, results in self._kinds.items():
            yield f"{kind}: {sum(results.values())}/{len(results)}"
        for name, counted in sorted(self._tallies.items()):
            good_ones, all_ones = (sum(column) for column in zip(*counted, strict=True))
            yield f"{name}: {good_ones:,}/{all_ones:,}" + (
                f" (a whole deep run: {WHOLE[name]:,})"
                if WHOLE.get(name, all_ones) != all_ones
                else ""
            )
