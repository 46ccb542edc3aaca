"""The operator's own tables, one column per line: its name, its kind, and what its integers stand for.

Kinds: `id` (letter and running number), `code` (position in a list, written out or named with @),
`text`, `instant` (seconds since the first midnight), `day` (days since the first day), `fen`, `int`
(nothing below 0) and `flag`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from keepline.simulator import world

STATUSES: Final = (
    "created",
    "pending_active",
    "active",
    "suspended",
    "pending_terminate",
    "terminated",
)
CREATED, _, ACTIVE, SUSPENDED, PENDING_TERMINATE, TERMINATED = range(len(STATUSES))
END_REASONS: Final = (
    *("price", "service", "network", "competitor", "port_out", "moving", "non_payment", "fraud"),
    "other",
)
EVENT_REASONS: Final = (*END_REASONS, "activation", "payment", "customer_request")
ACTIVATION, PAID, REQUESTED = range(len(END_REASONS), len(EVENT_REASONS))
UNPAID: Final = END_REASONS.index("non_payment")
USAGE_TYPES: Final = ("voice", "sms", "data", "vas")
REASONS: Final = (
    *("balance", "bill", "tariff", "complaint", "fault", "port_enquiry", "cancel_service"),
    *("order", "survey", "other"),
)
OFFERING_IDS: Final = tuple(offering.offering_id for offering in world.OFFERINGS)

_LISTS: Final[dict[str, Sequence[str]]] = {
    "statuses": STATUSES,
    "end_reasons": END_REASONS,
    "event_reasons": EVENT_REASONS,
    "usage_types": USAGE_TYPES,
    "reasons": REASONS,
    "offerings": OFFERING_IDS,
    "brands": world.BRANDS,
    "payment_types": world.PAYMENT_TYPES,
    "families": world.FAMILIES,
    "generations": world.GENERATIONS,
    "partners": world.PARTNERS,
    "operators": world.OPERATORS,
    "provinces": world.PROVINCES,
    "cities": world.CITIES,
    "counties": tuple(county.county_code for county in world.COUNTIES),
    "dealers": tuple(dealer.dealer_id for dealer in world.DEALERS),
    "outlets": world.OUTLETS,
    "channels": world.CHANNELS,
}

_TABLES: Final = """
crm.party_individual
    party_id id P
    name text
    gender code F M U
    birth_date day
    id_type code id_card passport
    id_no text
    marital_status code single married divorced widowed unknown
    employment_status code employed self_employed student retired unemployed unknown
    phone text
    email text
    address text
    hobby code music sport travel games reading cooking
    info_source_code code shop agent web form
    updated_at instant

crm.customer
    customer_id id C
    party_id id P
    customer_class code consumer business government unknown
    customer_tier code ordinary silver gold diamond
    group_customer_id id G
    key_person_flag flag
    campus_flag flag
    since_date day
    status code active closed
    province_code code @provinces
    updated_at instant

crm.billing_account
    account_id id A
    customer_id id C
    payment_type code @payment_types
    credit_limit fen
    bill_cycle_day int
    auto_pay_flag flag
    status code active closed
    updated_at instant

bss.subscription
    subscription_id id S
    customer_id id C
    account_id id A
    msisdn text
    imsi text
    brand_code code @brands
    payment_type code @payment_types
    offering_id code @offerings
    dealer_id code @dealers
    outlet_id code @outlets
    activation_channel code @channels
    activated_at instant
    status_code code @statuses
    status_at instant
    terminated_at instant
    termination_reason_code code @end_reasons
    province_code code @provinces
    city_code code @cities
    county_code code @counties
    secondary_of_id id S
    real_name_verified flag
    updated_at instant

bss.subscription_status_event
    event_id id E
    subscription_id id S
    from_status code @statuses
    to_status code @statuses
    reason_code code @event_reasons
    event_at instant
    recorded_at instant

bss.subscription_offering
    subscription_id id S
    offering_id code @offerings
    role code main add_on
    start_at instant
    end_at instant
    contract_months int
    contract_end_date day
    commit_flag flag
    subsidy fen
    updated_at instant

bss.product_offering
    offering_id code @offerings
    name text
    family code @families
    brand_code code @brands
    monthly_fee fen
    voice_min int
    data_mb int
    sms_cnt int
    promo_months int
    price_after fen
    network_gen code @generations
    partner_id code @partners
    valid_from day
    valid_to day
    updated_at instant

bil.bill
    bill_id id B
    account_id id A
    bill_no id N
    period_start day
    period_end day
    bill_date day
    due_date day
    amount_due fen
    remaining fen
    state code issued partially_paid settled overdue written_off
    updated_at instant

