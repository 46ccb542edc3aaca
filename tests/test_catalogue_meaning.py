"""The fault catalogue, what rows mean: amounts, times, versions and identity numbers."""

from __future__ import annotations

import hashlib
import hmac
import random
from datetime import date, timedelta

import pytest
from catalogue import catalogue
from stdnum.cn import ric

from keepline.settings import Settings

DAY = date(2026, 6, 30)


def operator(table: str, columns: str, sets: str = "") -> str:
    return f"""
name: demo
description: one table in daily files
files:
  drops: {{path_env: KEEPLINE_DEMO_DROPS, {sets}layout: "{{date}}/{{file}}.csv"}}
tables:
  {table}:
    file: {table}
    sql: select {columns} from records
"""


LINES = operator(
    "bill_line",
    "bill_id, line as line_no, charge_class, 'false' as third_party_flag, amount as tax_excl_amt,"
    " tax as tax_amt, '2026-06-30' as billed_date, '2026-06-30 12:00:00' as updated_at",
)
SMS = operator(
    "cdr_sms",
    "usage_id, 'S1' as subscription_id, 'out' as direction, sent as sent_at, 'p2p' as sms_class,"
    " received as received_at",
)
DEALERS = operator("dealer", "dealer_id, name, 'own' as type, level, updated_at")
PEOPLE = operator(
    "party_individual",
    "party_id, id_type, id_no as id_no_hash, '2026-06-30 12:00:00' as updated_at",
)


@pytest.fixture
def run(postgres, tmp_path):
    """Return a function that extracts one day of one table from lines, header first."""

    def extract(operator_file: str, table: str, *lines: str):
        with catalogue(postgres, tmp_path, operator_file) as found:
            found.deliver(f"{DAY}/{table}.csv", ("\n".join(lines) + "\n").encode())
            found.extract(DAY)
            return found

    return extract


@pytest.mark.case(51)
def test_only_a_line_that_gives_money_back_may_be_negative(run):
    found = run(
        LINES,
        "bill_line",
        "bill_id,line,charge_class,amount,tax",
        "B1,1,recurring,0.00,0.00",
        "B1,2,recurring,-0.01,0.00",
        "B1,3,usage,1.00,-0.01",
        "B1,4,one_off,-10.00,-1.00",
        "B1,5,discount,-10.00,-1.00",
        "B1,6,adjustment,-0.01,-0.01",
    )

    assert found.landed(DAY, "line_no", table="bill_line") == [(1,), (5,), (6,)]
    assert found.quarantined(DAY, "bill_line") == [
        ("NEGATIVE_AMOUNT", "tax_excl_amt", 3, f"{DAY}/bill_line.csv"),
        ("NEGATIVE_AMOUNT", "tax_amt", 4, f"{DAY}/bill_line.csv"),
        ("NEGATIVE_AMOUNT", "tax_excl_amt", 5, f"{DAY}/bill_line.csv"),
    ]
    assert found.balance(DAY, "bill_line") == (6, 3, {"NEGATIVE_AMOUNT": 3}, 0, True)


# When it happened, when it became known, and the code; the file is of 30 June in Shanghai.
TIMES = {
    "an hour ahead": ("2026-06-30 11:00:00", "2026-06-30 10:00:00", None, 52),
    "more than an hour ahead": (
        "2026-06-30 11:00:00.000001",
        "2026-06-30 10:00:00",
        "FUTURE_DATE",
        52,
    ),
    "next year": ("2027-06-30 11:00:00", "2026-06-30 10:00:00", "FUTURE_DATE", 52),
    "an hour after the file's day": ("2026-07-01 01:00:00", "2026-07-01 00:30:00", None, 52),
    "more than an hour after the file's day": (
        "2026-07-01 01:00:00.000001",
        "2026-07-01 00:30:00",
        "FUTURE_DATE",
        52,
    ),
    "known in the future itself": (
        "2030-01-01 00:00:00",
        "2030-01-01 00:00:00",
        "FUTURE_DATE",
        52,
    ),
    "as old as is kept": ("2023-06-26 00:00:00", "2026-06-30 10:00:00", None, 53),
    "a day older": ("2023-06-25 23:59:59.999999", "2026-06-30 10:00:00", "TOO_OLD", 53),
    "of another century": ("1970-01-01 00:00:00", "2026-06-30 10:00:00", "TOO_OLD", 53),
    "a leap second": ("2016-12-31 23:59:60Z", "2026-06-30 10:00:00", "BAD_DATE", 77),
    "an hour that no clock has": ("2026-06-30 25:00:00", "2026-06-30 10:00:00", "BAD_DATE", 77),
}


