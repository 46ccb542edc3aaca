"""Features say what was known at the end of a day: never less, never more."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from warehouse import Row, Rows, Warehouse, at
from warehouse_rows import (
    AS_OF,
    FIRST_DAY,
    HOTLINE,
    NEW,
    SILENT,
    UNKNOWN_HOLDER,
    UNKNOWN_PLAN,
    account,
    bill,
    bill_line,
    call,
    county,
    customer,
    days,
    dealer,
    holding,
    message,
    offering,
    person,
    recharge,
    session,
    small_operator,
    subscription,
    ticket,
)

from keepline.settings import PROJECT_DIR
from models_ml.churn.features import refuse_leaks

EARLIER = date(2026, 2, 10)
UNHEARD_OF = "s9"
A_MONTH_LATER = AS_OF + timedelta(days=30)
MARCH = (date(2026, 3, 1), date(2026, 4, 1))


def facts_of_march(load_date: date) -> Rows:
    """Return rows of every table about days up to `AS_OF`, all of them known on `load_date`."""
    known: Row = {"load_date": load_date}
    on = date(2026, 3, 20)
    ended = {"status_code": "terminated", "status_at": at(on), "terminated_at": at(on)}
    return {
        "cdr_voice": [
            call("s1", on, 45, other_number_hash=HOTLINE, other_prefix="10010", **known),
            call("s2", on, 900, "in", **known),
            call(SILENT, on, 60, **known),
        ],
        "cdr_sms": [message("s1", on + timedelta(days=2), **known)],
        "cdr_data": [session("s1", on, 500, **known)],
        "bill": [bill("s1", date(2026, 3, 5), "settled", **known)],
        "bill_line": [bill_line("s1", date(2026, 3, 5), -7, "adjustment", line_no=2, **known)],
        "recharge": [recharge("s2", on, **known)],
        "interaction": [
            {"interaction_id": "late", "subscription_id": "s1", "direction": "in"}
            | {"started_at": at(on), "csat_score": 1, "event_date": on, **known}
        ],
        "trouble_ticket": [
            ticket("s1", date(2026, 3, 10), "resolved", resolved_at=at(on), **known)
        ],
        "np_port": [
            {"port_id": "n1", "subscription_id": "s1", "direction": "out", **known}
            | {"requested_at": at(on), "status": "eligibility_query", "event_date": on}
        ],
        "subscription_status_event": [
            {"event_id": "e1", "subscription_id": "s1", "to_status": "suspended", **known}
            | {"event_at": at(on), "event_date": on}
        ],
        "subscription_offering": [
            holding("s1", "v1", on, "add_on", **known),
            holding("s1", "p1", FIRST_DAY, contract_end_date=date(2027, 1, 1), **known),
        ],
        "subscription": [
            subscription("s3", load_date, **ended),
            subscription("s4", load_date, brand_code="beta"),
            subscription(UNHEARD_OF, load_date, activated_at=at(on)),
        ],
        "customer": [customer(UNKNOWN_HOLDER, load_date, "gold")],
        "party_individual": [
            person("s1", load_date, 1990),
            person(UNKNOWN_HOLDER, load_date, 1950),
        ],
        "billing_account": [account("s1", load_date, auto_pay=True)],
        "product_offering": [
            offering("p1", load_date, 80, network_gen="5G"),
            offering("p9", load_date, 90),
        ],
        "dealer": [dealer("d1", load_date, "agent"), dealer("d9", load_date, "agent")],
        "geography": [county(load_date, urban=False)],
    }


# What the rows above say, so that a table that no feature reads any more does not pass unseen.
TOLD_BY = {
    "cdr_voice": {("s1", "competitor_hotline_calls_30d"), ("s2", "competitor1_mou_share")}
    | {(SILENT, "is_alive")},
    "cdr_sms": {("s1", "sms_out_avg3m")},
    "cdr_data": {("s1", "data_mb_avg3m")},
    "bill": {("s1", "arrears_amt")},
    "bill_line": {("s1", "adjustment_amt_90d")},
    "recharge": {("s2", "recharge_cnt_90d")},
    "interaction": {("s1", "csat_last")},
    "trouble_ticket": {("s1", "complaints_open")},
    "np_port": {("s1", "port_eligibility_sms_180d")},
    "subscription_status_event": {("s1", "suspended_days_180d")},
    "subscription_offering": {("s1", "vas_active_cnt"), ("s1", "contract_flag")},
    "subscription": {("s3", "is_alive"), ("s4", "brand_code"), ("s9", "subscription_id")},
    "customer": {(UNKNOWN_HOLDER, "vip_tier")},
    "party_individual": {("s1", "age_years"), (UNKNOWN_HOLDER, "age_years")},
    "billing_account": {("s1", "auto_pay_flag")},
    "product_offering": {("s1", "plan_fee"), (UNKNOWN_PLAN, "plan_fee")},
    "dealer": {("s1", "dealer_type"), (UNKNOWN_PLAN, "dealer_type")},
    "geography": {("s1", "urban_rural_flag")},
}


def life_of_april() -> Rows:
    """Return what happens after `AS_OF`, known on its day."""
    rows: Rows = {"cdr_voice": [], "cdr_data": [], "recharge": []}
    for day in days(AS_OF + timedelta(days=1), A_MONTH_LATER):
        rows["cdr_voice"].append(call("s1", day, 600))
        rows["cdr_data"].append(session("s8", day, 50))
    rows["recharge"].append(recharge("s8", AS_OF + timedelta(days=2)))
    # References that are known later speak of usage that is known later.
    rows["competitor_hotline"] = [
        {"number_hash": "friend-of-s1", "operator_code": "rival", "event_date": A_MONTH_LATER}
    ]
    rows["number_range"] = [
        {"prefix": "138", "operator_code": "rival", "valid_from": date(2020, 1, 1)}
        | {"event_date": A_MONTH_LATER}
    ]
    return rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Return a warehouse that knows what the small operator knew at the end of `AS_OF`."""
    warehouse = Warehouse(tmp_path_factory.mktemp("features") / "home")
    warehouse.add_all(small_operator())
    warehouse.build("core", FIRST_DAY, AS_OF)
    return warehouse


