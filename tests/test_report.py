"""The morning report: what the page says is what readers see in the release, and nothing else."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from report_store import (
    JUNE,
    JUNE_30,
    MARCH,
    MAY,
    Morning,
    figure,
    movement,
    page_of,
    realistic,
    risk,
    save_model,
    words,
)

from keepline import release, store
from keepline.errors import UsageError
from keepline.report import worth, write_report
from keepline.report.rows import RfmBand
from keepline.settings import Settings


def names(morning: Morning) -> None:
    """Name brand B1 and province P1; B2 and P2 stay codes."""
    morning.rows["dim_brand"] = [
        {"brand_key": "old", "brand_code": "B1", "brand_name": "Old name", "is_current": False},
        {"brand_key": "new", "brand_code": "B1", "brand_name": "Star <b>", "is_current": True},
    ]
    morning.rows["dim_geography"] = [
        {"geography_key": "g", "county_code": "c", "province_code": "P1", "province_name": "北京",
         "is_current": True}
    ]  # fmt: skip


def test_headline_is_the_last_month_that_is_settled(settings: Settings) -> None:
    # given March, whose losses are all known at the end of June, and June, whose are not
    morning = Morning(settings)
    names(morning)
    morning.rows["mart_subscriber_movement"] = [
        movement(MARCH, "B1", "P1", opening=100, gross_adds=10, churn=5, closing=105),
        movement(MARCH, "B2", "P2", opening=50, churn=2, closing=48),
        movement(JUNE, "B1", "P1", opening=105, gross_adds=7, migration_in=1, migration_out=2,
                 churn=1, closing=110, is_settled=False),
        movement(JUNE, "B2", "P2", opening=48, gross_adds=3, migration_in=2, migration_out=1,
                 closing=52, is_settled=False),
    ]  # fmt: skip

    # when
    page = page_of(morning)

    # then the tiles, the way of the base and the places are March's: 7 of 150 were lost
    said = words(page)
    assert (
        "Base 153 lines at the end of Mar 2026, +3 in the month. Provisional: 162 at the end of Jun 2026"
        in said
    )
    assert (
        "Churn 4.7 % 7 lines lost in Mar 2026, the last month of which all losses are known. "
        "Provisional: 0.7 % (1 line) in Jun 2026; prepaid losses are still coming in" in said
    )
    assert figure(page, "plot-base-last")["data"][0]["y"] == [150, 10, -7, 153]
    churn = figure(page, "plot-churn-places")["data"][0]
    assert (churn["y"], churn["x"]) == (["Star <b>", "B2"], ["P2", "北京"])
    assert churn["z"] == [[None, 0.05], [0.04, None]]

    # then June is in the chart, shaded, and called provisional
    base, new, left = figure(page, "plot-base-months")["data"]
    assert base["y"] == [153, 162]
    assert new["y"] == [10, 10]
    assert left["y"] == [-7, -1]
    shaded = figure(page, "plot-base-months")["layout"]["shapes"]
    assert {(shape["x0"], shape["x1"]) for shape in shaded} == {(0.5, 1.5)}
    assert "Shaded months are provisional: prepaid losses are still coming in." in said
    assert "Jun 2026 153 +10 0 0 -1 162 0.7 % -1 provisional" in said
    assert "Mar 2026 150 +10 0 0 -7 153 4.7 % -7 settled" in said
    assert "Every month adds up" in said
    assert "<b>Star" not in page
    assert "Star <b>" in said


def test_month_is_settled_when_it_is_for_every_payment_type_that_has_lines(
    settings: Settings,
) -> None:
    # given May, settled for postpaid lines alone, and a payment type that nobody has in March
    morning = Morning(settings)
    morning.rows["mart_subscriber_movement"] = [
        movement(MARCH, opening=100, churn=2, closing=98),
        movement(MARCH, payment_type="hybrid", is_settled=False),
        movement(MAY, opening=98, churn=1, closing=97, is_settled=False),
        movement(MAY, opening=10, churn=5, closing=5, payment_type="postpaid"),
    ]

    # when
    said = words(page_of(morning))

    # then
    assert "Churn 2.0 % 2 lines lost in Mar 2026" in said
    assert "Provisional: 5.6 % (6 lines) in May 2026; prepaid losses are still coming in" in said


def test_no_churn_is_told_before_a_month_is_settled(settings: Settings) -> None:
    # given a whole month whose losses are not all known
    morning = Morning(settings)
    morning.rows["mart_subscriber_movement"] = [
        movement(JUNE, opening=100, churn=1, closing=99, is_settled=False)
    ]

    # when
    page = page_of(morning)

    # then what is known stands beside the word, never as the figure
    said = words(page)
    assert (
        "Churn not known no whole month is settled yet. Provisional: 1.0 % (1 line) in Jun 2026"
        in said
    )
    assert (
        "Base, provisional 99 lines at the end of Jun 2026, -1 in the month; prepaid losses" in said
    )
    assert "Churn is that of Jun 2026 and provisional" in said
    assert "Churn in Jun 2026, provisional: lines lost, of the base before." in said


def test_months_that_are_not_whole_are_marked_and_compared_with_none(settings: Settings) -> None:
    # given a record that begins on 27 May and a business date in the middle of July
    july = date(2026, 7, 1)
    morning = Morning(settings)
    morning.rows["mart_subscriber_movement"] = [
        movement(MAY, opening=100, gross_adds=1, churn=9, closing=92, is_whole_month=False),
        movement(JUNE, opening=92, gross_adds=4, churn=2, closing=94),
        movement(july, opening=94, churn=50, closing=44, is_whole_month=False, is_settled=False),
    ]

    # when
    page = write_report(settings, morning.publish(date(2026, 7, 15))).read_text()

    # then
    said = words(page)
    assert "Churn 2.2 % 2 lines lost in Jun 2026" in said
    assert figure(page, "plot-base-months")["data"][2]["y"] == [-2]
    assert figure(page, "plot-churn-places")["data"][0]["z"] == [[2 / 92]]
    assert "May 2026 is no whole month (the record begins within it)" in said
    assert "Jul 2026 is no whole month (counted up to 2026-07-15)" in said
    assert "May 2026 100 +1 0 0 -9 92 - -9 not whole" in said
    assert "Jul 2026 94 0 0 0 -50 44 - -50 not whole" in said


def test_first_month_of_a_record_that_has_ended_is_not_called_running(settings: Settings) -> None:
    morning = Morning(settings)
    morning.rows["mart_subscriber_movement"] = [
        movement(JUNE, opening=10, churn=1, closing=9, is_whole_month=False)
    ]

    said = words(page_of(morning))

    assert "Jun 2026 is no whole month (the record begins within it)" in said
    assert "No chart: no whole month has ended yet." in said
    assert "Churn not known no whole month has ended yet" in said


def test_returns_and_corrections_are_told(settings: Settings) -> None:
    # given 8 losses in March, of which 3 were found to be none, and 4 lines that came back
    morning = Morning(settings)
    morning.rows["mart_subscriber_movement"] = [
        movement(MARCH, opening=100, gross_adds=10, win_backs=4, churn=5,
                 churn_first_published=8, closing=109),
        movement(MAY, opening=109, churn=2, closing=107),
    ]  # fmt: skip

    # when
    page = page_of(morning)

    # then
    said = words(page)
    assert "Every month adds up: before + new + won back + moved - left = after." in said
    assert (
        "Corrected: 3 losses that had been told turned out to be none (3 of 8 in Mar 2026). Churn is "
        "as known now." in said
    )
    assert "Mar 2026 100 +10 +4 0 -5 109 5.0 % -8 settled" in said
    months = {bar["name"]: bar["y"] for bar in figure(page, "plot-base-months")["data"]}
    assert months["won back"] == [4, 0]
    # the last settled month is May, without returns
    assert figure(page, "plot-base-last")["data"][0]["x"] == ["before", "new", "left", "after"]


def test_returns_are_a_step_of_the_month(settings: Settings) -> None:
    morning = Morning(settings)
    morning.rows["mart_subscriber_movement"] = [
        movement(
            MARCH, opening=100, gross_adds=10, win_backs=4, migration_in=3, churn=5, closing=112
        )
    ]

    page = page_of(morning)

    way = figure(page, "plot-base-last")["data"][0]
    assert way["x"] == ["before", "new", "won back", "moved", "left", "after"]
    assert way["y"] == [100, 10, 4, 3, -5, 112]
    assert "Corrected:" not in words(page)


def test_month_that_does_not_add_up_is_named(settings: Settings) -> None:
    morning = Morning(settings)
    morning.rows["mart_subscriber_movement"] = [
        movement(MAY, opening=100, gross_adds=10, churn=5, closing=105),
        movement(JUNE, opening=105, gross_adds=10, win_backs=1, churn=5, closing=110),
    ]

    said = words(page_of(morning))

    assert "is not after in Jun 2026: do not use these months" in said
    assert "Every month adds up" not in said


def test_risk_is_that_of_the_newest_score_date(settings: Settings) -> None:
    # given two days of scores
    yesterday = JUNE_30 - timedelta(days=1)
    morning = Morning(settings)
    save_model(settings)
    morning.rows["mart_churn_risk_daily"] = [
        risk("s1", "LOW", score_date=yesterday),
        risk("s1", "HIGH", churn_probability=0.5, clv_12m_fen=123_456),
        risk("s2", "HIGH", churn_probability=0.25, clv_12m_fen=100_000, brand_code="B2"),
        risk("s3", "LOW", province_code="P2"),
        risk("s4", "NEW"),
    ]

    # when
    page = page_of(morning)

    # then
    tiers = {bar["name"]: bar["x"] for bar in figure(page, "plot-tiers")["data"]}
    assert tiers == {"HIGH": [0, 2], "LOW": [1, 1], "NEW": [0, 1]}
    high = figure(page, "plot-risk-places")["data"][0]
    assert (high["y"], high["x"]) == (["B2", "B1"], ["P1", "P2"])
    assert high["z"] == [[1.0, None], [1.0, 0.0]]
    said = words(page)
    assert "Lines to call 2 tier HIGH, 66.7 % of the 3 lines that have a risk" in said
    # half of 1,234.56, a quarter of 1,000 and a hundredth of 1,000
    assert (
        "Expected loss ¥877 risk times 12-month revenue of the 3 lines that have a risk: HIGH ¥867, "
        "LOW ¥10" in said
    )


def test_expected_loss_is_that_of_all_tiers(settings: Settings) -> None:
    # given two lines of HIGH and a hundred of LOW, each worth 1,000 a year
    morning = Morning(settings)
    save_model(settings)
    morning.rows["mart_churn_risk_daily"] = [
        *(risk(f"h{n}", "HIGH", churn_probability=0.5) for n in range(2)),
        *(risk(f"l{n}", "LOW", churn_probability=0.03) for n in range(100)),
        risk("n", "NEW"),
    ]

    # when
    said = words(page_of(morning))

    # then three quarters of the loss are in LOW
    assert "Expected loss ¥4,000" in said
    assert "HIGH ¥1,000, LOW ¥3,000" in said
    assert "2 1.9 % ¥2,000 ¥1,000 25.0 % 2 ¥200" in said
    assert "100 97.1 % ¥100,000 ¥3,000 75.0 % - -" in said
    assert "all 103 100.0 % ¥102,000 ¥4,000 100.0 % 2 ¥200" in said
    # by brand: all lines with a risk, and their whole loss
    assert "B1 - - 102 ¥4,000 2 2.0 % 0 ¥2,000" in said


def test_those_who_may_not_be_contacted_are_no_lines_to_call(settings: Settings) -> None:
    # given four lines of HIGH, two of which may not be called, and one such line of MEDIUM
    morning = Morning(settings)
    save_model(settings)
    barred = {"eligible_flag": False, "expected_profit_of_contact_fen": 700_000}
    morning.rows["mart_churn_risk_daily"] = [
        risk("h1", "HIGH"),
        risk("h2", "HIGH"),
        risk("h3", "HIGH", ineligible_reason="SUSPENDED", **barred),
        risk("h4", "HIGH", ineligible_reason="MINOR", **barred),
        risk("m1", "MEDIUM", ineligible_reason="SUSPECT_REUSE", **barred),
        risk("l1", "LOW", ineligible_reason="NOT_ACTIVE", eligible_flag=False),
    ]

    # when
    page = page_of(morning)

    # then count and money are of those who can be called, and the others are told
    said = words(page)
    assert (
        "Lines to call 2 tier HIGH, 33.3 % of the 6 lines that have a risk. 2 more may not be "
        "contacted (1 under age, 1 suspended)" in said
    )
    assert "4 66.7 % ¥4,000 ¥2,000 90.5 % 2 ¥200" in said
    assert "1 16.7 % ¥1,000 ¥200 9.0 % 0 ¥0" in said
    assert "HIGH: 2 more may not be contacted (1 under age, 1 suspended)." in said
    assert "MEDIUM: 1 more may not be contacted (1 number had another holder)." in said
    assert figure(page, "plot-risk-places")["data"][0]["z"] == [[2 / 6]]
    assert "¥7,000" not in said


def test_tier_of_whom_nobody_may_be_contacted_is_told(settings: Settings) -> None:
    morning = Morning(settings)
    save_model(settings)
    morning.rows["mart_churn_risk_daily"] = [
        risk("h1", "HIGH", eligible_flag=False, ineligible_reason="SUSPENDED")
    ]

    said = words(page_of(morning))

    assert "Lines to call 0 tier HIGH, 0.0 % of the 1 line that has a risk" in said
    assert "Nobody: of the lines in tier HIGH none may be contacted." in said


def test_lines_beyond_reach_have_no_risk_and_are_not_called_safe(settings: Settings) -> None:
    # given two lines that are silent for too long, one of them from when such lines had a risk
    morning = Morning(settings)
    save_model(settings)
    morning.rows["mart_churn_risk_daily"] = [
        risk("h", "HIGH"),
        risk("l", "LOW"),
        risk("s1", "SILENT", ineligible_reason="SILENT"),
        risk("s2", "SILENT", ineligible_reason="SILENT", churn_probability=0.97),
        risk("x", "LOW", churn_probability=None),
    ]

    # when
    page = page_of(morning)

    # then
    said = words(page)
    assert "Lines to call 1 tier HIGH, 50.0 % of the 2 lines that have a risk" in said
    # 500 of the HIGH line and 10 of the LOW one
    assert "Expected loss ¥510" in said
    assert "SILENT: 3 lines beyond reach, silent for too long. No risk is told for them" in said
    assert "they are not safe" in said
    tiers = {bar["name"]: bar["x"] for bar in figure(page, "plot-tiers")["data"]}
    assert tiers == {"HIGH": [1], "LOW": [1], "SILENT": [3]}
    assert "3 60.0 % - - - - -" in said


def test_those_to_call_are_ranked_and_masked(settings: Settings) -> None:
    # given more lines at risk than the page has room for, one of them not for marketing
    morning = Morning(settings)
    save_model(settings)
    morning.rows["mart_churn_risk_daily"] = [
        risk("m1", "MEDIUM", expected_profit_of_contact_fen=999_900, msisdn_masked="139****9999"),
        risk("s0", "HIGH", expected_profit_of_contact_fen=888_800, msisdn_masked="139****8888",
             eligible_flag=False, ineligible_reason="SUSPENDED"),
        *(risk(f"id-{n}", "HIGH", expected_profit_of_contact_fen=n * 100, msisdn_masked=f"138****{n:04d}",
               reason_1_text=f"First reason {n}", reason_2_text="Second < reason")
          for n in range(1, 10)),
    ]  # fmt: skip

    # when
    page = page_of(morning)

    # then
    assert re.findall(r"1\d\d\*{4}\d{4}", page) == [
        *(f"138****{n:04d}" for n in range(9, 0, -1)),
        "139****9999",
    ]
    said = words(page)
    assert "First reason 9 Second < reason" in said
    assert "id-" not in said


def test_rfm_and_pareto_are_those_of_the_newest_month(settings: Settings) -> None:
    def rfm(
        line: str, r: int, f: int, fen: int, segment: str, trend: str | None
    ) -> dict[str, object]:
        return {
            "subscription_id": line, "month_start": JUNE, "brand_code": "B1", "r_score": r,
            "f_score": f, "m_score": 3, "monetary_fen": fen, "segment": segment, "frequency_trend": trend,
            "payment_type": "prepaid", "recency_days": {5: f - 5, 1: 40}[r], "is_whole_month": True,
        }  # fmt: skip

    def concentration(month: date, brand: str, top: str) -> dict[str, object]:
        return {
            "month_start": month, "brand_code": brand, "province_code": "ALL" if brand == "ALL" else "P1",
            "subscriptions": 10, "revenue_fen": 1_000_00, "revenue_share_top20": top,
            "share_of_subscriptions_making_80": "0.300000", "gini": "0.5",
            "is_whole_month": True,
        }  # fmt: skip

    # given
    morning = Morning(settings)
    morning.rows["mart_rfm_month"] = [
        rfm("s1", 5, 5, 30_000, "Champions", "rising"),
        rfm("s2", 5, 5, 10_000, "Champions", "stable"),
        rfm("s3", 1, 2, 10_000, "Lost", None),
        rfm("s4", 1, 2, 0, "Lost", "falling") | {"brand_code": "B2"},
        rfm("s1", 1, 1, 99, "Lost", "falling") | {"month_start": MAY},
    ]
    # ...and later months that are not whole
    july = date(2026, 7, 1)
    morning.rows["mart_rfm_month"].append(
        rfm("s9", 1, 1, 1, "Lost", None) | {"month_start": july, "is_whole_month": False}
    )
    morning.rows["mart_pareto_month"] = [
        concentration(july, "ALL", "0.990000") | {"is_whole_month": False},
        concentration(MAY, "ALL", "0.850000"),
        concentration(JUNE, "ALL", "0.610000"),
        concentration(JUNE, "B1", "0.550000"),
    ]

    # when
    page = page_of(morning)

    # then
    cells = figure(page, "plot-rfm")["data"][0]
    assert cells["z"][4][4] == 400.0
    assert cells["text"][4][4] == "<b>2</b><br>¥400"
    assert cells["text"][1][0] == "<b>2</b><br>¥100"
    lines, revenue = figure(page, "plot-segments")["data"]
    assert (revenue["y"], revenue["x"]) == (["Lost", "Champions"], [0.2, 0.8])
    assert lines["x"] == [0.5, 0.5]
    trends = {bar["name"]: bar["customdata"] for bar in figure(page, "plot-trends")["data"]}
    assert trends == {"rising": [0, 1], "stable": [0, 1], "falling": [1, 0], "no trend": [0, 1]}
    assert figure(page, "plot-pareto-months")["data"][0]["y"] == [0.85, 0.61]
    assert figure(page, "plot-pareto-places")["data"][0]["z"] == [[0.55]]
    assert "Recency, by the last use: 5: 0 days ago; 1: 40 days ago." in words(page)
    assert "Nothing to score" not in words(page)
    assert "4 lines at the end of Jun 2026, scored 1 to 5" in words(page)
    assert "No: in Jun 2026 the top fifth of 10 lines brought 61.0 % of ¥1,000" in words(page)


def test_lines_without_facts_have_no_scores_and_the_page_says_why(settings: Settings) -> None:
    def rfm(line: str, kind: str, **more: object) -> dict[str, object]:
        nothing = {
            "frequency": None,
            "r_score": None,
            "f_score": None,
            "m_score": None,
            "segment": None,
        }
        return {"subscription_id": line, "month_start": JUNE, "brand_code": "B1", "payment_type": kind,
                "is_whole_month": True, "frequency_trend": None, **nothing, **more}  # fmt: skip

    # given postpaid lines of which bills alone are known, and prepaid lines that are used and silent
    morning = Morning(settings)
    morning.rows["mart_rfm_month"] = [
        rfm("p1", "postpaid", m_score=3, monetary_fen=5_000),
        rfm("p2", "postpaid", m_score=3, monetary_fen=5_000),
        rfm("u1", "prepaid", recency_days=2, r_score=5, f_score=3),
        rfm("u2", "prepaid", recency_days=None, r_score=1, f_score=1),
        rfm("u3", "prepaid", recency_days=35, r_score=1, f_score=1),
    ]
    need = {"mart_name": "mart_rfm_month", "source_system": "x", "mart_coverage": "partial"}
    morning.rows["mart_coverage"] = [
        need | {"contract_table": "recharge", "table_coverage": "empty",
                "sentence": "Recharges are not seen."},
    ]  # fmt: skip

    # when
    page = page_of(morning)

    # then no line without facts is on the map, and no segment is drawn
    said = words(page)
    cells = figure(page, "plot-rfm")["data"][0]["text"]
    assert (cells[2][4], cells[0][0]) == ("<b>1</b>", "<b>2</b>")
    assert "plot-segments" not in page
    assert (
        "Nothing to score for the recency and frequency of 2 lines of payment type postpaid (of this "
        "payment type no use and no recharge in twelve months is known); the money of 3 lines of "
        "payment type prepaid (of this payment type no revenue in three months is known). Without all "
        "three scores there is no segment: 5 lines have none. Recharges are not seen." in said
    )
    assert (
        "Recency, by the last use: 5: 2 days ago; 1: 35 days ago or not in twelve months." in said
    )
    assert "No trend: no line was used in three months that can be compared." in said


def test_operator_without_usage_and_revenue_has_no_map(settings: Settings) -> None:
    morning = Morning(settings)
    morning.rows["mart_rfm_month"] = [
        {"subscription_id": "s", "month_start": JUNE, "payment_type": "postpaid", "r_score": None,
         "f_score": None, "m_score": None, "segment": None, "frequency_trend": None,
         "is_whole_month": True}
    ]  # fmt: skip

    page = page_of(morning)

    assert 'data-plot="plot-rfm' not in page
    assert "Nothing to score for the recency and frequency of 1 line" in words(page)


def test_page_loads_nothing_and_is_the_same_each_time(settings: Settings) -> None:
    # given
    morning = realistic(settings, lines=300)
    save_model(settings)
    release_id = morning.publish()

    # when
    path = write_report(settings, release_id)
    first = path.read_bytes()
    again = write_report(settings, release_id)

    # then
    assert again == path
    assert path.read_bytes() == first
    assert path == settings.reports_dir / str(release_id) / "index.html"
    latest = settings.reports_dir / "latest.html"
    assert latest.resolve() == path
    assert not Path(latest.readlink()).is_absolute()
    page = first.decode()
    own = page.replace(_plotly(page), "")
    assert "default-src 'none'" in own
    assert not re.findall(r"""(?:https?:)?//[a-z]|@import|url\(""", own)
    assert re.findall(r"<link[^>]*>", own) == ['<link rel="icon" href="data:,">']
    assert set(re.findall(r'(?:src|href)="([^"]*)"', own)) <= {
        "data:,",
        *re.findall(r'"(#[\w-]+)"', own),
    }
    ids = re.findall(r'\bid="([^"]+)"', own)
    assert len(ids) == len(set(ids))


