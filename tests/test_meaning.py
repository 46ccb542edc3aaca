"""What rows mean across days: repeated, early, unknown, deleted, late, corrected, re-used, merged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from meaning_rows import (
    ADULT_ON,
    FACTS,
    FIRST,
    LAST,
    contents,
    day,
    everything,
    in_any_order,
    unequal,
)
from warehouse import Warehouse, at
from warehouse_rows import subscription


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Return a warehouse that was told everything and built as one wide window."""
    warehouse = Warehouse(tmp_path_factory.mktemp("meaning") / "home")
    warehouse.add_all(everything())
    warehouse.build("core", FIRST, LAST)
    return warehouse


@pytest.fixture
def scratch(world: Warehouse) -> Iterator[Warehouse]:
    """Return the same warehouse to be changed; afterwards it is as before."""
    world.save()
    yield world
    world.restore()


def values(warehouse: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in warehouse.rows(sql)]


@pytest.mark.case(54, 55, 57, 66)
def test_every_row_that_came_is_in_a_fact_or_set_aside(world):
    for table, fact in FACTS.items():
        told = values(
            world,
            f"select load_date, count(*) from raw.{table} group by 1 order by 1",
        )
        kept = values(
            world,
            "select load_date, sum(n)::bigint from ("
            f"select load_date, count(*) as n from core.{fact} group by 1 union all "
            "select load_date, sum(row_cnt) from core.set_aside where reason_code = 'DUP_EARLIER' "
            f"and table_name = '{table}' group by 1) group by 1 order by 1",
        )
        assert kept == told, table
    for usage_type, table in {"voice": "cdr_voice", "sms": "cdr_sms", "data": "cdr_data"}.items():
        told = values(world, f"select count(*) from raw.{table}")
        kept = values(
            world,
            "select ((select coalesce(sum(record_cnt), 0) from core.fct_usage_daily"
            f" where usage_type = '{usage_type}')"
            " + (select coalesce(sum(row_cnt), 0) from core.set_aside"
            f" where table_name = '{table}' and reason_code = 'DUP_EARLIER'))::bigint",
        )
        assert kept == told, table


def test_what_came_before_counts_once_within_the_look_back(world):
    assert values(
        world,
        "select table_name, load_date, first_load_date from core.set_aside"
        " where reason_code = 'DUP_EARLIER' order by all",
    ) == [
        ("bill", day(9), day(7)),
        ("bill_line", day(9), day(7)),
        ("cdr_voice", day(4), day(3)),
        ("cdr_voice", day(10), day(4)),
        ("recharge", day(6), day(5)),
    ]
    # Eight days are more than is looked back: that call counts twice, as it would on any rerun.
    assert values(
        world,
        "select event_date, sum(record_cnt)::int from core.fct_usage_daily where event_date in"
        f" (date '{day(3)}', date '{day(20)}') and usage_type = 'voice' and subscription_id = 's1'"
        " group by 1 order by 1",
    ) == [(day(3), 1), (day(20), 2)]


@pytest.mark.case(54)
def test_a_code_that_nobody_knows_is_kept_and_noted(world):
    assert values(
        world,
        "select table_name, column_name, key_text, row_cnt, load_date from core.set_aside"
        " where reason_code = 'UNKNOWN_CODE' order by all",
    ) == [
        ("subscription", "offering_id", "p9", 1, day(15)),
        ("subscription", "province_code", "ZZ", 1, day(33)),
        ("subscription_offering", "offering_id", "p9", 1, day(15)),
    ]
    # The fact is there with its code, which is a member of the dimension without values.
    assert values(
        world,
        "select h.offering_id, o.is_inferred, o.offering_name, o.valid_from"
        " from core.fct_offering_holding as h join core.dim_product_offering as o using (offering_id)",
    ) == [("p9", True, None, day(15))]


@pytest.mark.case(55)
def test_a_fact_before_its_master_has_an_inferred_one_until_it_arrives(scratch):
    def members(table: str, key: str) -> list[tuple[Any, ...]]:
        return values(
            scratch,
            f"select {key}, valid_from from core.{table} where is_inferred order by 1",
        )

    assert values(
        scratch,
        "select key_text, load_date, row_cnt from core.set_aside where reason_code = 'EARLY_FACT'"
        " and table_name = 'cdr_voice' order by all",
    ) == [("s10", day(12), 1), ("s11", day(12), 1)]
    # s10 was named eight days before its master; nothing is left of the member but the note.
    assert members("dim_subscription", "subscription_id") == [("s11", day(12))]
    assert members("dim_customer", "customer_id") == [("c99", day(15))]
    assert values(
        scratch,
        "select valid_from, load_date, is_inferred from core.dim_subscription"
        " where subscription_id = 's10'",
    ) == [(day(10), day(20), False)]
    # Its calls are its own, also those from before.
    assert values(
        scratch,
        "select sum(duration_s)::int from core.fct_usage_daily where subscription_id = 's10'",
    ) == [(180,)]

    scratch.add("subscription", [subscription("s11", LAST, activated_at=at(day(11)))])
    scratch.build("core", LAST, LAST)

    assert members("dim_subscription", "subscription_id") == []
    assert values(
        scratch,
        "select valid_from, status_code, is_inferred from core.dim_subscription"
        " where subscription_id = 's11'",
    ) == [(day(11), "active", False)]


