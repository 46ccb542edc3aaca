"""What a subscription is worth when it stays: twelve months of its revenue, thinned and discounted.

`clv_12m = sum over t = 1..12 of revenue x S(t) / (1 + i)^t`. The revenue is the subscription's own,
without tax and without what is collected for partners; no cost is taken off, as none is known yet.
S(t) uses the base chance of leaving of the subscription's brand, payment type and tenure band, not
its own risk: the figure answers what a successful contact saves. Lowered by its own risk, the surest
leavers would be worth the least and nobody would call them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from models_ml.churn.dataset import LEFT_DATE
from models_ml.churn.model import Hazards, LabelParams
from models_ml.churn.snapshot import AS_OF

Vector = npt.NDArray[np.float64]

MONTHS = 12
DAYS_PER_MONTH = 365.25 / 12
# Monthly own revenue in fen without tax: the steadiest figure that is known of the subscription.
MONTHLY_VALUE_COLUMNS = ("arpu_avg3m", "arpu_m1", "arpu_avg12m")
_TENURE_BANDS = ((365.0, "first year"), (1096.0, "second and third year"))
_LAST_BAND = "later"
_SHRINK_TO_ROWS = 200.0
_MAX_MONTHLY_HAZARD = 0.95


def monthly_hazard(probability: float, days: int) -> float:
    """Return the chance of leaving within a month, from the chance of leaving within some days.

    Args:
        probability: chance of those who were there on the first day to be lost on one of the days.
        days: the days on which such a loss may lie.
    """
    kept = 1.0 - min(max(probability, 0.0), 1.0)
    return float(min(1.0 - kept ** (DAYS_PER_MONTH / days), _MAX_MONTHLY_HAZARD))


def learn_hazards(rows: pd.DataFrame, label: LabelParams) -> Hazards:
    """Return the base chances of leaving of one payment type's rows.

    The label spans more days than its window: a silence is dated back to its first day, and counts as
    leaving when that lies before the window. So the chance is taken from the window alone: of the
    subscriptions that were still there at its beginning, those that were lost in it.

    A segment with few rows is drawn towards the whole: it counts as if 200 rows of the overall
    rate had been seen beside its own.

    Args:
        rows: rows with `label`, `as_of_date`, `left_date` (of those that left; unknown counts as in the
            window), and where present `brand_code` and `tenure_days`.
        label: what the label means.
    """
    window_begins = pd.to_datetime(rows[AS_OF]) + pd.Timedelta(days=label.gap_days + 1)
    lost_before = (rows["label"] == 1) & (pd.to_datetime(rows[LEFT_DATE]) < window_begins)
    there = rows[~lost_before]
    overall = float(there["label"].mean()) if len(there) else 0.0
    grouped = there["label"].groupby(pd.Series(_segments(there), index=there.index))
    by_segment = {}
    for segment, left in grouped:
        rate = (float(left.sum()) + _SHRINK_TO_ROWS * overall) / (len(left) + _SHRINK_TO_ROWS)
        by_segment[str(segment)] = monthly_hazard(rate, label.window_days)
    return Hazards(monthly_hazard(overall, label.window_days), by_segment)


def clv_12m_fen(rows: pd.DataFrame, hazards: Hazards, annual_discount_rate: float) -> Vector:
    """Return the 12-month worth in fen of each row if it stays, whole fen, never below zero.

    Args:
        rows: rows of one payment type with one of `MONTHLY_VALUE_COLUMNS`, `brand_code` and
            `tenure_days`. Where the first value column is missing the next one is taken; a row
            without any is worth 0.
        hazards: base chances of leaving.
        annual_discount_rate: yearly discount, 0.1 for ten percent.
    """
    codes, segments = pd.factorize(_segments(rows))
    hazard = np.array([hazards.by_segment.get(one, hazards.overall) for one in segments])[codes]
    monthly_discount = (1 + annual_discount_rate) ** (1 / 12)
    kept = (1 - hazard) / monthly_discount
    months = sum((kept**t for t in range(1, MONTHS + 1)), start=np.zeros(len(rows)))
    return np.asarray(np.round(monthly_value_fen(rows) * months))


def monthly_value_fen(rows: pd.DataFrame) -> Vector:
    """Return the monthly own revenue in fen: the first known of `MONTHLY_VALUE_COLUMNS`, at least 0."""
    value = np.full(len(rows), np.nan)
    for name in MONTHLY_VALUE_COLUMNS:
        if name in rows.columns:
            column = rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
            value = np.where(np.isnan(value), column, value)
    return np.asarray(np.clip(np.nan_to_num(value, nan=0.0), 0.0, None))


def _segments(rows: pd.DataFrame) -> npt.NDArray[np.object_]:
    """Return `<brand>|<tenure band>` of each row; without a tenure the last band."""
    brands = np.full(len(rows), "UNKNOWN", dtype=object)
    if "brand_code" in rows:
        brands = rows["brand_code"].astype(object).fillna("UNKNOWN").to_numpy(dtype=object)
    tenure = np.full(len(rows), np.nan)
    if "tenure_days" in rows:
        tenure = rows["tenure_days"].to_numpy(dtype=np.float64, na_value=np.nan)
    limits = [limit for limit, _ in _TENURE_BANDS]
    bands = np.array([*(f"|{name}" for _, name in _TENURE_BANDS), f"|{_LAST_BAND}"], dtype=object)
    segments: npt.NDArray[np.object_] = (
        brands + bands[np.searchsorted(limits, tenure, side="right")]
    )
    return segments
