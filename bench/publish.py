"""Publishing against the limit, the bare COPY of the same rows; and what readers notice of it.

    python -m bench.publish                     500,000 rows, 3 rounds
    python -m bench.publish --rows 1000000

Each round is a business day more of the risk table: keepline compares it with what the store has, copies
it under a new release, tells the planner, and shows it (`stage` and `publish`; the audit between is no
part of it). In as many rounds more, which the ratio leaves out, a reader asks for one row of the current
release again and again: little work, so that what it waits for is a lock. The flip is what `publish` takes
until readers see the release, in those rounds: connecting, the checks of the catalogue, and its one
transaction.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping
from datetime import date, timedelta
from functools import partial
from typing import Any

from .alone import Clock, Run, run_alone, serve
from .row import Row, contest, environment_of, print_rows, workplace

AIM, AIM_FLIP_MS, AIM_STALL_MS = 1.5, 50, 250
MODEL = "mart_churn_risk_daily"
FIRST_DAY = date(2026, 1, 1)
EVERY_S = 0.002


def limit(given: Mapping[str, Any], clock: Clock) -> int:
    """Pipe the rows from table to table."""
    from .published import limit as pipe

    return pipe(given, clock)


def keepline(given: Mapping[str, Any], clock: Clock) -> int:
    """Stage and publish a business day."""
    from keepline import release, store
    from keepline.release import publishing
    from keepline.settings import Settings
    from keepline.window import Window

    settings = Settings.load()
    with store.connect(settings, autocommit=True) as connection:
        connection.execute("checkpoint")
    window = Window.day(date.fromisoformat(given["day"]))
    with clock:
        report = release.stage(settings, window)
    release.mark_audited(settings, report.release_id, passed=True)

    def committed(_step: str) -> None:
        clock.more["flip_ms"] = (time.perf_counter() - began) * 1000

    publishing.reach = committed
    with clock:
        began = time.perf_counter()
        release.publish(settings, report.release_id)
    return report.rows


CONTENDERS = {"limit": limit, "keepline": keepline}


class Reader:
    """Someone who looks at the current release all the time; a context manager."""

    def __init__(self, settings: Any, relation: str) -> None:  # noqa: ANN401
        self._settings, self._relation = settings, relation
        self.waits_ms: list[float] = []

    def __enter__(self) -> Reader:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        from keepline import store

        asked = f"select * from {self._relation} where score_date = %s limit 1"
        with store.connect(self._settings, "bi_reader", autocommit=True) as connection:
            while not self._stop.wait(EVERY_S):
                began = time.perf_counter()
                connection.execute(asked.encode(), [FIRST_DAY]).fetchall()
                self.waits_ms.append((time.perf_counter() - began) * 1000)


def measure(rows: int, rounds: int = 3) -> list[Row]:
    """Publish business days of the risk table in turns with the limit."""
    from .published import Published

    with workplace("publish") as (folder, server):
        published = Published(folder, server, MODEL)
        settings, table = published.settings, published.table
        environment = environment_of(settings)
        days = (FIRST_DAY + timedelta(days=n) for n in range(2 * rounds + 1))

        def publish() -> Run:
            day = next(days)
            published.fill(day, rows)
            return run_alone("bench.publish", "keepline", {"day": day.isoformat()}, environment)

        publish()  # of what follows, a reader has something to read, and the limit to copy
        given = published.keep_copy(f"{table.name}__{FIRST_DAY:%Y%m}", rows)
        found = contest(
            {
                "limit": partial(run_alone, "bench.publish", "limit", given, environment),
                "keepline": publish,
            },
            rounds,
        )
        flips: list[float] = []
        worst: list[float] = []
        for _ in range(rounds):
            with Reader(settings, f"{table.reader_schema}.{table.name}") as reader:
                flips.append(publish().more["flip_ms"])
            worst.append(max(reader.waits_ms))
    size = f"{rows:,} rows x {len(table.columns)}"
    return [
        Row(
            *("publish", size, "keepline stage and publish", "binary COPY pipe"),
            *(found.ratio("keepline", "limit"), AIM, found.peak_mb("keepline")),
            seconds=found.seconds("keepline"),
        ),
        Row(
            *("publish: flip", size, "keepline publish", "(a plain figure)"),
            *(statistics.median(flips), AIM_FLIP_MS),
            unit="ms",
            note="from the call of `publish` to its commit; the clean-up of old releases follows.",
        ),
        Row(
            *(
                "publish: longest wait of a reader",
                size,
                "one row, again and again",
                "(a plain figure)",
            ),
            *(max(worst), AIM_STALL_MS),
            unit="ms",
        ),
    ]


if __name__ == "__main__" and not serve(CONTENDERS):
    print_rows(__doc__, measure, rows=500_000)
