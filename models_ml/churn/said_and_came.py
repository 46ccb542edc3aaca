"""What the tiers of a held-out date said of leaving, and what came: the model's figures for its reader."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models_ml.churn.model import Hazards
from models_ml.churn.parameters import RiskParams
from models_ml.churn.snapshot import AS_OF
from models_ml.churn.tiers import HIGH, LOW, MEDIUM, SILENCE, assign_tiers, is_silent
from models_ml.churn.value import clv_12m_fen

Vector = npt.NDArray[np.float64]

TOTAL = "TOTAL"
TIERS = (HIGH, MEDIUM, LOW)


def said_and_came(
    rows: pd.DataFrame,
    probability: Vector,
    hazards: Hazards,
    params_of: Callable[[date], RiskParams],
) -> list[dict[str, Any]]:
    """Return what was said of each tier and what came, and the same of all tiers together.

    Each date is judged as scoring would have: with the parameters of that date, lists as long as its
    own rows allow. Lines that are silent for too long have no chance that could come true: left out.

    Args:
        rows: held-out rows of one payment type, with `label`.
        probability: their calibrated chances.
        hazards: base chances of leaving, for their worth.
        params_of: the risk parameters of a day.

    Returns:
        `tier` (HIGH, MEDIUM, LOW, TOTAL), `subscriptions`, `said` (the sum of their chances) and
        `came` (those that left), in this order, tiers without a subscription included.
    """
    found = pd.DataFrame(
        {"said": probability, "came": rows["label"].to_numpy(dtype=np.int64), "tier": ""},
        index=rows.index,
    )
    for day in sorted(set(rows[AS_OF])):
        of_day = rows[rows[AS_OF] == day]
        found.loc[of_day.index, "tier"] = _tiers(
            of_day, found.loc[of_day.index, "said"], hazards, params_of(day)
        )
    told = found[found["tier"] != ""]
    return [
        {
            "tier": tier,
            "subscriptions": len(part),
            "said": float(part["said"].sum()),
            "came": int(part["came"].sum()),
        }
        for tier in (*TIERS, TOTAL)
        for part in (told if tier == TOTAL else told[told["tier"] == tier],)
    ]


def _tiers(
    rows: pd.DataFrame, probability: pd.Series[float], hazards: Hazards, params: RiskParams
) -> pd.Series[str]:
    """Return the tier of each row of one date; empty for lines that are silent for too long."""
    judged = rows.assign(
        churn_probability=probability,
        value_fen=clv_12m_fen(rows, hazards, params.get("annual_discount_rate")),
    )
    if SILENCE not in judged:
        judged[SILENCE] = np.nan
    tiers = assign_tiers(judged, params)["risk_tier"]
    return tiers.mask(is_silent(judged, params), "")
