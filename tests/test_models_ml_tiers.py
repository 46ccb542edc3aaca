"""Worth, tiers and dated parameters: a contact is proposed where it pays, and no more than fit."""

from __future__ import annotations

from datetime import date

import models_ml_rows as made
import numpy as np
import pandas as pd
import pytest

from models_ml.churn.errors import RiskParameterError
from models_ml.churn.model import Hazards
from models_ml.churn.parameters import Treatment, choose_params
from models_ml.churn.tiers import assign_tiers, break_even, contact_profit_fen
from models_ml.churn.value import clv_12m_fen, monthly_value_fen

PARAMS = choose_params(made.RISK_PARAMS, made.SCORE_DATE)
NO_INTEREST = Hazards(overall=0.0, by_segment={})


# Worth


def test_worth_is_twelve_discounted_months():
    rows = pd.DataFrame({"arpu_avg3m": [1000, np.nan], "arpu_m1": [1, 500]})

    assert clv_12m_fen(rows, NO_INTEREST, 0.0).tolist() == [12_000, 6_000]
    leaving = Hazards(overall=0.1, by_segment={"UNKNOWN|later": 0.1})
    kept = sum(0.9**t / 1.21 ** (t / 12) for t in range(1, 13))
    assert clv_12m_fen(rows, leaving, 0.21).tolist() == [round(1000 * kept), round(500 * kept)]


def test_unknown_or_negative_revenue_is_worth_nothing():
    rows = pd.DataFrame({"arpu_avg3m": [-5.0, np.nan]})

    assert monthly_value_fen(rows).tolist() == [0, 0]


# Tiers


@pytest.mark.parametrize(
    ("clv_yuan", "limit"), [(100, 0.297), (200, 0.164), (500, 0.070), (1000, 0.036), (2000, 0.018)]
)
def test_break_even_is_that_of_the_published_formula(clv_yuan, limit):
    treatment = Treatment(incentive_fen=1000, contact_cost_fen=100, accept_rate=0.3)

    assert break_even(np.array([clv_yuan * 100.0]), treatment)[0] == pytest.approx(limit, abs=5e-4)


def test_profit_is_zero_exactly_at_break_even():
    treatment = Treatment(3000, 500, 0.3)
    value = np.array([5000.0, 20_000.0, 90_000.0])

    at_limit = contact_profit_fen(break_even(value, treatment), value, treatment)

    np.testing.assert_allclose(at_limit, 0, atol=1e-9)


def judged(probabilities, values, params=PARAMS, group="prepaid", silence=0.0):
    """Return the tiers of rows given by probability, worth in fen and days of silence."""
    return assign_tiers(
        pd.DataFrame(
            {
                "subscription_id": [f"s{n}" for n in range(len(probabilities))],
                "payment_group": group,
                "churn_probability": probabilities,
                "value_fen": values,
                "days_since_activity": silence,
            }
        ),
        params,
    )


def test_the_tier_changes_just_at_the_break_even_of_each_treatment():
    value = 40_000.0
    dear = break_even(np.array([value]), PARAMS.treatment("dear", "prepaid"))[0]
    cheap = break_even(np.array([value]), PARAMS.treatment("cheap", "prepaid"))[0]
    assert cheap < dear

    tiers = judged([dear, dear - 1e-9, cheap, cheap - 1e-9], [value] * 4)

    assert tiers["risk_tier"].tolist() == ["HIGH", "MEDIUM", "MEDIUM", "LOW"]
    assert tiers["tier_rule_id"].tolist() == [
        "PROFIT_DEAR",
        "PROFIT_CHEAP",
        "PROFIT_CHEAP",
        "BELOW_BREAK_EVEN",
    ]
    assert tiers["expected_profit_fen"][0] == 0
    assert tiers["expected_profit_fen"][1] > 0


def test_a_line_worth_less_than_the_incentive_is_never_called():
    tiers = judged([0.99, 0.99, 0.99], [0, 500, 501])

    assert tiers["risk_tier"].tolist() == ["LOW"] * 3
    assert tiers["tier_rule_id"].tolist() == [
        "WORTH_BELOW_INCENTIVE",
        "WORTH_BELOW_INCENTIVE",
        "BELOW_BREAK_EVEN",
    ]
    assert (tiers["expected_profit_fen"] < 0).all()


def test_more_risk_or_more_worth_never_lowers_the_tier():
    order = {"LOW": 0, "MEDIUM": 1, "HIGH": 2}
    probability = np.linspace(0, 1, 101)
    for value in (100, 3001, 10_000, 60_000, 500_000):
        ranks = judged(probability, [value] * 101)["risk_tier"].map(order)
        assert ranks.is_monotonic_increasing
    for chance in (0.01, 0.05, 0.3, 0.9):
        ranks = judged([chance] * 60, np.geomspace(10, 10**7, 60))["risk_tier"].map(order)
        assert ranks.is_monotonic_increasing


def test_a_full_list_keeps_the_most_profitable():
    capped = choose_params(
        made.risk_params(max_high_share=0.2, max_medium_share=0.2), made.SCORE_DATE
    )
    value = np.array([50_000, 90_000, 60_000, 80_000, 70_000, 100.0, 100, 100, 100, 100])

    tiers = judged([0.9] * 10, value, capped)

    assert tiers["risk_tier"].tolist() == [
        *("LOW", "HIGH", "MEDIUM", "HIGH", "MEDIUM"),
        *["LOW"] * 5,
    ]
    assert tiers["tier_rule_id"].tolist()[:5] == [
        "MEDIUM_LIST_FULL",
        "PROFIT_DEAR",
        "HIGH_LIST_FULL",
        "PROFIT_DEAR",
        "HIGH_LIST_FULL",
    ]


