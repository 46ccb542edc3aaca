"""Reasons: the strongest causes first, one per perspective, in the words and units of people."""

from __future__ import annotations

from pathlib import Path

import models_ml_rows as made
import numpy as np
import pandas as pd
import pytest

from models_ml.churn.errors import FeatureMismatchError
from models_ml.churn.features import FeatureSpace, refuse_leaks
from models_ml.churn.parameters import choose_params
from models_ml.churn.reasons import Catalogue, explain

SEEDS = Path(__file__).parents[1] / "dbt_project" / "seeds"
SPACE = FeatureSpace(
    ("calls", "fee", "complaints", "brand", "share"),
    {"brand": ("ALFA", "BETA")},
    {"calls": 10.0, "fee": 9900.0, "complaints": 0.0, "brand": 1.0, "share": 0.2},
)
SAID = Catalogue.from_frame(
    pd.DataFrame(
        [
            ("calls", 3, "voice", "count", "Makes {value} calls", "Makes only {value} calls"),
            ("fee", 3, "voice", "fen", "Pays {value} yuan", "Pays only {value} yuan"),
            ("complaints", 9, "service", "count", "Complained", None),
            ("brand", 1, "life cycle", "category", "Brand {value}", "Brand {value}"),
            ("share", 5, "data", "share", "{value} % at night", "Only {value} % at night"),
        ],
        columns=["feature", "perspective", "perspective_name", "unit", "text_high", "text_low"],
    ).assign(text_below_zero=None, text_none=None, family=None)
)


def reasons_of(*contributions, **values):
    """Return the reason texts of one row, given the contributions in the order of `SPACE`."""
    row = {"calls": 5.0, "fee": 4900, "complaints": 2.0, "brand": "ALFA", "share": 0.5} | values
    padded = [*contributions, *[0.0] * (5 - len(contributions))]
    found = explain(pd.DataFrame([row]), np.array([padded]), SPACE, SAID)
    return [found[f"reason_{n}_text"][0] for n in (1, 2, 3)]


def test_each_perspective_speaks_once_while_there_are_enough():
    assert reasons_of(0.9, 0.8, 0.3, 0.1) == ["Makes only 5 calls", "Complained", "Brand ALFA"]


def test_a_perspective_speaks_twice_before_a_reason_is_left_empty():
    assert reasons_of(0.4, 0.8, 0.3) == ["Pays only 49 yuan", "Makes only 5 calls", "Complained"]


def test_only_what_raises_the_risk_is_a_reason():
    assert reasons_of(-0.4, 0.8, 0.0, -0.1) == ["Pays only 49 yuan", None, None]


def test_what_is_typical_missing_or_without_words_is_no_reason():
    # given: strong contributions of the typical fee, of no complaint and of a missing share
    said = reasons_of(0.1, 0.8, 0.9, 0.7, 0.6, fee=9900, complaints=0, brand="BETA", share=None)

    assert said == ["Makes only 5 calls", None, None]
    # below the typical value the catalogue has no words for complaints; a new brand is nobody's
    assert reasons_of(0.0, 0.0, 0.9, 0.9, complaints=-1, brand="NEW") == [None, None, None]


def test_a_value_above_the_typical_one_takes_the_high_words():
    assert reasons_of(0.9, calls=11.0) == ["Makes 11 calls", None, None]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("fee", 1_234_567, "Pays 12,346 yuan"),
        ("fee", 450, "Pays only 4.5 yuan"),
        ("share", 0.123456, "Only 12 % at night"),
        ("share", 0.001, "Less than 1 % at night"),
        ("share", 0.0, None),
        ("share", 0.203, None),
        ("calls", 3.25, "Makes only 3.2 calls"),
        ("calls", 0.01, "Makes less than 0.1 calls"),
        ("calls", 0.0, None),
        ("calls", 10.2, None),
        ("calls", -0.01, None),
    ],
)
def test_values_are_said_in_the_units_that_people_use(column, value, said):
    contributions = [0.5 if name == column else 0.0 for name in SPACE.names]

    assert reasons_of(*contributions, **{column: value})[0] == said


def shipped() -> Catalogue:
    """Return the catalogue that ships."""
    return Catalogue.from_frame(pd.read_csv(SEEDS / "feature_catalog.csv"))


def told(feature: str, value: float, typical: float) -> str | None:
    """Return how the catalogue that ships tells a value beside the typical one."""
    space = FeatureSpace((feature,), {}, {feature: typical})
    row = pd.DataFrame({feature: [value]})
    return explain(row, np.array([[1.0]]), space, shipped())["reason_1_text"][0]


@pytest.mark.parametrize(
    ("value", "typical", "said"),
    [
        (-104, -300, "The promotional price ended 104 days ago"),
        (-1, 20, "The promotional price ended 1 day ago"),
        (0, 20, "The promotional price ends today"),
        (1, -300, "The promotional price ends in 1 day"),
        (30, 200, "The promotional price ends in 30 days"),
    ],
)
def test_what_is_over_is_told_as_over(value, typical, said):
    assert told("promo_expiry_days", value, typical) == said


