"""Fifty days of an operator to whom everything happens that only other days can tell."""

from __future__ import annotations

import random
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from warehouse import Row, Rows, Warehouse, at
from warehouse_rows import (
    bill,
    bill_line,
    call,
    county,
    customer,
    dealer,
    holding,
    offering,
    person,
    recharge,
    session,
    subscription,
)

FIRST = date(2026, 1, 5)
LAST = FIRST + timedelta(days=49)
ADULT_ON = LAST - timedelta(days=10)


# Contract tables whose rows become rows of a fact, one by one.
FACTS = {
    "bill": "fct_bill",
    "bill_line": "fct_bill_line",
    "payment": "fct_payment",
    "recharge": "fct_recharge",
    "interaction": "fct_interaction",
    "trouble_ticket": "fct_case",
    "np_port": "fct_port_request",
    "subscription_status_event": "fct_subscription_status_event",
    "subscription_offering": "fct_offering_holding",
}


def day(number: int) -> date:
    """Return a day by its number, the first one is 0."""
    return FIRST + timedelta(days=number)


def lines_of(*lines: str) -> Rows:
    """Return the masters of lines as known on the first day."""
    return {
        "subscription": [subscription(line, FIRST) for line in lines],
        "billing_account": [
            {"account_id": f"a{line[1:]}", "customer_id": f"c{line[1:]}", "status": "active"}
            | {"payment_type": "postpaid", "event_date": FIRST}
            for line in lines
        ],
        "customer": [customer(line, FIRST) for line in lines],
        "party_individual": [person(line, FIRST, 1980) for line in lines],
    }


def port(line: str, on: date, direction: str) -> Row:
    return {
        "port_id": f"p-{line}",
        "subscription_id": line,
        "donor_operator": "own" if direction == "out" else "rival",
        "recipient_operator": "rival" if direction == "out" else "own",
        "direction": direction,
        "status": "completed",
        "requested_at": at(on),
        "completed_at": at(on),
        "event_date": on,
    }


def payment(key: str, on: date, amount: int, **values: Any) -> Row:
    return {
        "payment_id": key,
        "account_id": "a1",
        "paid_at": at(on),
        "amt": amount,
        "event_date": on,
        **values,
    }


def listed(number: int, *without: str) -> list[Row]:
    """Return the key lists of a day: all lines and customers there ever are, without some keys."""
    keys = {
        "subscription": [f"s{n}" for n in range(1, 30)],
        "customer": [f"c{n}" for n in range(1, 30)],
    }
    return [
        {"table_name": table, "key_text": key, "listed_at": at(day(number), 15)}
        | {"event_date": day(number)}
        for table, of_table in keys.items()
        for key in of_table
        if key not in without
    ]


