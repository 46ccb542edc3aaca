"""Reading a source in pieces with rests."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from keepline.extract.pacing import FIRST_PIECE, PIECE_S, paced

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
SHANGHAI, BERLIN = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin")


def busy(cost):
    """Return reading that keeps the source busy for `cost(from_at, to_at)` seconds."""
    return lambda from_at, to_at: time.sleep(cost(from_at, to_at))


def read(from_at, to_at, share, finest, reading):
    """Read in pieces; returns them, and the seconds of each."""
    pieces, busy_s = [], []
    for piece in paced(from_at, to_at, share, finest):
        started = time.perf_counter()
        reading(*piece)
        busy_s.append(time.perf_counter() - started)
        pieces.append(piece)
    return pieces, busy_s


@pytest.mark.parametrize("finest", [SECOND, DAY])
def test_the_pieces_are_the_window_without_gap_or_overlap(finest):
    from_at = datetime(2026, 6, 1, tzinfo=SHANGHAI)
    to_at = datetime(2026, 7, 1, tzinfo=SHANGHAI)

    pieces, _ = read(from_at, to_at, 1, finest, busy(lambda *_: 0.001))

    assert [piece[0] for piece in pieces] == [from_at, *(piece[1] for piece in pieces[:-1])]
    assert pieces[-1][1] == to_at
    assert all((end - start) % finest == timedelta(0) and end > start for start, end in pieces)


def test_after_each_piece_the_source_rests():
    from_at = datetime(2026, 6, 1, tzinfo=SHANGHAI)
    started = time.perf_counter()

    _, busy_s = read(from_at, from_at + DAY, 0.1, SECOND, busy(lambda *_: 0.01))

    assert time.perf_counter() - started >= sum(busy_s) / 0.1


def test_a_piece_becomes_as_long_as_the_source_may_work_at_a_stretch():
    # Given a source that needs 1 s for an hour, that is PIECE_S for 72 s
    from_at = datetime(2026, 6, 1, tzinfo=SHANGHAI)
    hourly = busy(lambda start, end: (end - start) / timedelta(hours=1))

    pieces, busy_s = read(from_at, from_at + timedelta(minutes=20), 1, SECOND, hourly)

    assert pieces[0][1] - pieces[0][0] == FIRST_PIECE
    assert sorted(busy_s)[len(busy_s) // 2] == pytest.approx(PIECE_S, rel=0.5)


def test_pieces_do_not_become_smaller_where_that_helps_nobody():
    # Given a machine on which every piece takes twice what it may, whatever it holds
    from_at = datetime(2026, 6, 1, tzinfo=SHANGHAI)

    pieces, _ = read(from_at, from_at + DAY / 24, 1, SECOND, busy(lambda *_: 2 * PIECE_S))

    assert len(pieces) < 240


def test_a_piece_of_days_ends_at_midnight_where_the_clock_is_changed():
    # Given the week in which Berlin sets its clock back, on 25 October
    from_at = datetime(2026, 10, 22, tzinfo=BERLIN)
    to_at = datetime(2026, 10, 29, tzinfo=BERLIN)

    pieces, _ = read(from_at, to_at, 1, DAY, busy(lambda *_: 10 * PIECE_S))

    assert [piece[0].isoformat() for piece in pieces] == [
        f"2026-10-{day}T00:00:00+0{2 if day <= 25 else 1}:00" for day in range(22, 29)
    ]
