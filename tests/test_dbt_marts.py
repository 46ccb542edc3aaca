"""Marts say the same however the windows came, and say so when they can't say anything."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from engines import Engine, run_unit_tests
from warehouse import Row, Rows, Warehouse, at
from warehouse_rows import (
    AS_OF,
    FIRST_DAY,
    SILENT,
    bill_line,
    call,
    days,
    recharge,
    session,
    small_operator,
    subscription,
)

from keepline.settings import PROJECT_DIR

MARTS = (
    "mart_rfm_month",
    "mart_pareto_month",
    "mart_subscriber_movement",
    "mart_churn_risk_daily",
    "mart_coverage",
)
LAST_DAY = date(2026, 5, 3)
# Out of their order, and with a day in the middle of a month alone.
WINDOWS = (
    (date(2026, 4, 11), date(2026, 4, 30)),
    (FIRST_DAY, date(2026, 2, 10)),
    (date(2026, 5, 1), LAST_DAY),
    (date(2026, 2, 11), date(2026, 4, 10)),
)


def spring() -> Rows:
    """Return April: a line moves, one leaves, one comes back, and rows of March arrive late."""
    rows: Rows = {"cdr_voice": [], "cdr_data": [], "recharge": [], "bill_line": []}
    for day in days(AS_OF + timedelta(days=1), LAST_DAY):
        rows["cdr_voice"] += [call(line, day, 60) for line in ("s1", "s2", "s3", "s5", "s7")]
        rows["cdr_data"].append(session("s4", day, 3))
    rows["cdr_voice"].append(call("s6", date(2026, 4, 2), 60))
    rows["cdr_voice"].append(
        call("s8", date(2026, 3, 28), 60, usage_id="late", load_date=date(2026, 4, 20))
    )
    rows["recharge"].append(recharge("s2", date(2026, 3, 30), load_date=date(2026, 5, 2)))
    rows["bill_line"].append(bill_line("s1", date(2026, 4, 5), 60, "recurring"))
    left = date(2026, 4, 28)
    rows["subscription"] = [
        subscription("s4", date(2026, 4, 15), brand_code="beta"),
        subscription("s3", date(2026, 5, 2), status_code="terminated", status_at=at(left))
        | {"terminated_at": at(left), "termination_reason_code": "price"},
    ]
    return rows


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Path:
    """Return the home that every warehouse of this file and engine has in turn."""
    return tmp_path_factory.mktemp(f"marts_{engine['compute']}") / "home"


@pytest.fixture
def warehouse(home: Path, engine: Engine) -> Warehouse:
    """Return an empty warehouse."""
    return Warehouse(home, engine)


@pytest.fixture(scope="module")
def whole(home: Path, engine: Engine) -> dict[str, list[Row]]:
    """Return the marts of half a year as one wide window makes them."""
    warehouse = half_a_year(Warehouse(home, engine))
    warehouse.build("core", FIRST_DAY, LAST_DAY)
    warehouse.build("marts", FIRST_DAY, LAST_DAY)
    return contents(warehouse)


def half_a_year(warehouse: Warehouse) -> Warehouse:
    """Tell a warehouse all that the small operator knew by `LAST_DAY`."""
    warehouse.add_all(small_operator())
    warehouse.add_all(spring())
    return warehouse


def contents(warehouse: Warehouse) -> dict[str, list[Row]]:
    """Return every row of every mart."""
    return {mart: warehouse.rows(f"select * from marts.{mart} order by all") for mart in MARTS}


def movement(rows: list[Row], month: date) -> Counter[str]:
    """Return the sums of a month's movement."""
    sums: Counter[str] = Counter()
    for row in rows:
        if row["month_start"] == month:
            sums.update({name: row[name] for name in row if type(row[name]) is int})
    return sums


@pytest.mark.deep(on="postgres")
def test_an_operator_without_any_table_gets_empty_marts_that_say_so(warehouse):
    for layer in ("core", "features", "marts"):
        warehouse.build(layer, AS_OF, AS_OF, as_of_dates=[AS_OF.isoformat()])

    found = contents(warehouse)

    assert {mart: len(found[mart]) for mart in MARTS[:-1]} == dict.fromkeys(MARTS[:-1], 0)
    assert warehouse.rows("select * from features.feat_subscription_asof") == []
    assert {row["mart_coverage"] for row in found["mart_coverage"]} == {"empty"}
    assert {row["mart_name"] for row in found["mart_coverage"]} == set(MARTS[:-1])
    sentences = {row["sentence"] for row in found["mart_coverage"] if row["is_required"]}
    assert sentences == {"No lines are known: the mart is empty."}


@pytest.mark.deep(on="postgres")
def test_an_operator_with_two_tables_gets_what_they_can_say(warehouse):
    rows = small_operator()
    warehouse.add_all({table: rows[table] for table in ("subscription", "cdr_voice")})
    for layer in ("core", "features", "marts"):
        warehouse.build(layer, FIRST_DAY, AS_OF, as_of_dates=[AS_OF.isoformat()])

    found = contents(warehouse)

    assert {row["mart_coverage"] for row in found["mart_coverage"]} == {"partial"}
    assert movement(found["mart_subscriber_movement"], date(2026, 3, 1))["closing"] == 7
    march = [row for row in found["mart_rfm_month"] if row["month_start"] == date(2026, 3, 1)]
    assert {row["frequency"] for row in march} == {40, 90}
    assert {row["r_score"] for row in march} == {5}
    # Without bills and recharges nobody's money is known: no score, no segment.
    assert {(row["monetary_fen"], row["m_score"], row["segment"]) for row in march} == {
        (0, None, None)
    }
    features = warehouse.rows("select * from features.feat_subscription_asof")
    assert len(features) == 8
    assert {row["plan_fee"] for row in features} == {None}