bil.bill_line
    bill_id id B
    line_no int
    subscription_id id S
    offering_id code @offerings
    charge_class code recurring usage one_off discount adjustment tax
    usage_type code @usage_types
    third_party_flag flag
    partner_id code @partners
    tax_excl fen
    tax fen
    billed_date day
    updated_at instant

bil.payment
    payment_id id Y
    account_id id A
    paid_at instant
    amount fen
    method_code code bank card wallet cash
    channel_code code @channels

ocs.recharge
    recharge_id id R
    subscription_id id S
    recharged_at instant
    face fen
    paid fen
    channel_code code @channels
    voucher_type code e_voucher card direct
    reversed_flag flag

cc.interaction
    interaction_id id I
    subscription_id id S
    channel_code code @channels
    direction code in out
    origin code solicited unsolicited
    reason_code code @reasons
    phase_code code pre_sale in_sale after_sale
    employee_id id W
    served_province code @provinces
    started_at instant
    ended_at instant
    queue_s int
    status code answered abandoned transferred
    csat_score int

cc.trouble_ticket
    ticket_id id T
    interaction_id id I
    subscription_id id S
    type_code code billing network service attitude device other
    severity code low medium high critical
    priority code normal urgent
    created_at instant
    acknowledged_at instant
    expected_at instant
    resolved_at instant
    closed_at instant
    reopened_cnt int
    status code open acknowledged resolved closed
    status_reason code reported taken mended confirmed not_mended
    root_cause_code code bill_error coverage outage staff handset unclear
    updated_at instant

npd.np_port
    port_id id X
    subscription_id id S
    msisdn text
    donor_operator code @operators
    recipient_operator code @operators
    direction code in out
    requested_at instant
    completed_at instant
    status code eligibility_query authorised requested completed rejected cancelled
    updated_at instant

chn.dealer
    dealer_id code @dealers
    name text
    type code own agent web
    level code A B C
    province_code code @provinces
    city_code code @cities
    valid_from day
    valid_to day
    updated_at instant

ref.operator
    operator_code text
    name text
    type text
    own_flag flag
    updated_at instant

ref.number_range
    prefix text
    operator_code text
    valid_from day
    valid_to day
    updated_at instant

ref.competitor_hotline
    number text
    operator_code text
    updated_at instant

ref.holiday
    holiday_date day
    name text
    workday_flag flag
    updated_at instant

ref.geography
    county_code text
    county_name text
    city_code text
    city_name text
    province_code text
    province_name text
    region_name text
    urban_flag flag
    updated_at instant

ref.brand
    brand_code text
    name text
    parent_brand_code text
    operator_code text
    valid_from day
    valid_to day
    updated_at instant
"""

# Tells the tables of one version from those of another.
SYSTEMS: Final = hashlib.sha256(" ".join(_TABLES.split()).encode()).hexdigest()[:16]

_PG_TYPES: Final = {
    "id": "text",
    "code": "text",
    "text": "text",
    "instant": "timestamptz",
    "day": "date",
    "fen": "numeric(18, 2)",
    "int": "integer",
    "flag": "boolean",
}


@dataclass(frozen=True)
class Column:
    """A column: its kind, and the code list or the id's letter that its integers stand for."""

    name: str
    kind: str
    codes: Sequence[str] = ()
    letter: str = ""

    @property
    def pg_type(self) -> str:
        """The column's type in PostgreSQL."""
        return _PG_TYPES[self.kind]


def _parse(line: str) -> Column:
    name, kind, *rest = line.split()
    if kind == "id":
        return Column(name, kind, letter=rest[0])
    if kind == "code":
        codes = _LISTS[rest[0][1:]] if rest[0].startswith("@") else tuple(rest)
        return Column(name, kind, codes)
    return Column(name, kind)


def _read(text: str) -> dict[str, tuple[Column, ...]]:
    tables = {}
    for block in text.strip().split("\n\n"):
        name, *lines = block.splitlines()
        tables[name] = tuple(_parse(line) for line in lines)
    return tables


TABLES: Final = _read(_TABLES)
"""Every table of the operator's databases, `schema.table` to its columns."""

_RECORDED_BY: Final = {
    "bss.subscription_status_event": "recorded_at",
    "bil.payment": "paid_at",
    "ocs.recharge": "recharged_at",
    "cc.interaction": "started_at",
}


def recorded_by(table: str) -> str:
    """Name of the column that says when a row of the table was recorded."""
    return _RECORDED_BY.get(table, "updated_at")
