"""One day of calls, messages and data sessions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np

from keepline.simulator import text, world
from keepline.simulator.population import Array, Population
from keepline.simulator.recruit import line_of, off_net_numbers
from keepline.simulator.rhythm import (
    DATA_CLOCK,
    DAY_S,
    NEVER,
    VOICE_CLOCK,
    Rhythm,
    local_seconds,
    stream,
)
from keepline.simulator.world import DECLINE, MOVING, OFFERINGS, PRICE, PULL, RATES, SERVICE

VOICE: Final = text.Layout(
    usage_id=(7, 4, 4),
    subscription_id=(10,),
    msisdn=(11,),
    other_number=(11,),
    direction=(3,),
    start_at=(11, 8, 6),
    duration_s=(5,),
    cell_id=(8,),
    roam_type=(13,),
    call_type=(13,),
    status=(9,),
    received_at=(11, 8, 6),
    charge_amt=(5,),
)
SMS: Final = text.Layout(
    usage_id=(7, 4, 4),
    subscription_id=(10,),
    other_number=(11,),
    direction=(3,),
    sent_at=(11, 8, 6),
    sms_class=(7,),
    cell_id=(8,),
    received_at=(11, 8, 6),
    charge_amt=(5,),
)
DATA: Final = text.Layout(
    usage_id=(7, 4, 4),
    subscription_id=(10,),
    session_start_at=(11, 8, 6),
    bytes_up=(4, 4, 4),
    bytes_down=(4, 4, 4),
    rat=(5,),
    cell_id=(8,),
    roam_type=(13,),
    received_at=(11, 8, 6),
    charge_amt=(5,),
)

_DIRECTIONS: Final = text.codes("in", "out")
_ROAM: Final = text.codes("home", "national", "international")
_CALL_TYPES: Final = text.codes("local", "long_distance", "international")
_CALL_STATES: Final = text.codes("completed", "dropped", "busy", "no_answer")
_SMS_CLASSES: Final = text.codes("p2p", "service")
_RATS: Final = text.codes("4G", "5G", "FIXED")
_CELLS: Final = text.codes(
    *(
        f"{c.county_code}{k:02d}"
        for c in world.COUNTIES
        for k in range(1, world.CELLS_PER_COUNTY + 1)
    )
)
_HOTLINES: Final = text.codes(*world.HOTLINES)
_SHORT: Final = text.codes(*world.SHORT_NUMBERS)
_SENDERS: Final = text.codes(*world.SERVICE_SENDERS)

_NORMAL: Final = np.sort(np.random.Generator(np.random.SFC64(7)).normal(size=4096))
_CALL_S: Final = np.clip(np.exp(4.25 + 1.05 * _NORMAL), 1, 10_800).astype(np.int64)
_SESSION: Final = np.exp(np.log(45e6) + 1.1 * _NORMAL).astype(np.float32)
_MAIN: Final = OFFERINGS[: world.N_MAIN]
_FREE_S: Final = np.array([o.voice_min * 60 for o in _MAIN])
_FREE_BYTES: Final = np.array([o.data_mb for o in _MAIN]) * 2**20
_FREE_SMS: Final = np.array([o.sms_cnt for o in _MAIN])
_PACKS: Final = np.array([o.data_mb for o in OFFERINGS[world.N_MAIN :]]) * 2**20
_HAS_5G: Final = np.array([o.network_gen == "5G" for o in _MAIN])
_BROADBAND: Final = [o.family for o in OFFERINGS[world.N_MAIN :]].index("broadband")
_LATE_DAYS: Final = np.array([1, 1, 1, 1, 2, 2, 2, 3, 4, 5])
_MAX_FEN: Final = len(text.YUAN) - 1
_ALTERNATIVES: Final = 4096
_OTHER_NUMBERS: Final = off_net_numbers(np.random.Generator(np.random.SFC64(11)), _ALTERNATIVES)


@dataclass
class Records:
    """Call records of one day: rows ready to be written, days until each is handed over, and its measures."""

    layout: text.Layout
    rows: Array
    wait: Array
    measures: dict[str, Array]


class Outages:
    """Bad weeks of a county's network: multiplies dropped calls and complaints."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._weeks: dict[int, Array] = {}

    def on(self, day: int) -> Array:
        """Factor per county on a day; 1 is a good day."""
        week = day // 7
        if week not in self._weeks:
            rng = stream(self._seed, "outages", week)
            n = len(world.COUNTIES)
            self._weeks[week] = 1.0 + rng.gamma(2.0, 2.0, n) * (rng.random(n) < 0.07)
        return self._weeks[week]


