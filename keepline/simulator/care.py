"""Contacts with the operator, complaints from opening to close, and numbers that move."""

from __future__ import annotations

from typing import Final

import numpy as np

from keepline.simulator import schema, world
from keepline.simulator.changes import msisdn_text
from keepline.simulator.population import Array, Population
from keepline.simulator.rhythm import DAY_S, NEVER, Rhythm, stream
from keepline.simulator.sink import Sink
from keepline.simulator.world import DECLINE, MOVING, NON_PAYMENT, PRICE, PULL, SERVICE

_REASONS: Final = schema.REASONS
_PER_MONTH: Final = dict(
    zip(_REASONS, (0.05, 0.05, 0.04, 0.013, 0.012, 0.0025, 0.006, 0.05, 0.03, 0.04), strict=True)
)
_COMPLAINT, _FAULT, _SURVEY = (_REASONS.index(r) for r in ("complaint", "fault", "survey"))
_PHASES: Final = np.array([2, 2, 0, 2, 2, 2, 2, 1, 2, 2])
_CHANNELS: Final = np.array(
    [
        world.HOTLINE,
        world.HOTLINE,
        world.HOTLINE,
        world.IVR,
        world.CHAT,
        world.APP,
        world.APP,
        world.SHOP,
        world.WEB,
    ]
)
_PROVINCE: Final = np.array([world.PROVINCES.index(c.province_code) for c in world.COUNTIES])
_HOUR: Final = 3600


