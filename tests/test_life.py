"""A subscription's life by months: corrected dates, returns, changes of payment, months without a row."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from engines import Engine
from warehouse import Row, Warehouse, at
from warehouse_rows import bill, bill_line, call, holding, offering, recharge

# On PostgreSQL it takes minutes; every change compares both engines in test_parity.
pytestmark = pytest.mark.deep(on="postgres")

FIRST, LAST = date(2026, 4, 1), date(2026, 11, 15)
APRIL, MAY, JUNE, JULY = date(2026, 4, 1), date(2026, 5, 1), date(2026, 6, 1), date(2026, 7, 1)
WINDOWS = [
    (FIRST, date(2026, 5, 31)),
    (date(2026, 6, 1), date(2026, 6, 10)),
    (date(2026, 6, 11), date(2026, 8, 31)),
    (date(2026, 9, 1), LAST),
]


def version(line: str, load_date: date, **values: Any) -> Row:
    """Return a version of a subscription, in service since the year before."""
    return {
        "subscription_id": line,
        "customer_id": f"c-{line}",
        "account_id": f"a-{line}",
        "brand_code": "alpha",
        "payment_type": "postpaid",
        "activated_at": at(date(2025, 1, 15)),
        "status_code": "active",
        "status_at": at(date(2025, 1, 15)),
        "province_code": "BJ",
        "event_date": load_date,
        **values,
    }


def ended(line: str, load_date: date, on: date, **values: Any) -> Row:
    """Return the version that ends a subscription."""
    return version(
        line,
        load_date,
        status_code="terminated",
        status_at=at(on),
        terminated_at=at(on),
        **values,
    )


def rows() -> dict[str, list[Row]]:
    """Return what the operator tells; `beat` is used every week, so that days are observed."""
    prepaid = {"payment_type": "prepaid"}
    subscriptions = [
        version("beat", FIRST),
        # The date of activation is corrected, to later and to earlier.
        version("later", date(2026, 5, 20), activated_at=at(date(2026, 5, 20))),
        version("later", date(2026, 6, 10), activated_at=at(date(2026, 6, 2))),
        version("earlier", date(2026, 6, 5), activated_at=at(date(2026, 6, 5))),
        version("earlier", date(2026, 6, 12), activated_at=at(date(2026, 5, 20))),
        version("a month earlier", date(2026, 5, 20), activated_at=at(date(2026, 5, 20))),
        version("a month earlier", date(2026, 6, 10), activated_at=at(date(2026, 4, 20))),
        # Silent for 103 days and back; silent by mistake; silent for good.
        version("back", FIRST, **prepaid),
        version("late", FIRST, **prepaid),
        version("silent", FIRST, **prepaid),
        # Restored eleven days after its end; an end that never was; an end on another day.
        version("restored", FIRST),
        ended("restored", date(2026, 6, 1), date(2026, 6, 1), termination_reason_code="price"),
        version("restored", date(2026, 6, 12), status_at=at(date(2026, 6, 12))),
        version("mistaken", FIRST),
        ended("mistaken", date(2026, 5, 30), date(2026, 5, 29)),
        version("mistaken", date(2026, 6, 4)),
        version("restated", FIRST),
        ended("restated", date(2026, 6, 2), date(2026, 5, 31)),
        ended("restated", date(2026, 6, 5), date(2026, 6, 1)),
        # Prepaid until 20 June, then postpaid.
        version("turns", FIRST, **prepaid),
        version("turns", date(2026, 6, 20)),
        version("recharged once", FIRST, **prepaid),
        version("recharged once", date(2026, 6, 20)),
        # Sold, and never used.
        version("waits", FIRST, status_code="pending_active", activated_at=at(FIRST)),
        # Ported out after it had been back for long.
        version("ported", FIRST),
        ended("ported", date(2026, 5, 10), date(2026, 5, 10), termination_reason_code="unpaid"),
        version("ported", date(2026, 5, 20), status_at=at(date(2026, 5, 20))),
        ended("ported", date(2026, 7, 1), date(2026, 7, 1)),
    ]
    calls = [call("beat", day, 60) for day in weeks()]
    calls += [
        call(line, date(2026, 5, 5), 60)
        for line in ("back", "late", "silent", "turns", "restored", "ported")
    ]
    calls += [
        call("back", date(2026, 8, 17), 60),
        call("late", date(2026, 7, 1), 60, load_date=date(2026, 9, 1)),
        call("late", date(2026, 9, 2), 60),
    ]
    return {
        "subscription": subscriptions,
        "cdr_voice": calls,
        "np_port": [
            {
                "port_id": "n1",
                "subscription_id": "ported",
                "direction": "out",
                "donor_operator": "own",
                "recipient_operator": "rival",
                "requested_at": at(date(2026, 6, 30)),
                "completed_at": at(date(2026, 7, 1)),
                "status": "completed",
                "event_date": date(2026, 7, 1),
            }
        ],
        "product_offering": [
            offering("plan", FIRST, fee=30),
            offering("music", FIRST, fee=10, family="vas", partner_id="SP1"),
        ],
        "subscription_offering": [
            holding("turns", "plan", FIRST),
            holding("turns", "music", date(2026, 6, 15), role="add_on"),
        ],
        "recharge": [
            # 53 yuan are 48.62 without the 9 % of 2026, 109 are 100.
            recharge("turns", date(2026, 6, 10), 53),
            recharge("turns", date(2026, 6, 18), 109),
            recharge("turns", date(2026, 6, 25), 109),
            recharge("recharged once", date(2026, 6, 10), 53),
        ],
        "bill": [bill("turns", date(2026, 7, 5))],
        "bill_line": [bill_line("turns", date(2026, 7, 5), 40, "recurring")],
    }


def weeks() -> list[date]:
    """Return a day of each week of the record."""
    return [date.fromordinal(n) for n in range(FIRST.toordinal(), LAST.toordinal() + 1, 7)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Warehouse:
    """Return the operator after its windows have come one by one."""
    warehouse = Warehouse(tmp_path_factory.mktemp("life"), engine)
    warehouse.add_all(rows())
    for first, last in WINDOWS:
        warehouse.build("core", first, last)
    warehouse.build("marts", WINDOWS[0][0], LAST)
    return warehouse


def months(world: Warehouse, line: str) -> dict[date, tuple[Any, ...]]:
    """Return opening, gross add, win-backs, churn, first published and closing by month."""
    found = world.rows(
        "select month_start, opening_flag, gross_add_flag, win_back_cnt, churn_cnt,"
        " churn_first_published_cnt, closing_flag from core.fct_subscription_month"
        f" where subscription_id = '{line}'"
    )
    return {
        row["month_start"]: tuple(int(value) for value in list(row.values())[1:]) for row in found
    }


def test_a_corrected_activation_moves_the_month_in_which_it_counts(world):
    later = months(world, "later")
    assert MAY not in later
    assert later[JUNE] == (0, 1, 0, 0, 0, 1)
    assert later[JULY] == (1, 0, 0, 0, 0, 1)
    earlier = months(world, "earlier")
    assert earlier[MAY] == (0, 1, 0, 0, 0, 1)
    assert earlier[JUNE] == (1, 0, 0, 0, 0, 1)
    a_month = months(world, "a month earlier")
    assert a_month[APRIL] == (0, 1, 0, 0, 0, 1)
    assert a_month[MAY] == a_month[JUNE] == (1, 0, 0, 0, 0, 1)


def test_a_loss_that_returns_stays_with_the_return_beside_it(world):
    back = months(world, "back")
    assert back[MAY] == (1, 0, 0, 1, 1, 0)
    assert JUNE not in back
    assert JULY not in back
    assert back[date(2026, 8, 1)] == (0, 0, 1, 0, 0, 1)
    assert world.rows(
        "select cast(confirmed_date as varchar) as confirmed, cast(revoked_date as varchar) as revoked,"
        " cast(returned_date as varchar) as returned, outcome from core.fct_churn_event"
        " where subscription_id = 'back' and event_date = date '2026-05-06'"
    ) == [
        {
            "confirmed": "2026-08-03",
            "revoked": "2026-08-17",
            "returned": "2026-08-17",
            "outcome": "won_back",
        }
    ]
    assert months(world, "restored")[JUNE] == (1, 0, 1, 1, 1, 1)


def test_a_loss_that_never_was_counts_only_as_first_published(world):
    late = months(world, "late")
    assert late[MAY] == (1, 0, 0, 0, 1, 1)
    assert late[JUNE] == (1, 0, 0, 0, 0, 1)
    assert months(world, "mistaken")[MAY] == (1, 0, 0, 0, 1, 1)
    restated = months(world, "restated")
    assert restated[MAY] == (1, 0, 0, 0, 1, 1)
    assert restated[JUNE] == (1, 0, 0, 1, 1, 0)
    assert months(world, "silent")[MAY] == (1, 0, 0, 1, 1, 0)
    assert months(world, "waits") == {}


def test_a_later_port_out_does_not_name_an_earlier_end(world):
    assert world.rows(
        "select cast(event_date as varchar) as day, kind, outcome, destination_operator"
        " from core.fct_churn_event where subscription_id = 'ported' order by 1"
    ) == [
        {
            "day": "2026-05-10",
            "kind": "voluntary",
            "outcome": "won_back",
            "destination_operator": None,
        },
        {
            "day": "2026-07-01",
            "kind": "port_out",
            "outcome": "standing",
            "destination_operator": "rival",
        },
    ]


def test_a_change_of_payment_leaves_each_days_money_where_it_was_earned(world):
    # 48.62 without tax on 10 June; of the 100 of 18 June a quarter is the partner's; on 25 June the
    # line pays bills, and the recharge is no revenue; the bill of July is.
    assert world.rows(
        "select cast(month_start as varchar) as m, payment_type, own_revenue_fen, third_party_fen,"
        " recharge_fen from core.fct_subscription_month where subscription_id = 'turns'"
        " and month_start between date '2026-06-01' and date '2026-07-01' order by 1"
    ) == [
        {
            "m": "2026-06-01",
            "payment_type": "postpaid",
            "own_revenue_fen": 12362,
            "third_party_fen": 2500,
            "recharge_fen": 27100,
        },
        {
            "m": "2026-07-01",
            "payment_type": "postpaid",
            "own_revenue_fen": 4000,
            "third_party_fen": 0,
            "recharge_fen": 0,
        },
    ]


def test_money_of_the_days_before_a_change_of_payment_stays_in_its_month_and_three_months(world):
    assert world.rows(
        "select payment_type, own_revenue_fen, recharge_fen from core.fct_subscription_month"
        " where subscription_id = 'recharged once' and month_start = date '2026-06-01'"
    ) == [{"payment_type": "postpaid", "own_revenue_fen": 4862, "recharge_fen": 5300}]
    assert world.rows(
        "select cast(month_start as varchar) as m, monetary_fen from marts.mart_rfm_month"
        " where subscription_id = 'recharged once'"
        " and month_start between date '2026-05-01' and date '2026-09-01' order by 1"
    ) == [
        {"m": "2026-05-01", "monetary_fen": 0},
        {"m": "2026-06-01", "monetary_fen": 4862},
        {"m": "2026-07-01", "monetary_fen": 4862},
        {"m": "2026-08-01", "monetary_fen": 4862},
        {"m": "2026-09-01", "monetary_fen": 0},
    ]


def test_the_movement_tells_the_same_and_which_months_are_settled_and_whole(world):
    found = world.rows(
        "select cast(month_start as varchar) as m, sum(opening) as o, sum(gross_adds) as g,"
        " sum(win_backs) as w, sum(churn) as c, sum(churn_first_published) as p, sum(closing) as e,"
        " min(case when is_settled then 1 else 0 end) as s,"
        " min(case when is_whole_month then 1 else 0 end) as whole"
        " from marts.mart_subscriber_movement group by month_start order by 1"
    )
    told = [tuple(int(v) if k != "m" else v for k, v in row.items()) for row in found]
    # In service at first: beat, back, late, silent, restored, mistaken, restated, turns, ported,
    # recharged once.
    # April: a month earlier joins. May: earlier joins; back, silent and ported are lost, ported is
    # back.
    assert told[:4] == [
        ("2026-04-01", 10, 1, 0, 0, 0, 11, 1, 1),
        ("2026-05-01", 11, 1, 1, 3, 6, 10, 1, 1),
        ("2026-06-01", 10, 1, 1, 2, 2, 10, 1, 1),
        ("2026-07-01", 10, 0, 0, 1, 1, 9, 1, 1),
    ]
    # Known until 15 November: what is silent since the end of August is not lost yet.
    assert [(row[0], *row[7:]) for row in told[4:]] == [
        ("2026-08-01", 0, 1),
        ("2026-09-01", 0, 1),
        ("2026-10-01", 0, 1),
        ("2026-11-01", 0, 0),
    ]


MARTS = ("marts.mart_subscriber_movement", "marts.mart_rfm_month", "marts.mart_pareto_month")
MONTHS = ("core.business_date", "core.fct_churn_event", "core.int_revenue")


def told(world: Warehouse, *tables: str) -> list[list[Row]]:
    """Return all rows of some tables, each table in an order of its own."""
    return [sorted(world.rows(f"select * from {table}"), key=str) for table in tables]


def test_a_correction_that_is_taken_back_leaves_no_trace_in_the_marts(world):
    """Its day moved a date that is older than all that the window of the day reads back."""
    correction = version("earlier", LAST, activated_at=at(date(2026, 6, 5)))
    without = told(world, *MARTS)

    world.add("subscription", [correction])
    for layer in ("core", "marts"):
        world.build(layer, LAST, LAST)
    corrected = told(world, *MARTS)
    with world.compute.connection() as connection:
        connection.execute(
            "delete from raw.subscription"
            f" where subscription_id = 'earlier' and load_date = date '{LAST}'"
        )
    for layer in ("core", "marts"):
        world.build(layer, LAST, LAST)

    scored = [row["month_start"] for row in corrected[1] if row["subscription_id"] == "earlier"]
    assert min(scored) == JUNE
    assert told(world, *MARTS) == without


def test_one_wide_window_tells_the_same(world):
    tables = (*MONTHS, "core.fct_subscription_month", *MARTS)
    by_windows = told(world, *tables)
    world.build("core", FIRST, LAST, full_refresh=True)
    world.build("marts", FIRST, LAST, full_refresh=True)

    assert told(world, *tables) == by_windows
