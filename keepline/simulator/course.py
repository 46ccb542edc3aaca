"""The course of the operator's life, day after day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from keepline.simulator import changes, reference, schema, usage, world
from keepline.simulator.billing import Billing
from keepline.simulator.care import Care
from keepline.simulator.leaving import CALM_DAYS, Pull, decide, end_reasons
from keepline.simulator.population import LEFT, OVERTAKEN, STAYED, Array, Population
from keepline.simulator.prepaid import Prepaid
from keepline.simulator.recruit import recruit
from keepline.simulator.rhythm import DAY_S, NEVER, Rhythm, stream
from keepline.simulator.sink import Rows, Sink
from keepline.simulator.upkeep import Upkeep
from keepline.simulator.world import RATES

WARM_UP_DAYS = 90
IMAGE_S = 1800
"""The change log of the operator opens with an image of everything, half an hour into day 0."""


@dataclass
class DayOfOperator:
    """What the operator's systems recorded on a day, and the calls that were made on it."""

    day: int
    date: date
    rows: dict[str, Rows]
    records: dict[str, usage.Records]


class Course:
    """A run of the operator; `days()` goes on as long as it is asked to."""

    def __init__(self, subscribers: int, seed: int, start: date) -> None:
        """Found the operator with its base.

        Args:
            subscribers: lines in use when the history begins.
            seed: makes the run; the same seed gives the same operator.
            start: first day of the history.
        """
        self.seed, self.start = seed, start
        self.people, self.sink = Population(), Sink()
        self.pull, self.outages = Pull(seed), usage.Outages(seed)
        self.catalogue = reference.Catalogue(self.sink, start, IMAGE_S)
        self.billing = Billing(self.people, self.sink, seed)
        self.prepaid = Prepaid(self.people, self.sink, seed)
        self.care = Care(self.people, self.sink, seed)
        self.upkeep = Upkeep(self.people, self.sink, seed)
        self.lines_in_use: list[int] = []
        self.left: list[int] = []
        self._found(subscribers)

    def days(self, n: int) -> Iterator[DayOfOperator]:
        """Live `n` days, from the first."""
        for day in range(n):
            yield self._live(day)

    def monthly_churn(self, days: int) -> float:
        """Share of the lines in use that left in a month, mean over the first `days` days."""
        return 30.44 * sum(self.left[:days]) / max(1, sum(self.lines_in_use[:days]))

    # -- inside ----------------------------------------------------------------------------------

    def _found(self, subscribers: int) -> None:
        reference.first_rows(self.sink, self.start, IMAGE_S)
        rng = stream(self.seed, "base", 0)
        on_sale = self.catalogue.on_sale
        at, owners, accounts, _ = recruit(self.people, rng, subscribers, -1, self.start, on_sale)
        s, a = self.people.lines, self.people.accounts
        gap = self._cycle_gap(0)
        s.billed_to[at] = np.maximum(gap[a.cycle[s.account[at]]] - 30, s.activated[at] // DAY_S)
        s.fresh[at] = False
        image = np.full(len(at), IMAGE_S)
        self._record_new(at, owners, accounts, image)
        for day in range(-WARM_UP_DAYS, 0):
            self._decide(day, Rhythm(self.start + timedelta(days=day)))

    def _record_new(self, at: Array, owners: Array, accounts: Array, recorded: Array) -> None:
        people, sink, s = self.people, self.sink, self.people.lines
        when = np.zeros(people.customers.n, dtype=np.int64)
        when[s.customer[at]] = recorded
        changes.parties(sink, people, owners, when[owners])
        changes.customers(sink, people, owners, when[owners])
        changes.accounts(sink, people, accounts, when[people.accounts.customer[accounts]])
        activated = s.activated[at]
        s.status[at] = schema.CREATED
        reason = schema.ACTIVATION
        changes.status(sink, people, at, schema.ACTIVE, activated, reason, recorded)
        changes.main_holding(sink, people, at, recorded)
        place, slot = np.nonzero(s.add_on[at] != NEVER)
        changes.add_on_holding(sink, people, at[place], slot, recorded[place])

    def _live(self, day: int) -> DayOfOperator:
        today = self.start + timedelta(days=day)
        rhythm = Rhythm(today)
        s = self.people.lines
        reference.later_rows(self.sink, day, self.start)
        raised = self.catalogue.run(day)
        if len(raised):
            paying = np.flatnonzero(np.isin(s.offering[: s.n], raised))
            s.shock[paying] = day
        in_use = s.alive()
        in_use = in_use[~s.gone[in_use]]
        self.lines_in_use.append(len(in_use))
        self._sell(day, len(in_use), rhythm)
        self._decide(day, rhythm)
        self._leave(day)
        if today.day == 1:
            self._new_month(day)
        outage = self.outages.on(day)
        busy = usage.Day(self.people, self.seed, day, self.start, rhythm, outage)
        records = {
            "cdr_voice": usage.voice(busy),
            "cdr_sms": usage.sms(busy),
            "cdr_data": usage.data(busy),
        }
        fees = self.catalogue.fee, self.catalogue.fee_after
        self.billing.run(today, day, *fees)
        self.prepaid.run(day, *fees)
        self.care.run(day, rhythm, outage)
        self.upkeep.run(day, self.catalogue.on_sale)
        return DayOfOperator(day, today, self.sink.take(day), records)

    def _sell(self, day: int, in_use: int, rhythm: Rhythm) -> None:
        rng = stream(self.seed, "sell", day)
        k = int(rng.poisson(in_use * RATES.adds_per_month / 30.44 * rhythm.sales))
        if k == 0:
            return
        at, owners, accounts, donor = recruit(
            self.people, rng, k, day, self.start, self.catalogue.on_sale
        )
        self._record_new(at, owners, accounts, self.people.lines.activated[at])
        self.care.port_in(at, donor)

    def _cycle_gap(self, day: int) -> Array:
        """Days from `day` to the next bill of each cycle day, 1 to 28; place 0 is unused."""
        today = self.start + timedelta(days=day)
        gaps = np.zeros(29, dtype=int)
        for k in range(1, 40):
            later = (today + timedelta(days=k)).day
            if later <= 28 and gaps[later] == 0:
                gaps[later] = k
        return gaps

    def _decide(self, day: int, rhythm: Rhythm) -> None:
        pull = self.pull.on(day)
        at = decide(self.people, self.seed, day, rhythm, pull, self._cycle_gap(day))
        if len(at):
            self._note(at)
            self.care.port_out(at, max(day, 0))

    def _note(self, at: Array) -> None:
        s, p = self.people.lines, self.people.plans
        s.plan[at] = new = p.grow(len(at))
        p.line[new] = at
        for name in ("cause", "plan_from", "plan_to", "kind", "destination", "shows"):
            getattr(p, name)[new] = getattr(s, name)[at]

    def _leave(self, day: int) -> None:
        """Carry out the plans that end today; who stayed is left in peace for a while."""
        s, a, p = self.people.lines, self.people.accounts, self.people.plans
        due = np.flatnonzero((s.cause[: s.n] >= 0) & (s.plan_to[: s.n] == day) & ~s.gone[: s.n])
        due = due[s.ended_at[due] == NEVER]
        rng = stream(self.seed, "leave", day)
        stay, going = due[s.stays[due]], due[~s.stays[due]]
        p.outcome[s.plan[stay]] = STAYED
        s.cause[stay] = -1
        s.stays[stay] = False
        s.calm_until[stay] = day + CALM_DAYS
        s.level[stay] *= 0.92
        # A debt takes the cards along that hang on the same account.
        debtors = going[s.kind[going] == world.INVOLUNTARY]
        broke = s.account[debtors]
        mates = np.flatnonzero(np.isin(s.account[: s.n], broke) & (s.ended_at[: s.n] == NEVER))
        mates = np.setdiff1d(mates, going)
        if len(mates):
            p.outcome[s.plan[mates[s.cause[mates] >= 0]]] = OVERTAKEN
            s.cause[mates], s.kind[mates] = world.NON_PAYMENT, world.INVOLUNTARY
            decided = np.zeros(a.n, dtype=int)
            decided[broke] = s.plan_from[debtors]
            first = s.activated[mates] // DAY_S
            s.plan_from[mates] = np.maximum(decided[s.account[mates]], first)
            s.plan_to[mates] = day
            s.stays[mates] = s.shows[mates] = False
            s.leave_at[mates] = day * DAY_S + 15 * 3600
            self._note(mates)
            going = np.concatenate([going, mates])
        p.outcome[s.plan[going]] = LEFT
        self.left.append(len(going))
        silent = s.kind[going] == world.SILENT
        quiet, ends = going[silent], going[~silent]
        s.gone[quiet] = True
        drawer = rng.random(len(quiet)) < 0.3
        s.drawer_until[quiet[drawer]] = day + rng.integers(5, 60, int(drawer.sum()))
        if len(ends) == 0:
            return
        s.gone[ends] = True
        reason = end_reasons(self.people, rng, ends)
        asked = s.kind[ends] == world.TERMINATION
        request = schema.REQUESTED
        before = np.full(int(asked.sum()), day * DAY_S + 10 * 3600)
        changes.status(
            self.sink, self.people, ends[asked], schema.PENDING_TERMINATE, before, request
        )
        late = np.where(rng.random(len(ends)) < 0.03, rng.integers(1, 4, len(ends)), 0) * DAY_S
        s.end_reason[ends] = reason
        event_at = s.leave_at[ends]
        recorded = event_at + late
        changes.status(self.sink, self.people, ends, schema.TERMINATED, event_at, reason, recorded)
        changes.main_holding(self.sink, self.people, ends, recorded, event_at)
        place, slot = np.nonzero(s.add_on[ends] != NEVER)
        changes.add_on_holding(
            self.sink, self.people, ends[place], slot, recorded[place], event_at[place]
        )
        closed = np.unique(s.account[ends])
        open_ = np.unique(s.account[s.alive()])
        a.closed[np.setdiff1d(closed, open_)] = True
        self.upkeep.closing(np.setdiff1d(closed, open_), np.unique(s.customer[ends]))
        # A card whose main line is gone goes on as a line of its own.
        alive = s.alive()
        self.upkeep.free_cards(alive[np.isin(s.secondary_of[alive], ends)])

    def _new_month(self, day: int) -> None:
        s = self.people.lines
        rng = stream(self.seed, "month", day)
        at = s.alive()
        s.level[at] = np.exp(0.75 * np.log(s.level[at]) + rng.normal(-0.006, 0.10, len(at)))
        for meter in (s.used_s, s.used_bytes, s.used_sms):
            meter[at] = 0
