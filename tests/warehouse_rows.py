"""An operator of eight lines, to fill a warehouse with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from warehouse import Row, Rows, at

FIRST_DAY = date(2025, 11, 1)
AS_OF = date(2026, 3, 31)
OWN, OTHER = "138", "186"
HOTLINE = "hash-of-a-hotline"
SILENT, NEW, UNKNOWN_HOLDER, UNKNOWN_PLAN = "s8", "s7", "s5", "s6"
CHANGED = date(2026, 2, 20)


def days(first: date, last: date) -> Iterator[date]:
    """Yield the days from first to last, both included."""
    while first <= last:
        yield first
        first += timedelta(days=1)


def subscription(line: str, load_date: date, **values: Any) -> Row:
    """Return a version of a line; odd lines are postpaid."""
    number = int(line[1:])
    return {
        "subscription_id": line,
        "customer_id": f"c{number}",
        "account_id": f"a{number}",
        "msisdn_masked": f"138****000{number}",
        "brand_code": "alpha",
        "payment_type": "postpaid" if number % 2 else "prepaid",
        "offering_id": "p1",
        "dealer_id": "d1",
        "activation_channel": "shop",
        "activated_at": at(date(2025, 1, 15)),
        "status_code": "active",
        "status_at": at(date(2025, 1, 15)),
        "province_code": "BJ",
        "county_code": "k1",
        "real_name_verified": True,
        "event_date": load_date,
        **values,
    }


def call(line: str, day: date, seconds: int, direction: str = "out", **values: Any) -> Row:
    """Return a completed call with another operator when it comes in, else with our own."""
    return {
        "usage_id": f"v-{line}-{day}-{direction}-{seconds}",
        "subscription_id": line,
        "other_number_hash": f"friend-of-{line}",
        "other_prefix": OWN if direction == "out" else OTHER,
        "direction": direction,
        "start_at": at(day),
        "duration_s": seconds,
        "roam_type": "home",
        "call_type": "local",
        "status": "completed",
        "event_date": day,
        **values,
    }


def message(line: str, day: date, **values: Any) -> Row:
    """Return a message that the line sends to a person."""
    return {
        "usage_id": f"s-{line}-{day}",
        "subscription_id": line,
        "other_number_hash": f"friend-of-{line}",
        "other_prefix": OWN,
        "direction": "out",
        "sent_at": at(day),
        "sms_class": "p2p",
        "event_date": day,
        **values,
    }


def session(line: str, day: date, megabytes: int, **values: Any) -> Row:
    """Return a data session."""
    return {
        "usage_id": f"d-{line}-{day}-{megabytes}",
        "subscription_id": line,
        "session_start_at": at(day),
        "bytes_up": 0,
        "bytes_down": megabytes * 1_048_576,
        "roam_type": "home",
        "event_date": day,
        **values,
    }


def bill(line: str, day: date, state: str = "issued", **values: Any) -> Row:
    """Return a version of the bill of a line's account, 53.00 yuan, due after twenty days."""
    return {
        "bill_id": f"b-{line}-{day}",
        "account_id": f"a{line[1:]}",
        "period_start": day - timedelta(days=30),
        "period_end": day,
        "bill_date": day,
        "due_date": day + timedelta(days=20),
        "amount_due_amt": 53,
        "remaining_amt": 53 if state == "issued" else 0,
        "state": state,
        "event_date": day,
        **values,
    }


def bill_line(line: str, day: date, amount: int, charge_class: str, **values: Any) -> Row:
    """Return a line of that bill, yuan without tax."""
    return {
        "bill_id": f"b-{line}-{day}",
        "line_no": 1,
        "subscription_id": line,
        "charge_class": charge_class,
        "third_party_flag": False,
        "tax_excl_amt": amount,
        "tax_amt": 0,
        "billed_date": day,
        "event_date": day,
        **values,
    }


def recharge(line: str, day: date, paid: int = 53, **values: Any) -> Row:
    """Return a recharge, yuan."""
    return {
        "recharge_id": f"r-{line}-{day}",
        "subscription_id": line,
        "recharged_at": at(day),
        "face_amt": paid,
        "paid_amt": paid,
        "reversed_flag": False,
        "event_date": day,
        **values,
    }


def small_operator() -> Rows:
    """Return what an operator of eight lines knew at the end of `AS_OF`.

    s7 was activated on 20 February, s8 has been silent since 14 December; the customer of s5 and the
    plan and the dealer of s6 are not known. On 20 February each master table tells something new.
    Every tenth day's records arrive two days late.
    """
    rows: Rows = {
        "operator": [
            {"operator_code": code, "name": code, "type": "MNO", "own_flag": code == "own"}
            | {"event_date": FIRST_DAY}
            for code in ("own", "rival")
        ],
        "number_range": [
            {"prefix": prefix, "operator_code": code, "valid_from": date(2020, 1, 1)}
            | {"event_date": FIRST_DAY}
            for prefix, code in ((OWN, "own"), (OTHER, "rival"))
        ],
        "competitor_hotline": [
            {"number_hash": HOTLINE, "operator_code": "rival", "event_date": FIRST_DAY}
        ],
        "geography": [county(FIRST_DAY, urban=False), county(CHANGED, urban=True)],
        "dealer": [dealer("d1", FIRST_DAY, "web"), dealer("d1", CHANGED, "own")],
        "product_offering": [
            offering("p1", FIRST_DAY, fee=40),
            offering("p1", CHANGED),
            offering("v1", FIRST_DAY, family="vas"),
        ],
    }
    lines = [f"s{n}" for n in range(1, 9)]
    for line in lines:
        began = date(2026, 2, 20) if line == NEW else FIRST_DAY
        activated = {"activated_at": at(began)} if line == NEW else {}
        unknown = {"offering_id": "p9", "dealer_id": "d9"} if line == UNKNOWN_PLAN else {}
        _put(rows, "subscription", subscription(line, began, **activated, **unknown))
        _put(rows, "subscription_offering", holding(line, unknown.get("offering_id", "p1"), began))
        _put(rows, "billing_account", account(line, began, auto_pay=False))
        if line != UNKNOWN_HOLDER:
            _put(rows, "customer", customer(line, began, "ordinary"))
            _put(rows, "party_individual", person(line, began, 1980))
        if line == "s1":
            _put(rows, "subscription", subscription(line, CHANGED, province_code="SH"))
            _put(rows, "billing_account", account(line, CHANGED, auto_pay=False, limit=300))
            _put(rows, "customer", customer(line, CHANGED, "silver"))
        _put_life(rows, line, began, date(2025, 12, 14) if line == SILENT else AS_OF)
    return rows


