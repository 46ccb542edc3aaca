"""RFM and Pareto of months that have ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from math import ceil
from typing import Any

from independent.landed import (
    Parameters,
    Row,
    Rows,
    by,
    facts,
    last_day,
    month_of,
    months_later,
    six_places,
    version_on,
)
from independent.recount_life import Life, connected, moved
from independent.recount_months import is_whole
from independent.recount_revenue import Revenue

FAMILIES = ("call", "message", "data", "recharge", "payment")
LOOK_BACK_MONTHS = 12
FREQUENCY_DAYS = 90

Days = dict[str, dict[str, set[date]]]


def active_days(rows: Rows) -> Days:
    """Return the active days of subscriptions by family of what was done."""
    found: Days = defaultdict(lambda: defaultdict(set))

    def add(row: Row, family: str) -> None:
        found[row["subscription_id"]][family].add(row["event_date"])

    for row in facts(rows, "cdr_voice"):
        if connected(row) and (row["direction"] == "out" or _charged(row)):
            add(row, "call")
    for row in facts(rows, "cdr_sms"):
        if row["direction"] == "out" or _charged(row):
            add(row, "message")
    for row in facts(rows, "cdr_data"):
        if moved(row) > 0:
            add(row, "data")
    for row in facts(rows, "recharge"):
        if not row["reversed_flag"]:
            add(row, "recharge")
    return found


def _charged(row: Row) -> bool:
    return (row.get("charge_amt") or 0) > 0


def rfm(
    rows: Rows,
    lives: dict[str, Life],
    revenue: Revenue,
    of_months: list[Row],
    first: date,
    known_until: date,
) -> list[Row]:
    """Return the rows of `rfm_month`, scored."""
    record = (first, known_until)
    active = active_days(rows)
    payments = by(facts(rows, "payment"), "account_id")
    found: list[Row] = []
    for month, members in sorted(by(of_months, "month_start").items()):
        if last_day(month) > known_until:
            continue
        measured = [
            _measures(month, row, lives[row["subscription_id"]], active, payments, revenue, record)
            for row in members
            if row["closing_flag"]
        ]
        _score(measured, month)
        found += measured
    segments = {(row["subscription_id"], row["month_start"]): row["segment"] for row in found}
    for row in found:
        before = (row["subscription_id"], months_later(row["month_start"], -1))
        row["previous_segment"] = segments.get(before)
    return found


def _measures(
    month: date,
    row: Row,
    life: Life,
    active: Days,
    payments: dict[str, list[Row]],
    revenue: Revenue,
    record: tuple[date, date],
) -> Row:
    name, end = row["subscription_id"], last_day(month)
    span = (months_later(month, 1 - LOOK_BACK_MONTHS), end)
    of_line = dict(active.get(name, {}))
    all_days = {day for family in of_line.values() for day in family}
    account = version_on(life.versions, end).get("account_id")
    of_line["payment"] = {
        paid["event_date"] for paid in payments.get(account, ()) if paid["amt"] > 0
    }
    three = [months_later(month, -back) for back in range(3)]
    begun = life.activated_on()
    return {
        "subscription_id": name,
        "month_start": month,
        **{column: row[column] for column in ("customer_id", "payment_type")},
        **{column: row[column] or "UNKNOWN" for column in ("province_code", "brand_code")},
        "recency_days": _since(all_days, *span),
        **{
            f"recency_{family}_days": _since(of_line.get(family, set()), *span)
            for family in FAMILIES
        },
        "frequency": sum(0 <= (end - day).days < FREQUENCY_DAYS for day in all_days),
        "monetary_fen": revenue.own_of(name, *three),
        "is_whole_month": is_whole(month, *record),
        "brought": any(
            sum(kind.get((name, earlier), 0) for earlier in three)
            for kind in (revenue.own, revenue.third)
        ),
        "trend": _trend(all_days, three)
        if begun and begun <= three[-1] and all(is_whole(one, *record) for one in three)
        else None,
    }


def _since(found: set[date], first: date, end: date) -> int | None:
    return min(((end - day).days for day in found if first <= day <= end), default=None)


def _trend(found: set[date], three: list[date]) -> Fraction | None:
    shares = [
        Fraction(sum(month_of(day) == month for day in found), last_day(month).day)
        for month in three
    ]
    before = (shares[1] + shares[2]) / 2
    return shares[0] / before if before else None


def _score(measured: list[Row], month: date) -> None:
    end = last_day(month)
    settings = Parameters.of_seed("param_threshold")
    rising, falling = (
        settings.get(key, "ALL", end) or Fraction(1)
        for key in ("rfm_rising_ratio", "rfm_falling_ratio")
    )
    cells = {
        tuple(int(row[f"{score}_score"]) for score in "rfm"): row["segment"]
        for row in Parameters.of_seed("rfm_cell").on(end)
    }
    for members in by(measured, "payment_type").values():
        used = any(row["recency_days"] is not None for row in members)
        billed = any(row["brought"] for row in members)
        for group in by(members, "brand_code").values():
            frequencies = quantile_scores([row["frequency"] for row in group])
            moneys = quantile_scores([row["monetary_fen"] for row in group])
            for row, frequency, money in zip(group, frequencies, moneys, strict=True):
                row["r_score"] = (
                    recency_score(row["recency_days"], row["brand_code"], row["payment_type"], end)
                    if used
                    else None
                )
                row["f_score"] = frequency if used else None
                row["m_score"] = money if billed else None
        for row in members:
            if not used:
                row["recency_days"] = row["frequency"] = None
            scores = tuple(row[f"{score}_score"] for score in "rfm")
            row["segment"] = None if None in scores else cells.get(scores, "OTHER")
    for row in measured:
        ratio = row.pop("trend")
        row.pop("brought")
        row["trend_ratio"] = six_places(ratio)
        row["frequency_trend"] = None if ratio is None else "stable"
        if ratio is not None and ratio >= rising:
            row["frequency_trend"] = "rising"
        elif ratio is not None and ratio <= falling:
            row["frequency_trend"] = "falling"


def recency_score(recency: int | None, brand: str, payment_type: str, end: date) -> int:
    """Return the highest score whose band reaches as far back; 1 where there was nothing.

    For each score a brand's band goes before a payment type's, and this before the one for all.
    """
    nearest: dict[int, tuple[tuple[bool, bool], int]] = {}
    for row in Parameters.of_seed("param_rfm_band").on(end):
        if row["brand_code"] in (brand, "ALL") and row["scope"] in (payment_type, "ALL"):
            nearness = (row["brand_code"] == brand, row["scope"] == payment_type)
            band = (nearness, int(row["max_days"]))
            score = int(row["r_score"])
            nearest[score] = max(band, nearest.get(score, band))
    return max(
        (score for score, (_, days) in nearest.items() if recency is not None and recency <= days),
        default=1,
    )


def quantile_scores(values: list[int]) -> list[int]:
    """Return scores by the quantiles of the values above zero."""
    above = [value for value in values if value > 0]
    if len(set(above)) == 1:
        return [3 if value > 0 else 1 for value in values]
    return [
        1
        if value <= 0
        else 1 + min(4, 5 * (sum(other <= value for other in above) - 1) // (len(above) - 1))
        for value in values
    ]


def pareto(of_months: list[Row], first: date, known_until: date) -> Iterator[Row]:
    """Yield the rows of `pareto_month`."""
    for month, members in sorted(by(of_months, "month_start").items()):
        if last_day(month) > known_until:
            continue
        present = [
            row
            for row in members
            if row["opening_flag"] or row["gross_add_flag"] or row["win_back_cnt"]
        ]
        groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for row in present:
            money = max(0, row["own_revenue_fen"])
            place = (row["province_code"] or "UNKNOWN", row["brand_code"] or "UNKNOWN")
            groups["province_brand", *place].append(money)
            groups["all", "ALL", "ALL"].append(money)
        for key, values in groups.items():
            level, province, brand = key
            yield {
                "month_start": month,
                "level": level,
                "province_code": province,
                "brand_code": brand,
                "is_whole_month": is_whole(month, first, known_until),
                "subscriptions": len(values),
                "revenue_fen": sum(values),
                **concentration(values),
            }


def concentration(values: list[int]) -> dict[str, Any]:
    """Return the share of the best payers, how many make most, and Gini's coefficient."""
    total, count = sum(values), len(values)
    if not total:
        return dict.fromkeys(("revenue_share_top20", "share_of_subscriptions_making_80", "gini"))
    falling = sorted(values, reverse=True)
    top = ceil(Fraction(count, 5))
    reached = next(n for n in range(1, count + 1) if 5 * sum(falling[:n]) >= 4 * total)
    gaps = sum(abs(one - other) for one in values for other in values)
    return {
        "revenue_share_top20": six_places(Fraction(sum(falling[:top]), total)),
        "share_of_subscriptions_making_80": six_places(Fraction(reached, count)),
        "gini": six_places(Fraction(gaps, 2 * count * total)),
    }
