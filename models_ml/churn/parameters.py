"""The dated parameters of the risk tiers, chosen for a day.

A parameter row is `key, scope, value, valid_from, valid_to, author, reason`; it counts on days
`valid_from <= day < valid_to`, an empty `valid_to` being open. The scope is `ALL` or a payment type
(`prepaid`, `postpaid`); the narrower one wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pandas as pd

from models_ml.churn.dataset import GROUPS
from models_ml.churn.errors import RiskParameterError
from models_ml.churn.immutable import canonical_json, sha256_of_bytes

ALL = "ALL"
DEAR, CHEAP = "dear", "cheap"

_SHARES = ("accept_rate_dear", "accept_rate_cheap", "max_high_share", "max_medium_share")
_AMOUNTS = (
    "incentive_dear_fen",
    "contact_cost_dear_fen",
    "incentive_cheap_fen",
    "contact_cost_cheap_fen",
)
REACHABLE = "reachable_silence_days"
KEYS = (*_AMOUNTS, *_SHARES, "annual_discount_rate", REACHABLE)
_MORE_THAN_ZERO = ("accept_rate_dear", "accept_rate_cheap", REACHABLE)


@dataclass(frozen=True)
class Treatment:
    """One way to keep a subscription.

    Attributes:
        incentive_fen: what a subscription that takes the offer costs.
        contact_cost_fen: what asking costs.
        accept_rate: chance that one about to leave takes the offer and stays, 0 to 1.
    """

    incentive_fen: float
    contact_cost_fen: float
    accept_rate: float


@dataclass(frozen=True)
class RiskParams:
    """The parameters that count on one day.

    Attributes:
        version: names exactly the rows chosen; written beside every score.
        values: value by (key, scope).
    """

    version: str
    values: Mapping[tuple[str, str], float]

    def get(self, key: str, scope: str = ALL) -> float:
        """Return the value of a key, for its scope if it has one of its own."""
        return self.values.get((key, scope), self.values[key, ALL])

    def treatment(self, kind: str, scope: str) -> Treatment:
        """Return the `dear` or the `cheap` treatment of a payment type."""
        return Treatment(
            incentive_fen=self.get(f"incentive_{kind}_fen", scope),
            contact_cost_fen=self.get(f"contact_cost_{kind}_fen", scope),
            accept_rate=self.get(f"accept_rate_{kind}", scope),
        )


def choose_params(rows: pd.DataFrame, day: date) -> RiskParams:
    """Return the parameters valid on a day.

    Args:
        rows: the table `param_risk_tier`; `valid_from` and `valid_to` as days or ISO text.
        day: the score date.

    Raises:
        RiskParameterError: a key has no value for scope `ALL`, two at once, or one out of range.
    """
    start = pd.to_datetime(rows["valid_from"])
    end = pd.to_datetime(rows["valid_to"].astype(object).where(_is_given(rows["valid_to"])))
    moment = pd.Timestamp(day)
    valid = rows[(start <= moment) & (end.isna() | (moment < end)) & rows["key"].isin(KEYS)]
    values: dict[tuple[str, str], float] = {}
    for key, scope, value in zip(valid["key"], valid["scope"], valid["value"], strict=True):
        place = (str(key), _scope(scope))
        if place in values:
            raise RiskParameterError(
                f"param_risk_tier has two values of {key} for {place[1]} on {day}: end one of them"
            )
        values[place] = _checked(str(key), value, day)
    missing = [key for key in KEYS if (key, ALL) not in values]
    if missing:
        raise RiskParameterError(
            f"param_risk_tier has no value of {', '.join(missing)} for scope {ALL} on {day}: add a "
            "row that is valid that day"
        )
    chosen = [[key, scope, values[key, scope]] for key, scope in sorted(values)]
    digest = sha256_of_bytes(canonical_json(chosen).encode())
    return RiskParams(f"risk-{digest[:12]}", values)


def _scope(scope: object) -> str:
    text = str(scope).strip()
    if text not in (ALL, *GROUPS):
        raise RiskParameterError(
            f"param_risk_tier has scope {text!r}: expected {ALL}, {' or '.join(GROUPS)}"
        )
    return text


def _checked(key: str, value: object, day: date) -> float:
    try:
        number = float(str(value))
    except ValueError as error:
        raise RiskParameterError(
            f"param_risk_tier: {key} on {day} is {value!r}, no number"
        ) from error
    highest = 1.0 if key in _SHARES else float("inf")
    if not 0 <= number <= highest or (key in _MORE_THAN_ZERO and number == 0):
        lowest = "more than 0" if key in _MORE_THAN_ZERO else "0"
        raise RiskParameterError(
            f"param_risk_tier: {key} on {day} is {number}, outside its range of {lowest} to {highest}"
        )
    return number


def _is_given(values: pd.Series[str]) -> pd.Series[bool]:
    return values.notna() & (values.astype(str).str.strip() != "")