class Day:
    """What one day's streams share: who is on the network, how busy each one is, and where."""

    def __init__(
        self, people: Population, seed: int, day: int, start: date, rhythm: Rhythm, outage: Array
    ) -> None:
        """Look at everybody once.

        Args:
            people: the population.
            seed: the run's seed.
            day: the day, counted from `start`.
            start: first day of the history.
            rhythm: the day's multipliers.
            outage: network trouble per county.
        """
        self.people, self.seed, self.day, self.rhythm = people, seed, day, rhythm
        self.stamp = f"{start + timedelta(days=day):%y%m%d}".encode()
        self.dates = np.array([f"{start + timedelta(days=day + k)} ".encode() for k in range(8)])
        s = people.lines
        rng = stream(seed, "usage", day)
        alive = s.alive()
        self.at = at = alive[~s.gone[alive] | (s.drawer_until[alive] >= day)]
        self.begins = s.activated[at] - day * DAY_S
        n = len(at)
        ramp = s.ramp(at, day)
        cause, depth = s.cause[at], s.depth[at]
        quiet = 1.0 - depth * np.sqrt(ramp)
        inward = np.array([0.6, 0.5, 0.25, 0.8, 0.5, 0.5, 0.0, 0.0, 0.0])[cause]
        quiet_in = 1.0 - inward * depth * np.sqrt(ramp)
        on = (~s.gone[at]).astype(np.float32)
        active = on * (s.status[at] == 2)
        broke = s.prepaid[at] & (s.balance[at] < 0)
        mood = rng.standard_gamma(8.0, n).astype(np.float32) / 8 * s.level[at]
        out = mood * quiet * active * np.where(broke, 0.3, 1.0)
        inbound = mood * quiet_in * on * np.where(s.status[at] == 2, 1.0, 0.2)
        broadband = s.add_on[at, _BROADBAND] != NEVER
        voice, sms = s.voice[at], s.sms[at]
        self.rates = {
            "voice_out": RATES.voice_out * voice * out * rhythm.voice,
            "voice_in": RATES.voice_in * voice * inbound * rhythm.voice,
            "sms_out": RATES.sms_out * sms * out * rhythm.sms,
            "sms_in": RATES.sms_in * sms * inbound * rhythm.sms,
            "sms_service": RATES.sms_service * rhythm.service_sms * np.where(on > 0, 1.0, 0.6),
            "data": RATES.data
            * s.data[at] ** 0.6
            * out
            * rhythm.data
            * np.where(broadband, 1.35, 1.0),
        }
        interest = ramp * np.where(s.stays[at], 0.7, 1.0)
        self.hotline = (
            np.where(cause == PULL, 0.015 * (interest > 0) + 0.045 * interest, 0.0006) * active
        )
        self.hotline += np.where((cause == PRICE) & (interest > 0), 0.012, 0.0) * active
        self.switch = np.where(cause == PULL, 0.12 * (ramp > 0) + 0.45 * ramp, 0.0)
        self.switch += np.where(cause == DECLINE, 0.22 * ramp, 0.0)
        bad = 1.0 + 2.5 * ramp * (cause == SERVICE)
        self.drops = np.minimum(0.5, 0.013 * outage[s.county[at]] * bad)
        away = s.roaming[at] * rhythm.roaming + np.where(cause == MOVING, 0.08 + 0.6 * ramp, 0) * (
            ramp > 0
        )
        self.roam = (rng.random(n) < away).astype(np.int8)
        self.roam[(self.roam > 0) & (rng.random(n) < 0.05)] = 2
        self.away_cell = rng.integers(0, len(_CELLS), n)
        self.spent = {name: getattr(s, name)[at] for name in ("used_s", "used_bytes", "used_sms")}

    def events(self, rng: np.random.Generator, *streams: str) -> tuple[Array, Array, Array]:
        """Draw the events of some streams: place in `at`, stream and second of the day, in order."""
        clock = DATA_CLOCK if streams[0] == "data" else VOICE_CLOCK
        who = [
            np.repeat(np.arange(len(self.at)), rng.poisson(self.rates[name])) for name in streams
        ]
        which = np.repeat(np.arange(len(streams), dtype=np.int8), [len(w) for w in who])
        place = np.concatenate(who)
        second = local_seconds(rng, clock, len(place))
        second = (second + self.people.lines.owl[self.at[place]]) % DAY_S
        order = np.argsort(second)
        order = order[second[order] > self.begins[place[order]]]
        return place[order], which[order], second[order]

    def cells(self, rng: np.random.Generator, place: Array) -> Array:
        """The cell of each event: home, work, elsewhere in the county, or far away when roaming."""
        s, at = self.people.lines, self.at[place]
        u = rng.random(len(place), dtype=np.float32)
        anywhere = s.home_cell[at] // world.CELLS_PER_COUNTY * world.CELLS_PER_COUNTY
        anywhere = anywhere + (u * 977).astype(np.int64) % world.CELLS_PER_COUNTY
        cell = np.where(u < 0.6, s.home_cell[at], np.where(u < 0.85, s.work_cell[at], anywhere))
        return np.where(self.roam[place] > 0, self.away_cell[place], cell)

    def hand_over(self, rng: np.random.Generator, rows: Array, end: Array) -> Array:
        """Write when mediation handed each record over; returns the days that it waits."""
        n = len(rows)
        received = end + rng.integers(40, 900, n)
        late = rng.random(n, dtype=np.float32) < RATES.late_share
        k = int(late.sum())
        days = _LATE_DAYS[rng.integers(0, len(_LATE_DAYS), k)]
        received[late] = days * DAY_S + rng.integers(0, 6 * 3600, k)
        wait, second = np.divmod(received, DAY_S)
        text.put_instants(rows, "received_at", self.dates[wait], second)
        return wait

    def _no_more(self, at: Array, number: Array) -> Array:
        """Whose number is in use no longer: that friend has another one now, somewhere else.

        A number that was ported out is still answered.
        """
        s = self.people.lines
        friend = line_of(number)
        gone: Array = (s.gone[friend] & (s.kind[friend] != world.PORT_OUT)) | (friend == at)
        return gone

    def counterparties(self, rng: np.random.Generator, place: Array, outward: Array) -> Array:
        """Whom each event is with: mostly the first places of the calling circle."""
        s, at = self.people.lines, self.at[place]
        u = rng.random(len(place), dtype=np.float32)
        slot = (u * u * s.circle_size[at]).astype(np.int64)
        number = s.circle[at, slot]
        v = rng.random(len(place), dtype=np.float32)
        near = np.flatnonzero(~s.off_net[at, slot])
        swap = np.zeros(len(at), dtype=bool)
        swap[near] = self._no_more(at[near], number[near]) | (v[near] < self.switch[place[near]])
        number[swap] = _OTHER_NUMBERS[(at[swap] * 5 + slot[swap]) % _ALTERNATIVES]
        short = outward & (v > 0.985)
        number[short] = _SHORT[(u[short] * len(_SHORT)).astype(np.int64)]
        return number


