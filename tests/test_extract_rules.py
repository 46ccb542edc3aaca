"""The rules of the contract, one row at a time: what lands, and why the others do not."""

from __future__ import annotations

import json
import re
import shutil
from datetime import date
from decimal import Decimal

import pytest
from extract_source import DAY, Extraction, call, calls

from keepline.contract import load_contract
from keepline.errors import UsageError
from keepline.extract import HeldError
from keepline.settings import Settings
from keepline.window import Window


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


# One value of one column, and the code that it gets.
REFUSED = {
    "no value": ({"usage_id": ""}, "MISSING_VALUE"),
    "a letter in a number": ({"duration_s": "1O"}, "BAD_NUMBER"),
    "a number with a space": ({"duration_s": " 10"}, "BAD_NUMBER"),
    "full-width digits": ({"duration_s": "\uff11\uff10"}, "BAD_NUMBER"),
    "part of a second": ({"duration_s": "10.5"}, "SCALE_LOST"),
    "2 to the 31st seconds": ({"duration_s": "2147483648"}, "OVERFLOW"),
    "below the minimum": ({"duration_s": "-1"}, "OUT_OF_RANGE"),
    "above the maximum": ({"duration_s": "86401"}, "OUT_OF_RANGE"),
    "a tenth of a fen": ({"charge_amt": "10.505"}, "SCALE_LOST"),
    "a negative amount": ({"charge_amt": "-0.15"}, "NEGATIVE_AMOUNT"),
    "more yuan than the type holds": ({"charge_amt": "1" * 17}, "OVERFLOW"),
    "not a number": ({"charge_amt": "NaN"}, "BAD_NUMBER"),
    "infinity": ({"charge_amt": "inf"}, "BAD_NUMBER"),
    "an exponent": ({"charge_amt": "1e2"}, "BAD_NUMBER"),
    "a thousands separator": ({"charge_amt": '"1,000.00"'}, "BAD_NUMBER"),
    "a currency sign": ({"charge_amt": "¥10"}, "BAD_NUMBER"),
    "an accountant's minus": ({"charge_amt": "(10.00)"}, "BAD_NUMBER"),
    "30 February": ({"start_at": "2026-02-30 09:00:00+08:00"}, "BAD_DATE"),
    "no day at all": ({"start_at": "0000-00-00 00:00:00"}, "BAD_DATE"),
    "day, month, year": ({"start_at": "30/06/26 09:00:00"}, "BAD_DATE"),
    "24 o'clock": ({"start_at": f"{DAY} 24:00:00+08:00"}, "BAD_DATE"),
    "a leap second": ({"start_at": f"{DAY} 23:59:60+08:00"}, "BAD_DATE"),
    "a day without a time": ({"start_at": str(DAY)}, "BAD_DATE"),
    "a zone by name": ({"start_at": f"{DAY} 09:00:00 Asia/Tokyo"}, "BAD_DATE"),
    "a code that is not in the list": ({"direction": "sideways"}, "UNKNOWN_CODE"),
    "a code in capitals": ({"direction": "OUT"}, "UNKNOWN_CODE"),
    "a number that a spreadsheet rounded": ({"msisdn": "1.38E+10"}, "BAD_MSISDN"),
    "a number with a plus": ({"msisdn": "+8613800001234"}, "BAD_MSISDN"),
    "a NUL byte": ({"cell_id": "GD\0001"}, "NUL_BYTE"),
}


@pytest.mark.parametrize(("changes", "code"), REFUSED.values(), ids=list(REFUSED))
def test_a_row_that_breaks_a_rule_is_set_aside_with_the_reason(extraction, changes, code):
    extraction.mediation.deliver([*calls(200), call(200, **changes)])

    result = extraction.run()["cdr_voice"]

    column = {"msisdn": "msisdn_hash"}.get(next(iter(changes)), next(iter(changes)))
    assert extraction.quarantined("reason_code, column_name, line_no") == [(code, column, 202)]
    assert result.reconciliations[0].quarantined_rows == {code: 1}
    assert result.rows == 200


