"""Postpaid money: bills, payments, and what happens to who does not pay."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from typing import ClassVar, Final

import numpy as np

from keepline.simulator import changes, schema, world
from keepline.simulator.charges import charges, tax_percents
from keepline.simulator.leaving import DUE_DAYS, SUSPEND_DAYS
from keepline.simulator.population import Array, Arrays, Population, Specs
from keepline.simulator.rhythm import DAY_S, NEVER, stream
from keepline.simulator.sink import Sink

WRITE_OFF_DAYS: Final = 75
_ISSUED, _PART, _SETTLED, _OVERDUE, _WRITTEN_OFF = range(5)


class Bills(Arrays):
    """Bills that were issued."""

    columns: ClassVar[Specs] = {
        "number": ("i8", 0, 0),
        "account": ("i4", -1, 0),
        "period_start": ("i4", 0, 0),
        "period_end": ("i4", 0, 0),
        "due": ("i4", 0, 0),
        "amount": ("i8", 0, 0),
        "remaining": ("i8", 0, 0),
        "state": ("i1", 0, 0),
    }
    number: Array
    account: Array
    period_start: Array
    period_end: Array
    due: Array
    amount: Array
    remaining: Array
    state: Array


class Billing:
    """The billing system: what it will do on which day."""

    def __init__(self, people: Population, sink: Sink, seed: int) -> None:
        self.people, self.sink, self.seed = people, sink, seed
        self.bills = Bills()
        self._payments: dict[int, list[tuple[Array, Array]]] = defaultdict(list)
        self._checks: dict[int, list[Array]] = defaultdict(list)

    def run(self, today: date, day: int, fees: Array, fees_after: Array) -> None:
        """One day: take payments, chase who does not pay, cut the bills of today's cycle."""
        self._take_payments(day)
        self._chase(day)
        self._cut_bills(today, day, fees, fees_after)

    # -- bills -----------------------------------------------------------------------------------

    def _cut_bills(self, today: date, day: int, fees: Array, fees_after: Array) -> None:
        s, a = self.people.lines, self.people.accounts
        here = slice(self.people.lines.n)
        last = np.where(s.ended_at[here] == NEVER, day, s.ended_at[here] // DAY_S)
        due = ~s.prepaid[here] & (a.cycle[s.account[here]] == today.day)
        due &= (s.billed_to[here] < day) & (s.billed_to[here] <= last)
        at = np.flatnonzero(due)
        if len(at) == 0:
            return
        at = at[np.lexsort((at, s.account[at]))]
        period = (today.replace(day=1) - timedelta(days=1)).day
        share = np.clip((last[at] - s.billed_to[at]) / period, 0.0, 1.0)
        lines = charges(self.people, at, share, day, fees, fees_after)
        line = at[lines.place]
        owing, first, bill = np.unique(s.account[line], return_index=True, return_inverse=True)
        untaxed = np.rint(lines.amount / (1 + tax_percents(lines, today) / 100)).astype(np.int64)
        number = self.people.number("bill", len(owing))
        b = self.bills
        new = b.grow(len(owing))
        b.number[new], b.account[new] = number, owing
        b.period_start[new] = np.minimum.reduceat(s.billed_to[line], first)
        b.period_end[new] = day
        b.due[new] = day + DUE_DAYS
        b.amount[new] = b.remaining[new] = np.bincount(bill, weights=lines.amount).astype(np.int64)
        b.state[new] = np.where(b.amount[new] == 0, _SETTLED, _ISSUED)
        recorded = np.full(len(line), day * DAY_S + 3 * 3600)
        self.sink.add(
            "bil.bill_line",
            bill_id=number[bill],
            line_no=np.arange(len(line)) - first[bill] + 1,
            subscription_id=np.where(lines.offering >= 0, line + 1, -1),
            offering_id=lines.offering,
            charge_class=lines.charge_class,
            usage_type=lines.usage_type,
            third_party_flag=lines.partner >= 0,
            partner_id=lines.partner,
            tax_excl=untaxed,
            tax=lines.amount - untaxed,
            billed_date=day,
            updated_at=recorded,
        )
        self._record(new, recorded[: len(new)])
        s.billed_to[at] = day
        for meter in (s.voice_fen, s.sms_fen, s.data_fen, s.credit):
            meter[at] = 0
        s.fresh[at] = False
        self._plan_payments(new, day)
        self._checks[day + DUE_DAYS + 1].append(new)

    def _record(self, at: Array, recorded: Array) -> None:
        b = self.bills
        self.sink.add(
            "bil.bill",
            bill_id=b.number[at],
            account_id=b.account[at] + 1,
            bill_no=b.number[at],
            period_start=b.period_start[at],
            period_end=b.period_end[at],
            bill_date=b.period_end[at],
            due_date=b.due[at],
            amount_due=b.amount[at],
            remaining=b.remaining[at],
            state=b.state[at],
            updated_at=recorded,
        )

    # -- payments --------------------------------------------------------------------------------

    def _plan_payments(self, bills: Array, day: int) -> None:
        a, b = self.people.accounts, self.bills
        rng = stream(self.seed, "pay", day)
        n = len(bills)
        account = b.account[bills]
        wait = np.where(a.auto_pay[account], 5, 1 + rng.gamma(3.0, 3.0, n).astype(int)).clip(
            max=DUE_DAYS
        )
        late = rng.random(n) < a.late[account]
        wait = np.where(late, DUE_DAYS + 1 + rng.exponential(6.0, n).astype(int).clip(max=40), wait)
        wait = np.where(self._hesitates(account), DUE_DAYS + 4 + rng.integers(0, 26, n), wait)
        ended = a.closed[account]
        pays = ~a.stopped_paying[account] & ~(ended & (rng.random(n) < 0.3)) & (b.amount[bills] > 0)
        part = (rng.random(n) < 0.03) & ~a.auto_pay[account]
        rest = wait + rng.integers(3, 21, n)
        for delay in np.unique(wait[pays]):
            chosen = pays & (wait == delay)
            amount = np.where(part, b.amount[bills] // 2, b.amount[bills])[chosen]
            self._payments[day + int(delay)].append((bills[chosen], amount))
        for delay in np.unique(rest[pays & part]):
            chosen = pays & part & (rest == delay)
            left = b.amount[bills[chosen]] - b.amount[bills[chosen]] // 2
            self._payments[day + int(delay)].append((bills[chosen], left))

    def _hesitates(self, account: Array) -> Array:
        s = self.people.lines
        doubtful = np.zeros(self.people.accounts.n, dtype=bool)
        at = np.flatnonzero((s.cause[: s.n] == world.NON_PAYMENT) & s.stays[: s.n])
        doubtful[s.account[at]] = True
        return doubtful[account]

    def _take_payments(self, day: int) -> None:
        a, b = self.people.accounts, self.bills
        rng = stream(self.seed, "payments", day)
        for bills, planned in self._payments.pop(day, []):
            going = ~a.stopped_paying[b.account[bills]] & (b.remaining[bills] > 0)
            at, amount = bills[going], np.minimum(planned[going], b.remaining[bills[going]])
            n = len(at)
            if n == 0:
                continue
            account = b.account[at]
            paid_at = day * DAY_S + rng.integers(7 * 3600, 22 * 3600, n)
            method = np.where(a.auto_pay[account], 0, rng.choice(4, n, p=[0.1, 0.2, 0.6, 0.1]))
            channel = np.array([world.BANK, world.WEB, world.WALLET, world.SHOP])[method]
            self.sink.add(
                "bil.payment",
                payment_id=self.people.number("payment", n),
                account_id=account + 1,
                paid_at=paid_at,
                amount=amount,
                method_code=method,
                channel_code=channel,
            )
            b.remaining[at] -= amount
            was_overdue = b.state[at] == _OVERDUE
            settled = b.remaining[at] == 0
            b.state[at] = np.where(settled, _SETTLED, np.where(was_overdue, _OVERDUE, _PART))
            self._record(at, paid_at + 60)
            cleared = at[was_overdue & settled]
            np.subtract.at(a.overdue, b.account[cleared], 1)
            self._restore(cleared, (paid_at + 600)[was_overdue & settled])

    def _restore(self, bills: Array, when: Array) -> None:
        a, s = self.people.accounts, self.people.lines
        account = self.bills.account[bills]
        clear = a.overdue[account] == 0
        moment = dict(zip(account[clear].tolist(), when[clear].tolist(), strict=True))
        suspended = np.flatnonzero(s.status[: s.n] == schema.SUSPENDED)
        at = suspended[np.isin(s.account[suspended], account[clear])]
        event_at = np.array([moment[k] for k in s.account[at].tolist()], dtype=np.int64)
        reason = schema.PAID
        changes.status(self.sink, self.people, at, schema.ACTIVE, event_at, reason)

    def _chase(self, day: int) -> None:
        """Bills a day, eight days or long past due: overdue, lines suspended, written off."""
        a, b, s = self.people.accounts, self.bills, self.people.lines
        for bills in self._checks.pop(day, []):
            open_ = bills[(b.remaining[bills] > 0) & (b.state[bills] != _WRITTEN_OFF)]
            if len(open_) == 0:
                continue
            age = day - int(b.due[open_[0]])
            recorded = np.full(len(open_), day * DAY_S + 2 * 3600)
            if age == 1:
                b.state[open_] = _OVERDUE
                np.add.at(a.overdue, b.account[open_], 1)
                self._record(open_, recorded)
                self._checks[day - 1 + SUSPEND_DAYS].append(open_)
            elif age == SUSPEND_DAYS:
                at = np.flatnonzero((s.status[: s.n] == schema.ACTIVE) & ~s.prepaid[: s.n])
                at = at[np.isin(s.account[at], b.account[open_])]
                when = np.full(len(at), day * DAY_S + 9 * 3600)
                reason = schema.UNPAID
                changes.status(self.sink, self.people, at, schema.SUSPENDED, when, reason)
                self._checks[day - SUSPEND_DAYS + WRITE_OFF_DAYS].append(open_)
            else:
                b.state[open_] = _WRITTEN_OFF
                np.subtract.at(a.overdue, b.account[open_], 1)
                self._record(open_, recorded)