@pytest.fixture(scope="module")
def times(postgres, tmp_path_factory):
    lines = [f"U{n},{sent},{known}" for n, (sent, known, _, _) in enumerate(TIMES.values())]
    # Most records of a file are of its day, or it is held.
    lines += [f"G{n},2026-06-30 10:00:00,2026-06-30 10:00:00" for n in range(30)]
    with catalogue(postgres, tmp_path_factory.mktemp("times"), SMS) as found:
        content = "\n".join(["usage_id,sent,received", *lines]) + "\n"
        found.deliver(f"{DAY}/cdr_sms.csv", content.encode())
        found.extract(DAY)
        yield found


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(n, code, id=name, marks=pytest.mark.case(show))
        for n, (name, (_, _, code, show)) in enumerate(TIMES.items())
    ],
)
def test_an_event_is_neither_of_the_future_nor_older_than_what_is_kept(times, number, code):
    refused = {line: reason for reason, _, line, _ in times.quarantined(DAY, "cdr_sms")}
    assert refused.get(number + 2) == code
    assert len(times.landed(DAY, "1", f"usage_id = 'U{number}'", "cdr_sms")) == (code is None)
    physical, loaded, quarantined, skipped, balanced = times.balance(DAY, "cdr_sms")
    assert (physical, skipped, balanced) == (len(TIMES) + 30, 0, True)
    assert physical == loaded + sum(quarantined.values())


def test_a_day_that_may_lie_ahead_lands(run):
    holidays = operator(
        "holiday",
        "day as holiday_date, 'x' as name, 'false' as workday_flag, '2026-06-30 12:00:00' as updated_at",
    )
    found = run(holidays, "holiday", "day", "2027-10-01", "1999-10-01")

    assert found.balance(DAY, "holiday") == (2, 2, {}, 0, True)


VERSIONS = [
    "D1,Nanjing Road,1,2026-06-30 09:00:00",
    "D1,Beijing Road,1,2026-06-30 09:00:00",
    "D1,Beijing Road,1,2026-06-30 09:00:00",
    "D1,Nanjing Road,1,2026-06-30 09:00:01",
    "D2,Canton Road,2,2026-06-30 09:00:00",
    "D2,Canton Road,2,2026-06-30 09:00:00",
]


@pytest.mark.case(59)
@pytest.mark.parametrize("seed", range(4))
def test_of_versions_that_contradict_each_other_the_same_one_lands_in_any_order(run, seed):
    lines = random.Random(seed).sample(VERSIONS, len(VERSIONS))  # noqa: S311

    found = run(DEALERS, "dealer", "dealer_id,name,level,updated_at", *lines)

    assert sorted(
        found.landed(DAY, "dealer_id, name, cast(updated_at as time)::text", table="dealer")
    ) == [
        ("D1", "Beijing Road", "01:00:00"),
        ("D1", "Nanjing Road", "01:00:01"),
        ("D2", "Canton Road", "01:00:00"),
    ]
    aside = found.quarantined(DAY, "dealer")
    assert sorted(code for code, _, _, _ in aside) == ["AMBIGUOUS_CHANGE", "DUP_KEY", "DUP_KEY"]
    contradicting = next(line for code, _, line, _ in aside if code == "AMBIGUOUS_CHANGE")
    assert lines[contradicting - 2] == VERSIONS[0]
    assert found.balance(DAY, "dealer") == (6, 3, {"AMBIGUOUS_CHANGE": 1, "DUP_KEY": 2}, 0, True)


@pytest.mark.case(64)
@pytest.mark.parametrize("seed", range(4))
def test_of_events_with_one_key_the_same_one_lands_in_any_order(run, seed):
    lines = [f"U{n % 3},2026-06-30 09:0{n}:00,2026-06-30 10:00:00" for n in range(6)]
    lines = random.Random(seed).sample(lines, len(lines))  # noqa: S311

    found = run(SMS, "cdr_sms", "usage_id,sent,received", *lines)

    landed = found.landed(DAY, "usage_id, cast(sent_at as time)::text", table="cdr_sms")
    assert sorted(landed) == [("U0", "01:00:00"), ("U1", "01:01:00"), ("U2", "01:02:00")]
    # They say something else: no copies.
    assert found.balance(DAY, "cdr_sms") == (6, 3, {"KEY_CONFLICT": 3}, 0, True)