def _plotly(page: str) -> str:
    found = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    libraries = [script for script in found if len(script) > 1_000_000]
    assert len(libraries) == 1, "Plotly is in the page once"
    return libraries[0]


def test_report_is_of_the_release_that_readers_see(settings: Settings) -> None:
    # given two releases
    morning = Morning(settings)
    first = morning.publish(JUNE_30 - timedelta(days=1))
    morning.rows["mart_subscriber_movement"] = [movement(JUNE, opening=1, gross_adds=1, closing=2)]
    second = morning.publish(JUNE_30)
    page = write_report(settings, second).read_text()

    # then the older one has no page until it is rolled back to
    with pytest.raises(UsageError, match=f"readers see release {second}, not {first}"):
        write_report(settings, first)
    release.rollback(settings)
    assert "holds no month yet" in words(write_report(settings, first).read_text())
    assert (settings.reports_dir / "latest.html").resolve().parent.name == str(first)
    release.rollback(settings, second)
    assert write_report(settings, second).read_text() == page
    with pytest.raises(UsageError, match="there is no release 99"):
        write_report(settings, 99)


def test_marts_are_read_with_the_rights_of_bi_reader(settings: Settings) -> None:
    release_id = Morning(settings).publish()
    with store.connect(settings) as connection:
        connection.execute("revoke select on mart.pareto_month from bi_reader")

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="pareto_month"):
        write_report(settings, release_id)


def test_payment_types_with_bands_of_their_own_are_told_apart():
    bands = [
        RfmBand("postpaid", 5, 0, 1, has_silent=False),
        RfmBand("postpaid", 4, 2, 6, has_silent=False),
        RfmBand("prepaid", 5, 0, 1, has_silent=False),
        RfmBand("prepaid", 4, 2, 3, has_silent=False),
    ]

    said = worth._bands(bands)

    assert said == (
        "Recency of postpaid lines, by the last use: 5: 0 to 1 day ago; 4: 2 to 6 days ago. "
        "Recency of prepaid lines, by the last use: 5: 0 to 1 day ago; 4: 2 to 3 days ago."
    )
