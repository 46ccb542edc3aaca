"""Change feeds of the master tables: the whole row as it is now, recorded at an instant."""

from __future__ import annotations

from typing import Final

import numpy as np

from keepline.simulator import schema, world
from keepline.simulator.population import Array, Population
from keepline.simulator.rhythm import NEVER
from keepline.simulator.sink import Sink

SURNAMES: Final = tuple("王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗")
GIVEN: Final = (
    *("伟", "芳", "娜", "敏", "静", "强", "磊", "军", "洋", "勇", "艳", "杰", "涛", "明", "超"),
    *("秀英", "建国", "晓梅", "志强", "丽华", "文博", "雨桐", "子涵", "佳怡", "浩然", "思远"),
)
STREETS: Final = (
    *("Zhongshan Rd", "Renmin Rd", "Jiefang Rd", "Beijing Rd"),
    *("Heping St", "Xinhua St", "Wenhua Rd"),
)


def _text(values: Array) -> Array:
    return values.astype(str).astype(object)


def msisdn_text(values: Array) -> Array:
    """Phone numbers as text, missing ones as None."""
    text = np.char.decode(values, "ascii").astype(object)
    text[text == ""] = None
    return text


def parties(sink: Sink, people: Population, at: Array, recorded: Array) -> None:
    """Record the present state of the persons behind customers `at`."""
    c = people.customers
    names = (
        np.array(SURNAMES, dtype=object)[c.surname[at]] + np.array(GIVEN, dtype=object)[c.given[at]]
    )
    numbers = _text(at + 1)
    phones = people.lines.msisdn[np.maximum(0, c.phone[at])]
    cities = np.array([f"{k.county_name}, {k.city_name}" for k in world.COUNTIES], dtype=object)
    address = (
        _text(c.house[at])
        + " "
        + np.array(STREETS, dtype=object)[c.street[at]]
        + ", "
        + cities[c.county[at]]
    )
    mail = ("u" + numbers + "@example.com").astype(object)
    mail[at % 3 == 0] = None
    sink.add(
        "crm.party_individual",
        party_id=at + 1,
        name=names,
        gender=c.gender[at],
        birth_date=c.birth[at],
        id_type=np.where(at % 97 == 0, 1, 0),
        id_no=c.id_no[at].astype(object),
        marital_status=c.marital[at],
        employment_status=c.employment[at],
        phone=msisdn_text(phones),
        email=mail,
        address=address,
        hobby=c.hobby[at],
        info_source_code=c.source[at],
        updated_at=recorded,
    )


def customers(sink: Sink, people: Population, at: Array, recorded: Array) -> None:
    """Record the present state of customers."""
    c = people.customers
    provinces = np.array([world.PROVINCES.index(k.province_code) for k in world.COUNTIES])
    sink.add(
        "crm.customer",
        customer_id=at + 1,
        party_id=at + 1,
        customer_class=c.class_[at],
        customer_tier=c.tier[at],
        group_customer_id=c.group[at],
        key_person_flag=c.key_person[at],
        campus_flag=c.campus[at],
        since_date=c.since[at],
        status=c.closed[at].astype(int),
        province_code=provinces[c.county[at]],
        updated_at=recorded,
    )


def accounts(sink: Sink, people: Population, at: Array, recorded: Array) -> None:
    """Record the present state of accounts."""
    a = people.accounts
    sink.add(
        "crm.billing_account",
        account_id=at + 1,
        customer_id=a.customer[at] + 1,
        payment_type=a.prepaid[at].astype(int),
        credit_limit=np.where(a.prepaid[at], NEVER, a.limit[at]),
        bill_cycle_day=a.cycle[at],
        auto_pay_flag=a.auto_pay[at],
        status=a.closed[at].astype(int),
        updated_at=recorded,
    )


def subscriptions(sink: Sink, people: Population, at: Array, recorded: Array) -> None:
    """Record the present state of lines."""
    s = people.lines
    county = s.county[at]
    provinces = np.array([world.PROVINCES.index(k.province_code) for k in world.COUNTIES])
    cities = np.array([world.CITIES.index(k.city_code) for k in world.COUNTIES])
    msisdn = msisdn_text(s.msisdn[at])
    sink.add(
        "bss.subscription",
        subscription_id=at + 1,
        customer_id=s.customer[at] + 1,
        account_id=s.account[at] + 1,
        msisdn=msisdn,
        imsi=_text(460_990_000_000_101 + at.astype(np.int64) * 7919),
        brand_code=s.brand[at],
        payment_type=s.prepaid[at].astype(int),
        offering_id=s.offering[at],
        dealer_id=s.dealer[at],
        outlet_id=s.outlet[at],
        activation_channel=s.channel[at],
        activated_at=s.activated[at],
        status_code=s.status[at],
        status_at=s.status_at[at],
        terminated_at=s.ended_at[at],
        termination_reason_code=s.end_reason[at],
        province_code=provinces[county],
        city_code=cities[county],
        county_code=county,
        secondary_of_id=np.where(s.secondary_of[at] >= 0, s.secondary_of[at] + 1, -1),
        real_name_verified=s.verified[at],
        updated_at=recorded,
    )


def status(
    sink: Sink,
    people: Population,
    at: Array,
    to_status: int,
    event_at: Array,
    reason: Array | int,
    recorded: Array | None = None,
) -> None:
    """Change the state of lines and record it, both as an event and as a version of the line."""
    if len(at) == 0:
        return
    s = people.lines
    recorded = event_at if recorded is None else recorded
    sink.add(
        "bss.subscription_status_event",
        event_id=people.number("event", len(at)),
        subscription_id=at + 1,
        from_status=s.status[at].copy(),
        to_status=np.full(len(at), to_status),
        reason_code=reason,
        event_at=event_at,
        recorded_at=recorded,
    )
    s.status[at] = to_status
    s.status_at[at] = event_at
    if to_status == schema.TERMINATED:
        s.ended_at[at] = event_at
    subscriptions(sink, people, at, recorded)


def main_holding(
    sink: Sink, people: Population, at: Array, recorded: Array, ended: Array | int = NEVER
) -> None:
    """Record the main offering held by lines; `ended` closes the holding."""
    s = people.lines
    committed = s.contract_months[at] > 0
    sink.add(
        "bss.subscription_offering",
        subscription_id=at + 1,
        offering_id=s.offering[at],
        role=0,
        start_at=s.main_start[at],
        end_at=ended,
        contract_months=s.contract_months[at],
        contract_end_date=s.contract_end[at],
        commit_flag=committed,
        subsidy=np.where(committed, s.subsidy[at], NEVER),
        updated_at=recorded,
    )


def add_on_holding(
    sink: Sink,
    people: Population,
    at: Array,
    slot: Array,
    recorded: Array,
    ended: Array | int = NEVER,
) -> None:
    """Record add-ons held by lines; `slot` is the position in `world.ADD_ONS`."""
    sink.add(
        "bss.subscription_offering",
        subscription_id=at + 1,
        offering_id=slot + world.N_MAIN,
        role=1,
        start_at=people.lines.add_on[at, slot],
        end_at=ended,
        contract_months=-1,
        contract_end_date=NEVER,
        commit_flag=False,
        subsidy=NEVER,
        updated_at=recorded,
    )
