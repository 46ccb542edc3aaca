"""Probabilities come true and the measures are those that their names promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models_ml.churn.calibration import Calibration, fit_calibration
from models_ml.churn.metrics import area_under_curve, measure, top_decile_lift
from models_ml.churn.value import learn_hazards, monthly_hazard


@pytest.mark.parametrize("leavers", [0, 30, 400])
def test_calibration_stays_within_its_bounds_and_never_turns_the_order(leavers):
    generator = np.random.default_rng(3)
    raw = generator.random(2000)
    left = np.zeros(2000)
    left[np.argsort(-raw + generator.normal(0, 0.2, 2000))[:leavers]] = 1

    fitted = fit_calibration(raw, left)
    applied = fitted.apply(np.array([0.0, *np.sort(raw), 1.0]))

    assert fitted.method == {0: "identity", 30: "platt", 400: "isotonic"}[leavers]
    assert applied.min() >= 1e-4
    assert applied.max() <= 1 - 1e-4
    assert (np.diff(applied) >= 0).all()
    if leavers:
        assert fitted.apply(raw).mean() == pytest.approx(left.mean(), rel=0.02)
    assert Calibration.from_document(fitted.as_document()) == fitted


def test_a_score_that_is_turned_round_is_flattened_not_followed():
    raw = np.linspace(0.01, 0.99, 500)
    left = (raw < 0.2).astype(float)

    assert (np.diff(fit_calibration(raw, left).apply(raw)) >= 0).all()


def test_measures_of_a_known_score():
    score_, left = np.array([0.9, 0.8, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]), np.zeros(10)
    left[[0, 2]] = 1

    assert area_under_curve(score_, left) == pytest.approx(15 / 16)
    assert top_decile_lift(score_, left) == 5
    assert measure(score_, np.zeros(10))["auc"] is None
    assert measure(score_, left)["reliability"][-1] == {"n": 1, "said": 0.9, "seen": 1.0}
    # ties at the border share the places: 1 place among two rows, one of which left
    assert top_decile_lift(np.array([0.9, 0.9] + [0.1] * 8), np.eye(10)[0]) == 5


def test_a_chance_within_sixty_days_is_about_twice_that_within_a_month():
    assert monthly_hazard(0.05, 60) == pytest.approx(1 - 0.95 ** (30.4375 / 60))
    assert monthly_hazard(0.0, 60) == 0
    assert monthly_hazard(1.0, 60) == 0.95


def test_a_segment_with_few_rows_leans_on_the_whole():
    rows = pd.DataFrame(
        {
            "label": [0] * 950 + [1] * 50 + [1],
            "brand_code": ["BIG"] * 1000 + ["TINY"],
            "tenure_days": 500,
        }
    )

    hazards = learn_hazards(rows, 60)

    tiny = hazards.by_segment["TINY|second and third year"]
    assert hazards.overall < tiny < 1.2 * hazards.overall