def _rows(day: Day, layout: text.Layout, series: bytes, place: Array) -> Array:
    rows = layout.empty(len(place))
    text.put_serials(rows, "usage_id", series + day.stamp, 0)
    rows["subscription_id.0"] = day.people.lines.sid[day.at[place]]
    return rows


def voice(day: Day) -> Records:
    """The day's calls; meters minutes and charges."""
    rng = stream(day.seed, "voice", day.day)
    place, which, second = day.events(rng, "voice_out", "voice_in")
    curious = np.flatnonzero(rng.random(len(day.at)) < day.hotline)
    place = np.concatenate([place, curious])
    outward = np.concatenate([which == 0, np.ones(len(curious), bool)])
    asked_at = rng.integers(9 * 3600, 21 * 3600, len(curious))
    second = np.concatenate([second, np.maximum(asked_at, day.begins[curious] + 60)])
    n, regular = len(place), len(which)
    s, at = day.people.lines, day.at[place]

    number = np.zeros(n, dtype="S11")
    number[:regular] = day.counterparties(rng, place[:regular], outward[:regular])
    rival = np.where(rng.random(len(curious)) < 0.85, s.destination[at[regular:]], 0)
    rival = np.where(rival > 0, rival, 1 + rng.integers(0, 2, len(curious)))
    number[regular:] = _HOTLINES[rival - 1]
    u = rng.random(n, dtype=np.float32)
    drops = day.drops[place]
    state = np.where(u < drops, 1, np.where(u < 0.80, 0, np.where(u < 0.88, 2, 3))).astype(np.int8)
    state[regular:] = 0
    seconds = np.where(state < 2, _CALL_S[rng.integers(0, 4096, n, dtype=np.uint16)], 0)
    roam = day.roam[place]
    v = rng.random(n, dtype=np.float32)
    far = np.where(v < 0.002, 2, np.where(v < 0.002 + s.distance[at], 1, 0)).astype(np.int8)
    far[regular:] = 0
    minutes = (seconds + 59) // 60
    beyond = day.spent["used_s"][place] >= _FREE_S[s.offering[at]]
    fen = np.where(outward & beyond, minutes * 15, 0) + np.where(
        outward & (far == 2), minutes * 99, 0
    )
    fen = np.minimum(fen + np.where(roam == 2, minutes * 89, 0), _MAX_FEN)

    rows = _rows(day, VOICE, b"V", place)
    rows["msisdn.0"] = s.msisdn[at]
    rows["other_number.0"] = number
    rows["direction.0"] = _DIRECTIONS[outward.view(np.int8)]
    text.put_instants(rows, "start_at", day.dates[0], second)
    rows["duration_s.0"] = text.SECONDS[seconds]
    rows["cell_id.0"] = _CELLS[day.cells(rng, place)]
    rows["roam_type.0"] = _ROAM[roam]
    rows["call_type.0"] = _CALL_TYPES[far]
    rows["status.0"] = _CALL_STATES[state]
    rows["charge_amt.0"] = text.YUAN[fen]
    wait = day.hand_over(rng, rows, second + seconds)
    _meter(day, place, used_s=np.where(outward, seconds, 0), voice_fen=fen)
    return Records(VOICE, rows, wait, {"duration_s": seconds, "charge_fen": fen})


