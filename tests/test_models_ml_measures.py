"""Probabilities come true and the measures are those that their names promise."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from models_ml.churn.calibration import Calibration, own_chances, settle
from models_ml.churn.metrics import area_under_curve, measure, top_decile_lift
from models_ml.churn.model import LabelParams
from models_ml.churn.value import learn_hazards, monthly_hazard


@pytest.mark.parametrize("share", [0.02, 0.5, 3.0])
def test_settled_chances_add_up_to_those_who_left_and_keep_the_order(share):
    # given: fewer or more people leave than the scores say
    generator = np.random.default_rng(3)
    raw = generator.beta(1, 30, 6000)
    left = (generator.random(6000) < np.clip(raw * share, 0, 1)).astype(float)

    settled = settle(own_chances(), raw, left)
    applied = settled.apply(np.array([0.0, *np.sort(raw), 1.0]))

    assert settled.apply(raw).sum() == pytest.approx(left.sum(), rel=1e-6)
    assert applied.min() >= 1e-4
    assert applied.max() <= 1 - 1e-4
    assert (np.diff(applied) >= 0).all()
    assert Calibration.from_document(settled.as_document()) == settled


def test_settling_moves_all_chances_by_the_same_odds():
    raw = np.array([0.01, 0.1, 0.5])
    settled = settle(own_chances(), np.full(1000, 0.1), (np.arange(1000) < 200).astype(float))

    odds = settled.apply(raw) / (1 - settled.apply(raw)) / (raw / (1 - raw))

    # from one in nine to one in four
    np.testing.assert_allclose(odds, 9 / 4, rtol=5e-3)


@pytest.mark.parametrize("left", [0.0, 1.0])
def test_where_nobody_or_everybody_left_the_chances_stay_as_they_are(left):
    raw = np.linspace(0.01, 0.99, 500)

    assert settle(own_chances(), raw, np.full(500, left)) == own_chances()
    np.testing.assert_allclose(own_chances().apply(raw), raw, atol=1e-3)


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


def constant_world(daily: float, label: LabelParams, lines: int = 200_000) -> pd.DataFrame:
    """Return rows as they are labelled in a world where each line is lost with the same chance each day.

    Half of the losses are silences, which count from up to `silence_days` before the as-of date; the
    others are ends, which count when they lie in the window.
    """
    generator = np.random.default_rng(17)
    as_of, reach = pd.Timestamp(2025, 6, 1), label.silence_days["prepaid"]
    # Days from the as-of date to the loss, of lines that were all there a long time before it.
    loss = generator.geometric(daily, lines) - 400
    silence = np.arange(lines) % 2 == 0
    there = np.where(silence, loss > -reach, loss > label.gap_days)
    left = loss <= label.gap_days + label.window_days
    days = pd.Series(as_of + pd.to_timedelta(loss, unit="D"))
    rows = pd.DataFrame({"as_of_date": as_of, "label": left.astype(int), "left_date": days})
    rows.loc[~left, "left_date"] = pd.NaT
    return rows[there].reset_index(drop=True)


@pytest.mark.parametrize("silence_days", [0, 14])
def test_a_constant_chance_of_leaving_is_found_again_whatever_the_label_spans(silence_days):
    daily = 0.001
    label = LabelParams(7, 30, {"prepaid": silence_days})

    hazards = learn_hazards(constant_world(daily, label), label)

    assert hazards.overall == pytest.approx(1 - (1 - daily) ** (365.25 / 12), rel=0.03)


def test_a_segment_with_few_rows_leans_on_the_whole():
    rows = pd.DataFrame(
        {
            "label": [0] * 950 + [1] * 50 + [1],
            "brand_code": ["BIG"] * 1000 + ["TINY"],
            "tenure_days": 500,
            "as_of_date": date(2025, 1, 1),
            "left_date": None,
        }
    )

    hazards = learn_hazards(rows, LabelParams(7, 60))

    tiny = hazards.by_segment["TINY|second and third year"]
    assert hazards.overall < tiny < 1.2 * hazards.overall