# One value as it comes, the column, and how it lands.
ACCEPTED = {
    "an instant with its offset": (
        "start_at",
        f"{DAY} 00:30:00+08:00",
        "2026-06-29 16:30:00",
    ),
    "an instant in UTC": ("start_at", f"{DAY}T01:00:00Z", "2026-06-30 01:00:00"),
    "a short offset": ("start_at", f"{DAY} 09:00:00+08", "2026-06-30 01:00:00"),
    "no offset: the operator's clock": ("start_at", f"{DAY} 09:00:00", "2026-06-30 01:00:00"),
    "a part of a second": (
        "start_at",
        f"{DAY} 09:59:59.999999+08:00",
        "2026-06-30 01:59:59.999999",
    ),
    "an integer with empty decimals": ("duration_s", "12.00", 12),
    "an amount with empty decimals": ("charge_amt", "10.500", Decimal("10.50")),
    "an amount without decimals": ("charge_amt", "7", Decimal("7.00")),
    "no amount": ("charge_amt", "", None),
    "leading zeros of an id": ("cell_id", "0050", "0050"),
    "the word null": ("cell_id", "NULL", "NULL"),
    "a formula": ("cell_id", "=1+1", "=1+1"),
    "SQL": ("cell_id", "'; drop table x --", "'; drop table x --"),
    "a template": ("cell_id", "{{ 7 * 7 }}", "{{ 7 * 7 }}"),
    "hanzi beyond GBK": ("cell_id", "𠮷基站", "𠮷基站"),
}


@pytest.mark.parametrize(("column", "text", "value"), ACCEPTED.values(), ids=list(ACCEPTED))
def test_a_value_lands_as_what_it_is(extraction, column, text, value):
    extraction.mediation.deliver([call(0, **{column: text})])

    extraction.run()

    shown = f"{column}::text" if column == "start_at" else column
    assert extraction.landed(columns=shown) == [(value,)]


def test_the_event_day_is_the_operators_local_day(extraction):
    extraction.mediation.deliver([call(0, start_at="2026-06-28T16:00:00Z")])

    extraction.run()

    assert extraction.landed(columns="event_date, load_date") == [(date(2026, 6, 29), DAY)]


def test_a_row_has_one_reason_the_first_in_the_contracts_order(extraction):
    broken = call(200, charge_amt="free", direction="up", duration_s="-1")
    extraction.mediation.deliver([*calls(200), broken])

    extraction.run()

    assert extraction.quarantined("reason_code, column_name") == [("UNKNOWN_CODE", "direction")]


@pytest.mark.parametrize("order", [1, -1], ids=["as written", "the other way round"])
def test_of_rows_with_the_same_key_the_same_one_lands_in_whatever_order_they_come(
    extraction, order
):
    twins = [call(3, duration_s="70"), call(3, duration_s="7")][::order]
    extraction.mediation.deliver([*calls(3), *twins, *[call(n) for n in range(4, 300)]])

    extraction.run()

    kept = extraction.landed(columns="usage_id, duration_s")
    assert [row for row in kept if row[0] == "V0003"] == [("V0003", 7)]
    assert extraction.quarantined("reason_code, column_name") == [("KEY_CONFLICT", "usage_id")]


def test_a_row_that_is_refused_does_not_shut_out_its_twin(extraction):
    extraction.mediation.deliver([call(3, direction="up"), *calls(300)])

    extraction.run()

    assert extraction.quarantined("reason_code") == [("UNKNOWN_CODE",)]
    assert len(extraction.landed()) == 300


def test_too_many_bad_rows_hold_the_table_but_show_what_they_were(extraction):
    bad = [call(n, direction="up") for n in range(100, 121)]
    extraction.mediation.deliver([*calls(100), *bad])

    assert extraction.held() == ["QUARANTINE_LIMIT"]

    assert extraction.landed() == []
    assert len(extraction.quarantined("reason_code")) == 21