def test_silent_lines_are_low_and_take_no_place_on_a_list():
    capped = choose_params(
        made.risk_params(max_high_share=0.2, max_medium_share=0.2), made.SCORE_DATE
    )
    # given: the silent ones would be the most profitable of all
    silence = [15.0, 15, 15, 15, 15, 14, np.nan, 0, 0, 0]
    value = np.array([90_000.0] * 5 + [50_000, 40_000, 30_000, 20_000, 10_000])

    tiers = judged([0.99] * 5 + [0.9] * 5, value, capped, silence=silence)

    assert tiers["risk_tier"].tolist() == [*["LOW"] * 5, "HIGH", "HIGH", "MEDIUM", "MEDIUM", "LOW"]
    assert tiers["tier_rule_id"].tolist()[:6] == [*["SILENT_TOO_LONG"] * 5, "PROFIT_DEAR"]
    # No profit rather than none of worth: the other LOW lines lose money, and these stand beside them.
    assert tiers["expected_profit_fen"].isna().tolist() == [*[True] * 5, *[False] * 5]


def test_each_payment_type_has_its_own_days_of_silence():
    own = made.RISK_PARAMS[made.RISK_PARAMS["key"] == "reachable_silence_days"]
    params = choose_params(
        pd.concat([made.RISK_PARAMS, own.assign(scope="postpaid", value=3650)]), made.SCORE_DATE
    )

    for group, rule in (("prepaid", "SILENT_TOO_LONG"), ("postpaid", "PROFIT_DEAR")):
        tiers = judged([0.9], [90_000.0], params, group, silence=[60])
        assert tiers["tier_rule_id"].tolist() == [rule]


def test_equal_rows_are_chosen_by_key_so_that_their_order_does_not_matter():
    capped = choose_params(made.risk_params(max_high_share=0.5), made.SCORE_DATE)
    rows = pd.DataFrame(
        {
            "subscription_id": ["b", "d", "a", "c"],
            "payment_group": "prepaid",
            "churn_probability": 0.9,
            "value_fen": 50_000.0,
            "days_since_activity": 0,
        }
    )

    high = assign_tiers(rows, capped)["risk_tier"] == "HIGH"

    assert sorted(rows["subscription_id"][high]) == ["a", "b"]


# Parameters


def test_parameters_are_those_valid_on_the_day():
    rows = made.RISK_PARAMS.copy()
    ended = rows["key"] == "incentive_dear_fen"
    rows.loc[ended, "valid_to"] = "2025-07-01"
    later = rows[ended].assign(value=4000, valid_from="2025-07-01", valid_to="9999-12-31")
    rows = pd.concat([rows, later], ignore_index=True)

    before, after = (choose_params(rows, date(2025, m, d)) for m, d in ((6, 30), (7, 1)))

    assert before.get("incentive_dear_fen") == 3000
    assert after.get("incentive_dear_fen") == 4000
    assert before.version != after.version
    assert choose_params(rows, date(2025, 7, 2)).version == after.version


@pytest.mark.parametrize("kind", ["text", "day", "timestamp"])
def test_validity_may_come_as_text_or_day(kind):
    rows = made.RISK_PARAMS.assign(valid_to="9999-12-31")
    if kind != "text":
        for name in ("valid_from", "valid_to"):
            rows[name] = pd.to_datetime(rows[name]).astype("datetime64[us]")
            rows[name] = rows[name].dt.date if kind == "day" else rows[name]

    assert choose_params(rows, made.SCORE_DATE) == PARAMS


def test_a_payment_type_may_have_its_own_value():
    own = made.RISK_PARAMS.iloc[[0]].assign(scope="postpaid", value=9000)
    params = choose_params(pd.concat([made.RISK_PARAMS, own]), made.SCORE_DATE)

    assert params.treatment("dear", "postpaid").incentive_fen == 9000
    assert params.treatment("dear", "prepaid").incentive_fen == 3000


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (made.RISK_PARAMS.iloc[1:], "no value of incentive_dear_fen for scope ALL on 2025-09-30"),
        (pd.concat([made.RISK_PARAMS, made.RISK_PARAMS.head(1)]), "two values of incentive_dear"),
        (made.risk_params(accept_rate_dear=1.2), "accept_rate_dear on 2025-09-30 is 1.2, outside"),
        (made.risk_params(accept_rate_cheap=0), "accept_rate_cheap .* outside"),
        (made.risk_params(max_high_share="many"), "'many', no number"),
        (made.risk_params(reachable_silence_days=0), "reachable_silence_days .* outside"),
        (made.risk_params(reachable_silence_days=-1), "outside its range of more than 0 to inf"),
        (made.RISK_PARAMS.assign(scope="moon"), "scope 'moon'"),
    ],
    ids=["missing", "doubled", "range", "zero", "text", "no silence", "negative", "scope"],
)
def test_wrong_parameters_are_refused(rows, message):
    with pytest.raises(RiskParameterError, match=message):
        choose_params(rows, made.SCORE_DATE)
