"""Recency, frequency and money: whatever the lines are called, and nothing where nothing is known."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from engines import Engine
from warehouse import Row, Rows, Warehouse, at
from warehouse_rows import bill_line, call, days, recharge, subscription

# On PostgreSQL it takes minutes; every change compares both engines in test_parity.
pytestmark = pytest.mark.deep(on="postgres")

FIRST_DAY = date(2024, 11, 1)
LAST_DAY = date(2026, 1, 31)
JOINED = date(2025, 10, 1)
JANUARY = date(2026, 1, 1)
# Days of silence at the end of January, active days before them, yuan of the bill of January.
POSTPAID = {
    1: (0, 5, 10),
    2: (0, 10, 10),
    3: (0, 15, 10),
    4: (1, 20, 20),
    5: (2, 20, 30),
    6: (5, 20, 40),
    7: (6, 25, 40),
    8: (7, 30, 40),
    9: (14, 30, 50),
    10: (15, 40, 60),
    11: (31, 50, 70),
    12: (0, 0, 0),
}
# The same of prepaid lines; the money is that of one recharge on the last active day.
PREPAID = {
    21: (0, 5, 53),
    22: (1, 5, 53),
    23: (3, 6, 106),
    24: (10, 6, 53),
    25: (20, 7, 53),
    26: (45, 8, 159),
}
DEAD = 90
DEAD_SINCE = date(2024, 11, 20)


def operator(name: Callable[[int], str]) -> Rows:
    """Return the rows of an operator of nineteen lines, each under the name that it is given."""
    rows: Rows = {"subscription": [], "cdr_voice": [], "recharge": [], "bill_line": []}
    for number, (silent, active, yuan) in (POSTPAID | PREPAID).items():
        line, last = name(number), LAST_DAY - timedelta(days=silent)
        kind = "postpaid" if number in POSTPAID else "prepaid"
        since = {"payment_type": kind, "activated_at": at(JOINED), "status_at": at(JOINED)}
        rows["subscription"].append(subscription(line, JOINED, **since))
        if active:
            first = last - timedelta(days=active - 1)
            rows["cdr_voice"] += [call(line, day, 60) for day in days(first, last)]
        if number in PREPAID:
            rows["recharge"].append(recharge(line, last, yuan))
        elif yuan:
            rows["bill_line"].append(bill_line(line, date(2026, 1, 5), yuan, "recurring"))
    dead = {"payment_type": "prepaid", "activated_at": at(FIRST_DAY), "status_at": at(FIRST_DAY)}
    rows["subscription"].append(subscription(name(DEAD), FIRST_DAY, **dead))
    rows["cdr_voice"] += [call(name(DEAD), day, 60) for day in days(FIRST_DAY, DEAD_SINCE)]
    return rows


def usual(number: int) -> str:
    return f"s{number}"


def turned_round(number: int) -> str:
    """Name the lines so that they sort the other way round."""
    return f"s{900 - number}"


def twin(number: int) -> str:
    return f"s{500 - number}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Path:
    """Return the home that every warehouse of this file and engine has in turn."""
    return tmp_path_factory.mktemp(f"rfm_{engine['compute']}") / "home"


@pytest.fixture
def warehouse(home: Path, engine: Engine) -> Warehouse:
    """Return an empty warehouse."""
    return Warehouse(home, engine)


@pytest.fixture(scope="module")
def told(home: Path, engine: Engine) -> dict[str, list[Row]]:
    """Return the scores of the operator as one window makes them, and who was in service."""
    warehouse = Warehouse(home, engine)
    warehouse.add_all(operator(usual))
    built(warehouse)
    return {
        "rfm": warehouse.rows("select * from marts.mart_rfm_month"),
        "closing": warehouse.rows("select * from core.fct_subscription_month where closing_flag"),
    }


@pytest.fixture
def said(told: dict[str, list[Row]]) -> list[Row]:
    return told["rfm"]


@pytest.fixture
def closing(told: dict[str, list[Row]]) -> set[tuple[date, str]]:
    """Return who was in service at the end of each month, by the star."""
    return {(row["month_start"], row["subscription_id"]) for row in told["closing"]}


def built(warehouse: Warehouse) -> Warehouse:
    warehouse.build("core", FIRST_DAY, LAST_DAY)
    warehouse.build("marts", FIRST_DAY, LAST_DAY)
    return warehouse


def january(rows: Iterable[Row]) -> dict[str, Row]:
    """Return what is said of each line in January, without its names.

    The segment of December goes, too: where fifths do not fall on a line, doubling may raise a score.
    """
    gone = ("subscription_id", "customer_id", "previous_segment")
    return {
        row["subscription_id"]: {key: row[key] for key in row if key not in gone}
        for row in rows
        if row["month_start"] == JANUARY
    }


def test_the_base_is_the_closing_base_of_the_months(said, closing):
    assert {(row["month_start"], row["subscription_id"]) for row in said} == closing
    assert {month for month, _ in closing} >= {date(2025, 10, 1), JANUARY}


def test_a_prepaid_line_that_went_silent_a_year_ago_never_comes_back(said, closing):
    # It was lost the day after its last call: after a year without any, nothing is known of it at all.
    assert usual(DEAD) not in {row["subscription_id"] for row in said}
    assert usual(DEAD) not in {line for _, line in closing}


def test_scores_are_those_of_the_bands_and_of_the_quantiles(said):
    found = january(said)

    for group in (POSTPAID, PREPAID):
        active = {usual(number): values[1] for number, values in group.items()}
        money = {usual(number): found[usual(number)]["monetary_fen"] for number in group}
        assert {line: found[line]["frequency"] for line in active} == active
        assert {line: found[line]["f_score"] for line in active} == fifths(active)
        assert {line: found[line]["m_score"] for line in money} == fifths(money)
    silences = {usual(number): values[0] for number, values in (POSTPAID | PREPAID).items()}
    del silences[usual(12)]
    assert found[usual(12)]["recency_days"] is None
    assert found[usual(12)]["r_score"] == 1
    assert {line: found[line]["recency_days"] for line in silences} == silences
    bands = {line: found[line]["r_score"] for line in silences}
    assert [bands[usual(number)] for number in range(1, 12)] == [5, 5, 5, 5, 4, 4, 4, 3, 2, 2, 1]
    # A prepaid line that is silent for two weeks is out of reach; one that pays a bill is not.
    assert [bands[usual(number)] for number in PREPAID] == [5, 5, 4, 2, 1, 1]


def fifths(values: dict[str, int]) -> dict[str, int]:
    """Score values by the limits of the quantiles of type 7 of those above zero, in exact fractions."""
    above = [Fraction(value) for value in values.values() if value > 0]
    limits = statistics.quantiles(above, n=5, method="inclusive")
    return {
        line: 1 + sum(value >= limit for limit in limits) if value > 0 else 1
        for line, value in values.items()
    }


def test_equal_values_have_equal_scores(said):
    found = january(said).values()

    for score, value in (
        ("r_score", "recency_days"),
        ("f_score", "frequency"),
        ("m_score", "monetary_fen"),
    ):
        scores = defaultdict(set)
        for row in found:
            scores[row["payment_type"], row[value]].add(row[score])
        assert {len(different) for different in scores.values()} == {1}


def test_neither_names_nor_a_twin_of_every_line_change_what_is_said(said, warehouse):
    """Eleven, and six, lines above zero: five or ten steps between them, so a limit is a line's value.

    Elsewhere a limit lies between two values, and a twin of each moves it a little downwards.
    """
    warehouse.add_all(operator(turned_round))
    warehouse.add_all(operator(twin))
    built(warehouse)

    doubled = january(warehouse.rows("select * from marts.mart_rfm_month"))

    usually = january(said)
    assert len(doubled) == 2 * len(usually)
    for number in POSTPAID | PREPAID:
        assert doubled[turned_round(number)] == usually[usual(number)]
        assert doubled[twin(number)] == usually[usual(number)]


# -- an operator of bills ------------------------------------------------------------------------

BILLED_FROM = date(2025, 11, 1)


def bills_only() -> Rows:
    """Return six postpaid lines with a bill on the fifth of each month, and nothing else."""
    rows: Rows = {"subscription": [], "bill_line": []}
    for number in range(1, 7):
        line = usual(number)
        rows["subscription"].append(subscription(line, BILLED_FROM, payment_type="postpaid"))
        for day in (date(2025, 11, 5), date(2025, 12, 5), date(2026, 1, 5)):
            rows["bill_line"].append(bill_line(line, day, 10 * number, "recurring"))
    return rows


def test_a_month_ends_with_its_last_day_though_no_row_lands_on_it(warehouse):
    read = "select * from marts.mart_rfm_month order by all"
    warehouse.add_all(bills_only())
    before, after = date(2026, 1, 30), date(2026, 2, 1)
    for first, last in ((BILLED_FROM, before), (LAST_DAY, LAST_DAY), (after, after)):
        warehouse.build("core", first, last)
        warehouse.build("marts", first, last)
        ended = {date(2025, 11, 1), date(2025, 12, 1)} | ({JANUARY} if last > before else set())
        assert {row["month_start"] for row in warehouse.rows(read)} == ended
        # The other marts show the month that runs, too.
        moved = warehouse.rows("select distinct month_start from marts.mart_subscriber_movement")
        assert {row["month_start"] for row in moved} == ended | {last.replace(day=1)}
        if last == LAST_DAY:
            written = warehouse.rows(read)
    assert [row for row in warehouse.rows(read) if row["month_start"] <= JANUARY] == written

    warehouse.build("core", BILLED_FROM, LAST_DAY)
    warehouse.build("marts", BILLED_FROM, LAST_DAY)
    assert warehouse.rows(read) == written

    # Nobody is seen to use anything: there is no recency, no frequency and no name.
    found = [row for row in written if row["month_start"] == JANUARY]
    absent = ("recency_days", "frequency", "r_score", "f_score", "segment", "frequency_trend")
    assert {tuple(row[name] for name in absent) for row in found} == {(None,) * len(absent)}
    assert {row["subscription_id"]: row["m_score"] for row in found} == {
        usual(number): score for number, score in zip(range(1, 7), (1, 2, 3, 4, 5, 5), strict=True)
    }
    covered = {
        row["contract_table"]: row
        for row in warehouse.rows(
            "select * from marts.mart_coverage where mart_name = 'mart_rfm_month'"
        )
    }
    assert {row["mart_coverage"] for row in covered.values()} == {"partial"}
    assert "R, F and the segment are empty" in covered["cdr_voice"]["sentence"]
    assert covered["cdr_voice"]["table_coverage"] == "empty"
    assert covered["bill_line"]["table_coverage"] == "full"
