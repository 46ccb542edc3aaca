"""What the report says of its own trust: checks, model, coverage, and why something is not there."""

from __future__ import annotations

import json

import pytest
from report_store import JUNE_30, MODEL, Morning, check, figure, page_of, risk, save_model, words

from keepline import ops
from keepline.errors import BadDataError
from keepline.report import formats, write_report
from keepline.settings import Settings


def test_checks_quarantine_and_coverage_are_told(settings: Settings) -> None:
    # given
    morning = Morning(settings)
    morning.checks = [
        check("recharge", "volume is as usual"),
        check("mart.rfm_month", "each line once a month", success=False, severity="warning"),
        check("mart.churn_risk_daily", "no tier is empty", success=False),
    ]
    morning.balances = [
        ops.Reconciliation("recharge", JUNE_30, 10, 7, {"BAD_DATE": 2}, 1, {}, balanced=True),
        ops.Reconciliation("payment", JUNE_30, 5, 4, {}, 0, {}, balanced=False),
    ]
    need = {"mart_name": "mart_rfm_month", "source_system": "bss", "mart_coverage": "partial"}
    morning.rows["mart_coverage"] = [
        need | {"contract_table": "recharge", "table_coverage": "full", "sentence": "Covered."},
        need | {"contract_table": "cdr_sms", "table_coverage": "empty", "sentence": "No messages."},
    ]

    # when
    said = words(page_of(morning))

    # then
    assert "Checks passed 1 of 3" in said
    assert "Landed: 1 of 1 passed; leaving: 0 of 2 passed." in said
    assert said.index("no tier is empty") < said.index("each line once a month")
    assert said.index("each line once a month") < said.index("volume is as usual")
    assert "15 rows arrived in 2 batches: 11 loaded, 2 set aside, 1 left out" in said
    assert "1 batch does not add up" in said
    assert "BAD_DATE recharge 2" in said
    assert "1 of 1 mart had to do without a table" in said
    assert "mart.rfm_month partial cdr_sms No messages." in said
    assert "Covered." not in said


def test_model_quality_is_that_of_the_model_that_scored(settings: Settings) -> None:
    # given a model for prepaid lines alone
    morning = Morning(settings)
    morning.rows["mart_churn_risk_daily"] = [risk("s1", "HIGH"), risk("s2", "NODATA")]
    save_model(settings, reliability=[{"said": 0.01, "seen": 0.02, "n": 50}])
    scores = settings.exchange_dir / "scores" / "score_date=2026-06-30"
    scores.mkdir(parents=True)
    runs = {"run-1": {"sentences": ["postpaid: too little to train on: 3 leavers"]}}
    (scores / "_manifest.json").write_text(json.dumps({"runs": runs}))

    # when
    page = page_of(morning)

    # then
    said = words(page)
    assert f"Model {MODEL}, trained on what was known on 2026-06-29" in said
    assert "prepaid later month 500 15 3.0 % 3.1 % 0.812 0.250 4.2 0.0212 0.40 %" in said
    assert "lost in the 60 days that begin 7 days after the score date" in said
    assert "Prepaid: a note of the training." in said
    assert "Postpaid: too little to train on: 3 leavers." in said
    assert "Synthetic data" in said
    calibration = figure(page, "plot-calibration-0")["data"][1]
    assert (calibration["x"], calibration["y"]) == ([0.01], [0.02])


def test_model_that_scored_but_is_gone_stops_the_report(settings: Settings) -> None:
    morning = Morning(settings)
    morning.rows["mart_churn_risk_daily"] = [risk("s1", "HIGH")]
    release_id = morning.publish()

    with pytest.raises(BadDataError, match=f"model {MODEL} scored this release, but .*model.json"):
        write_report(settings, release_id)


def test_empty_marts_say_why_they_are_empty(settings: Settings) -> None:
    # given an operator who exists and of whom nothing is known
    settings = settings.model_copy(update={"operator": "megaline"})
    morning = Morning(settings)
    morning.rows["mart_coverage"] = [
        {"mart_name": "mart_rfm_month", "contract_table": "subscription", "table_coverage": "empty",
         "mart_coverage": "empty", "sentence": "No lines are known: the mart is empty."}
    ]  # fmt: skip

    # when
    page = page_of(morning)

    # then
    said = words(page)
    for sentence in (
        "Nobody: nobody was scored.",
        "No movement: the mart subscriber_movement holds no month yet.",
        "No churn by place: no month has ended yet.",
        "the first one comes when a month has ended. No lines are known: the mart is empty.",
        "Not measured: the mart pareto_month holds no month yet.",
        "No model scored this release. Nothing was trained before this release.",
        "No check was recorded for this release: do not rely on it.",
        "No arrival is on record for 2026-06-30.",
    ):
        assert sentence in said
    assert "data-plot=" not in page.replace("script[data-plot]", "")
    assert "Synthetic" not in said


def test_lines_without_a_model_say_what_training_said(settings: Settings) -> None:
    # given lines that nobody could score
    morning = Morning(settings)
    morning.rows["mart_churn_risk_daily"] = [risk("s1", "NODATA"), risk("s2", "NEW")]
    scores = settings.exchange_dir / "scores" / "score_date=2026-06-30"
    scores.mkdir(parents=True)
    runs = {"run-1": {"sentences": ["prepaid: too little to train on: 34 leavers among 3214 rows"]}}
    (scores / "_manifest.json").write_text(json.dumps({"runs": runs}))

    # when
    said = words(page_of(morning))

    # then
    assert (
        "No model scored this release. Prepaid: too little to train on: 34 leavers among 3214 rows."
        in said
    )
    assert "High risk 0 there is no model, see below" in said


@pytest.mark.parametrize(
    ("fen", "long", "short"),
    [
        (0, "¥0", "¥0"),
        (123_456, "¥1,235", "¥1.2k"),
        (-150_000, "-¥1,500", "-¥1.5k"),
        (99_994_999, "¥999,950", "¥1.0m"),
        (12_345_678_900, "¥123,456,789", "¥123m"),
        (None, "-", None),
    ],
)
def test_fen_are_written_as_yuan(fen: int | None, long: str, short: str | None) -> None:
    assert formats.yuan(fen) == long
    assert fen is None or formats.short_yuan(fen) == short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
    ],
)
def test_seconds_are_written_short(value: float, text: str) -> None:
    assert formats.seconds(value) == text


@pytest.mark.parametrize(
    ("probability", "text"),
    [(None, "-"), (0.0, "< 1 %"), (0.0149, "1 %"), (0.5, "50 %"), (0.99, "99 %"), (1.0, "> 99 %")],
)
def test_no_risk_is_written_as_certain(probability: float | None, text: str) -> None:
    assert formats.risk(probability) == text


@pytest.mark.parametrize(
    ("code", "text"),
    [("ABOUT_TO_SLEEP", "About to sleep"), ("CANT_LOSE", "Can't lose"), ("Loyal", "Loyal")],
)
def test_codes_are_written_as_words(code: str, text: str) -> None:
    assert formats.title(code) == text


def test_sentence_keeps_the_name_that_it_begins_with() -> None:
    assert formats.sentence("vip_tier: 0.3 % are new") == "vip_tier: 0.3 % are new."
    assert formats.sentence("prepaid: too few.") == "Prepaid: too few."