@pytest.mark.deep(on="postgres")
def test_marts_are_the_same_however_the_windows_came(whole, warehouse):
    half_a_year(warehouse)
    for first, last in WINDOWS:
        warehouse.build("core", first, last)
        warehouse.build("marts", first, last)

    assert contents(warehouse) == whole

    # A second time, one of them alone: nothing changes.
    warehouse.build("marts", *WINDOWS[1])
    assert contents(warehouse) == whole


@pytest.mark.deep(on="postgres")
def test_movement_balances_and_is_restated_by_what_becomes_known_later(whole):
    rows = whole["mart_subscriber_movement"]

    # s8 was silent from 15 December to 28 March, a loss of December and a return of March.
    assert movement(rows, date(2025, 12, 1))["churn"] == 1
    assert movement(rows, date(2026, 3, 1))["win_backs"] == 1
    # On 20 February s7 joined and s1 moved to another province.
    moved = Counter(migration_in=1, migration_out=1)
    assert movement(rows, date(2026, 2, 1)) == moved + Counter(opening=6, gross_adds=1, closing=7)
    # s3 left on 28 April, known on 2 May; s4 moved to another brand.
    assert movement(rows, date(2026, 4, 1)) == moved + Counter(
        opening=8, churn=1, churn_first_published=1, closing=7
    )
    # A silence that began on 2 February is a loss by 3 May, and rows come five days late: prepaid
    # losses of January may still come.
    prepaid = {row["month_start"]: row["is_settled"] for row in rows if "prepaid" in row.values()}
    assert [month for month in prepaid if not prepaid[month]] == [
        date(2026, month, 1) for month in (1, 2, 3, 4, 5)
    ]
    for row in rows:
        came = row["gross_adds"] + row["win_backs"] + row["migration_in"]
        assert row["opening"] + came - row["migration_out"] - row["churn"] == row["closing"]
    months = sorted({row["month_start"] for row in rows})
    for month, following in pairwise(months):
        assert movement(rows, month)["closing"] == movement(rows, following)["opening"]


@pytest.mark.deep(on="postgres")
def test_months_that_have_not_ended_are_not_scored(whole):
    for mart in ("mart_rfm_month", "mart_pareto_month"):
        assert max(row["month_start"] for row in whole[mart]) == date(2026, 4, 1)
    assert max(row["month_start"] for row in whole["mart_subscriber_movement"]) == date(2026, 5, 1)


@pytest.mark.deep(on="postgres")
def test_rfm_equals_a_naive_count_of_the_rows(whole):
    rows = small_operator()
    for table, more in spring().items():
        rows.setdefault(table, []).extend(more)
    found = {
        row["subscription_id"]: row
        for row in whole["mart_rfm_month"]
        if row["month_start"] == date(2026, 4, 1)
    }
    month_end = date(2026, 4, 30)
    window = set(days(date(2026, 1, 31), month_end))
    months = set(days(date(2026, 2, 1), month_end))
    assert set(found) == {f"s{n}" for n in range(1, 9)} - {"s3"}  # it left on 28 April
    for line, row in found.items():
        active = set(own_days(rows, line))
        money = sum(row_["paid_amt"] * 100 / 1.09 for row_ in paid(rows, "recharge", line, months))
        if int(line[1:]) % 2:
            money = sum(
                row_["tax_excl_amt"] * 100 for row_ in paid(rows, "bill_line", line, months)
            )
        assert row["frequency"] == len(active & window), line
        assert row["recency_days"] == (month_end - max(d for d in active if d <= month_end)).days
        assert abs(row["monetary_fen"] - money) < 2, line
    assert found[SILENT]["r_score"] < found["s2"]["r_score"]
    assert found["s4"]["brand_code"] == "beta"


def own_days(rows: Rows, line: str) -> Iterator[date]:
    """Yield the days on which a line called, wrote, used data or recharged."""
    for table in ("cdr_voice", "cdr_sms", "cdr_data", "recharge"):
        for row in rows[table]:
            if row["subscription_id"] == line and row.get("direction") != "in":
                yield row["event_date"]


def paid(rows: Rows, table: str, line: str, window: set[date]) -> Iterator[Row]:
    """Yield the rows of a line in a window of days."""
    for row in rows[table]:
        if row["subscription_id"] == line and row["event_date"] in window:
            yield row


def test_each_combination_of_scores_has_one_name():
    with (PROJECT_DIR / "dbt_project" / "seeds" / "rfm_cell.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))

    names = Counter(row["segment"] for row in cells)
    assert len({row["cell"] for row in cells}) == len(cells) == 125
    # Whoever is silent stands in no segment of those who stay, whatever was paid and used before.
    keen = {row["r_score"] for row in cells if row["segment"] in ("CHAMPIONS", "LOYAL")}
    assert keen == {"5"}
    assert (names["LOST"], names["CHAMPIONS"], names["OTHER"]) == (25, 4, 3)


def test_unit_tests_of_features_and_marts_pass(warehouse, monkeypatch):
    # dbt asks the tables that a unit test replaces for their columns.
    for layer in ("core", "features", "marts"):
        warehouse.build(layer, AS_OF, AS_OF)

    passed, said = run_unit_tests(warehouse.settings, monkeypatch, "features", "marts")

    assert said == []
    assert passed >= 12
