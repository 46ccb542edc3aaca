"""The small changes of every evening: plans, add-ons, addresses, tiers, closed agreements."""

from __future__ import annotations

import numpy as np

from keepline.simulator import changes, world
from keepline.simulator.population import Array, Population
from keepline.simulator.recruit import MONTH_DAYS
from keepline.simulator.rhythm import DAY_S, NEVER, stream
from keepline.simulator.sink import Sink
from keepline.simulator.world import DECLINE, N_MAIN, OFFERINGS, PRICE

EVENING_S = 22 * 3600 + 1800
_MAIN = OFFERINGS[:N_MAIN]


def _neighbours() -> list[list[int]]:
    return [
        [
            k
            for k, o in enumerate(_MAIN)
            if (o.brand, o.prepaid) == (m.brand, m.prepaid) and o is not m
        ]
        for m in _MAIN
    ]


_NEIGHBOURS = _neighbours()


class Upkeep:
    """Collects who changed during the day, so that each is recorded once."""

    def __init__(self, people: Population, sink: Sink, seed: int) -> None:
        self.people, self.sink, self.seed = people, sink, seed
        self._accounts: list[Array] = []
        self._customers: list[Array] = []
        self._freed: list[Array] = []

    def free_cards(self, cards: Array) -> None:
        """Make secondary cards lines of their own."""
        self.people.lines.secondary_of[cards] = -1
        self._freed.append(cards)

    def closing(self, accounts: Array, customers: Array) -> None:
        """Note accounts that were closed, and customers who may have lost their last line."""
        s, c = self.people.lines, self.people.customers
        self._accounts.append(accounts)
        gone = np.setdiff1d(customers, s.customer[s.alive()])
        c.closed[gone] = True
        self._customers.append(gone)

    def run(self, day: int, on_sale: Array) -> None:
        """Make the day's changes and record everything that changed."""
        s, a, c = self.people.lines, self.people.accounts, self.people.customers
        rng = stream(self.seed, "upkeep", day)
        recorded = day * DAY_S + EVENING_S
        alive = s.alive()
        at = alive[
            ~s.gone[alive] & (s.status[alive] == 2) & (s.activated[alive] < (day - 30) * DAY_S)
        ]
        changed = self._plans(rng, at, day, on_sale, recorded)
        self._add_ons(rng, at, day, recorded)

        moving = at[rng.random(len(at)) < 0.0012 / 30]
        counties = rng.integers(0, len(world.COUNTIES), len(moving))
        s.county[moving] = counties
        c.county[s.customer[moving]] = counties
        first_cell = counties * world.CELLS_PER_COUNTY
        s.home_cell[moving] = s.work_cell[moving] = first_cell + rng.integers(
            0, world.CELLS_PER_COUNTY
        )
        lines = np.unique(np.concatenate([changed, moving, *self._freed]))
        changes.subscriptions(self.sink, self.people, lines, np.full(len(lines), recorded))

        owners = s.customer[at]
        graded = np.unique(
            owners[(rng.random(len(at)) < 0.004 / 30) & (s.brand[at] == world.AURORA)]
        )
        c.tier[graded] = np.clip(c.tier[graded] + rng.choice([-1, 1, 1], len(graded)), 0, 3)
        married = np.unique(owners[(rng.random(len(at)) < 0.002 / 30)])
        c.marital[married] = np.where(c.marital[married] == 0, 1, c.marital[married])
        c.house[married] = rng.integers(1, 400, len(married))
        movers = s.customer[moving]
        people = np.union1d(married, movers)
        changes.parties(self.sink, self.people, people, np.full(len(people), recorded))
        known = np.unique(np.concatenate([*self._customers, graded, movers]))
        changes.customers(self.sink, self.people, known, np.full(len(known), recorded))

        flipped = s.account[at[(rng.random(len(at)) < 0.004 / 30) & ~s.prepaid[at]]]
        flipped = np.unique(flipped)
        a.auto_pay[flipped] = ~a.auto_pay[flipped]
        accounts = np.unique(np.concatenate([*self._accounts, flipped]))
        changes.accounts(self.sink, self.people, accounts, np.full(len(accounts), recorded))
        self._freed.clear()
        self._accounts.clear()
        self._customers.clear()

    def _plans(
        self, rng: np.random.Generator, at: Array, day: int, on_sale: Array, recorded: int
    ) -> Array:
        """Move some lines to another offering of their brand; more of them after a price shock."""
        s = self.people.lines
        shocked = (day - s.shock[at] >= 0) & (day - s.shock[at] < 60)
        hit = rng.random(len(at)) < np.where(shocked, 0.05, 0.010) / 30
        bound = (s.contract_end[at] != NEVER) & (s.contract_end[at] > day)
        chosen = at[hit & ~bound & (s.activated[at] != recorded)]
        moved: list[int] = []
        new: list[int] = []
        for line in chosen.tolist():
            options = [k for k in _NEIGHBOURS[int(s.offering[line])] if on_sale[k]]
            if options:
                moved.append(line)
                new.append(int(rng.choice(options)))
        lines = np.array(moved, dtype=int)
        if len(lines) == 0:
            return lines
        when = np.full(len(lines), recorded)
        changes.main_holding(self.sink, self.people, lines, when, when)
        s.offering[lines] = new
        s.main_start[lines] = recorded
        promo = np.array([o.promo_months for o in _MAIN])[new]
        end = day + (promo * MONTH_DAYS).astype(int)
        s.promo_end[lines] = np.where(promo > 0, end, NEVER)
        s.shock[lines] = s.promo_end[lines].clip(min=-10_000)
        committed = (promo > 0) & ~s.prepaid[lines]
        s.contract_months[lines] = np.where(committed, promo, -1)
        s.contract_end[lines] = np.where(committed, end, NEVER)
        s.subsidy[lines] = 0
        changes.main_holding(self.sink, self.people, lines, when)
        return lines

    def _add_ons(self, rng: np.random.Generator, at: Array, day: int, recorded: int) -> None:
        s = self.people.lines
        ramp = s.ramp(at, day)
        leaving = 1 + 7 * ramp * np.isin(s.cause[at], [PRICE, DECLINE])
        for slot, offering in enumerate(OFFERINGS[N_MAIN:]):
            held = s.add_on[at, slot] != NEVER
            ends = at[held & (rng.random(len(at)) < 0.022 / 30 * leaving)]
            slots = np.full(len(ends), slot)
            when = np.full(len(ends), recorded)
            changes.add_on_holding(self.sink, self.people, ends, slots, when, when)
            allowed = ~held & (ramp == 0)
            if offering.offering_id in world.HOME_ADD_ONS:
                allowed &= (s.brand[at] == world.AURORA) & (s.secondary_of[at] < 0)
            starts = at[allowed & (rng.random(len(at)) < offering.share * 0.022 / 30)]
            s.add_on[ends, slot] = NEVER
            s.add_on[starts, slot] = recorded
            slots = np.full(len(starts), slot)
            changes.add_on_holding(
                self.sink, self.people, starts, slots, np.full(len(starts), recorded)
            )
