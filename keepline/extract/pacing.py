"""Reading a source in short pieces with rests between them, so that its own users hardly notice."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

# What the source works at a stretch: a user who comes meanwhile waits for no longer.
PIECE_S = 0.02
FIRST_PIECE = timedelta(minutes=1)


def paced(
    from_at: datetime, to_at: datetime, busy_share: float, finest: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """Cut a time into pieces that each take the reader about `PIECE_S`, and rest after each.

    How long a piece takes is measured from here, between two of them: it is a little more than what the
    source works.

    Args:
        from_at: local time, a multiple of `finest`.
        to_at: its end, excluded; both in one zone, whose wall clock the pieces follow.
        busy_share: part of the time in which the source may work, above 0 and at most 1.
        finest: no piece is shorter.
    """
    span = max(FIRST_PIECE, finest)
    # Where a piece takes its time whatever it holds, as on a machine that is busy, smaller ones help nobody.
    floor, floor_s = finest, math.inf
    before, before_s = span, math.inf
    while from_at < to_at:
        until = min(from_at + span, to_at)
        started = time.perf_counter()
        yield from_at, until
        took_s = time.perf_counter() - started
        time.sleep(took_s * (1 / busy_share - 1))
        if took_s > PIECE_S and span * 2 <= before and took_s > before_s * 0.8:
            floor, floor_s = before, before_s
        elif took_s > floor_s * 4:
            floor, floor_s = finest, math.inf
        before, before_s = span, took_s
        # Not more than fourfold: a quiet hour says little of the one that follows.
        factor = min(4.0, max(0.25, PIECE_S / took_s))
        span = max(floor, finest * max(1, round(factor * (span / finest))))
        from_at = until