@pytest.mark.parametrize(
    ("feature", "value", "said"),
    [
        ("arpu_slope3m", 1250, "Spending rises by 12 yuan each month"),
        ("arpu_slope3m", -350, "Spending falls by 3.5 yuan each month"),
        ("adjustment_amt_90d", -1900, "Corrections took 19 yuan off the bills in 90 days"),
        ("offnet_mou_slope3m", -7, None),
        ("usage_drop_7d_vs_30d", -0.4, None),
        ("complaints_90d", 1, "Complained 1 time in 90 days"),
        ("complaints_90d", 2, "Complained 2 times in 90 days"),
        ("age_years", 70, None),
    ],
)
def test_a_value_is_told_as_an_agent_would_say_it_or_not_at_all(feature, value, said):
    assert told(feature, value, typical=0) == said


@pytest.mark.parametrize(
    ("feature", "value", "typical", "said"),
    [
        ("usage_drop_7d_vs_30d", 1.0, 0.0, "Did not talk at all in the last week"),
        (
            *("usage_drop_7d_vs_30d", 0.999, 0.0),
            "Talked 99 % less a day in the last week than in the last 30 days",
        ),
        ("usage_drop_7d_vs_30d", 0.001, -0.2, None),
        ("mou_m1_ratio", 0.0, 1.0, "Did not talk at all last month"),
        ("mou_m1_ratio", 0.003, 1.0, "Talked less than 1 % of the usual minutes last month"),
        ("mou_m1_ratio", 0.996, 1.02, None),
        ("mou_m1_ratio", 1.02, 1.019, None),
        ("data_active_days_m1", 0, 20, "Used no data last month"),
        ("data_night_share", 0.003, 0.0, None),
        ("onnet_contact_share", 0.0, 0.5, "Nobody in the calling circle is with us"),
        ("arpu_slope3m", -2, 0, None),
        ("recharge_cnt_90d", 0, 3, "Did not recharge in 90 days"),
        ("contacts_30d", 0, 1, "We have not contacted the line in 30 days"),
        ("broadband_flag", 0, 1, "Has no broadband with us"),
    ],
)
def test_nothing_is_told_as_nothing_and_never_as_a_figure_of_zero(feature, value, typical, said):
    assert told(feature, value, typical) == said


def test_no_text_that_ships_tells_nothing_or_the_usual_as_a_figure():
    for feature, entry in shipped().entries.items():
        if not entry.is_number:
            continue
        for value, typical in ((0.0, 3.0), (0.0, -3.0), (0.001, 0.5), (0.99999, 3.0), (1.0, 0.999)):
            text = told(feature, value, typical) or ""
            for words in ("only 0", " 0 ", "Only 0", "only 100 %", "100 % less", " 1 times"):
                assert words not in f" {text} ", (feature, value, text)
        assert "{value}" not in entry.text_none, feature


def test_two_reasons_that_say_the_same_become_one_with_the_strength_of_both():
    # given: calls are fewer by their minutes, their trend and their days, each weaker than the data
    names = ("mou_m1_ratio", "mou_slope3m", "call_active_days_m1", "data_mb_avg3m", "mou_in_avg3m")
    space = FeatureSpace(names, {}, dict(zip(names, (1.0, 0.0, 20.0, 900.0, 60.0), strict=True)))
    row = pd.DataFrame([dict(zip(names, (0.4, -30, 7, 100, 5), strict=True))])

    found = explain(row, np.array([[0.3, 0.35, 0.3, 0.5, 0.1]]), space, shipped())

    assert [found[f"reason_{n}_text"][0] for n in (1, 2, 3)] == [
        "Talks 30 minutes less each month",
        "Uses only 100 MB a month",
        "Is called only 5 minutes a month",
    ]


def test_no_text_that_ships_shows_a_minus_or_a_bracket():
    for feature, entry in shipped().entries.items():
        if entry.unit in ("flag", "category"):
            continue
        for value, typical in ((-3.0, 0.0), (-3.0, -5.0), (1.0, 0.0), (3.0, 5.0)):
            text = told(feature, value, typical) or ""
            assert "-3" not in text, (feature, text)
            assert "(s)" not in text, (feature, text)


def test_the_catalogue_and_the_parameters_that_ship_are_usable():
    words = shipped()
    params = choose_params(pd.read_csv(SEEDS / "param_risk_tier.csv"), made.SCORE_DATE)

    refuse_leaks(words.features)
    assert len(words.features) >= 60
    assert {entry.perspective for entry in words.entries.values()} == set(range(1, 11))
    assert params.treatment("dear", "postpaid").accept_rate > 0
    assert params.get("reachable_silence_days", "prepaid") == 14
    assert params.get("reachable_silence_days", "postpaid") == 3650


def test_a_catalogue_that_lists_a_feature_twice_is_refused():
    with pytest.raises(FeatureMismatchError, match="lists brand_code twice"):
        Catalogue.from_frame(pd.concat([made.CATALOG, made.CATALOG.head(1)]))
