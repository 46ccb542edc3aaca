"""Risk tiers by what a contact is expected to earn, not by a probability that fits all.

A contact of a subscription with chance p of leaving and 12-month worth CLV earns on average

    p x g x (CLV - d)  -  (1 - p) x d  -  f  (p x (1 - g) leavers take nothing)

where d is the incentive, f the cost of asking and g the chance that one about to leave accepts
(Verbraken 2013; every stayer is assumed to take the incentive). It breaks even at

    p* = (d + f) / (g x (CLV - d) + d)

and never pays when CLV <= d. HIGH reaches p* of the dear treatment, MEDIUM that of the cheap one.
When more rows qualify than the list can hold, the most profitable ones stay.

The tier tells whether a contact pays, not how probable a loss is. A line that has been silent for
more than `reachable_silence_days` has no probability, as no model learned from such lines, and is LOW
by that rule alone: most likely its SIM is out of the phone, so no contact reaches it and none has a
profit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from models_ml.churn.parameters import CHEAP, DEAR, REACHABLE, RiskParams, Treatment
from models_ml.churn.snapshot import KEY

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SILENCE = "days_since_activity"
HIGH, MEDIUM, LOW, NEW, NODATA = "HIGH", "MEDIUM", "LOW", "NEW", "NODATA"

RULE_SILENT = "SILENT_TOO_LONG"
RULE_DEAR = "PROFIT_DEAR"
RULE_CHEAP = "PROFIT_CHEAP"
RULE_LOW = "BELOW_BREAK_EVEN"
RULE_WORTHLESS = "WORTH_BELOW_INCENTIVE"
RULE_HIGH_FULL = "HIGH_LIST_FULL"
RULE_MEDIUM_FULL = "MEDIUM_LIST_FULL"


def break_even(value_fen: Vector, treatment: Treatment) -> Vector:
    """Return the probability from which a contact pays; infinite where it never does.

    Args:
        value_fen: 12-month worth in fen.
        treatment: costs in fen and chance of acceptance.
    """
    d, f, g = treatment.incentive_fen, treatment.contact_cost_fen, treatment.accept_rate
    gain = g * (value_fen - d) + d
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = (d + f) / gain
    return np.asarray(np.where(value_fen > d, limit, np.inf))


def contact_profit_fen(probability: Vector, value_fen: Vector, treatment: Treatment) -> Vector:
    """Return the expected profit of a contact in fen; negative where it costs more than it saves."""
    d, f, g = treatment.incentive_fen, treatment.contact_cost_fen, treatment.accept_rate
    return probability * g * (value_fen - d) - (1 - probability) * d - f


def assign_tiers(rows: pd.DataFrame, params: RiskParams) -> pd.DataFrame:
    """Return tier, rule and expected profit of scored rows.

    Args:
        rows: `subscription_id`, `payment_group`, `churn_probability` (missing for silent lines),
            `value_fen` and `days_since_activity` (missing: not silent), one row each.
        params: parameters of the score date. The list shares count over all rows together; lines
            that are silent for too long take no place on a list.

    Returns:
        `risk_tier`, `tier_rule_id` and `expected_profit_fen` (of the tier's own treatment; of the
        cheap one for LOW; missing where no contact reaches the line, so that such a line stands
        neither above nor below one that can be contacted) with the index of `rows`.
    """
    probability = rows["churn_probability"].to_numpy(dtype=np.float64)
    value = rows["value_fen"].to_numpy(dtype=np.float64)
    limit = {kind: np.full(len(rows), np.inf) for kind in (DEAR, CHEAP)}
    profit = {kind: np.zeros(len(rows)) for kind in (DEAR, CHEAP)}
    never = np.ones(len(rows), dtype=bool)
    silent = is_silent(rows, params)
    for group in sorted(set(rows["payment_group"])):
        at = (rows["payment_group"] == group).to_numpy()
        for kind in (DEAR, CHEAP):
            treatment = params.treatment(kind, group)
            limit[kind][at] = break_even(value[at], treatment)
            profit[kind][at] = contact_profit_fen(probability[at], value[at], treatment)
            never[at] &= value[at] <= treatment.incentive_fen
    keys = rows[KEY].astype(str).to_numpy(dtype=object)

    wants_high = ~silent & (probability >= limit[DEAR])
    high = wants_high & _most_profitable(
        wants_high, profit[DEAR], probability, keys, params.get("max_high_share")
    )
    wants_medium = ~silent & ~high & (probability >= limit[CHEAP])
    medium = wants_medium & _most_profitable(
        wants_medium, profit[CHEAP], probability, keys, params.get("max_medium_share")
    )

    tier = np.where(high, HIGH, np.where(medium, MEDIUM, LOW))
    rule = np.select(
        [silent, high, medium & wants_high, medium, wants_medium, wants_high, never],
        [
            *(RULE_SILENT, RULE_DEAR, RULE_HIGH_FULL, RULE_CHEAP),
            *(RULE_MEDIUM_FULL, RULE_HIGH_FULL, RULE_WORTHLESS),
        ],
        default=RULE_LOW,
    )
    earned = np.where(silent, np.nan, np.where(high, profit[DEAR], profit[CHEAP]))
    return pd.DataFrame(
        {
            "risk_tier": pd.Series(tier, index=rows.index, dtype=object),
            "tier_rule_id": pd.Series(rule, index=rows.index, dtype=object),
            "expected_profit_fen": pd.Series(np.round(earned), index=rows.index).astype("Int64"),
        }
    )


def is_silent(rows: pd.DataFrame, params: RiskParams) -> Mask:
    """Tell which lines no contact reaches any more: silent for longer than their payment type may.

    Args:
        rows: `payment_group` and `days_since_activity`; a missing number of days is no silence.
        params: parameters of the day.
    """
    days = rows[SILENCE].to_numpy(dtype=np.float64, na_value=np.nan)
    reachable = {group: params.get(REACHABLE, str(group)) for group in set(rows["payment_group"])}
    return np.asarray(days > rows["payment_group"].map(reachable).to_numpy(dtype=np.float64))


def _most_profitable(
    wanting: Mask, profit: Vector, probability: Vector, keys: npt.NDArray[np.object_], share: float
) -> Mask:
    """Return which rows fit on the list: the most profitable, then the likeliest, then by key."""
    places = int(np.floor(share * len(wanting) + 1e-9))
    kept = np.zeros(len(wanting), dtype=bool)
    candidates = np.flatnonzero(wanting)
    order = np.lexsort((keys[candidates], -probability[candidates], -profit[candidates]))
    kept[candidates[order[:places]]] = True
    return kept
