"""What a bill charges: fees, discounts, usage, add-ons of partners, credits; tax included."""

from __future__ import annotations

from datetime import date
from typing import Final, NamedTuple

import numpy as np

from keepline.simulator import schema, world
from keepline.simulator.population import Array, Population
from keepline.simulator.rhythm import NEVER
from keepline.simulator.world import N_MAIN, OFFERINGS, PARTNERS

LATE_FEE: Final = 300
START_FEE: Final = 1000
_RECURRING, _USAGE, _ONE_OFF, _DISCOUNT, _ADJUSTMENT, _ = range(6)
_NONE: Final = -1
_ADD_ONS: Final = OFFERINGS[N_MAIN:]
ADD_ON_FEE: Final = np.array([o.fee for o in _ADD_ONS])
_ADD_ON_USAGE: Final = [
    schema.USAGE_TYPES.index(o.usage_type) if o.family in ("mobile", "vas") else _NONE
    for o in _ADD_ONS
]
_ADD_ON_PARTNER: Final = [PARTNERS.index(o.partner) if o.partner else _NONE for o in _ADD_ONS]


class Charges(NamedTuple):
    """Bill lines as arrays: place of the subscription in the bill run, codes, and fen with tax.

    The offering is -1 on a line that belongs to the account rather than to a subscription.
    """

    place: Array
    offering: Array
    charge_class: Array
    usage_type: Array
    partner: Array
    amount: Array


def _same(
    place: Array, offering: Array | int, charge: int, amount: Array | int,
    usage: int = _NONE, partner: int = _NONE,
) -> Charges:  # fmt: skip
    n = len(place)
    return Charges(
        place,
        np.broadcast_to(offering, n),
        np.full(n, charge),
        np.full(n, usage),
        np.full(n, partner),
        np.broadcast_to(amount, n),
    )


def tax_percents(lines: Charges, today: date) -> Array:
    """The tax on each line of the bills of a day. A plan's fee has one rate, that of its data."""
    service = np.where(
        lines.usage_type == schema.USAGE_TYPES.index("voice"),
        world.VOICE_TAX,
        world.VALUE_ADDED_TAX,
    )
    service = np.where(lines.partner >= 0, world.CONTENT_TAX, service)
    in_force = [percents for since, percents in world.TAX_PERCENTS if since <= today][-1]
    return np.array(in_force)[service]


def charges(
    people: Population, at: Array, share: Array, day: int, fees: Array, fees_after: Array
) -> Charges:
    """The lines of a bill run, subscription by subscription, main fee first.

    Args:
        people: the population.
        at: the subscriptions, those of an account next to each other.
        share: part of the period that each was in use, 0 to 1.
        day: day of the bills.
        fees: fee of each offering, fen a month.
        fees_after: the same after its promotion.

    Returns:
        The lines in the order of `at`.
    """
    s = people.lines
    main = s.offering[at]
    promised = (s.promo_end[at] != NEVER) & (s.promo_end[at] >= day - 15)
    listed = np.rint(fees_after[main] * share).astype(np.int64)
    off = np.rint((fees_after[main] - fees[main]) * share).astype(np.int64) * promised
    parts = [_same(np.arange(len(at)), main, _RECURRING, listed)]
    some = np.flatnonzero(off > 0)
    parts.append(_same(some, main[some], _DISCOUNT, -off[some]))
    for slot, fee in enumerate(ADD_ON_FEE.tolist()):
        held = np.flatnonzero((s.add_on[at, slot] != NEVER) & (share > 0))
        usage, partner = _ADD_ON_USAGE[slot], _ADD_ON_PARTNER[slot]
        parts.append(_same(held, N_MAIN + slot, _RECURRING, fee, usage, partner))
    for usage, meter in enumerate((s.voice_fen, s.sms_fen, s.data_fen)):
        some = np.flatnonzero(meter[at] > 0)
        parts.append(_same(some, main[some], _USAGE, meter[at[some]], usage))
    some = np.flatnonzero(s.fresh[at])
    parts.append(_same(some, main[some], _ONE_OFF, START_FEE))
    first = np.flatnonzero(np.diff(s.account[at], prepend=-1))
    owing = first[people.accounts.overdue[s.account[at[first]]] > 0]
    parts.append(_same(owing, _NONE, _ONE_OFF, LATE_FEE))
    credit = np.minimum(s.credit[at], (listed - off) // 2)
    some = np.flatnonzero(credit > 0)
    parts.append(_same(some, main[some], _ADJUSTMENT, -credit[some]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Charges(*(column[order] for column in columns))
