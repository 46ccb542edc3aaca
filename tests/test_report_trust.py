"""What the report says of its own trust: checks, model, coverage, and why something is not there."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest
from report_store import (
    JUNE_30,
    MARCH,
    MAY,
    MODEL,
    Morning,
    check,
    figure,
    loss,
    movement,
    page_of,
    risk,
    save_model,
    words,
)

from keepline import ops
from keepline.errors import BadDataError
from keepline.report import formats, outcome, write_report
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
        need | {"contract_table": "cdr_data", "table_coverage": "partial", "sentence": "A sample."},
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
    assert "1 of 1 mart had to do without a table or with part of one" in said
    assert "mart.rfm_month partial cdr_sms empty No messages." in said
    assert "mart.rfm_month partial cdr_data partial A sample." in said
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
    assert "lost in the 30 days that begin 7 days after the score date" in said
    assert "Prepaid: a note of the training." in said
    assert "Postpaid: too little to train on: 3 leavers." in said
    assert "Synthetic data" in said
    calibration = figure(page, "plot-calibration-0")["data"][1]
    assert (calibration["x"], calibration["y"]) == ([0.01], [0.02])


def test_said_is_compared_with_what_came(settings: Settings) -> None:
    # given scores of 22 April, whose window of 29 April + 30 days ends with May, which is settled
    day = date(2026, 4, 24)
    morning = Morning(settings)
    save_model(settings, said_and_came=[
        {"tier": "LOW", "subscriptions": 9, "said": 9.0, "came": 9},
    ])  # fmt: skip
    morning.rows["mart_subscriber_movement"] = [
        movement(MARCH, payment_type="prepaid", opening=1, closing=1),
        movement(MAY, payment_type="prepaid", opening=1, closing=1, is_settled=False),
        movement(MAY, payment_type="postpaid", opening=1, closing=1),
    ]
    post = {"payment_type": "postpaid", "score_date": day}
    morning.rows["mart_churn_risk_daily"] = [
        # 40 lines of HIGH at 50 %: 20 are said to leave
        *(risk(f"h{n}", "HIGH", churn_probability=0.5, **post) for n in range(40)),
        # 500 lines of LOW at 1 %: 5 are said to leave
        *(risk(f"l{n}", "LOW", churn_probability=0.01, **post) for n in range(500)),
        # no risk, no comparison
        risk("new", "NEW", **post),
        risk("far", "SILENT", churn_probability=0.9, **post),
        # a day later the window is not over by the end of May; prepaid March is long gone
        risk("h0", "HIGH", payment_type="postpaid", score_date=day + timedelta(days=1)),
        risk("p0", "HIGH", score_date=day),
        risk("h0", "HIGH", payment_type="postpaid"),
    ]
    in_window = day + timedelta(days=8)
    morning.rows["fct_churn_event"] = [
        # five of HIGH left: three willingly, in the window's first and last day, one of them came back
        loss("h0", "voluntary", in_window),
        loss("h1", "port_out", day + timedelta(days=37)),
        loss("h2", "voluntary", in_window, outcome="won_back", returned_date=JUNE_30),
        # ... and two by a silence that had begun before
        loss("h3", "inactivity", day - timedelta(days=3), confirmed_date=day + timedelta(days=87)),
        loss("h4", "inactivity", in_window, confirmed_date=day + timedelta(days=98)),
        # not counted: found to be none, too late, over before the scoring
        loss("h5", "voluntary", in_window, outcome="corrected"),
        loss("h6", "voluntary", day + timedelta(days=38)),
        loss("h7", "inactivity", date(2026, 1, 5), confirmed_date=date(2026, 4, 4),
             outcome="won_back", returned_date=date(2026, 4, 10)),
        loss("h10", "voluntary", date(2026, 4, 10), confirmed_date=date(2026, 5, 2),
             outcome="won_back", returned_date=date(2026, 4, 15)),
        # not judged: left before the window, left against their will
        loss("h8", "voluntary", day + timedelta(days=7)),
        loss("h9", "involuntary", in_window),
        # of LOW seven left
        *(loss(f"l{n}", "voluntary", in_window) for n in range(7)),
        loss("far", "inactivity", day - timedelta(days=40), confirmed_date=day + timedelta(days=50)),
    ]  # fmt: skip

    # when
    page = page_of(morning)

    # then 5 of 38 lines left where 19 were said to; 7 instead of 5 may be chance
    said = words(page)
    judged = "scores of 2026-04-24"
    assert f"postpaid HIGH ▼ fewer left than said 19.0 5 0.26 38 {judged}" in said
    assert f"postpaid LOW {outcome.MORE}, may be chance 5.0 7 1.40 500 {judged}" in said
    assert f"postpaid all tiers ▼ fewer left than said 24.0 12 0.50 538 {judged}" in said
    assert page.count("▼ fewer") == 2
    # prepaid lines are told by the test of their model, until scores of theirs are old enough
    assert "prepaid LOW as said 9.0 9 1.00 9 the model's test" in said
    assert "No published score is old enough" not in said


def test_test_of_the_model_is_told_until_scores_are_old_enough(settings: Settings) -> None:
    # given the first morning
    morning = Morning(settings)
    morning.rows["mart_churn_risk_daily"] = [risk("s1", "HIGH")]
    save_model(settings, said_and_came=[
        {"tier": "HIGH", "subscriptions": 100, "said": 40.25, "came": 60},
        {"tier": "MEDIUM", "subscriptions": 0, "said": 0.0, "came": 0},
        {"tier": "LOW", "subscriptions": 3000, "said": 30.0, "came": 33},
        {"tier": "TOTAL", "subscriptions": 3100, "said": 70.25, "came": 93},
    ])  # fmt: skip

    # when
    page = page_of(morning)

    # then
    said = words(page)
    assert (
        "No published score is old enough to be compared with what came: its 37 days have to be over, "
        "and the month in which they end has to be settled. Until then the model's own test" in said
    )
    assert "prepaid HIGH ▲ more left than said 40.2 60 1.49 100 the model's test" in said
    assert "prepaid LOW as said 30.0 33 1.10 3,000 the model's test" in said
    assert "prepaid all tiers ▲ more left than said 70.2 93 1.32 3,100 the model's test" in said
    assert "prepaid MEDIUM" not in said
    assert '<tr class="warn"><td>prepaid</td><td>HIGH</td>' in page
    assert "<tr><td>prepaid</td><td>LOW</td>" in page


def test_model_that_does_not_say_it_by_tier_is_told(settings: Settings) -> None:
    morning = Morning(settings)
    morning.rows["mart_churn_risk_daily"] = [risk("s1", "HIGH")]
    save_model(settings)

    assert "Nor does the document of the model say it by tier" in words(page_of(morning))


@pytest.mark.parametrize(
    ("said", "came", "words"),
    [
        (0.0, 0, outcome.AS_SAID),
        (100.0, 85, outcome.AS_SAID),
        (100.0, 115, outcome.AS_SAID),
        # 84 of 100: one in twenty times by chance; 79 of 100: one in sixty
        (100.0, 84, f"{outcome.FEWER}, {outcome.MAY_BE_CHANCE}"),
        (100.0, 79, outcome.FEWER),
        # of a thousand the same share is no chance
        (1000.0, 840, outcome.FEWER),
        (1000.0, 1160, outcome.MORE),
        # e^-3 = 5 %; e^-4 = 2 %
        (3.0, 0, f"{outcome.FEWER}, {outcome.MAY_BE_CHANCE}"),
        (4.0, 0, outcome.FEWER),
        # 1 - e^-.02 = 2 %; 1 - e^-.03 = 3 %
        (0.02, 1, outcome.MORE),
        (0.03, 1, f"{outcome.MORE}, {outcome.MAY_BE_CHANCE}"),
        (0.0, 1, outcome.MORE),
        (50_000.0, 30_000, outcome.FEWER),
    ],
)
def test_differences_that_may_be_chance_are_not_flagged(said: float, came: int, words: str) -> None:
    assert outcome.verdict(said, came) == words


@pytest.mark.parametrize(
    ("silence", "told"), [(60, "a silence of 60 days"), (None, "as many days")]
)
def test_silence_by_which_a_line_is_lost_is_that_of_the_losses(
    settings: Settings, silence: int | None, told: str
) -> None:
    # given losses by two definitions, the newer of which asks for 60 days, or none
    morning = Morning(settings)
    if silence:
        morning.rows["fct_churn_event"] = [
            loss("s1", "inactivity", date(2026, 1, 1)),
            loss("s2", "inactivity", date(2026, 4, 1), definition_code=f"INACTIVITY_{silence}"),
            loss("s3", "voluntary", date(2026, 5, 1)),
        ]

    assert told in words(page_of(morning))


def test_revenue_is_not_called_worth_or_margin(settings: Settings) -> None:
    morning = Morning(settings)
    morning.rows["mart_churn_risk_daily"] = [risk("s1", "HIGH")]
    save_model(settings)

    said = words(page_of(morning)).lower()

    assert "12-month revenue" in said
    assert "costs are not known, so it is no profit" in said
    assert "margin" not in said
    assert "worth" not in said.replace("worth more than it costs", "").replace(
        "worth a dear offer", ""
    )


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
        "No churn by place: no whole month has ended yet.",
        "the first comes when one has ended. No lines are known: the mart is empty.",
        "Not measured: the mart pareto_month holds no whole month yet.",
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
    assert "Lines to call 0 there is no model, see below" in said


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