def test_a_few_bad_rows_of_a_small_table_do_not_hold_it(extraction):
    bad = [call(n, direction="up") for n in range(10, 30)]
    extraction.mediation.deliver([*calls(10), *bad])

    result = extraction.run()["cdr_voice"]

    assert (result.rows, result.reconciliations[0].quarantined_rows) == (10, {"UNKNOWN_CODE": 20})


def test_the_quarantine_shows_wrong_numbers_and_dates_and_hides_free_text(extraction):
    bad = call(200, start_at="2026-02-30 09:00:00+08:00", cell_id="Li Wei", charge_amt="0.125")
    extraction.mediation.deliver([*calls(200), bad])

    extraction.run()

    row = json.loads(extraction.quarantined("row_json")[0][0])
    assert (row["start_at"], row["charge_amt"]) == ("2026-02-30 09:00:00+08:00", "0.125")
    assert (row["cell_id"], row["direction"]) == ("aa aaa", "out")
    assert not {"msisdn_hash", "other_number_hash"} & set(row)


def test_a_table_may_have_a_limit_of_its_own_and_it_counts_by_load_date(
    extraction, tmp_path, monkeypatch
):
    staging = tmp_path / "dbt" / "models" / "staging"
    shutil.copytree(extraction.settings.dbt_dir / "models" / "staging", staging)
    contract = staging / "med" / "cdr_voice.yml"
    word = "            event_cursor: start_at\n"
    limit = "            quarantine_limit: {share: 0.5, rows: 2}\n"
    contract.write_text(contract.read_text().replace(word, word + limit))
    monkeypatch.setattr(Settings, "dbt_dir", property(lambda _: tmp_path / "dbt"))
    days = [date(2026, 6, 27), date(2026, 6, 28), date(2026, 6, 29)]
    # Two rows are never too many; three of six are half, four of seven are more.
    for day, good, bad in zip(days, (0, 3, 3), (2, 3, 4), strict=True):
        refused = [call(n, day, direction="up") for n in range(50, 50 + bad)]
        extraction.mediation.deliver([*calls(good, day), *refused], day)

    with pytest.raises(HeldError) as raised:
        extraction.run(Window(days[0], DAY))

    findings = [(finding.code, finding.load_date) for finding in raised.value.findings]
    assert findings == [("QUARANTINE_LIMIT", days[2])]
    assert {row[0] for row in extraction.landed(columns="load_date")} == {days[1]}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("format: passport", "format passport is not one of msisdn, cn_id"),
        ("format_if: {column: kind, codes: [x]}", "names the column kind"),
        ("min_unless: {codes: [x]}", "missing or wrong"),
    ],
)
def test_a_word_that_the_contract_does_not_know_is_named(extraction, tmp_path, word, message):
    staging = tmp_path / "models" / "staging"
    shutil.copytree(extraction.settings.dbt_dir / "models" / "staging", staging)
    contract = staging / "crm" / "party_individual.yml"
    said = r"(?<=pii: pseudonym, )format: cn_id, format_if: {.*?}"
    contract.write_text(re.sub(said, lambda _: word, contract.read_text()))

    with pytest.raises(UsageError, match=message):
        load_contract(tmp_path)


def test_parts_of_one_call_are_no_copies_of_each_other(extraction):
    # Given a call in three parts with one id, and one of the parts twice
    parts = [
        call(1, duration_s="1800", charge_amt="3.00"),
        call(1, duration_s="1801", charge_amt="3.00"),
        call(1, duration_s="443", charge_amt="0.80"),
        call(1, duration_s="1800", charge_amt="3.00"),
    ]
    extraction.mediation.deliver([*parts, call(2), call(2)])

    extraction.run()

    # Then what would be lost as a copy is told from what is one
    assert sorted(extraction.quarantined("reason_code, row_json->>'duration_s'")) == [
        ("DUP_KEY", "12"),
        ("KEY_CONFLICT", "1800"),
        ("KEY_CONFLICT", "1800"),
        ("KEY_CONFLICT", "1801"),
    ]
    assert sorted(extraction.landed(columns="usage_id, duration_s")) == [
        ("V0001", 443),
        ("V0002", 12),
    ]
