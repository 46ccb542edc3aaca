"""Prepaid balances: charged every day, topped up when they run low."""

from __future__ import annotations

from typing import Final

import numpy as np

from keepline.simulator import world
from keepline.simulator.charges import ADD_ON_FEE
from keepline.simulator.population import Array, Population
from keepline.simulator.rhythm import DAY_S, NEVER, stream
from keepline.simulator.sink import Sink

_FACES: Final = np.array([1000, 2000, 3000, 5000, 10_000, 20_000])
_CHANNELS: Final = (world.WALLET, world.APP, world.SHOP, world.AGENT, world.KIOSK)


class Prepaid:
    """The online charging system of one run."""

    def __init__(self, people: Population, sink: Sink, seed: int) -> None:
        self.people, self.sink, self.seed = people, sink, seed

    def run(self, day: int, fees: Array, fees_after: Array) -> None:
        """One day: charge fees and usage to the balances, then let people top up."""
        s = self.people.lines
        rng = stream(self.seed, "recharge", day)
        alive = s.alive()
        at = alive[s.prepaid[alive] & ~s.gone[alive]]
        n = len(at)
        main = s.offering[at]
        promised = (s.promo_end[at] != NEVER) & (s.promo_end[at] >= day)
        fee = np.where(promised, fees[main], fees_after[main])
        fee = fee + ((s.add_on[at] != NEVER) * ADD_ON_FEE).sum(axis=1)
        usage = s.voice_fen[at] + s.sms_fen[at] + s.data_fen[at]
        # Nothing on the balance, nothing to charge: it never falls further than by a day's fee.
        s.balance[at] = np.maximum(s.balance[at] - fee // 30 - usage, -(fee // 30))
        for meter in (s.voice_fen, s.sms_fen, s.data_fen):
            meter[at] = 0
        low = s.balance[at] < fee * 0.3
        wish = np.where(s.balance[at] < 0, 0.42, np.where(low, 0.20, 0.008))
        wish = wish * (1 - 0.92 * s.ramp(at, day) * np.minimum(1, 1.3 * s.depth[at]))
        hit = rng.random(n) < wish
        chosen = at[hit]
        k = len(chosen)
        target = (fee[hit] * rng.uniform(0.7, 2.2, k)).astype(int)
        face = _FACES[np.abs(_FACES[None, :] - target[:, None]).argmin(axis=1)]
        channel = rng.choice(_CHANNELS, k, p=[0.5, 0.25, 0.1, 0.1, 0.05])
        digital = np.isin(channel, [world.WALLET, world.APP])
        taken_back = rng.random(k) < 0.003
        paid_at = day * DAY_S + rng.integers(7 * 3600, 23 * 3600, k)
        self.sink.add(
            "ocs.recharge",
            recharge_id=self.people.number("recharge", k),
            subscription_id=chosen + 1,
            recharged_at=np.maximum(paid_at, s.activated[chosen] + 300),
            face=face,
            paid=np.where(digital, face * 99 // 100, face),
            channel_code=channel,
            voucher_type=np.where(digital, 0, np.where(channel == world.KIOSK, 2, 1)),
            reversed_flag=taken_back,
        )
        s.balance[chosen] += np.where(taken_back, 0, face)
