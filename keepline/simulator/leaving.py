"""Who decides to leave, why and when: the hidden truth behind the churn."""

from __future__ import annotations

from typing import Final

import numpy as np

from keepline.simulator import world
from keepline.simulator.population import Array, Population
from keepline.simulator.rhythm import DAY_S, NEVER, Rhythm, stream
from keepline.simulator.world import (
    DECLINE,
    FRAUD,
    MOVING,
    NO_SIGN,
    NON_PAYMENT,
    PRICE,
    PULL,
    RATES,
    SERVICE,
)

CALM_DAYS: Final = 45
"""After a plan that came to nothing, nothing for so many days."""
DUE_DAYS: Final = 15
SUSPEND_DAYS: Final = 8
END_DAYS: Final = 30
"""A bill is due after DUE_DAYS; unpaid, the line is suspended SUSPEND_DAYS and ended END_DAYS later."""

_PER_MONTH: Final = 1 / 30.44
_DEALER: Final = np.array([dealer.quality for dealer in world.DEALERS])
_PROVINCE: Final = np.array([world.PROVINCES.index(c.province_code) for c in world.COUNTIES])


class Pull:
    """Rivals' campaigns: for each province and day how strong, and whose."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._quarters: dict[int, tuple[Array, Array, Array]] = {}

    def on(self, day: int) -> tuple[Array, Array]:
        """Strength (0 to about 3) and operator of the campaign in each province on a day."""
        quarter, place = divmod(day, 91)
        if quarter not in self._quarters:
            rng = stream(self._seed, "campaigns", quarter)
            n = len(world.PROVINCES)
            force = rng.gamma(2.0, 0.75, n) * (rng.random(n) < 0.75)
            operator = 1 + rng.choice(3, n, p=(0.5, 0.4, 0.1))
            self._quarters[quarter] = force, operator, rng.integers(0, 42, n)
        force, operator, first = self._quarters[quarter]
        running = (place >= first) & (place < first + 49)
        return 0.35 + force * running, operator


def chances(people: Population, at: Array, day: int, rhythm: Rhythm, pull: Array) -> Array:
    """Chance of each line to decide to leave on the day, one column per cause."""
    s, a = people.lines, people.accounts
    tenure = day - s.activated[at] // DAY_S
    general = (
        s.frailty[at]
        * np.array([0.75, 1.10, 1.15])[s.brand[at]]
        * np.select(
            [tenure < 90, tenure < 180, tenure < 365, tenure < 1095], [1.6, 1.7, 1.3, 1.0], 0.55
        )
        * _DEALER[s.dealer[at]]
        * np.where(s.secondary_of[at] >= 0, 0.6, 1.0)
        * 0.85 ** (s.add_on[at] != NEVER).sum(axis=1)
        * rhythm.leaving
        * RATES.leave
    )
    bound = np.where((s.contract_end[at] != NEVER) & (s.contract_end[at] > day), 0.30, 1.0)
    since_shock = day - s.shock[at]
    shocked = (since_shock >= 0) & (since_shock < 60)
    light = np.clip(1.6 - s.level[at] * (s.voice[at] + s.data[at]) / 2, 0.5, 1.6)
    out = np.empty((len(at), len(world.CAUSES)))
    # No price changed, nobody leaves for it; nor for the service who never reported trouble.
    out[:, PRICE] = np.where(shocked, 0.125, 0.0) * s.price_temper[at]
    out[:, SERVICE] = 0.095 * np.where(s.pain[at] < 0.1, 0.0, np.minimum(s.pain[at], 4.0))
    out[:, PULL] = 0.0048 * pull[_PROVINCE[s.county[at]]] * bound * s.off_net[at].mean(axis=1) * 2
    out[:, DECLINE] = np.where(s.prepaid[at], 0.0115, 0.0030) * light * bound
    auto = a.auto_pay[s.account[at]]
    alone = s.secondary_of[at] < 0
    out[:, NON_PAYMENT] = np.where(s.prepaid[at] | ~alone, 0.0, 0.0062) * s.credit_risk[at]
    out[:, NON_PAYMENT] *= np.where(auto, 0.45, 1.2)
    out[:, MOVING] = np.where((s.brand[at] == world.CAMPUS) & (rhythm.leaving > 1.1), 0.006, 0.0018)
    out[:, NO_SIGN] = 0.0016
    # Who cheats does so with a new line.
    out[:, FRAUD] = np.where(tenure < 90, 0.0020, 0.0)
    out *= general[:, None] * _PER_MONTH
    out[:, SERVICE] *= np.where(bound < 1, 0.6, 1.0)
    return out


def decide(
    people: Population,
    seed: int,
    day: int,
    rhythm: Rhythm,
    pull: tuple[Array, Array],
    cycle_gap: Array,
) -> Array:
    """Let people decide to leave; a plan that would be over before day 0 was never made.

    Args:
        people: the population, changed in place.
        seed: the run's seed.
        day: the day, below 0 while the base is warmed up.
        rhythm: the day's multipliers.
        pull: strength and operator of the rivals' campaigns by province.
        cycle_gap: days until an account of each cycle day (1 to 28) is billed next.

    Returns:
        Positions of the lines that made a plan.
    """
    s, a = people.lines, people.accounts
    rng = stream(seed, "decide", day)
    alive = s.alive()
    ready = (s.cause[alive] < 0) & ~s.gone[alive] & (s.calm_until[alive] < day)
    ready &= s.status[alive] == 2
    ready &= s.activated[alive] // DAY_S < day
    at = alive[ready]
    each = chances(people, at, day, rhythm, pull[0])
    # Who stays in the end shows the same signs, so that more make a plan than leave.
    each[:, :NO_SIGN] /= 1 - RATES.stay_share
    total = each.cumsum(axis=1)
    draw = rng.random(len(at))
    chosen = draw < total[:, -1]
    at, draw, total = at[chosen], draw[chosen], total[chosen]
    n = len(at)
    if n == 0:
        return at
    cause = (total <= draw[:, None]).sum(axis=1)
    stays = (rng.random(n) < RATES.stay_share) & (cause < NO_SIGN)
    lead = 14 + (43 * rng.beta(2.2, 1.4, n)).astype(int)
    lead = np.where(cause == MOVING, rng.integers(14, 36, n), lead)
    lead = np.where(cause == NO_SIGN, rng.integers(1, 4, n), lead)
    lead = np.where(cause == FRAUD, rng.integers(1, 6, n), lead)
    gap = cycle_gap[a.cycle[s.account[at]]]
    lead = np.where(cause == NON_PAYMENT, gap + DUE_DAYS + SUSPEND_DAYS + END_DAYS, lead)
    s.cause[at] = cause
    s.plan_from[at] = day
    s.plan_to[at] = day + lead
    s.leave_at[at] = (day + lead) * DAY_S + rng.integers(13 * 3600, 18 * 3600, n)
    s.stays[at] = stays
    s.shows[at] = stays | ((rng.random(n) < RATES.show_share) & (cause < NO_SIGN))
    depth = np.array([0.50, 0.45, 0.65, 0.85, 0.35, 0.45, 0.0, 0.0])[cause]
    depth = np.clip(depth + rng.normal(0, 0.15, n), 0.05, 0.97) * (cause < NO_SIGN)
    s.depth[at] = depth * np.where(stays, 0.7, 1.0)
    s.kind[at] = _kinds(people, rng, at)
    anyone = 1 + rng.choice(3, n, p=world.RIVAL_SHARES)
    campaign = pull[1][_PROVINCE[s.county[at]]]
    s.destination[at] = np.where((cause == PULL) & (rng.random(n) < 0.8), campaign, anyone)
    never = s.plan_to[at] < 0
    # A debt begins with a bill of this history, or nothing of it would be seen.
    never |= (cause == NON_PAYMENT) & (day + gap < 1)
    s.cause[at[never]] = -1
    at = at[~never]
    quits = at[(s.cause[at] == NON_PAYMENT) & ~s.stays[at]]
    a.stopped_paying[s.account[quits]] = True
    return at


def _kinds(people: Population, rng: np.random.Generator, at: Array) -> Array:
    s = people.lines
    cause, prepaid, u = s.cause[at], s.prepaid[at], rng.random(len(at))
    pulled = cause == PULL
    port = np.where(prepaid, np.where(pulled, 0.5, 0.03), np.where(pulled, 0.75, 0.12))
    port = np.where(s.secondary_of[at] >= 0, 0.0, port)
    silent = np.where(prepaid, np.where(cause == FRAUD, 0.0, 0.94), 0.0)
    kind = np.where(u < silent, world.SILENT, world.TERMINATION)
    kind = np.where(rng.random(len(at)) < port, world.PORT_OUT, kind)
    kind = np.where(cause == NON_PAYMENT, world.INVOLUNTARY, kind)
    return np.where(cause == FRAUD, world.ADMINISTRATIVE, kind)


def end_reasons(people: Population, rng: np.random.Generator, at: Array) -> Array:
    """The reason that the operator writes down: mostly the true one (positions in `END_REASONS`)."""
    s = people.lines
    stated = np.array([0, 1, 3, 8, 6, 5, 8, 7])[s.cause[at]]
    vague = (rng.random(len(at)) < 0.22) & (s.cause[at] < NON_PAYMENT)
    stated = np.where(vague, 8, stated)
    network = (s.cause[at] == SERVICE) & (rng.random(len(at)) < 0.4)
    stated = np.where(network, 2, stated)
    return np.where(s.kind[at] == world.PORT_OUT, 4, stated)
