"""How the calendar moves people: weekdays, holidays, seasons, hours; and the random streams, one per day."""

from __future__ import annotations

import zlib
from datetime import date, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

DAY_S: Final = 86_400
NEVER: Final = -(1 << 40)
"""An instant or a day that did not happen; written as null."""

_HOLIDAYS: Final = """
2024-01-01 1 New Year
2024-02-10 8 Spring Festival
2024-04-04 3 Qingming
2024-05-01 5 Labour Day
2024-06-08 3 Dragon Boat
2024-09-15 3 Mid-Autumn
2024-10-01 7 National Day
2025-01-01 1 New Year
2025-01-28 8 Spring Festival
2025-04-04 3 Qingming
2025-05-01 5 Labour Day
2025-05-31 3 Dragon Boat
2025-10-01 8 National Day and Mid-Autumn
2026-01-01 3 New Year
2026-02-15 9 Spring Festival
2026-04-04 3 Qingming
2026-05-01 5 Labour Day
2026-06-19 3 Dragon Boat
2026-09-25 3 Mid-Autumn
2026-10-01 7 National Day
2027-01-01 3 New Year
2027-02-05 8 Spring Festival
2027-04-03 3 Qingming
2027-05-01 5 Labour Day
2027-06-09 1 Dragon Boat
2027-09-15 1 Mid-Autumn
2027-10-01 7 National Day
"""
_WORKED: Final = """
2024-02-04 2024-02-18 2024-04-07 2024-04-28 2024-05-11 2024-09-14 2024-09-29 2024-10-12
2025-01-26 2025-02-08 2025-04-27 2025-09-28 2025-10-11
2026-01-04 2026-02-14 2026-02-28 2026-05-09 2026-09-20 2026-10-10
"""


def holidays() -> list[tuple[date, str, bool]]:
    """All special days as (day, name, is a day worked in exchange), in order."""
    rows = [(date.fromisoformat(day), "Day worked in exchange", True) for day in _WORKED.split()]
    for line in _HOLIDAYS.strip().splitlines():
        first, length, name = line.split(maxsplit=2)
        rows += [
            (date.fromisoformat(first) + timedelta(days=k), name, False) for k in range(int(length))
        ]
    return sorted(rows)


_SPECIAL: Final = {day: worked for day, _, worked in holidays()}


def is_free(day: date) -> bool:
    """Whether people are off on the day."""
    worked = _SPECIAL.get(day)
    return day.weekday() >= 5 if worked is None else not worked


class Rhythm:
    """Multipliers of one day, around 1 over a year."""

    def __init__(self, day: date) -> None:
        free = is_free(day)
        holiday = _SPECIAL.get(day) is False
        season = 1.0 + 0.06 * np.cos(2 * np.pi * (day.timetuple().tm_yday - 15) / 365.25)
        self.voice = season * (0.86 if free else 1.06) * (1.15 if holiday else 1.0)
        self.sms = season * (0.90 if free else 1.04) * (1.5 if holiday else 1.0)
        self.service_sms = 0.85 if free else 1.06
        self.data = (2.0 - season) * (1.10 if free else 0.96)
        self.roaming = 3.0 if holiday else 1.4 if free else 1.0
        self.sales = season * (1.25 if free and not holiday else 0.75 if holiday else 0.95)
        self.care = 0.6 if free else 1.15
        self.leaving = 1.18 if day.month in (3, 6, 9) else 0.92 if day.month in (1, 2, 12) else 1.0


def stream(seed: int, name: str, day: int) -> np.random.Generator:
    """The random stream of one purpose on one day, so that no day depends on how long the run is."""
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode()), day + 100_000]))


def _clock(busy: str) -> NDArray[np.int32]:
    """Table of seconds of the day to draw from, given how busy each of the 24 hours is."""
    weights = np.array(busy.split(), dtype=float)
    share = np.cumsum(weights) / np.sum(weights)
    at = (np.arange(4096) + 0.5) / 4096
    hours = np.arange(25) * 3600.0
    seconds: NDArray[np.int32] = np.interp(at, [0.0, *share], hours).astype(np.int32)
    return seconds


VOICE_CLOCK: Final = _clock("1 .5 .3 .3 .4 1 3 6 9 11 11 10 9 8 8 9 10 11 11 10 9 7 4 2")
DATA_CLOCK: Final = _clock("5 3 2 1 1 2 4 7 8 8 8 9 11 10 8 8 8 9 11 13 14 14 12 8")


def local_seconds(rng: np.random.Generator, clock: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """`n` seconds of the day drawn from a clock."""
    hour = clock[rng.integers(0, len(clock), n, dtype=np.uint16)]
    seconds: NDArray[np.int64] = hour.astype(np.int64) + rng.integers(0, 60, n, dtype=np.uint8)
    return seconds % DAY_S
