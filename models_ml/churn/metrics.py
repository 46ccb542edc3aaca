"""How good a score is, on rows that neither training nor calibration saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

BINS = 10


def measure(probability: Vector, left: Vector) -> dict[str, Any]:
    """Return the measures of a calibrated score.

    Args:
        probability: calibrated probabilities, 0 to 1.
        left: 1 where the subscription left, 0 where it stayed.

    Returns:
        `n`, `positives`, `base_rate`, `mean_probability`, `brier`, `ece`, `reliability`, and where
        both kinds are present `auc`, `auc_standard_error`, `pr_auc`, `top_decile_lift`, `gini`; one
        that cannot be computed is None.
    """
    n, positives = len(left), int(left.sum())
    result: dict[str, Any] = {
        "n": n,
        "positives": positives,
        "base_rate": positives / n if n else None,
        "mean_probability": float(probability.mean()) if n else None,
        "brier": float(np.mean((probability - left) ** 2)) if n else None,
        "ece": expected_calibration_error(probability, left) if n else None,
        "reliability": reliability(probability, left),
        "auc": None,
        "auc_standard_error": None,
        "gini": None,
        "pr_auc": None,
        "top_decile_lift": None,
    }
    if 0 < positives < n:
        from sklearn.metrics import average_precision_score

        auc = area_under_curve(probability, left)
        result |= {
            "auc": auc,
            "auc_standard_error": _auc_standard_error(auc, positives, n - positives),
            "gini": 2 * auc - 1,
            "pr_auc": float(average_precision_score(left, probability)),
            "top_decile_lift": top_decile_lift(probability, left),
        }
    return result


def area_under_curve(score: Vector, left: Vector) -> float:
    """Return the chance that a leaver scores above a stayer (ties count half)."""
    values, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    del values
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = float(left.sum())
    negatives = len(left) - positives
    return float(
        (ranks[left == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    )


def top_decile_lift(score: Vector, left: Vector) -> float:
    """Return the churn rate of the top tenth by score over the churn rate of all.

    Rows tied at the border share the places left, so the order of the rows does not matter.
    """
    size = max(1, round(len(score) / 10))
    border = np.partition(score, len(score) - size)[len(score) - size]
    above, at = score > border, score == border
    caught = left[above].sum() + (size - above.sum()) * left[at].mean()
    return float(caught / size / left.mean())


def expected_calibration_error(probability: Vector, left: Vector) -> float:
    """Return the mean gap of said and seen churn rate over ten bins of equal size."""
    bins = reliability(probability, left)
    return sum(abs(b["said"] - b["seen"]) * b["n"] for b in bins) / len(probability)


def reliability(probability: Vector, left: Vector) -> list[dict[str, float]]:
    """Return `n`, `said` (mean probability) and `seen` (churn rate) of ten bins by probability."""
    order = np.argsort(probability, kind="stable")
    return [
        {
            "n": len(rows),
            "said": float(probability[rows].mean()),
            "seen": float(left[rows].mean()),
        }
        for rows in np.array_split(order, BINS)
        if len(rows)
    ]


def _auc_standard_error(auc: float, positives: int, negatives: int) -> float:
    """Return the standard error after Hanley and McNeil (1982)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (
        auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    ) / (positives * negatives)
    return float(np.sqrt(max(variance, 0.0)))