@pytest.fixture(scope="module")
def known_then(base: Warehouse) -> list[Row]:
    """Return the features of `AS_OF` as they were built at the end of that day."""
    return base.features(AS_OF)


@pytest.fixture
def later(base: Warehouse, known_then: list[Row]) -> Iterator[Warehouse]:
    """Return the base warehouse to be told more; afterwards it knows nothing of that."""
    assert known_then
    base.save()
    yield base
    base.restore()


def digest(rows: Iterable[Row]) -> str:
    """Return one hash of all rows and columns."""
    return hashlib.sha256(repr([sorted(row.items()) for row in rows]).encode()).hexdigest()


def differences(left: list[Row], right: list[Row]) -> set[tuple[str, str]]:
    """Return which columns of which subscriptions differ; all of one that is on one side only."""
    old, new = ({row["subscription_id"]: row for row in rows} for rows in (left, right))
    return {
        (line, column)
        for line in {*old, *new}
        for column in left[0]
        if old.get(line, {}).get(column, "no row") != new.get(line, {}).get(column, "no row")
    }


@pytest.mark.case(56, 57)
def test_what_becomes_known_later_leaves_an_earlier_day_alone(later, known_then):
    # A month goes by: April happens, and March is corrected backwards in every table.
    later.add_all(life_of_april())
    later.add_all(facts_of_march(AS_OF + timedelta(days=3)))
    later.build("core", AS_OF + timedelta(days=1), A_MONTH_LATER)

    again = later.features(AS_OF)
    assert differences(known_then, again) == set()
    assert digest(again) == digest(known_then)

    # The same when all is built from nothing with today's knowledge in the raw tables.
    later.build("core", FIRST_DAY, A_MONTH_LATER, full_refresh=True)
    assert digest(later.features(AS_OF)) == digest(known_then)


def test_the_same_rows_known_in_time_change_the_features(later, known_then):
    # The test above would pass with features that read nothing: here every table is heard.
    later.add_all(facts_of_march(AS_OF))
    later.build("core", AS_OF, AS_OF)

    told = later.features(AS_OF)

    assert digest(told) != digest(known_then)
    changed = differences(known_then, told)
    deaf = [table for table, places in TOLD_BY.items() if not places <= changed]
    assert deaf == [], f"no feature heard of the rows of {', '.join(deaf)}"
    assert set(TOLD_BY) == set(facts_of_march(AS_OF))


def test_what_is_planned_but_has_not_happened_is_left_out(later, known_then):
    soon = AS_OF + timedelta(days=5)
    known: Row = {"load_date": AS_OF}
    rows: Rows = {
        "subscription_offering": [holding("s1", "v1", soon, "add_on", **known)],
        "subscription_status_event": [
            {"event_id": "e1", "subscription_id": "s1", "to_status": "suspended", **known}
            | {"event_at": at(soon), "event_date": soon}
        ],
        "cdr_voice": [call("s1", soon, 3600, **known)],
        "bill_line": [bill_line("s1", soon, 99, "recurring", **known)],
    }
    later.add_all(rows)
    later.build("core", AS_OF, AS_OF)

    assert differences(known_then, later.features(AS_OF)) == set()


