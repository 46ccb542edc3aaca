"""From a model's raw score to a probability that comes true, kept as knots instead of an object.

A booster that is fitted by log-loss and stopped in time tells chances of the right shape; what drifts
is how many leave at all. So its chances are moved as a whole, on the log-odds, until they add up to
those who left. The curve is stored as knots on a fixed grid and applied by interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

FLOOR = 1e-4
KNOTS = 241  # one per 0.1 of log-odds: dense enough that no tier hangs on the interpolation
_FARTHEST_MOVE = 5.0
_HALVINGS = 60
_LOGIT_EDGE = 12.0


@dataclass(frozen=True)
class Calibration:
    """A rising piecewise line from the log-odds of the raw score to a probability.

    Attributes:
        method: `settled`, or `own` when there was nothing to settle on; of models that were trained
            before also `isotonic`, `platt` or `identity`.
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


def own_chances() -> Calibration:
    """Return the calibration that leaves a raw score as it is."""
    grid = np.linspace(-_LOGIT_EDGE, _LOGIT_EDGE, KNOTS)
    values = np.clip(1 / (1 + np.exp(-grid)), FLOOR, 1 - FLOOR)
    return Calibration("own", tuple(map(float, grid)), tuple(map(float, values)))


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
    return Calibration("settled", calibration.knots, tuple(map(float, values)))


def log_odds(probability: Vector) -> Vector:
    """Return the natural log-odds of probabilities, kept within +-12."""
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.asarray(np.clip(np.log(inside / (1 - inside)), -_LOGIT_EDGE, _LOGIT_EDGE))
