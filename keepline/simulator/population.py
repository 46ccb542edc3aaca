"""Who there is: customers, accounts and lines as growing arrays, one position each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from keepline.simulator import world
from keepline.simulator.rhythm import NEVER

Array: TypeAlias = NDArray[Any]
Specs: TypeAlias = Mapping[str, tuple[DTypeLike, Any, int]]
"""Columns as (type, value of a new entry, width or 0)."""
LONG_AGO: Final = -100_000
"""A day before all others, where NEVER does not fit."""
CIRCLE: Final = 20
"""Places in a calling circle; a person uses the first `circle_size` of them."""


class Arrays:
    """Columns that grow together; positions never change, capacity doubles."""

    columns: ClassVar[Specs] = {}

    def __init__(self) -> None:
        self.n = 0
        self._capacity = 0
        for name, (dtype, _, width) in self.columns.items():
            setattr(self, name, np.empty((0, width) if width else 0, dtype=dtype))

    def grow(self, k: int) -> Array:
        """Add `k` entries with their default values and return their positions."""
        first, self.n = self.n, self.n + k
        if self.n > self._capacity:
            self._capacity = max(self.n, 2 * self._capacity)
            for name, (dtype, default, width) in self.columns.items():
                shape = (self._capacity, width) if width else (self._capacity,)
                bigger = np.full(shape, default, dtype=dtype)
                bigger[:first] = getattr(self, name)[:first]
                setattr(self, name, bigger)
        return np.arange(first, self.n)


class Customers(Arrays):
    """People and firms with an agreement; the party behind one has the same number."""

    columns: ClassVar[Specs] = {
        "class_": ("i1", 0, 0),
        "tier": ("i1", 0, 0),
        "group": ("i4", -1, 0),
        "key_person": ("?", False, 0),
        "campus": ("?", False, 0),
        "since": ("i4", 0, 0),
        "closed": ("?", False, 0),
        "county": ("i2", 0, 0),
        "birth": ("i4", 0, 0),
        "gender": ("i1", 0, 0),
        "marital": ("i1", 0, 0),
        "employment": ("i1", 0, 0),
        "surname": ("i2", 0, 0),
        "given": ("i2", 0, 0),
        "id_no": ("U18", "", 0),
        "phone": ("i4", -1, 0),
        "street": ("i2", 0, 0),
        "house": ("i2", 0, 0),
        "hobby": ("i1", -1, 0),
        "source": ("i1", 0, 0),
    }
    class_: Array
    tier: Array
    group: Array
    key_person: Array
    campus: Array
    since: Array
    closed: Array
    county: Array
    birth: Array
    gender: Array
    marital: Array
    employment: Array
    surname: Array
    given: Array
    id_no: Array
    phone: Array
    street: Array
    house: Array
    hobby: Array
    source: Array


class Accounts(Arrays):
    """Who pays."""

    columns: ClassVar[Specs] = {
        "customer": ("i4", -1, 0),
        "prepaid": ("?", False, 0),
        "cycle": ("i1", 1, 0),
        "auto_pay": ("?", False, 0),
        "late": ("f4", 0.0, 0),
        "limit": ("i8", 0, 0),
        "closed": ("?", False, 0),
        "stopped_paying": ("?", False, 0),
        "overdue": ("i4", 0, 0),
    }
    customer: Array
    prepaid: Array
    cycle: Array
    auto_pay: Array
    late: Array
    limit: Array
    closed: Array
    stopped_paying: Array
    overdue: Array


class Lines(Arrays):
    """Subscriptions, with what the operator sees of them and what moves them unseen."""

    columns: ClassVar[Specs] = {
        # what the operator knows
        "sid": ("S10", b"", 0),
        "msisdn": ("S11", b"", 0),
        "customer": ("i4", -1, 0),
        "account": ("i4", -1, 0),
        "secondary_of": ("i4", -1, 0),
        "brand": ("i1", 0, 0),
        "prepaid": ("?", False, 0),
        "offering": ("i2", 0, 0),
        "dealer": ("i2", 0, 0),
        "outlet": ("i2", 0, 0),
        "channel": ("i1", 0, 0),
        "county": ("i2", 0, 0),
        "verified": ("?", True, 0),
        "activated": ("i8", NEVER, 0),
        "status": ("i1", 2, 0),
        "status_at": ("i8", NEVER, 0),
        "ended_at": ("i8", NEVER, 0),
        "end_reason": ("i1", -1, 0),
        "main_start": ("i8", NEVER, 0),
        "add_on": ("i8", NEVER, len(world.ADD_ONS)),
        "promo_end": ("i8", NEVER, 0),
        "contract_months": ("i2", -1, 0),
        "contract_end": ("i8", NEVER, 0),
        "subsidy": ("i8", 0, 0),
        # what it meters
        "used_s": ("i8", 0, 0),
        "used_bytes": ("i8", 0, 0),
        "used_sms": ("i8", 0, 0),
        "voice_fen": ("i8", 0, 0),
        "sms_fen": ("i8", 0, 0),
        "data_fen": ("i8", 0, 0),
        "balance": ("i8", 0, 0),
        "billed_to": ("i4", 0, 0),
        "credit": ("i8", 0, 0),
        "fresh": ("?", False, 0),
        # habits
        "voice": ("f4", 1.0, 0),
        "sms": ("f4", 1.0, 0),
        "data": ("f4", 1.0, 0),
        "level": ("f4", 1.0, 0),
        "distance": ("f4", 0.1, 0),
        "roaming": ("f4", 0.01, 0),
        "owl": ("i4", 0, 0),
        "home_cell": ("i4", 0, 0),
        "work_cell": ("i4", 0, 0),
        "circle_size": ("i1", 8, 0),
        "circle": ("S11", b"", CIRCLE),
        "off_net": ("?", False, CIRCLE),
        # temper, and the plan to leave
        "frailty": ("f4", 1.0, 0),
        "price_temper": ("f4", 1.0, 0),
        "credit_risk": ("f4", 1.0, 0),
        "pain": ("f4", 0.0, 0),
        "shock": ("i4", LONG_AGO, 0),
        "gone": ("?", False, 0),
        "drawer_until": ("i4", LONG_AGO, 0),
        "cause": ("i1", -1, 0),
        "plan_from": ("i4", 0, 0),
        "plan_to": ("i4", 0, 0),
        "leave_at": ("i8", NEVER, 0),
        "stays": ("?", False, 0),
        "shows": ("?", False, 0),
        "depth": ("f4", 0.0, 0),
        "kind": ("i1", -1, 0),
        "destination": ("i1", -1, 0),
        "plan": ("i4", -1, 0),
        "calm_until": ("i4", LONG_AGO, 0),
    }
    sid: Array
    msisdn: Array
    customer: Array
    account: Array
    secondary_of: Array
    brand: Array
    prepaid: Array
    offering: Array
    dealer: Array
    outlet: Array
    channel: Array
    county: Array
    verified: Array
    activated: Array
    status: Array
    status_at: Array
    ended_at: Array
    end_reason: Array
    main_start: Array
    add_on: Array
    promo_end: Array
    contract_months: Array
    contract_end: Array
    subsidy: Array
    used_s: Array
    used_bytes: Array
    used_sms: Array
    voice_fen: Array
    sms_fen: Array
    data_fen: Array
    balance: Array
    billed_to: Array
    credit: Array
    fresh: Array
    voice: Array
    sms: Array
    data: Array
    level: Array
    distance: Array
    roaming: Array
    owl: Array
    home_cell: Array
    work_cell: Array
    circle_size: Array
    circle: Array
    off_net: Array
    frailty: Array
    price_temper: Array
    credit_risk: Array
    pain: Array
    shock: Array
    gone: Array
    drawer_until: Array
    cause: Array
    plan_from: Array
    plan_to: Array
    leave_at: Array
    stays: Array
    shows: Array
    depth: Array
    kind: Array
    destination: Array
    plan: Array
    calm_until: Array

    def alive(self) -> Array:
        """Positions of the lines that are not terminated."""
        return np.flatnonzero(self.ended_at[: self.n] == NEVER)

    def ramp(self, at: Array, day: int) -> Array:
        """How far the plan to leave of each line has come on a day: 0 none or unseen, 1 the last day."""
        length = np.maximum(1, self.plan_to[at] - self.plan_from[at])
        ramp = (day - self.plan_from[at] + 1) / length
        seen = (self.cause[at] >= 0) & self.shows[at]
        return np.where(seen, np.clip(ramp, 0.0, 1.0), 0.0).astype(np.float32)


class Plans(Arrays):
    """Every plan to leave that was ever made, and what became of it."""

    columns: ClassVar[Specs] = {
        "line": ("i4", -1, 0),
        "cause": ("i1", -1, 0),
        "plan_from": ("i4", 0, 0),
        "plan_to": ("i4", 0, 0),
        "kind": ("i1", -1, 0),
        "destination": ("i1", -1, 0),
        "shows": ("?", False, 0),
        "outcome": ("i1", 0, 0),
    }
    line: Array
    cause: Array
    plan_from: Array
    plan_to: Array
    kind: Array
    destination: Array
    shows: Array
    outcome: Array


UNDER_WAY, LEFT, STAYED, OVERTAKEN = range(4)
"""Outcomes of a plan; OVERTAKEN is one whose line ended in another way before the plan's day."""


class Population:
    """Everybody, and the running numbers of the operator's systems."""

    def __init__(self) -> None:
        self.customers = Customers()
        self.accounts = Accounts()
        self.lines = Lines()
        self.plans = Plans()
        self._numbers: dict[str, int] = {}

    def number(self, series: str, k: int) -> Array:
        """The next `k` running numbers of a series, from 1."""
        first = self._numbers.get(series, 0) + 1
        self._numbers[series] = first + k - 1
        return np.arange(first, first + k)