@pytest.mark.case(69)
def test_versions_are_those_of_the_day(base):
    def told(as_of: date) -> tuple[Any, ...]:
        row = next(row for row in base.features(as_of) if row["subscription_id"] == "s1")
        names = ("vip_tier", "plan_fee", "dealer_type", "urban_rural_flag", "province_code")
        return tuple(row[name] for name in names)

    assert told(EARLIER) == ("ordinary", 4000, "web", False, "BJ")
    assert told(AS_OF) == ("silver", 5000, "own", True, "SH")


def test_several_days_in_one_run_equal_each_day_alone(base, known_then):
    assert digest(base.features(AS_OF, EARLIER)) == digest(known_then)

    together = base.features(EARLIER, AS_OF)
    alone = base.features(EARLIER)

    assert digest(together) == digest(alone)
    assert {row["as_of_date"] for row in alone} == {EARLIER}
    # Nothing of a day is left behind by another day's run, and no day is there twice.
    counted = base.rows(
        "select as_of_date, count(*) as n from features.feat_subscription_asof group by 1"
    )
    assert {row["as_of_date"]: row["n"] for row in counted} == {EARLIER: 7, AS_OF: 8}


@pytest.mark.parametrize("as_of", [AS_OF, EARLIER])
def test_features_equal_a_naive_count_of_the_rows(base, as_of):
    rows = small_operator()
    m1_start, m1_end = MARCH if as_of == AS_OF else (date(2026, 1, 1), date(2026, 2, 1))
    m3_start = date(2026, 1, 1) if as_of == AS_OF else date(2025, 11, 1)

    def known(table: str, line: str, first: date, end: date) -> Iterator[Row]:
        for row in rows[table]:
            load_date = row.get("load_date", row["event_date"])
            if row["subscription_id"] != line or max(load_date, row["event_date"]) > as_of:
                continue
            if first <= row["event_date"] < end:
                yield row

    def last_days(count: int) -> tuple[date, date]:
        return as_of - timedelta(days=count - 1), as_of + timedelta(days=1)

    features = {row["subscription_id"]: row for row in base.features(as_of)}
    for line, found in features.items():
        calls = list(known("cdr_voice", line, m3_start, m1_end))
        out_s = sum(row["duration_s"] for row in calls if row["direction"] == "out")
        all_s = sum(row["duration_s"] for row in calls)
        day_set = {row["event_date"] for row in known("cdr_voice", line, m1_start, m1_end)}
        sent = len(list(known("cdr_sms", line, m3_start, m1_end)))
        data = sum(row["bytes_down"] for row in known("cdr_data", line, m3_start, m1_end))
        recharged = list(known("recharge", line, *last_days(90)))
        billed = sum(row["tax_excl_amt"] for row in known("bill_line", line, m1_start, m1_end))
        topped = sum(row["paid_amt"] for row in known("recharge", line, m1_start, m1_end))
        expected: dict[str, Any] = {
            "mou_out_avg3m": share(out_s, 180),
            "mou_in_avg3m": share(all_s - out_s, 180),
            "in_out_ratio": share(all_s - out_s, out_s),
            "offnet_mou_share": share(all_s - out_s, all_s),
            "call_active_days_m1": len(day_set),
            "zero_call_days_m1": (m1_end - m1_start).days - len(day_set),
            "sms_out_avg3m": share(sent, 3),
            "data_mb_avg3m": share(data, 3 * 1_048_576),
            "recharge_cnt_90d": len(recharged),
            "recharge_amt_90d": sum(row["paid_amt"] for row in recharged) * 100,
            # Every service is taxed at 9 % from 2026 on.
            "arpu_m1": billed * 100 if int(line[1:]) % 2 else round(topped * 100 / 1.09),
            "inbound_calls_30d": len(list(known("interaction", line, *last_days(30)))),
        }
        assert {name: found[name] for name in expected} == expected, line