def everything() -> Rows:
    """Return fifty days of an operator to whom everything happens, each thing to a line of its own."""
    rows: Rows = {
        "operator": [
            {"operator_code": code, "name": code, "type": "MNO", "own_flag": code == "own"}
            | {"event_date": FIRST}
            for code in ("own", "rival")
        ],
        "number_range": [
            {"prefix": prefix, "operator_code": code, "valid_from": date(2020, 1, 1)}
            | {"event_date": FIRST}
            for prefix, code in (("138", "own"), ("186", "rival"))
        ],
        "geography": [county(FIRST, urban=False)],
        "dealer": [dealer("d1", FIRST, "web")],
        "product_offering": [offering("p1", FIRST)],
        **lines_of(*(f"s{n}" for n in range(1, 10))),
    }

    def put(table: str, *new: Row) -> None:
        rows.setdefault(table, []).extend(new)

    for n in range(50):
        put("cdr_voice", call("s1", day(n), 60), call("s9", day(n), 30))
        put("cdr_data", session("s1", day(n), 1))
    # Delivered again: on the next day, a week later, and once too late to be asked for.
    put("cdr_voice", *(call("s1", day(3), 60, load_date=day(n)) for n in (4, 10)))
    put("cdr_voice", call("s1", day(20), 60, load_date=day(28)))
    put("recharge", recharge("s2", day(5)), recharge("s2", day(5), load_date=day(6)))
    put("bill_line", bill_line("s1", day(7), 40, "recurring"))
    put("bill_line", bill_line("s1", day(7), 40, "recurring", load_date=day(9)))
    put("bill", bill("s1", day(7)), bill("s1", day(7), load_date=day(9), updated_at=at(day(7), 10)))
    # Late by one, three and forty days.
    put("cdr_voice", *(call("s3", day(2), n, load_date=day(2 + n)) for n in (1, 3, 40)))
    # Corrected: a payment taken back, a bill that is settled, a credit, all known later.
    put("payment", payment("x1", day(8), 53), payment("x2", day(8), -53, load_date=day(30)))
    put("bill", bill("s1", day(7), "settled", load_date=day(31)))
    put("bill_line", bill_line("s1", day(7), -7, "adjustment", line_no=2, load_date=day(31)))
    # Before the master: s10 becomes known on day 20, s11 never, nor do the customer and plan of s12.
    put("cdr_voice", *(call(line, day(12), 90) for line in ("s10", "s11")))
    put("cdr_voice", call("s10", day(25), 90))
    put("subscription", subscription("s10", day(20), activated_at=at(day(10))))
    put("subscription", subscription("s12", day(15), customer_id="c99", offering_id="p9"))
    put("subscription_offering", holding("s12", "p9", day(15)))
    put("customer", customer("s10", day(20)))
    put("billing_account", {"account_id": "a10", "customer_id": "c10", "event_date": day(20)})
    put("subscription", subscription("s1", day(33), province_code="ZZ"))
    put("subscription", subscription("s1", day(34), province_code="SH"))
    put("geography", {**county(day(34), urban=True), "county_code": "k2", "province_code": "SH"})
    # Gone and back by the lists, gone for good, and gone to come back with a change.
    put("source_key", *listed(10), *listed(14, "s4", "c4", "s5", "s6"), *listed(21, "s5", "c5"))
    put("subscription", subscription("s6", day(17), brand_code="beta"))
    # The number of s7: given to somebody else after 40 days, that of s13 after 90.
    gone = {"status_code": "terminated", "termination_reason_code": "moving"}
    put(
        "subscription",
        subscription("s7", day(2), msisdn_hash="n7", terminated_at=at(day(2)), **gone),
    )
    began = {"activated_at": at(day(42))}
    put("subscription", subscription("s20", day(42), msisdn_hash="n7", **began))
    long_ago = day(42) - timedelta(days=90)
    put(
        "subscription",
        subscription("s13", FIRST, msisdn_hash="n13", terminated_at=at(long_ago), **gone),
    )
    put("subscription", subscription("s21", day(42), msisdn_hash="n13", **began))
    put("customer", customer("s13", FIRST))
    for line in ("s20", "s21"):
        put("customer", customer(line, day(42)))
        put("cdr_voice", call(line, day(43), 77))
    put("recharge", recharge("s7", day(1)))
    # Ported out, and another line ported in.
    ported = {**gone, "termination_reason_code": "port_out", "terminated_at": at(day(18))}
    put("np_port", port("s8", day(18), "out"), port("s22", day(19), "in"))
    put("subscription", subscription("s8", day(19), **ported))
    put("subscription", subscription("s22", day(19), activated_at=at(day(19))))
    put("customer", customer("s22", day(19)))
    # Customers c2 and c3 become one, and part again; c9 comes of age.
    put("subscription", subscription("s3", day(16), customer_id="c2"))
    put("subscription", subscription("s3", day(36), customer_id="c3"))
    put("party_individual", {**person("s9", day(1), 2008), "birth_date": came_of_age()})
    # Twice on one day, and there and back.
    put(
        "subscription",
        subscription("s9", day(5), brand_code="beta", updated_at=at(day(5), 1)),
        subscription("s9", day(5), brand_code="gamma", updated_at=at(day(5), 2)),
        subscription("s9", day(6), brand_code="alpha"),
        # Recorded on the third day, between two that are known, and delivered ten days later.
        subscription("s9", day(13), brand_code="late", updated_at=at(day(3))),
    )
    return rows


def came_of_age() -> date:
    """Return the birth date of who is eighteen on `ADULT_ON`."""
    return ADULT_ON.replace(year=ADULT_ON.year - 18)


def contents(warehouse: Warehouse, schema: str = "core") -> dict[str, list[tuple[Any, ...]]]:
    with warehouse.compute.connection() as connection:
        tables = connection.execute(
            "select table_name from information_schema.tables where table_schema = ?", [schema]
        ).fetchall()
        return {
            name: connection.execute(f"select * from {schema}.{name} order by all").fetchall()
            for (name,) in tables
        }


def unequal(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """Return the tables whose rows are not the same."""
    return sorted(name for name in {*left, *right} if left.get(name) != right.get(name))


def in_any_order(warehouse: Warehouse, seed: int, parts: int) -> None:
    """Build core from nothing in windows of random size and order, as a repair does.

    After a window the later ones that had been built are built again, in order.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    cuts = sorted(chance.sample(range(1, (LAST - FIRST).days + 1), parts - 1))
    edges = [0, *cuts, (LAST - FIRST).days + 1]
    windows = [(day(a), day(b - 1)) for a, b in pairwise(edges)]
    order = list(range(parts))
    # The first one last, or nothing would have to be built again.
    chance.shuffle(order)
    if parts > 1 and order == sorted(order):
        order.reverse()
    with warehouse.compute.connection() as connection:
        connection.execute("drop schema if exists core cascade")
    built: set[int] = set()
    for number in order:
        for again in sorted({number, *(one for one in built if one > number)}):
            warehouse.build("core", *windows[again])
        built.add(number)
