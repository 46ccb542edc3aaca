"""New lines, and the people, accounts, plans and calling circles that come with them."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import numpy as np

from keepline.simulator import world
from keepline.simulator.changes import GIVEN, STREETS, SURNAMES
from keepline.simulator.population import CIRCLE, Array, Population
from keepline.simulator.rhythm import DAY_S, NEVER
from keepline.simulator.world import AURORA, BREEZE, CAMPUS, OFFERINGS, RATES

_DIGITS4: Final = np.array([b"%04d" % i for i in range(10_000)], dtype="S4")
_CYCLE_DAYS: Final = np.array([1, 6, 11, 16, 21, 26])
_MAIN: Final = OFFERINGS[: world.N_MAIN]
_PROMO_MONTHS: Final = np.array([o.promo_months for o in _MAIN])
_FEES: Final = np.array([o.fee for o in _MAIN])
_CITY: Final = np.array([world.CITIES.index(c.city_code) for c in world.COUNTIES])
_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
MONTH_DAYS: Final = 30.44
_STEP, _FIRST, _SUFFIXES = 48_271_387, 20_260_630, 10**8
_BACK: Final = pow(_STEP, -1, _SUFFIXES)
_PLACES: Final = 10 ** np.arange(7, -1, -1, dtype=np.int64)


def phone_numbers(prefix: Array, suffix: Array) -> Array:
    """Eleven-digit numbers as fixed-width bytes, from three-digit prefixes and numbers below 10^8."""
    parts = np.empty(len(prefix), dtype=[("prefix", "S3"), ("high", "S4"), ("low", "S4")])
    parts["prefix"] = prefix
    parts["high"] = _DIGITS4[suffix // 10_000]
    parts["low"] = _DIGITS4[suffix % 10_000]
    numbers: Array = parts.view("S11")
    return numbers


def line_of(numbers: Array) -> Array:
    """Position of the line that each own number was given to."""
    digits = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 11)[:, 3:]
    suffix = (digits.astype(np.int64) - ord("0")) @ _PLACES
    position: Array = (suffix - _FIRST) % _SUFFIXES * _BACK % _SUFFIXES
    return position


def prefixes(rng: np.random.Generator, operator: Array) -> Array:
    """A prefix of each operator in an array of operator positions."""
    table = [np.array([p.encode() for p in own], dtype="S3") for own in world.PREFIXES]
    sizes = np.array([len(own) for own in table])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    pick = (rng.random(len(operator)) * sizes[operator]).astype(int)
    chosen: Array = np.concatenate(table)[starts[operator] + pick]
    return chosen


def off_net_numbers(rng: np.random.Generator, n: int) -> Array:
    """`n` numbers of people at the other operators."""
    operator = 1 + rng.choice(len(world.RIVAL_SHARES), n, p=world.RIVAL_SHARES)
    return phone_numbers(prefixes(rng, operator), rng.integers(10**6, 10**8, n))


def _id_number(county: int, birthday: date, serial: int) -> str:
    body = f"{world.COUNTIES[county].area}{birthday:%Y%m%d}{serial:03d}"
    check = sum(int(d) * w for d, w in zip(body, _ID_WEIGHTS, strict=True)) % 11
    return body + "10X98765432"[check]


def _new_customers(
    people: Population, rng: np.random.Generator, brand: Array, since: Array, start: date
) -> Array:
    c = people.customers
    at = c.grow(len(brand))
    n = len(at)
    age = np.where(
        brand == CAMPUS,
        rng.uniform(18, 26, n),
        np.where(brand == AURORA, rng.uniform(27, 66, n), 20 + 55 * rng.beta(1.6, 2.0, n)),
    )
    # Nobody had a line of his own before he was of age.
    age = np.maximum(age, 18 - since.clip(max=0) / 365.25)
    c.birth[at] = since.clip(min=0) - np.ceil(age * 365.25).astype(int)
    c.since[at] = since
    c.class_[at] = np.where((brand == AURORA) & (rng.random(n) < 0.10), 1, 0)
    business = c.class_[at] == 1
    c.group[at] = np.where(business, 1 + (rng.beta(1, 2, n) * 12).astype(int), -1)
    c.key_person[at] = business & (rng.random(n) < 0.18)
    c.campus[at] = brand == CAMPUS
    c.tier[at] = np.where(brand == AURORA, rng.choice(4, n, p=[0.6, 0.25, 0.12, 0.03]), 0)
    c.county[at] = rng.choice(len(world.COUNTIES), n, p=world.COUNTY_SHARES)
    c.gender[at] = rng.choice(3, n, p=[0.48, 0.49, 0.03])
    old = age >= 60
    c.employment[at] = np.where(
        brand == CAMPUS, 2, np.where(old, 3, rng.choice([0, 0, 0, 1, 4, 5], n))
    )
    c.marital[at] = np.where(age < 25, 0, rng.choice([0, 1, 1, 1, 2, 4], n))
    c.surname[at] = rng.integers(0, len(SURNAMES), n)
    c.given[at] = rng.integers(0, len(GIVEN), n)
    c.street[at] = rng.integers(0, len(STREETS), n)
    c.house[at] = rng.integers(1, 400, n)
    c.hobby[at] = np.where(rng.random(n) < 0.5, rng.integers(0, 6, n), -1)
    c.source[at] = rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    serials = rng.integers(0, 1000, n)
    c.id_no[at] = [
        _id_number(int(k), start + timedelta(days=int(b)), int(s))
        for k, b, s in zip(c.county[at], c.birth[at], serials, strict=True)
    ]
    return at


def _owners(
    people: Population, rng: np.random.Generator, at: Array, day: Array, start: date, base: bool
) -> None:
    """Give lines `at` a customer: mostly a new one, sometimes one who already has a line."""
    s, c = people.lines, people.customers
    n = len(at)
    first_lines = at[: n // 2] if base else c.phone[: c.n][~c.closed[: c.n]]
    second = rng.random(n) < RATES.second_line_share
    if base:
        second[: n // 2] = False
    fresh = ~second
    s.customer[at[fresh]] = _new_customers(people, rng, s.brand[at[fresh]], day[fresh], start)
    second_lines = at[second]
    main = first_lines[(rng.random(len(second_lines)) * len(first_lines)).astype(int)]
    s.customer[second_lines] = s.customer[main]
    # What comes second comes later, which in the base is not the order of the draw.
    s.activated[second_lines] = np.maximum(s.activated[second_lines], s.activated[main] + 600)
    card = rng.random(len(second_lines)) < 0.5
    card &= (s.ended_at[main] == NEVER) & ~s.prepaid[main] & (s.secondary_of[main] < 0)
    cards, main = second_lines[card], main[card]
    s.secondary_of[cards] = main
    s.brand[cards] = s.brand[main]
    s.prepaid[cards] = False
    owners, first = np.unique(s.customer[at], return_index=True)
    new = c.phone[owners] < 0
    c.phone[owners[new]] = at[first[new]]
    np.minimum.at(c.since, s.customer[at], s.activated[at] // DAY_S)


def _accounts(people: Population, rng: np.random.Generator, at: Array) -> Array:
    s, a = people.lines, people.accounts
    own = at[s.secondary_of[at] < 0]
    new = a.grow(len(own))
    n = len(new)
    s.account[own] = new
    a.customer[new] = s.customer[own]
    a.prepaid[new] = s.prepaid[own]
    a.cycle[new] = rng.choice(_CYCLE_DAYS, n)
    a.auto_pay[new] = rng.random(n) < np.where(s.brand[own] == AURORA, 0.55, 0.25)
    a.late[new] = rng.beta(1.0, 16.0, n) * np.where(a.auto_pay[new], 0.35, 1.2)
    a.limit[new] = rng.choice([10_000, 20_000, 30_000, 50_000], n)
    return new


def _offerings(people: Population, rng: np.random.Generator, at: Array, on_sale: Array) -> None:
    s = people.lines
    for brand, prepaid in ((AURORA, False), (BREEZE, True), (CAMPUS, True), (CAMPUS, False)):
        chosen = at[(s.brand[at] == brand) & (s.prepaid[at] == prepaid)]
        options = [
            k
            for k, o in enumerate(_MAIN)
            if o.brand == brand and o.prepaid == prepaid and on_sale[k]
        ]
        weights = np.array([_MAIN[k].share for k in options])
        s.offering[chosen] = rng.choice(options, len(chosen), p=weights / weights.sum())


def _contracts(people: Population, rng: np.random.Generator, at: Array) -> None:
    s = people.lines
    n = len(at)
    start_day = s.main_start[at] // DAY_S
    promo = _PROMO_MONTHS[s.offering[at]]
    s.promo_end[at] = np.where(promo > 0, start_day + (promo * MONTH_DAYS).astype(int), NEVER)
    s.shock[at] = s.promo_end[at].clip(min=-10_000)
    bound = ~s.prepaid[at] & ((promo > 0) | ((s.brand[at] == AURORA) & (rng.random(n) < 0.5)))
    months = np.where(promo > 0, promo, rng.choice([12, 24], n))
    s.contract_months[at] = np.where(bound, months, -1)
    s.contract_end[at] = np.where(bound, start_day + (months * MONTH_DAYS).astype(int), NEVER)
    s.subsidy[at] = np.where(
        bound & (rng.random(n) < 0.4), rng.choice([30_000, 60_000, 120_000], n), 0
    )


def _add_ons(people: Population, rng: np.random.Generator, at: Array, day: int) -> None:
    s = people.lines
    home = s.brand[at] == AURORA
    for slot, offering in enumerate(OFFERINGS[world.N_MAIN :]):
        share = np.full(len(at), offering.share)
        if offering.offering_id in world.HOME_ADD_ONS:
            share = np.where(home & (s.secondary_of[at] < 0), offering.share * 2.5, 0.0)
        chosen = rng.random(len(at)) < share
        since = s.activated[at] + ((day * DAY_S - s.activated[at]) * rng.random(len(at))).astype(
            int
        )
        s.add_on[at, slot] = np.where(chosen, np.maximum(since, s.activated[at]), NEVER)


def _dealers(people: Population, rng: np.random.Generator, at: Array) -> None:
    s = people.lines
    city = _CITY[s.county[at]]
    kind = rng.choice(4, len(at), p=[0.36, 0.22, 0.22, 0.20])
    s.dealer[at] = np.where(kind == 3, len(world.DEALERS) - 1, 3 * city + kind.clip(max=2))
    s.outlet[at] = 2 * s.dealer[at] + (rng.random(len(at)) < 0.4)
    online = np.where(rng.random(len(at)) < 0.5, world.WEB, world.APP)
    s.channel[at] = np.where(kind == 0, world.SHOP, np.where(kind == 3, online, world.AGENT))


def _habits(people: Population, rng: np.random.Generator, at: Array) -> None:
    s = people.lines
    n = len(at)
    common = rng.normal(size=n)
    for name, factor in (
        ("voice", (1.25, 0.95, 0.75)),
        ("sms", (1.2, 1.0, 0.8)),
        ("data", (1.15, 0.75, 1.30)),
    ):
        heavy = np.exp(0.4 * common + 0.55 * rng.normal(size=n) - (0.4**2 + 0.55**2) / 2)
        getattr(s, name)[at] = np.clip(heavy * np.array(factor)[s.brand[at]], 0.08, 8.0)
    s.distance[at] = rng.beta(1.2, 8, n)
    s.roaming[at] = rng.beta(0.6, 30, n)
    s.owl[at] = np.where(rng.random(n) < 0.15, rng.integers(0, 4 * 3600, n), 0)
    first = s.county[at] * world.CELLS_PER_COUNTY
    s.home_cell[at] = first + rng.integers(0, world.CELLS_PER_COUNTY, n)
    s.work_cell[at] = first + rng.integers(0, world.CELLS_PER_COUNTY, n)
    s.frailty[at] = rng.gamma(1.6, 1 / 1.6, n)
    s.price_temper[at] = rng.gamma(2.0, 0.5, n)
    s.credit_risk[at] = rng.gamma(0.7, 1 / 0.7, n)
    s.balance[at] = (_FEES[s.offering[at]] * rng.uniform(0.2, 1.6, n)).astype(int)


def _circles(people: Population, rng: np.random.Generator, at: Array) -> None:
    s = people.lines
    n = len(at)
    s.circle_size[at] = rng.integers(5, CIRCLE + 1, n)
    share = rng.beta(4.5, 4.0, n).astype(np.float32)
    s.off_net[at] = rng.random((n, CIRCLE), dtype=np.float32) < share[:, None]
    numbers = s.msisdn[rng.integers(0, s.n, n * CIRCLE)]
    outside = s.off_net[at].reshape(-1)
    numbers[outside] = off_net_numbers(rng, int(outside.sum()))
    s.circle[at] = numbers.reshape(n, CIRCLE)


def recruit(
    people: Population, rng: np.random.Generator, k: int, day: int, start: date, on_sale: Array
) -> tuple[Array, Array, Array, Array]:
    """Add `k` lines.

    Args:
        people: the population, changed in place.
        rng: the day's stream.
        k: number of lines.
        day: day of activation; -1 makes the base, whose lines are up to eight years old on day 0.
        start: first day of the history.
        on_sale: which main offerings are sold on that day, one flag each.

    Returns:
        Positions of the new lines, customers and accounts, and each line's donor (-1: not ported).
    """
    s = people.lines
    customers_before = people.customers.n
    at = s.grow(k)
    base = day < 0
    if base:
        age = 1 + (8 * 365 * rng.beta(0.95, 2.3, k)).astype(int)
        activated = -age
    else:
        activated = np.full(k, day)
    s.activated[at] = activated * DAY_S + rng.integers(8 * 3600, 21 * 3600, k)
    s.brand[at] = rng.choice(3, k, p=world.BRAND_SHARES)
    campus_prepaid = rng.random(k) < world.CAMPUS_PREPAID_SHARE
    s.prepaid[at] = (s.brand[at] == BREEZE) | ((s.brand[at] == CAMPUS) & campus_prepaid)
    _owners(people, rng, at, activated, start, base)
    new_accounts = _accounts(people, rng, at)
    # A secondary card pays from its main line's account, which in the base is only known now.
    card = at[s.secondary_of[at] >= 0]
    s.account[card] = s.account[s.secondary_of[card]]
    activated = s.activated[at] // DAY_S
    s.status_at[at] = s.activated[at]
    new_customers = np.arange(customers_before, people.customers.n)
    s.county[at] = people.customers.county[s.customer[at]]
    _dealers(people, rng, at)

    _offerings(people, rng, at, on_sale)
    since = np.minimum(-activated, (730 * rng.random(k)).astype(int)) if base else np.zeros(k, int)
    s.main_start[at] = np.where(since == -activated, s.activated[at], -since * DAY_S + 12 * 3600)
    s.main_start[at] = s.main_start[at] if base else s.activated[at]
    _contracts(people, rng, at)
    _add_ons(people, rng, at, max(day, 0))
    _habits(people, rng, at)

    donor = np.full(k, -1)
    if not base:
        ported = rng.random(k) < RATES.port_in_share
        donor[ported] = 1 + rng.choice(3, int(ported.sum()), p=world.RIVAL_SHARES)
    s.sid[at] = [b"S%09d" % (i + 1) for i in at.tolist()]
    suffix = (at.astype(np.int64) * _STEP + _FIRST) % _SUFFIXES
    s.msisdn[at] = phone_numbers(prefixes(rng, np.maximum(donor, 0)), suffix)
    _circles(people, rng, at)
    s.verified[at] = rng.random(k) < 0.985
    s.fresh[at] = not base
    s.billed_to[at] = activated
    return at, new_customers, new_accounts, donor