def test_a_line_is_scored_when_it_is_alive_and_old_enough(known_then):
    found = {row["subscription_id"]: row for row in known_then}

    assert found["s1"]["is_alive"]
    assert found["s1"]["on_net_3_consecutive_months"]
    assert found["s1"]["days_since_activity"] == 0
    # Activated on 20 February: one full month at the end of March.
    assert (found[NEW]["full_months_on_net"], found[NEW]["tenure_days"]) == (1, 39)
    assert found[NEW]["is_alive"]
    assert not found[NEW]["on_net_3_consecutive_months"]
    # Silent since 14 December: a prepaid line is lost after 90 days.
    assert found[SILENT]["days_since_activity"] == 107
    assert not found[SILENT]["is_alive"]
    assert all(row["known_flag"] for row in known_then)


def test_tenure_is_the_same_in_features_and_months(later):
    # To the end of the day, and full on the same day of the month.
    began = {"s21": (3, 1), "s22": (2, 1), "s23": (1, 31), "s24": (2, 28), "s25": (3, 31)}
    activated = {line: date(2026, *day) for line, day in began.items()}
    later.add(
        "subscription", [subscription(x, AS_OF, activated_at=at(activated[x])) for x in began]
    )
    later.build("core", AS_OF, AS_OF)

    for month_end in (AS_OF, date(2026, 2, 28), date(2025, 12, 31)):
        months = later.rows(
            "select subscription_id, tenure_months from core.fct_subscription_month"
            f" where month_end = date '{month_end}' and closing_flag"
        )
        known = {row["subscription_id"]: row for row in later.features(month_end)}
        told = {row["subscription_id"]: row["tenure_months"] for row in months}
        # Who became known after the month is in it by now.
        compared = set(told) & set(known)
        assert len(compared) >= 6
        assert {x: told[x] for x in compared} == {
            x: known[x]["full_months_on_net"] for x in compared
        }
        if month_end == AS_OF:
            assert {x: told[x] for x in began} == {"s21": 1, "s22": 2, "s23": 2, "s24": 1, "s25": 0}


def test_a_change_of_payment_leaves_the_revenue_of_the_months_before_it(later, known_then):
    # s1 was billed all winter: to be prepaid since today takes nothing of it away.
    later.add("subscription", [subscription("s1", AS_OF, payment_type="prepaid")])
    later.build("core", AS_OF, AS_OF)

    changed = differences(known_then, later.features(AS_OF))

    assert changed == {("s1", "payment_type"), ("s1", "province_code")}


def test_what_cannot_be_said_is_empty_and_not_no(known_then):
    found = {row["subscription_id"]: row for row in known_then}
    of_customer = ("group_customer_flag", "campus_flag", "vip_tier", "age_years")

    assert [found[UNKNOWN_HOLDER][name] for name in of_customer] == [None] * 4
    assert [found["s1"][name] for name in of_customer] == [False, False, "silver", 45]
    # Nobody knows whether a plan is 5G that the catalogue does not have.
    assert [found[line]["plan_5g_flag"] for line in ("s1", UNKNOWN_PLAN)] == [False, None]


def test_the_months_of_a_contract_are_counted_from_the_end_of_the_day(later):
    # As of 10 February: to 9 March it is a day less than a month, to 10 March it is one.
    ends = {"s1": date(2026, 3, 9), "s2": date(2026, 3, 10), "s3": EARLIER, "s4": date(2026, 2, 9)}
    later.add(
        "subscription_offering",
        [
            holding(line, "p1", FIRST_DAY, load_date=EARLIER, contract_end_date=end)
            for line, end in ends.items()
        ],
    )
    later.build("core", EARLIER, EARLIER)

    found = {row["subscription_id"]: row for row in later.features(EARLIER)}

    assert [found[line]["contract_months_left"] for line in ends] == [0, 1, 0, None]
    assert [found[line]["contract_expired_days"] for line in ends] == [None, None, None, 1]


def test_no_feature_knows_the_future_and_each_has_words():
    with (PROJECT_DIR / "dbt_project" / "seeds" / "feature_catalog.csv").open(newline="") as file:
        catalogue = list(csv.DictReader(file))

    refuse_leaks([row["feature"] for row in catalogue])
    assert len(catalogue) >= 60
    assert {int(row["perspective"]) for row in catalogue} == set(range(1, 11))
    texts = [
        [row[f"text_{when}"] for when in ("high", "low", "below_zero", "none")] for row in catalogue
    ]
    assert sum(any(words) for words in texts) >= 60
    for words in texts:
        assert all("{" not in text.replace("{value}", "") for text in words), words


def share(part: int, whole: int) -> Decimal | int | None:
    """Return a ratio with six decimals, as the features round it; nothing by nothing is nothing."""
    return round(Decimal(part) / whole, 6) if whole else None