def offering(offering_id: str, load_date: date, fee: int = 50, **values: Any) -> Row:
    """Return a version of a catalogue entry, on sale since 2020."""
    return {
        "offering_id": offering_id,
        "name": offering_id,
        "family": "mobile",
        "monthly_fee_amt": fee,
        "voice_min": 10,
        "data_mb": 100,
        "sms_cnt": 5,
        "network_gen": "4G",
        "valid_from": date(2020, 1, 1),
        "event_date": load_date,
        **values,
    }


def county(load_date: date, *, urban: bool) -> Row:
    """Return a version of the one county."""
    return {
        "county_code": "k1",
        "county_name": "k1",
        "city_code": "x",
        "city_name": "x",
        "province_code": "BJ",
        "province_name": "Beijing",
        "urban_flag": urban,
        "event_date": load_date,
    }


def dealer(dealer_id: str, load_date: date, kind: str) -> Row:
    """Return a version of a dealer, a dealer since 2020."""
    return {
        "dealer_id": dealer_id,
        "name": dealer_id,
        "type": kind,
        "valid_from": date(2020, 1, 1),
        "event_date": load_date,
    }


def account(line: str, load_date: date, *, auto_pay: bool, limit: int = 200) -> Row:
    """Return a version of the account that pays for a line."""
    return {
        "account_id": f"a{line[1:]}",
        "customer_id": f"c{line[1:]}",
        "payment_type": "postpaid",
        "credit_limit_amt": limit,
        "auto_pay_flag": auto_pay,
        "status": "active",
        "event_date": load_date,
    }


def holding(line: str, offering_id: str, start: date, role: str = "main", **values: Any) -> Row:
    """Return a holding that has not ended."""
    return {
        "subscription_id": line,
        "offering_id": offering_id,
        "role": role,
        "start_at": at(start),
        "event_date": start,
        **values,
    }


def customer(line: str, load_date: date, tier: str = "silver") -> Row:
    """Return the customer of a line, a customer since 2020."""
    return {
        "customer_id": f"c{line[1:]}",
        "party_id": f"y{line[1:]}",
        "customer_class": "consumer",
        "customer_tier": tier,
        "since_date": date(2020, 1, 1),
        "status": "active",
        "event_date": load_date,
    }


def person(line: str, load_date: date, born: int) -> Row:
    """Return the person behind a line's customer."""
    return {"party_id": f"y{line[1:]}", "birth_date": date(born, 6, 1), "event_date": load_date}


def _put_life(rows: Rows, line: str, began: date, until: date) -> None:
    number = int(line[1:])
    for day in days(began, until):
        late = 2 if day.day % 10 == 0 and day + timedelta(days=2) <= AS_OF else 0
        known = {"load_date": day + timedelta(days=late)}
        _put(rows, "cdr_voice", call(line, day, 60 * number, **known))
        _put(rows, "cdr_voice", call(line, day, 30, "in", **known))
        _put(rows, "cdr_data", session(line, day, number, **known))
        if day.day % 3 == 0:
            _put(rows, "cdr_sms", message(line, day, **known))
        if day.day == 5 and number % 2:
            _put(rows, "bill", bill(line, day))
            _put(rows, "bill_line", bill_line(line, day, 40 + day.month, "recurring"))
            paid_on = day + timedelta(days=15)
            if day.month != 3:
                _put(rows, "bill", bill(line, day, "settled", load_date=paid_on))
        if day.day == 10 and number % 2 == 0:
            _put(rows, "recharge", recharge(line, day))
        if day.day == 12:
            _put(
                rows,
                "interaction",
                {"interaction_id": f"i-{line}-{day}", "subscription_id": line, "direction": "in"}
                | {"channel_code": "phone", "reason_code": "bill", "started_at": at(day)}
                | {"csat_score": 4, "event_date": day},
            )
    if line == "s1":
        _put(rows, "trouble_ticket", ticket("s1", date(2026, 3, 10), "open"))


def ticket(line: str, day: date, status: str, **values: Any) -> Row:
    """Return a version of a complaint about the bill."""
    return {
        "ticket_id": f"t-{line}-{day}",
        "subscription_id": line,
        "type_code": "billing",
        "created_at": at(day),
        "status": status,
        "event_date": day,
        **values,
    }


def _put(rows: Rows, table: str, row: Row) -> None:
    rows.setdefault(table, []).append(row)