class Care:
    """The contact centre of one run."""

    def __init__(self, people: Population, sink: Sink, seed: int) -> None:
        self.people, self.sink, self.seed = people, sink, seed

    def run(self, day: int, rhythm: Rhythm, outage: Array) -> None:
        """One day: who gets in touch and why, and which of these become tickets."""
        s = self.people.lines
        rng = stream(self.seed, "care", day)
        alive = s.alive()
        at = alive[~s.gone[alive]]
        s.pain[at] *= 0.965
        rates = self._rates(at, day, rhythm, outage)
        reasons: list[Array] = []
        lines: list[Array] = []
        for k, reason in enumerate(_REASONS):
            hit = at[rng.random(len(at)) < rates[reason]]
            lines.append(hit)
            reasons.append(np.full(len(hit), k))
        who, why = np.concatenate(lines), np.concatenate(reasons)
        if len(who):
            self._contacts(rng, who, why, day)

    def _rates(self, at: Array, day: int, rhythm: Rhythm, outage: Array) -> dict[str, Array]:
        s = self.people.lines
        ramp = s.ramp(at, day)
        sign = (ramp > 0) * np.where(s.stays[at], 0.65, 1.0)
        cause = s.cause[at]
        trouble = outage[s.county[at]]
        each = {r: np.full(len(at), v / 30.44 * rhythm.care) for r, v in _PER_MONTH.items()}
        each["complaint"] *= trouble
        each["fault"] *= trouble**1.5
        shocked = (day - s.shock[at] >= 0) & (day - s.shock[at] < 45)
        each["tariff"] += np.where((cause == PRICE) * sign > 0, 0.020, 0.0) + shocked * 0.003
        each["bill"] += np.where((cause == PRICE) * sign > 0, 0.016, 0.0) + shocked * 0.003
        each["bill"] += (cause == NON_PAYMENT) * sign * 0.004
        each["complaint"] += (cause == SERVICE) * sign * 0.034
        each["fault"] += (cause == SERVICE) * sign * 0.012
        each["port_enquiry"] += (cause == PULL) * sign * (0.006 + 0.022 * ramp)
        each["cancel_service"] += (cause == DECLINE) * sign * 0.006 * ramp
        each["cancel_service"] += (cause == MOVING) * sign * 0.016
        return each

    def _contacts(self, rng: np.random.Generator, who: Array, why: Array, day: int) -> None:
        s = self.people.lines
        n = len(who)
        started = day * DAY_S + rng.integers(8 * _HOUR, 22 * _HOUR, n)
        started = np.maximum(started, s.activated[who] + 600)
        order = np.argsort(started, kind="stable")
        who, why, started = who[order], why[order], started[order]
        survey = why == _SURVEY
        channel = np.where(survey, world.SMS, _CHANNELS[rng.integers(0, len(_CHANNELS), n)])
        spoken = np.isin(channel, [world.HOTLINE, world.CHAT])
        queue = np.where(spoken, rng.exponential(45.0, n).astype(int), 0)
        lost = spoken & (queue > 60) & (rng.random(n) < 0.3)
        moved = spoken & ~lost & (rng.random(n) < 0.08)
        talk = np.where(lost, 0, rng.gamma(2.0, 110.0, n).astype(int))
        hurt = np.isin(why, [_COMPLAINT, _FAULT])
        mood = 4.3 - 1.2 * hurt - 0.35 * np.minimum(s.pain[who], 3) - 0.6 * (queue > 90)
        score = np.clip(np.rint(mood + rng.normal(0, 0.8, n)), 1, 5).astype(int)
        asked = survey | (~lost & (rng.random(n) < 0.25))
        province = _PROVINCE[s.county[who]]
        elsewhere = rng.random(n) < 0.1
        number = self.people.number("interaction", n)
        self.sink.add(
            "cc.interaction",
            interaction_id=number,
            subscription_id=who + 1,
            channel_code=channel,
            direction=survey.astype(int),
            origin=np.where(survey, 0, 1),
            reason_code=why,
            phase_code=_PHASES[why],
            employee_id=np.where(spoken & ~lost, rng.integers(1, 241, n), -1),
            served_province=np.where(elsewhere, 0, province),
            started_at=started,
            ended_at=started + queue + talk,
            queue_s=np.where(spoken, queue, -1),
            status=np.where(lost, 1, np.where(moved, 2, 0)),
            csat_score=np.where(asked, score, -1),
        )
        serious = hurt & ~lost & (rng.random(n) < 0.85)
        if serious.any():
            chosen = np.flatnonzero(serious)
            opened = (started + queue + talk)[chosen]
            self._tickets(rng, who[chosen], why[chosen], number[chosen], opened, day)

    def _tickets(
        self,
        rng: np.random.Generator,
        who: Array,
        why: Array,
        contact: Array,
        opened: Array,
        day: int,
    ) -> None:
        """Plan the whole life of tickets; each version becomes known on its own day."""
        s = self.people.lines
        n = len(who)
        angry = (s.cause[who] == SERVICE) & (s.ramp(who, day) > 0)
        kind = np.where(
            why == _FAULT, rng.choice([1, 1, 4, 2], n), rng.choice([0, 0, 1, 2, 2, 3, 5], n)
        )
        kind = np.where(angry, rng.choice([1, 1, 2, 3], n), kind)
        severity = np.minimum(
            3, rng.choice(4, n, p=[0.35, 0.4, 0.2, 0.05]) + (angry & (rng.random(n) < 0.5))
        )
        root = np.array([0, 1, 5, 3, 4, 5])[kind]
        root = np.where((kind == 1) & (rng.random(n) < 0.4), 2, root)
        slow = np.where(angry, 2.2, 1.0)
        acknowledged = opened + (600 + rng.exponential(3.0 * _HOUR, n) * slow).astype(int)
        resolved = acknowledged + (_HOUR + rng.exponential(30.0 * _HOUR, n) * slow).astype(int)
        closed = resolved + (_HOUR + rng.exponential(20.0 * _HOUR, n)).astype(int)
        again = rng.random(n) < np.where(angry, 0.5, 0.06)
        reopened = resolved + (_HOUR + rng.exponential(24.0 * _HOUR, n)).astype(int)
        mended = reopened + (4 * _HOUR + rng.exponential(48.0 * _HOUR, n)).astype(int)
        expected = opened + np.array([120, 72, 48, 24])[severity] * _HOUR
        number = self.people.number("ticket", n)

        def version(m: Array, status: int, why_so: int, cnt: int, at: Array, *times: Array) -> None:
            taken, done, shut = times
            self.sink.add(
                "cc.trouble_ticket",
                ticket_id=number[m],
                interaction_id=contact[m],
                subscription_id=who[m] + 1,
                type_code=kind[m],
                severity=severity[m],
                priority=(severity[m] > 1).astype(int),
                created_at=opened[m],
                acknowledged_at=taken[m],
                expected_at=expected[m],
                resolved_at=done[m],
                closed_at=shut[m],
                reopened_cnt=cnt,
                status=status,
                status_reason=why_so,
                root_cause_code=np.where(done[m] == NEVER, -1, root[m]),
                updated_at=at[m],
            )

        never = np.full(n, NEVER)
        all_ = np.arange(n)
        back, fine = np.flatnonzero(again), np.flatnonzero(~again)
        version(all_, 0, 0, 0, opened, never, never, never)
        version(all_, 1, 1, 0, acknowledged, acknowledged, never, never)
        version(all_, 2, 2, 0, resolved, acknowledged, resolved, never)
        version(fine, 3, 3, 0, closed, acknowledged, resolved, closed)
        version(back, 0, 4, 1, reopened, acknowledged, never, never)
        version(back, 2, 2, 1, mended, acknowledged, mended, never)
        version(back, 3, 3, 1, mended + 20 * _HOUR, acknowledged, mended, mended + 20 * _HOUR)
        np.add.at(s.pain, who, 0.5 + 1.0 * again + 0.3 * (severity > 1))
        billing = who[(kind == 0) & (rng.random(n) < 0.5)]
        s.credit[billing] = 500 + 500 * (billing % 4)

    # -- numbers that move -----------------------------------------------------------------------

    def port_out(self, at: Array, day: int) -> None:
        """Plan the moves of lines that decided on `day` to take their number along, or just asked."""
        s = self.people.lines
        rng = stream(self.seed, "ports", day)
        leaves = at[(s.kind[at] == world.PORT_OUT) & ~s.stays[at]]
        # A card's number stays with its main line: nobody else could take it.
        asks = at[(s.cause[at] == PULL) & s.stays[at] & (s.secondary_of[at] < 0)]
        asks = asks[rng.random(len(asks)) < 0.30]
        self._leave(rng, leaves, day)
        n = len(asks)
        if n == 0:
            return
        asked = self._moment(rng, s.plan_to[asks] - rng.integers(3, 12, n))
        bound = (s.contract_end[asks] != NEVER) & (s.contract_end[asks] > day)
        number = self.people.number("port", n)
        self._port(number, asks, 0, asked, NEVER, asked)
        self._port(
            number,
            asks,
            np.where(bound, 4, 5),
            asked,
            NEVER,
            asked + np.where(bound, 600, 6 * DAY_S),
        )

    def _leave(self, rng: np.random.Generator, at: Array, day: int) -> None:
        s = self.people.lines
        n = len(at)
        if n == 0:
            return
        number = self.people.number("port", n)
        left = s.plan_to[at]
        lead = np.minimum(rng.integers(2, 11, n), left - day)
        asked = self._moment(rng, left - lead)
        done = s.leave_at[at]
        requested = np.clip(done - rng.integers(3 * _HOUR, 26 * _HOUR, n), asked + 600, done - 60)
        authorised = (asked + requested) // 2
        self._port(number, at, 0, asked, NEVER, asked)
        self._port(number, at, 1, asked, NEVER, authorised)
        self._port(number, at, 2, asked, NEVER, requested)
        self._port(number, at, 3, asked, done, done)

    def port_in(self, at: Array, donor: Array) -> None:
        """Record the moves that brought new lines here."""
        moved = donor >= 0
        at, donor = at[moved], donor[moved]
        if len(at) == 0:
            return
        s = self.people.lines
        done = s.activated[at]
        asked = done - (done % DAY_S) // 2
        number = self.people.number("port", len(at))
        msisdn = msisdn_text(s.msisdn[at])
        for status, line, completed, recorded in (
            (2, -1, np.full(len(at), NEVER), asked),
            (3, at + 1, done, done),
        ):
            self.sink.add(
                "npd.np_port",
                port_id=number,
                subscription_id=line,
                msisdn=msisdn,
                donor_operator=donor,
                recipient_operator=world.OWN,
                direction=0,
                requested_at=asked,
                completed_at=completed,
                status=status,
                updated_at=recorded,
            )

    def _moment(self, rng: np.random.Generator, day: Array) -> Array:
        return np.maximum(day, 0) * DAY_S + rng.integers(9 * _HOUR, 12 * _HOUR, len(day))

    def _port(
        self,
        number: Array,
        at: Array,
        status: Array | int,
        asked: Array,
        done: Array | int,
        recorded: Array,
    ) -> None:
        s = self.people.lines
        self.sink.add(
            "npd.np_port",
            port_id=number,
            subscription_id=at + 1,
            msisdn=msisdn_text(s.msisdn[at]),
            donor_operator=world.OWN,
            recipient_operator=s.destination[at],
            direction=1,
            requested_at=asked,
            completed_at=done,
            status=status,
            updated_at=recorded,
        )