def sms(day: Day) -> Records:
    """The day's text messages; meters messages and charges."""
    rng = stream(day.seed, "sms", day.day)
    place, which, second = day.events(rng, "sms_out", "sms_in", "sms_service")
    s, at = day.people.lines, day.at[place]
    outward, service = which == 0, which == 2
    number = day.counterparties(rng, place, outward)
    k = int(service.sum())
    number[service] = _SENDERS[rng.integers(0, len(_SENDERS), k)]
    beyond = day.spent["used_sms"][place] >= _FREE_SMS[s.offering[at]]
    fen = np.where(outward & beyond, 10, 0)

    rows = _rows(day, SMS, b"M", place)
    rows["other_number.0"] = number
    rows["direction.0"] = _DIRECTIONS[outward.view(np.int8)]
    text.put_instants(rows, "sent_at", day.dates[0], second)
    rows["sms_class.0"] = _SMS_CLASSES[service.view(np.int8)]
    rows["cell_id.0"] = _CELLS[day.cells(rng, place)]
    rows["charge_amt.0"] = text.YUAN[fen]
    wait = day.hand_over(rng, rows, second)
    _meter(day, place, used_sms=outward.astype(np.int64), sms_fen=fen)
    return Records(SMS, rows, wait, {"charge_fen": fen})


def data(day: Day) -> Records:
    """The day's data sessions, home broadband among them; meters bytes and charges."""
    rng = stream(day.seed, "data", day.day)
    place, _, second = day.events(rng, "data")
    n = len(place)
    s, at = day.people.lines, day.at[place]
    size = _SESSION[rng.integers(0, 4096, n, dtype=np.uint16)] * s.data[at] ** 0.6
    u = rng.random(n, dtype=np.float32)
    fixed = (s.add_on[at, _BROADBAND] != NEVER) & (u < 0.30) & (day.roam[place] == 0)
    size = np.minimum(size * np.where(fixed, 6.0, 1.0), 9e10).astype(np.int64)
    up = (size * (0.04 + 0.1 * rng.random(n, dtype=np.float32))).astype(np.int64)
    rat = np.where(fixed, 2, _HAS_5G[s.offering[at]] & (u > 0.42)).astype(np.int8)
    roam = day.roam[place]
    packs = ((s.add_on[day.at] != NEVER) * _PACKS).sum(axis=1)
    beyond = day.spent["used_bytes"] >= _FREE_BYTES[s.offering[day.at]] + packs
    megabytes = -(-(size + up) // 2**20)
    fen = np.where(beyond[place] & ~fixed, -(-megabytes * 3 // 10), 0)
    fen = np.minimum(fen + np.where(roam == 2, np.minimum(megabytes * 5, 3000), 0), _MAX_FEN)

    rows = _rows(day, DATA, b"D", place)
    text.put_instants(rows, "session_start_at", day.dates[0], second)
    text.put_integers(rows, "bytes_up", up)
    text.put_integers(rows, "bytes_down", size)
    rows["rat.0"] = _RATS[rat]
    rows["cell_id.0"] = _CELLS[day.cells(rng, place)]
    rows["roam_type.0"] = _ROAM[roam]
    rows["charge_amt.0"] = text.YUAN[fen]
    wait = day.hand_over(rng, rows, second + (size >> 16) % 3600)
    _meter(day, place, used_bytes=np.where(fixed, 0, size + up), data_fen=fen)
    return Records(DATA, rows, wait, {"bytes_up": up, "bytes_down": size, "charge_fen": fen})


def _meter(day: Day, place: Array, **amounts: Array) -> None:
    s = day.people.lines
    for name, values in amounts.items():
        total = np.bincount(place, weights=values, minlength=len(day.at)).astype(np.int64)
        getattr(s, name)[day.at] += total
