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
    page_of,
    realistic,
    risk,
    save_model,
    words,
)

from keepline import release, store
from keepline.errors import UsageError
from keepline.report import write_report
from keepline.settings import Settings


def movement(month_start: date, brand: str, province: str, *numbers: int) -> dict[str, object]:
    names = ("opening", "gross_adds", "migration_in", "migration_out", "churn", "closing")
    place: dict[str, object] = {
        "month_start": month_start,
        "brand_code": brand,
        "province_code": province,
        "payment_type": "prepaid",
        "activation_channel": "SHOP",
    }
    return place | dict(zip(names, numbers, strict=True))


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


def test_base_and_churn_are_those_of_the_movement_mart(settings: Settings) -> None:
    # given March, whose losses are all known at the end of June, and June, whose are not
    morning = Morning(settings)
    names(morning)
    morning.rows["mart_subscriber_movement"] = [
        movement(MARCH, "B1", "P1", 100, 10, 0, 0, 5, 105),
        movement(MARCH, "B2", "P2", 50, 0, 0, 0, 2, 48),
        movement(JUNE, "B1", "P1", 105, 7, 1, 2, 1, 110),
        movement(JUNE, "B2", "P2", 48, 3, 2, 1, 0, 52),
    ]

    # when
    page = page_of(morning)

    # then
    base, new, left = figure(page, "plot-base-months")["data"]
    assert base["y"] == [153, 162]
    assert new["y"] == [10, 10]
    assert left["y"] == [-7, -1]
    shaded = figure(page, "plot-base-months")["layout"]["shapes"]
    assert {(shape["x0"], shape["x1"]) for shape in shaded} == {(0.5, 1.5)}
    assert figure(page, "plot-base-last")["data"][0]["y"] == [153, 10, -1, 162]
    churn = figure(page, "plot-churn-places")["data"][0]
    assert (churn["y"], churn["x"]) == (["Star <b>", "B2"], ["P2", "北京"])
    assert churn["z"] == [[None, 0.05], [0.04, None]]
    said = words(page)
    assert "Base 162 lines at the end of Jun 2026, +9" in said
    assert "0.7 % 1 lines lost in Jun 2026, so far; 4.7 % in Mar 2026" in said
    assert "Every month adds up" in said
    assert "<b>Star" not in page
    assert "Star <b>" in said


def test_month_that_does_not_add_up_is_named(settings: Settings) -> None:
    morning = Morning(settings)
    morning.rows["mart_subscriber_movement"] = [
        movement(MAY, "B1", "P1", 100, 10, 0, 0, 5, 105),
        movement(JUNE, "B1", "P1", 105, 10, 0, 0, 5, 111),
    ]

    said = words(page_of(morning))

    assert "is not after in Jun 2026: do not use these months" in said
    assert "Every month adds up" not in said


def test_month_that_has_not_ended_is_no_churn_of_last_month(settings: Settings) -> None:
    # given a business date in the middle of June
    day = date(2026, 6, 15)
    morning = Morning(settings)
    morning.rows["mart_subscriber_movement"] = [
        movement(MAY, "B1", "P1", 100, 10, 0, 0, 5, 105),
        movement(JUNE, "B1", "P1", 105, 3, 0, 0, 50, 58),
    ]

    # when
    page = write_report(settings, morning.publish(day)).read_text()

    # then
    said = words(page)
    assert "5.0 % 5 lines lost in May 2026, so far" in said
    assert "Jun 2026 is counted up to 2026-06-15" in said
    assert "Jun 2026 (not ended)" in said
    assert figure(page, "plot-churn-places")["data"][0]["z"] == [[0.05]]


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
    assert high["z"] == [[1.0, None], [0.5, 0.0]]
    said = words(page)
    assert "High risk 2 50.0 % of the lines scored" in said
    assert (
        "Worth at risk ¥2,235 12-month worth of tier HIGH; ¥867 of it is the loss to expect" in said
    )


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
            "f_score": f, "monetary_fen": fen, "segment": segment, "frequency_trend": trend,
        }  # fmt: skip

    def concentration(month: date, brand: str, top: str) -> dict[str, object]:
        return {
            "month_start": month, "brand_code": brand, "province_code": "ALL" if brand == "ALL" else "P1",
            "subscriptions": 10, "revenue_fen": 1_000_00, "revenue_share_top20": top,
            "share_of_subscriptions_making_80": "0.300000", "gini": "0.5",
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
    morning.rows["mart_pareto_month"] = [
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
    assert trends == {"rising": [0, 1], "stable": [0, 1], "falling": [1, 0], "too new": [0, 1]}
    assert figure(page, "plot-pareto-months")["data"][0]["y"] == [0.85, 0.61]
    assert figure(page, "plot-pareto-places")["data"][0]["z"] == [[0.55]]
    assert "No: in Jun 2026 the top fifth of 10 lines brought 61.0 % of ¥1,000" in words(page)


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
    morning.rows["mart_subscriber_movement"] = [movement(JUNE, "B1", "P1", 1, 1, 0, 0, 0, 2)]
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