def check_digit(body: str) -> str:
    # The library leaves the last character out.
    return ric.calc_check_digit(body + "?")


BODY = "11010519491231002"
ONE_PERSON = [f"{BODY}X", f"{BODY}x", f"{BODY[:6]}{BODY[8:]}"]
OTHERS = ["360426199101010071", "11010519000229001" + check_digit("11010519000229001")]
# What is said to be a resident identity card and is none.
NO_CARDS = {
    "a wrong check digit": f"{BODY}1",
    "two digits changed places": f"11010519491213002{check_digit(BODY)}",
    "30 February": "11010519900230001" + check_digit("11010519900230001"),
    "month 13 in 15 digits": "110105491331002",
    "16 digits": f"{BODY[:-1]}",
    "a letter": f"1101051949123100A{check_digit(BODY)}",
    "x in 15 digits": "11010549123100x",
    "full-width digits": "\uff11\uff11" + BODY[2:] + "X",
    "a space": f"{BODY}X ",
    "a word": "none",
}


@pytest.mark.case(70)
def test_one_person_has_one_pseudonym_however_the_number_is_written(run, settings):
    lines = [f"P{n},id_card,{number}" for n, number in enumerate(ONE_PERSON)]

    found = run(PEOPLE, "party_individual", "party_id,id_type,id_no", *lines)

    made = {row[0] for row in found.landed(DAY, "id_no_hash", table="party_individual")}
    assert len(made) == 1
    assert made == {_pseudonym(settings, f"{BODY}X")}
    assert found.balance(DAY, "party_individual") == (3, 3, {}, 0, True)


@pytest.mark.case(70)
def test_numbers_that_no_card_has_are_set_aside(run):
    lines = [f"P{n},id_card,{number}" for n, number in enumerate(NO_CARDS.values())]
    # Other documents have numbers of their own; a person without one is a person.
    fine = ["Q1,passport,E1234567", "Q2,,whatever", "Q3,id_card,", f"Q4,id_card,{OTHERS[0]}"]

    found = run(PEOPLE, "party_individual", "party_id,id_type,id_no", *lines, *fine)

    landed = found.landed(DAY, "party_id", table="party_individual")
    assert sorted(landed) == [("Q1",), ("Q2",), ("Q3",), ("Q4",)]
    reasons = {line - 2: code for code, _, line, _ in found.quarantined(DAY, "party_individual")}
    assert reasons == {
        n: "HIDDEN_CHARACTER" if "full-width" in name else "BAD_ID"
        for n, name in enumerate(NO_CARDS)
    }
    counts = {"BAD_ID": len(NO_CARDS) - 1, "HIDDEN_CHARACTER": 1}
    assert found.balance(DAY, "party_individual") == (len(NO_CARDS) + 4, 4, counts, 0, True)


@pytest.mark.case(70)
def test_the_check_digit_is_that_of_the_standard(run):
    rng = random.Random(7)  # noqa: S311
    numbers = []
    for _ in range(400):
        born = date(1930, 1, 1) + timedelta(days=rng.randrange(34_000))
        body = f"110105{born:%Y%m%d}{rng.randrange(1000):03d}"
        # Every check digit once in a while, mostly a wrong one.
        numbers.append(body + rng.choice(["0123456789X"[rng.randrange(11)], check_digit(body)]))
    right = {number for number in numbers if ric.calc_check_digit(number) == number[-1]}
    assert 100 < len(right) < 300
    lines = [f"P{n},id_card,{number}" for n, number in enumerate(numbers)]
    good = [f"G{n},id_card," for n in range(30_000)]

    found = run(PEOPLE, "party_individual", "party_id,id_type,id_no", *lines, *good)

    refused = {numbers[line - 2] for _, _, line, _ in found.quarantined(DAY, "party_individual")}
    assert refused == set(numbers) - right


def _pseudonym(settings: Settings, text: str) -> str:
    key = bytes.fromhex(settings.pseudonym_key.get_secret_value())
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