@pytest.mark.case(56)
def test_late_calls_land_in_their_day_with_the_day_that_brought_them(world):
    late = "from core.fct_usage_daily where subscription_id = 's3'"

    assert values(world, f"select event_date, load_date, duration_s {late} order by 2") == [
        (day(2), day(2 + n), n) for n in (1, 3, 40)
    ]
    # What was known of that day, one day, a week and a season later.
    for known_on, seconds in ((3, 1), (9, 4), (49, 44)):
        known = f"select sum(duration_s)::int {late} and load_date <= date '{day(known_on)}'"
        assert values(world, known) == [(seconds,)]


@pytest.mark.case(57)
def test_a_correction_is_known_from_its_own_day_on(world):
    for known_on, amount, lines, state in (
        (29, 5300, 4000, "issued"),
        (31, 0, 3300, "settled"),
    ):
        until = f"load_date <= date '{day(known_on)}'"
        assert values(
            world, f"select sum(amount_fen)::int from core.fct_payment where {until}"
        ) == [(amount,)]
        assert values(
            world, f"select sum(tax_excl_fen)::int from core.fct_bill_line where {until}"
        ) == [(lines,)]
        assert values(
            world,
            f"select state from core.fct_bill where {until} order by updated_at desc limit 1",
        ) == [(state,)]


@pytest.mark.case(58, 60, 61)
def test_changes_of_a_day_and_late_ones_are_in_order_on_both_clocks(world):
    # As known: of two changes of a day the last; back to the old value is a version of its own; a
    # change from before what was known changes nothing of what was known.
    assert values(
        world,
        "select brand_code, valid_from, valid_to from core.dim_subscription"
        " where subscription_id = 's9' order by valid_from",
    ) == [
        ("alpha", date(2025, 1, 15), day(5)),
        ("gamma", day(5), day(6)),
        ("alpha", day(6), date(9999, 12, 31)),
    ]
    # As it came: no change is lost, whatever the dimension says of its day.
    assert values(
        world,
        "select brand_code, updated_at, load_date from staging.stg_bss__subscription"
        " where subscription_id = 's9' order by updated_at",
    ) == [
        ("alpha", at(FIRST, 10), FIRST),
        ("late", at(day(3)), day(13)),
        ("beta", at(day(5), 1), day(5)),
        ("gamma", at(day(5), 2), day(5)),
        ("alpha", at(day(6), 10), day(6)),
    ]


@pytest.mark.case(62, 63)
def test_a_key_that_is_gone_is_closed_and_reopens_with_a_gap(world):
    def versions(line: str) -> list[tuple[Any, ...]]:
        return values(
            world,
            "select valid_from, valid_to, is_current from core.dim_subscription"
            f" where subscription_id = '{line}' order by 1",
        )

    activated, end = date(2025, 1, 15), date(9999, 12, 31)
    # Back with a list, gone for good, back with a change.
    assert versions("s4") == [(activated, day(14), False), (day(21), end, True)]
    assert versions("s5") == [(activated, day(14), False)]
    assert versions("s6") == [(activated, day(14), False), (day(17), end, True)]
    assert values(
        world, "select valid_from, valid_to from core.dim_customer where customer_id = 'c5'"
    ) == [(date(2020, 1, 1), day(21))]
    # Nothing vanishes: the line that is gone leaves the base as a loss, and the months balance.
    assert values(
        world,
        "select subscription_id, kind, event_date, revoked_date from core.fct_churn_event"
        " where reason_code = 'deleted' order by 1",
    ) == [
        ("s4", "administrative", day(14), day(21)),
        ("s5", "administrative", day(14), None),
        ("s6", "administrative", day(14), day(17)),
    ]
    assert values(
        world,
        "select month_start, opening_flag, churn_cnt, closing_flag"
        " from core.fct_subscription_month where subscription_id in ('s4', 's5') order by all",
    ) == [
        (date(2026, 1, 1), True, 0, True),
        (date(2026, 1, 1), True, 1, False),
        (date(2026, 2, 1), True, 0, True),
    ]


