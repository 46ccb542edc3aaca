"""From a model's raw score to a probability that comes true, kept as knots instead of an object.

With few leavers isotonic steps follow noise, so a two-parameter curve (Platt) is fitted instead; it
too is stored as knots on a fixed grid, and both are applied by the same interpolation. Either can be
moved as a whole, so that the chances add up to those who left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

ISOTONIC_POSITIVES = 300
FLOOR = 1e-4
PLATT_KNOTS = 241  # one per 0.1 of log-odds
_FARTHEST_MOVE = 5.0
_HALVINGS = 60
_LOGIT_EDGE = 12.0


@dataclass(frozen=True)
class Calibration:
    """A rising piecewise line from the log-odds of the raw score to a probability.

    Attributes:
        method: `isotonic`, `platt`, or `identity` when there was nothing to fit on.
        knots: log-odds of the raw score, rising.
        values: probability at each knot, never falling, within [1e-4, 1 - 1e-4].
    """

    method: str
    knots: tuple[float, ...]
    values: tuple[float, ...]

    def apply(self, raw: Vector) -> Vector:
        """Return calibrated probabilities of raw scores (both 0 to 1, same order)."""
        return np.asarray(np.interp(log_odds(raw), np.array(self.knots), np.array(self.values)))

    def as_document(self) -> dict[str, Any]:
        """Return the calibration as JSON can hold it."""
        return {"method": self.method, "knots": list(self.knots), "values": list(self.values)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Calibration:
        """Return the calibration that `as_document` wrote."""
        return cls(document["method"], tuple(document["knots"]), tuple(document["values"]))


def fit_calibration(raw: Vector, left: Vector) -> Calibration:
    """Fit a calibration on rows that the model was not trained on.

    Args:
        raw: raw scores, 0 to 1.
        left: 1 where the subscription left, 0 where it stayed.

    Returns:
        isotonic from `ISOTONIC_POSITIVES` leavers on, else Platt; identity when all rows agree.
    """
    odds, leavers = log_odds(raw), int(left.sum())
    if leavers == 0 or leavers == len(left):
        return _on_grid("identity", slope=1.0, intercept=0.0)
    if leavers >= ISOTONIC_POSITIVES:
        from sklearn.isotonic import IsotonicRegression

        fitted = IsotonicRegression(y_min=FLOOR, y_max=1 - FLOOR).fit(odds, left)
        return Calibration(
            "isotonic",
            tuple(float(x) for x in fitted.X_thresholds_),
            tuple(float(y) for y in fitted.y_thresholds_),
        )
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(odds.reshape(-1, 1), left)
    slope = max(float(fitted.coef_[0, 0]), 1e-3)  # a calibration may never turn the order round
    return _on_grid("platt", slope, float(fitted.intercept_[0]))


def settle(calibration: Calibration, raw: Vector, left: Vector) -> Calibration:
    """Move a calibration on the log-odds so that its chances of some rows add up to those who left.

    Args:
        calibration: the curve; its order and its shape stay.
        raw: raw scores of the rows, 0 to 1.
        left: 1 where the subscription left, 0 where it stayed.

    Returns:
        the moved curve; the same one when nobody or everybody left, as no move would do.
    """
    came = float(left.sum())
    if not 0 < came < len(left):
        return calibration
    low, high = -_FARTHEST_MOVE, _FARTHEST_MOVE
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float(_moved(calibration, middle).apply(raw).sum()) < came:
            low = middle
        else:
            high = middle
    return _moved(calibration, (low + high) / 2)


def _moved(calibration: Calibration, by: float) -> Calibration:
    odds = log_odds(np.array(calibration.values)) + by
    values = np.clip(1 / (1 + np.exp(-odds)), FLOOR, 1 - FLOOR)
    return Calibration(calibration.method, calibration.knots, tuple(map(float, values)))


def log_odds(probability: Vector) -> Vector:
    """Return the natural log-odds of probabilities, kept within +-12."""
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.asarray(np.clip(np.log(inside / (1 - inside)), -_LOGIT_EDGE, _LOGIT_EDGE))


def _on_grid(method: str, slope: float, intercept: float) -> Calibration:
    """Return a logistic curve as knots dense enough that no tier hangs on the interpolation."""
    grid = np.linspace(-_LOGIT_EDGE, _LOGIT_EDGE, PLATT_KNOTS)
    values = np.clip(1 / (1 + np.exp(-(slope * grid + intercept))), FLOOR, 1 - FLOOR)
    return Calibration(method, tuple(map(float, grid)), tuple(map(float, values)))
