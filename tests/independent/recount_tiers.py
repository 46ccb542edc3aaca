"""Risk tiers: whether a contact pays, from probability, worth, silence and parameters."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

from independent.landed import Parameters, Row


class Treatment:
    """What a contact costs and brings; of a line that leaves with a chance and has a worth."""

    def __init__(self, name: str, payment_type: str, parameters: Parameters, day: date) -> None:
        self.incentive, self.cost, self.accepts = (
            value(parameters, f"{what}_{name}{unit}", payment_type, day)
            for what, unit in (("incentive", "_fen"), ("contact_cost", "_fen"), ("accept_rate", ""))
        )

    def limit(self, worth: Fraction) -> Fraction | None:
        """Return the chance from which on a contact pays; none where it never does."""
        if worth <= self.incentive:
            return None
        saved = self.accepts * (worth - self.incentive)
        return (self.incentive + self.cost) / (saved + self.incentive)

    def profit(self, chance: Fraction, worth: Fraction) -> Fraction:
        """Return what a contact is expected to earn: leavers may accept, stayers always do."""
        stays = -self.incentive * (1 - chance)
        return chance * self.accepts * (worth - self.incentive) + stays - self.cost

    def pays(self, chance: Fraction, worth: Fraction) -> bool:
        """Say whether a contact is expected to pay."""
        limit = self.limit(worth)
        return limit is not None and chance >= limit


def value(parameters: Parameters, key: str, payment_type: str, day: date) -> Fraction:
    """Return a parameter of the payment type, else the one of all."""
    own = parameters.get(key, payment_type, day)
    found = parameters.get(key, "ALL", day) if own is None else own
    assert found is not None, key
    return found


def tiers(rows: list[Row], parameters: Parameters, day: date) -> dict[str, tuple[str, str]]:
    """Return tier and rule by subscription; lists hold a share of all rows, the best ones first."""
    found: dict[str, tuple[str, str]] = {}
    high, medium = [], []
    for row in rows:
        chance, worth = Fraction(row["churn_probability"] or 0), Fraction(row["value_fen"])
        name, kind = row["subscription_id"], row["payment_group"]
        dear, cheap = (Treatment(what, kind, parameters, day) for what in ("dear", "cheap"))
        reach = value(parameters, "reachable_silence_days", kind, day)
        silent = row["days_since_activity"]
        gain = (dear.profit(chance, worth), cheap.profit(chance, worth))
        if silent is not None and silent > reach:
            found[name] = ("LOW", "SILENT_TOO_LONG")
        elif dear.pays(chance, worth):
            high.append((*gain, name))
        elif cheap.pays(chance, worth):
            medium.append((gain[1], name, "PROFIT_CHEAP"))
        elif cheap.limit(worth) is None:
            found[name] = ("LOW", "WORTH_BELOW_INCENTIVE")
        else:
            found[name] = ("LOW", "BELOW_BREAK_EVEN")
    room = int(value(parameters, "max_high_share", "ALL", day) * len(rows))
    high.sort(reverse=True)
    found.update({name: ("HIGH", "PROFIT_DEAR") for _, _, name in high[:room]})
    medium += [(gain, name, "HIGH_LIST_FULL") for _, gain, name in high[room:]]
    room = int(value(parameters, "max_medium_share", "ALL", day) * len(rows))
    medium.sort(reverse=True)
    found.update({name: ("MEDIUM", rule) for _, name, rule in medium[:room]})
    found.update({name: ("LOW", "MEDIUM_LIST_FULL") for _, name, _ in medium[room:]})
    return found