@pytest.mark.case(65, 66)
def test_a_number_that_is_used_again_joins_nobody(world):
    # 40 days after its end the number is suspect, 90 days after it is not.
    assert values(
        world,
        "select key_text, load_date from core.set_aside where reason_code = 'SUSPECT_REUSE'",
    ) == [("s20", day(42))]
    assert values(
        world,
        "select subscription_id, is_suspect_reuse, customer_id, activated_date"
        " from core.dim_subscription where msisdn_hash in ('n7', 'n13') order by all",
    ) == [
        ("s13", False, "c13", date(2025, 1, 15)),
        ("s20", True, "c20", day(42)),
        ("s21", False, "c21", day(42)),
        ("s7", False, "c7", date(2025, 1, 15)),
    ]
    # Both have the facts that are their own and none of the holder before.
    for line in ("s20", "s21"):
        usage = f"select sum(duration_s)::int from core.fct_usage_daily where subscription_id = '{line}'"
        assert values(world, usage) == [(77,)]
        assert values(
            world, f"select count(*) from core.fct_recharge where subscription_id = '{line}'"
        ) == [(0,)]


@pytest.mark.case(67)
def test_a_ported_number_is_lost_once_and_won_once(world):
    assert values(
        world,
        "select kind, destination_operator, event_date, count(*) over ()::int"
        " from core.fct_churn_event where subscription_id = 's8'",
    ) == [("port_out", "rival", day(18), 1)]
    months = values(
        world,
        "select month_start, opening_flag, gross_add_flag, tenure_months"
        " from core.fct_subscription_month where subscription_id = 's22' order by 1",
    )
    assert months == [(date(2026, 1, 1), False, True, 0), (date(2026, 2, 1), True, False, 1)]


@pytest.mark.case(68)
def test_merged_and_split_customers_keep_their_totals(world):
    def holders(on: date) -> list[tuple[Any, ...]]:
        return values(
            world,
            "select customer_id, count(*) from core.dim_subscription where subscription_id in"
            f" ('s2', 's3') and valid_from <= date '{on}' and valid_to > date '{on}'"
            f" and load_date <= date '{on}' group by 1 order by 1",
        )

    assert holders(day(15)) == [("c2", 1), ("c3", 1)]
    assert holders(day(16)) == [("c2", 2)]
    assert holders(day(36)) == [("c2", 1), ("c3", 1)]
    # January is told with the customer of its end, February with that of its own.
    assert values(
        world,
        "select month_start, customer_id from core.fct_subscription_month"
        " where subscription_id = 's3' order by 1",
    ) == [(date(2026, 1, 1), "c2"), (date(2026, 2, 1), "c3")]


@pytest.mark.case(66, 69, 71)
def test_marketing_sees_who_is_of_age_and_where_they_are_on_the_day(scratch):
    days = [day(32), ADULT_ON - timedelta(days=1), ADULT_ON, day(45)]
    with scratch.compute.connection() as connection:
        for score_date in days:
            for line in ("s1", "s9", "s20"):
                connection.execute(
                    "insert into ml.fct_churn_score (score_date, subscription_id,"
                    " churn_probability, risk_tier) values (?, ?, 0.5, 'HIGH')",
                    [score_date, line],
                )
    scratch.build("marts", FIRST, LAST)

    assert values(
        scratch,
        "select score_date, province_code from marts.mart_churn_risk_daily"
        " where subscription_id = 's1' order by 1",
    ) == [(days[0], "BJ"), *((one, "SH") for one in days[1:])]
    assert values(
        scratch,
        "select score_date, ineligible_reason, eligible_flag from marts.mart_churn_risk_daily"
        " where subscription_id = 's9' order by 1",
    ) == [
        (days[0], "MINOR", False),
        (days[1], "MINOR", False),
        (days[2], None, True),
        (days[3], None, True),
    ]
    assert values(
        scratch,
        "select ineligible_reason from marts.mart_churn_risk_daily"
        f" where subscription_id = 's20' and score_date = date '{days[3]}'",
    ) == [("SUSPECT_REUSE",)]


def test_any_windows_in_any_order_give_the_tables_of_one(scratch):
    whole = contents(scratch)

    in_any_order(scratch, seed=7, parts=2)

    assert unequal(whole, contents(scratch)) == []


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(6))
def test_many_windows_in_any_order_give_the_tables_of_one(scratch, seed):
    whole = contents(scratch)

    in_any_order(scratch, seed=seed, parts=5)

    assert unequal(whole, contents(scratch)) == []


def test_an_old_window_that_shrinks_takes_its_months_with_it(scratch):
    # Two late calls of one day: the first of them is taken out again, as a corrected delivery does.
    with scratch.compute.connection() as connection:
        connection.execute(
            "delete from raw.cdr_voice where subscription_id = 's3' and load_date = ?", [day(5)]
        )
    scratch.build("core", day(5), day(5))

    assert values(
        scratch,
        "select voice_out_s from core.fct_subscription_month where subscription_id = 's3'"
        " and month_start = date '2026-01-01'",
    ) == [(41,)]
