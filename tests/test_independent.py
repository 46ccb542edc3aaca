"""What is published equals a second count from landed rows and the words of docs/definitions.md."""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from independent.landed import (
    Parameters,
    Row,
    Rows,
    by,
    complete,
    days,
    facts,
    full_months,
    half_up,
    known,
    months_later,
)
from independent.recount_features import features
from independent.recount_life import Life, Loss, lives
from independent.recount_months import (
    CELL,
    COUNTS,
    delivered_until,
    is_settled,
    is_whole,
    movement,
    subscription_months,
)
from independent.recount_plans import commitments
from independent.recount_revenue import Revenue, tax_share
from independent.recount_tiers import Treatment, tiers
from independent.recount_value import (
    FAMILIES,
    concentration,
    pareto,
    quantile_scores,
    recency_score,
    rfm,
)
from independent.world import World, at, columns_only, crowd
from warehouse import Warehouse

from models_ml.churn.model import LabelParams, ModelSet, TrainingParams
from models_ml.churn.parameters import choose_params
from models_ml.churn.scoring import RULE_NO_MODEL, Stamps, judge, living_rows, predict_rows
from models_ml.churn.tiers import assign_tiers, is_silent

PACKAGE = Path(__file__).parent / "independent"
FIRST, LAST = date(2026, 1, 1), date(2026, 7, 31)


# The count itself is of nobody else's making


def test_the_second_count_knows_nothing_of_the_first():
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {
            (node.module or "").split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
        } | {
            name.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for name in node.names
        }
        assert imported <= ALLOWED, (path.name, imported - ALLOWED)
        texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        documented = {
            ast.get_docstring(node, clean=False) for node in ast.walk(tree) if _has_doc(node)
        }
        for text in texts - documented:
            assert "select " not in text.lower(), (path.name, text)
            assert not text.endswith((".sql", ".yml", ".py", ".parquet")), (path.name, text)
        called = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"open", "exec", "eval", "__import__", "compile"}, path.name
    # The only files that it opens are seeds.
    opening = [path.name for path in PACKAGE.glob("*.py") if ".open(" in path.read_text()]
    assert opening == ["landed.py"]
    assert (PACKAGE / "landed.py").read_text().count(".open(") == 1


ALLOWED = {
    "__future__",
    "collections",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "fractions",
    "independent",
    "itertools",
    "math",
    "pathlib",
    "random",
    "string",
    "typing",
}


def _has_doc(node: ast.AST) -> bool:
    return isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)


# The count by hand


def version(load_date: date, **values: Any) -> Row:
    """Return a version of the one line, a prepaid one that was activated on 2 January."""
    return {
        "subscription_id": "one",
        "account_id": "its account",
        "payment_type": "prepaid",
        "activated_at": at(date(2026, 1, 2)),
        "status_code": "active",
        "status_at": at(date(2026, 1, 2)),
        "event_date": load_date,
        **values,
    }


def ended(load_date: date, on: date, **values: Any) -> Row:
    gone = {"status_code": "terminated", "status_at": at(on), "terminated_at": at(on)}
    return version(load_date, **{**gone, **values})


def call(day: date, load_date: date | None = None, line: str = "one", **values: Any) -> Row:
    return {
        "usage_id": f"{line} {day} {load_date}",
        "subscription_id": line,
        "direction": "out",
        "start_at": at(day),
        "duration_s": 60,
        "status": "completed",
        "event_date": day,
        "load_date": load_date or day,
        **values,
    }


def life_of(
    versions: list[Row], calls: Iterable[Row] = (), known_until: date = LAST, **tables: list[Row]
) -> Life:
    """Return the life of the one line; another one calls on every day, so that all is delivered."""
    beat = [call(FIRST + timedelta(days=n), line="other") for n in range(212)]
    rows: Rows = {"subscription": versions, "cdr_voice": [*calls, *beat], **tables}
    return lives(known(complete(rows), known_until), known_until)["one"]


def told(loss: Loss) -> tuple[Any, ...]:
    return (
        loss.event_date,
        loss.confirmed_date,
        loss.outcome,
        loss.returned_date or loss.corrected_date,
        loss.revoked_date,
    )


def d(month: int, day: int) -> date:
    return date(2026, month, day)


def test_a_silence_is_a_loss_after_ninety_days_and_not_after_eighty_nine():
    heard = call(d(3, 1))
    lost = life_of([version(d(1, 2))], [heard])
    just_not = life_of([version(d(1, 2))], [heard, call(d(5, 30))])

    assert [told(loss) for loss in lost.losses] == [(d(3, 2), d(5, 30), "standing", None, None)]
    assert just_not.losses == []
    assert life_of([version(d(1, 2))], [heard], d(5, 29)).losses == []
    assert (lost.in_service(d(3, 1)), lost.in_service(d(3, 2))) == (True, False)


def test_a_call_after_the_silence_is_a_return_and_one_of_within_a_correction():
    since = [version(d(1, 2))]
    back = life_of(since, [call(d(3, 1)), call(d(5, 31))])
    # Of 30 May: no silence was, and what follows begins anew.
    never = life_of(since, [call(d(3, 1)), call(d(5, 30), d(6, 9))])
    # Known in time: there is no loss at all.
    in_time = life_of(since, [call(d(3, 1)), call(d(4, 1), d(5, 30))])

    assert [told(loss) for loss in back.losses] == [
        (d(3, 2), d(5, 30), "won_back", d(5, 31), d(5, 31))
    ]
    assert [told(loss) for loss in never.losses] == [
        (d(3, 2), d(5, 30), "corrected", d(6, 9), d(6, 9))
    ]
    assert [told(loss) for loss in in_time.losses] == [(d(4, 2), d(6, 30), "standing", None, None)]
    assert back.in_service(d(5, 31))
    assert not back.in_service(d(5, 30))


def test_a_loss_whose_return_was_known_first_never_stood():
    # The call of 1 March is told on 1 July, that of 10 June on its day; 2 January is long before both.
    life = life_of([version(d(1, 2))], [call(d(3, 1), d(7, 1)), call(d(6, 10))])

    assert [told(loss) for loss in life.losses] == [
        (d(1, 3), d(4, 2), "corrected", d(7, 1), d(6, 10)),
        (d(3, 2), d(7, 1), "won_back", d(6, 10), d(7, 1)),
    ]


def test_an_activation_is_a_sign_of_life_until_it_is_corrected():
    assert [told(loss) for loss in life_of([version(d(1, 2))]).losses] == [
        (d(1, 3), d(4, 2), "standing", None, None)
    ]
    later = version(d(5, 1), activated_at=at(d(3, 20)))
    assert [told(loss) for loss in life_of([version(d(1, 2)), later]).losses] == [
        (d(1, 3), d(4, 2), "corrected", d(5, 1), d(5, 1)),
        (d(3, 21), d(6, 18), "standing", None, None),
    ]
    # Before the record of activity nobody could have heard of it: the silence begins with the record.
    long_ago = version(d(1, 2), activated_at=at(date(2025, 3, 1)))
    assert life_of([long_ago]).losses[0].event_date == d(1, 2)


def test_a_change_of_payment_begins_a_silence_and_a_postpaid_line_has_none():
    postpaid = version(d(1, 2), payment_type="postpaid")

    assert life_of([postpaid]).losses == []
    changed = life_of([postpaid, version(d(3, 1))])
    assert [told(loss) for loss in changed.losses] == [(d(3, 2), d(5, 30), "standing", None, None)]
    gone_over = life_of([version(d(1, 2)), version(d(4, 2), payment_type="postpaid")])
    assert gone_over.losses == []


@pytest.mark.parametrize(
    ("status_at", "outcome", "since"),
    [
        (d(3, 9), "corrected", d(3, 12)),
        (d(3, 10), "corrected", d(3, 12)),
        (d(3, 11), "won_back", d(3, 11)),
        (None, "won_back", d(3, 12)),
    ],
)
def test_an_end_that_is_taken_back_is_a_return_or_never_was(status_at, outcome, since):
    first = version(d(1, 2), payment_type="postpaid")
    end = ended(d(3, 11), d(3, 10), payment_type="postpaid")
    restored = version(d(3, 12), payment_type="postpaid", status_at=status_at and at(status_at))

    life = life_of([first, end, restored])

    assert [told(loss) for loss in life.losses] == [(d(3, 10), d(3, 11), outcome, since, d(3, 12))]


def test_an_end_with_another_date_is_told_anew_and_one_that_is_announced_when_it_comes():
    first = version(d(1, 2), payment_type="postpaid")
    again = life_of(
        [
            first,
            ended(d(3, 11), d(3, 10)),
            ended(d(3, 20), d(2, 20)),
            ended(d(3, 25), d(2, 20), termination_reason_code="moving"),
        ]
    )
    ahead = life_of([first, ended(d(3, 11), d(4, 10))])
    taken_back = life_of(
        [first, ended(d(3, 11), d(4, 10)), version(d(4, 10), payment_type="postpaid")]
    )

    assert [told(loss) for loss in again.losses] == [
        (d(3, 10), d(3, 11), "corrected", d(3, 20), d(3, 20)),
        (d(2, 20), d(3, 20), "standing", None, None),
    ]
    assert [loss.reason_code for loss in again.losses] == ["moving", "moving"]
    assert [told(loss) for loss in ahead.losses] == [(d(4, 10), d(4, 10), "standing", None, None)]
    assert taken_back.losses == []


def test_what_is_lost_is_not_lost_again_until_the_first_loss_is_no_more():
    calls = [call(d(1, 20))]
    end = ended(d(6, 1), d(5, 28))
    lost = life_of([version(d(1, 2)), end], calls)
    corrected = life_of([version(d(1, 2)), end], [*calls, call(d(3, 1), d(6, 9))])
    came_back = life_of([version(d(1, 2)), end], [*calls, call(d(6, 5))])

    assert [told(loss)[:3] for loss in lost.losses] == [(d(1, 21), d(4, 20), "standing")]
    assert [told(loss)[:3] for loss in corrected.losses] == [
        (d(1, 21), d(4, 20), "corrected"),
        (d(5, 28), d(6, 9), "standing"),
    ]
    # From the day on which it had come back, not before.
    assert [told(loss)[:3] for loss in came_back.losses] == [
        (d(1, 21), d(4, 20), "won_back"),
        (d(6, 5), d(6, 5), "standing"),
    ]


def port(done: date, to: str, **values: Any) -> Row:
    return {
        "port_id": f"{done} {to}",
        "subscription_id": "one",
        "direction": "out",
        "status": "completed",
        "requested_at": at(done - timedelta(1)),
        "completed_at": at(done),
        "donor_operator": "own",
        "recipient_operator": to,
        "event_date": done,
        "load_date": done,
        **values,
    }


@pytest.mark.parametrize(
    ("ports", "kind", "operator"),
    [
        ([], "involuntary", None),
        ([port(d(4, 9), "a")], "involuntary", None),
        ([port(d(4, 10), "a")], "port_out", "a"),
        ([port(d(4, 10), "a"), port(d(5, 17), "b")], "port_out", "b"),
        ([port(d(5, 18), "b")], "involuntary", None),
        ([port(d(5, 9), "b", status="cancelled")], "involuntary", None),
        ([port(d(5, 9), "b", direction="in")], "involuntary", None),
    ],
)
def test_a_port_out_around_the_end_names_kind_and_operator(ports, kind, operator):
    end = ended(d(5, 11), d(5, 10), termination_reason_code="non_payment")

    life = life_of([version(d(1, 2), payment_type="postpaid"), end], np_port=ports)

    assert [(loss.kind, loss.destination_operator) for loss in life.losses] == [(kind, operator)]


def test_a_key_that_the_next_list_lacks_is_gone_until_a_list_has_it():
    def listed(day: date, *names: str) -> list[Row]:
        key = {"table_name": "subscription", "listed_at": at(day, 23), "event_date": day}
        return [{**key, "key_text": name} for name in names]

    lists = [*listed(d(3, 1), "one", "other"), *listed(d(3, 15), "other")]
    first = version(d(1, 2), payment_type="postpaid")
    gone = life_of([first], source_key=lists)
    back = life_of([first], source_key=[*lists, *listed(d(3, 29), "one", "other")])

    assert [(*told(loss), loss.kind, loss.reason_code) for loss in gone.losses] == [
        (d(3, 15), d(3, 15), "standing", None, None, "administrative", "deleted")
    ]
    # The version that holds again has been so since January: it was never gone.
    assert told(back.losses[0])[2:] == ("corrected", d(3, 29), d(3, 29))
    created = life_of([version(d(1, 2), status_code="created")], source_key=lists)
    assert created.losses == []


def months_of(life: Life, known_until: date = LAST) -> dict[date, Row]:
    revenue = Revenue({})
    rows = subscription_months({}, {"one": life}, revenue, FIRST, known_until)
    return {row["month_start"]: row for row in rows}


def test_an_activation_that_is_corrected_moves_the_gross_add():
    # Activated on 20 May, known then; on 10 June it is known to have been on 2 June.
    versions = [
        version(d(5, 20), activated_at=at(d(5, 20)), payment_type="postpaid"),
        version(d(6, 10), activated_at=at(d(6, 2)), payment_type="postpaid"),
    ]

    then = months_of(life_of(versions, known_until=d(6, 9)), d(6, 9))
    now = months_of(life_of(versions))

    assert (then[d(5, 1)]["gross_add_flag"], then[d(5, 1)]["closing_flag"]) == (True, True)
    assert d(5, 1) not in now
    assert (now[d(6, 1)]["gross_add_flag"], now[d(6, 1)]["opening_flag"]) == (True, False)


def test_months_balance_and_tell_what_was_first_published():
    life = life_of([version(d(1, 2))], [call(d(1, 20)), call(d(5, 5)), call(d(6, 20))])

    found = {
        month: tuple(
            int(row[name])
            for name in (
                "opening_flag",
                "gross_add_flag",
                "win_back_cnt",
                "churn_cnt",
                "churn_first_published_cnt",
                "closing_flag",
            )
        )
        for month, row in months_of(life).items()
    }

    assert found == {
        d(1, 1): (0, 1, 0, 1, 1, 0),
        d(5, 1): (0, 0, 1, 0, 0, 1),
        d(6, 1): (1, 0, 0, 0, 0, 1),
        d(7, 1): (1, 0, 0, 0, 0, 1),
    }


@pytest.mark.parametrize(
    ("payment_type", "known_until", "delivered", "settled"),
    [
        ("postpaid", d(4, 4), date.min, False),
        ("postpaid", d(4, 5), date.min, True),
        ("UNKNOWN", d(4, 5), date.min, True),
        ("prepaid", d(7, 3), d(7, 3), False),
        ("prepaid", d(7, 4), d(7, 3), False),
        ("prepaid", d(7, 31), d(7, 3), False),
        ("prepaid", d(7, 4), d(7, 4), True),
    ],
)
def test_march_is_settled_when_its_losses_have_had_time(
    payment_type, known_until, delivered, settled
):
    assert is_settled(d(3, 1), payment_type, known_until, delivered) is settled


@pytest.mark.parametrize(
    ("begun", "day", "months"),
    [
        (d(1, 15), d(2, 13), 0),
        (d(1, 15), d(2, 14), 1),
        (d(1, 31), d(2, 28), 1),
        (d(1, 31), d(4, 29), 2),
        (d(1, 31), d(4, 30), 3),
        (d(1, 1), d(1, 31), 1),
    ],
)
def test_a_month_is_full_on_the_same_day_of_the_next(begun, day, months):
    assert full_months(begun, day) == months


def test_scores_are_those_of_quantiles_and_equal_values_have_equal_ones():
    assert quantile_scores([10, 20, 30, 40, 50, 0, -1]) == [1, 2, 3, 4, 5, 1, 1]
    assert quantile_scores([10, 10, 10, 20]) == [4, 4, 4, 5]
    assert quantile_scores([7, 7, 0]) == [3, 3, 1]
    assert quantile_scores([7]) == [3]
    assert quantile_scores([]) == []
    # As `quantile(type = 7)` cuts them, a value on the limit above it.
    chance = random.Random(5)  # noqa: S311 - repeatable, not secret
    for _ in range(200):
        values = [chance.choice([1, 2, 2, 3, 5, 8, 13, 21]) for _ in range(chance.randint(2, 30))]
        if len(set(values)) > 1:
            limits = [_quantile(sorted(values), Fraction(n, 5)) for n in range(1, 5)]
            by_limits = [1 + sum(value >= limit for limit in limits) for value in values]
            assert quantile_scores(values) == by_limits, values


def _quantile(ordered: list[int], share: Fraction) -> Fraction:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def test_concentration_by_hand():
    # Of 10 lines one pays 50, one 30 and eight 2.5 each.
    found = concentration([50_00, 30_00, *[2_50] * 8])
    assert (
        float(found["revenue_share_top20"]),
        float(found["share_of_subscriptions_making_80"]),
    ) == (0.8, 0.2)
    assert float(concentration([0, 0, 0, 9])["gini"]) == 0.75
    assert float(concentration([4, 4])["gini"]) == 0
    assert concentration([0, 0])["gini"] is None


def recharge(day: date, paid: int, **values: Any) -> Row:
    key = {"recharge_id": f"{day} {paid}", "subscription_id": "one", "event_date": day}
    return {**key, "paid_amt": paid, "reversed_flag": False, **values}


def holding(offering: str, start: date, end: date | None, load_date: date) -> Row:
    held = {"subscription_id": "one", "offering_id": offering, "role": "add_on"}
    held |= {"start_at": at(start), "end_at": end and at(end), "event_date": start}
    return {**held, "load_date": load_date}


def test_revenue_of_a_recharge_has_no_tax_and_no_part_of_a_partner():
    rows: Rows = {
        "subscription": [
            version(d(1, 2)),
            version(d(4, 10), payment_type="postpaid"),
        ],
        "product_offering": [
            {"offering_id": name, "monthly_fee_amt": fee, "partner_id": of, "event_date": on}
            for name, fee, of, on in (
                ("plan", 30, None, d(1, 2)),
                ("music", 10, "a", d(1, 2)),
                ("music", 30, "a", d(3, 15)),
            )
        ],
        "subscription_offering": [
            holding("plan", d(2, 1), None, d(2, 1)),
            holding("music", d(2, 10), None, d(2, 10)),
            # That it had ended on 12 March is known on the 20th.
            holding("music", d(2, 10), d(3, 12), d(3, 20)),
        ],
        "recharge": [
            recharge(d(1, 5), 50),
            recharge(d(2, 15), 50),
            recharge(d(2, 16), 70, reversed_flag=True),
            recharge(d(3, 13), 50),
            recharge(d(3, 12), 20, load_date=d(3, 20)),
            recharge(d(4, 9), 10),
            recharge(d(4, 10), 10),
        ],
    }
    net = {paid: half_up(100 * paid / (1 + tax_share(d(3, 1)))) for paid in (10, 20, 50)}

    found = Revenue(complete(rows))

    own = {month: found.own["one", d(month, 1)] for month in range(1, 5)}
    third = {month: found.third["one", d(month, 1)] for month in range(1, 5)}
    assert 0 < tax_share(d(3, 1)) < Fraction(1, 5)
    # A quarter is the partner's; on 13 March it was still held, as far as was known.
    quarter = half_up(Fraction(net[50], 4))
    assert third == {1: 0, 2: quarter, 3: quarter, 4: 0}
    assert own == {1: net[50], 2: net[50] - quarter, 3: net[50] - quarter + net[20], 4: net[10]}
    assert found.recharged["one", d(4, 1)] == 20_00


def test_a_bill_of_what_recharges_have_paid_is_not_counted():
    def line(bill: str, day: date, amount: int, **values: Any) -> Row:
        told_of = {"bill_id": bill, "line_no": 1, "subscription_id": "one", "billed_date": day}
        told_of |= {"charge_class": "recurring", "third_party_flag": False, "event_date": day}
        return {**told_of, "tax_excl_amt": amount, **values}

    rows: Rows = {
        "subscription": [version(d(1, 2)), version(d(3, 10), payment_type="postpaid")],
        "bill": [
            {"bill_id": name, "account_id": "a", "period_start": start, "event_date": start}
            for name, start in (("b1", d(2, 1)), ("b2", d(3, 1)), ("b3", d(4, 1)))
        ],
        "bill_line": [
            line("b1", d(3, 1), 1),
            line("b2", d(4, 1), 2),
            line("b2", d(4, 1), 4, line_no=2, third_party_flag=True),
            line("b3", d(5, 1), 8),
            line("b3", d(5, 1), 16, line_no=2, charge_class="tax"),
            line("b3", d(5, 1), -3, line_no=3, charge_class="discount"),
            line("nobody's", d(3, 10), 32),
            line("nobody's", d(3, 11), 64, line_no=2),
        ],
    }

    found = Revenue(complete(rows))

    # March was billed to a line that was prepaid on the 1st and postpaid on the 31st: it is counted.
    own = {month: found.own["one", d(month, 1)] for month in (3, 4, 5)}
    assert own == {3: 64_00, 4: 2_00, 5: 5_00}
    assert found.third["one", d(4, 1)] == 4_00


def plan(offering: str, begun: date, committed: date | None, load_date: date, **values: Any) -> Row:
    """Return a version of a main holding of the one line, recorded at ten on its load date."""
    held = {"subscription_id": "one", "offering_id": offering, "role": "main", "end_at": None}
    held |= {"start_at": at(begun), "event_date": begun, "contract_end_date": committed}
    return {**held, "load_date": load_date, **values}


def spans(plans: list[Row], last: date) -> list[tuple[date, date | None]]:
    """Return since when the one line's commitment ends when."""
    rows: Rows = {"subscription": [version(d(1, 2))], "subscription_offering": plans}
    whole = complete(rows)
    found = commitments(whole, lives(whole, last), last)
    said: list[tuple[date, date | None]] = []
    for (_, day), end in found.items():
        if not said or said[-1][1] != end:
            said.append((day, end))
    return said


def test_the_commitment_of_a_day_is_that_of_the_plan_that_runs():
    told = [
        plan("a", date(2025, 1, 1), d(12, 31), d(6, 24)),
        plan("b", d(8, 1), date(2027, 7, 31), d(6, 26)),
        plan("a", date(2025, 1, 1), date(2028, 12, 31), d(6, 28)),
    ]

    assert spans(told, d(9, 1)) == [
        (d(1, 2), None),
        (d(6, 24), d(12, 31)),
        (d(6, 28), date(2028, 12, 31)),
        (d(8, 1), date(2027, 7, 31)),
    ]


def test_of_commitments_told_in_one_instant_the_longest_counts():
    def of_one_instant(again: date) -> list[Row]:
        noon = at(d(3, 1))
        longer = plan("a", d(1, 1), d(12, 31), d(3, 1), updated_at=noon, end_at=at(d(5, 1)))
        return [longer, plan("a", d(1, 1), d(6, 30), again, updated_at=noon)]

    # Told together: the longest commitment, and no end. Told again on a later day: a newer version.
    assert spans(of_one_instant(d(3, 1)), d(6, 1)) == [(d(1, 2), None), (d(3, 1), d(12, 31))]
    assert spans(of_one_instant(d(3, 5)), d(6, 1)) == [
        (d(1, 2), None),
        (d(3, 1), d(12, 31)),
        (d(3, 5), d(6, 30)),
    ]
    # Two that began in one instant: the one recorded last, not the longer one.
    both = [plan("a", d(1, 1), d(6, 30), d(3, 5)), plan("b", d(1, 1), d(12, 31), d(3, 4))]
    assert spans(both, d(6, 1)) == [(d(1, 2), None), (d(3, 4), d(12, 31)), (d(3, 5), d(6, 30))]
    # Recorded late: it changes nothing. Ended: nothing runs from the day of the end on.
    gone = plan("a", d(1, 1), d(6, 30), d(3, 1), end_at=at(d(4, 1)))
    stale = plan("a", d(1, 1), d(12, 31), d(3, 9), updated_at=at(d(2, 1)))
    assert spans([gone, stale], d(6, 1)) == [(d(1, 2), None), (d(3, 1), d(6, 30)), (d(4, 1), None)]


def test_features_of_one_day_by_hand():
    day = d(6, 30)
    holdings = [
        {"subscription_id": "one", "offering_id": plan, "role": "main", "start_at": at(on, hour)}
        | {"event_date": on}
        for plan, on, hour in (
            ("p39", d(1, 2), 12),
            ("p29", d(6, 1), 10),
            ("p19", d(6, 1), 11),
        )
    ]
    offerings = [
        {"offering_id": f"p{fee}", "monthly_fee_amt": fee, "event_date": d(1, 2)}
        for fee in (39, 29, 19)
    ]
    events = [
        {"event_id": f"{on} {hour}", "subscription_id": "one", "event_at": at(on, hour)}
        | {"to_status": to, "event_date": on}
        for on, hour, to in (
            (d(6, 3), 9, "suspended"),
            (d(6, 3), 14, "active"),
            (d(6, 5), 9, "suspended"),
            (d(6, 7), 9, "active"),
            (d(6, 29), 9, "suspended"),
        )
    ]
    rows: Rows = {
        "subscription": [version(d(1, 2), payment_type="postpaid")],
        "cdr_voice": [
            call(d(3, 5), duration_s=600),
            call(d(5, 5), duration_s=1800),
            call(d(6, 20)),
        ],
        "subscription_offering": holdings,
        "product_offering": offerings,
        "subscription_status_event": events,
    }

    found = features(complete(rows), day)["one"]

    assert found["tenure_days"] == 179
    assert found["full_months_on_net"] == 5
    assert found["days_since_activity"] == 10
    # June has ended with the day: 1 minute, after 30 in May and none in April.
    assert (float(found["mou_out_avg3m"]), float(found["mou_slope3m"])) == (10.333333, 0.5)
    # From 39 to 29 and on to 19 within a day are two changes, both to a cheaper plan.
    assert (found["plan_changes_180d"], found["plan_downgrade_90d"]) == (2, 2)
    # Restored on the same day: none; then 5 and 6 June; then 29 and 30 June.
    assert found["suspended_days_180d"] == 4


def test_a_contact_pays_from_the_published_limit_on():
    # D.6: incentive 10, contact 1, a third accepts.
    rows = [
        {
            "key": key,
            "scope": "ALL",
            "value": value,
            "valid_from": "1900-01-01",
            "valid_to": "9999-12-31",
        }
        for key, value in (
            ("incentive_dear_fen", "10"),
            ("contact_cost_dear_fen", "1"),
            ("accept_rate_dear", "0.3"),
        )
    ]
    dear = Treatment("dear", "prepaid", Parameters(rows), LAST)

    for worth, limit in ((100, 0.297), (200, 0.164), (500, 0.070), (1000, 0.036), (2000, 0.018)):
        assert float(dear.limit(Fraction(worth)) or 0) == pytest.approx(limit, abs=5e-4)
    assert dear.limit(Fraction(10)) is None
    assert dear.profit(dear.limit(Fraction(500)) or Fraction(0), Fraction(500)) == 0


def test_everything_happens_in_the_worlds():
    worlds = [crowd(seed=7, worlds=4), crowd(seed=8, worlds=1, first=date(2025, 10, 9))]
    worlds += [crowd(seed=seed, worlds=1) for seed in range(20)]
    happened: Counter[str] = Counter()
    for world in worlds:
        rows = complete(world.rows)
        revenue = Revenue(rows)
        happened["third party"] += any(revenue.third.values())
        happened["key lists"] += "source_key" in rows
        for table in ("cdr_voice", "cdr_sms", "cdr_data", "recharge"):
            happened[f"repeats of {table}"] += len(rows[table]) - len(facts(rows, table))
            happened["late"] += sum(row["event_date"] < row["load_date"] for row in rows[table])
        mains = [row for row in rows["subscription_offering"] if row["role"] == "main"]
        for row in mains:
            happened["ordered ahead"] += row["event_date"] > row["load_date"]
            happened["ended"] += row["end_at"] is not None
        for told_of in by(mains, "subscription_id", "offering_id", "start_at").values():
            ends = [row.get("contract_end_date") for row in told_of]
            instants = {row["updated_at"] for row in told_of}
            order = [row["updated_at"] for row in sorted(told_of, key=lambda row: row["load_date"])]
            happened["commitment"] += any(ends)
            happened["restated commitment"] += len(set(ends)) > 1
            happened["commitments of one instant"] += len(instants) < len(told_of)
            happened["late commitment"] += order != sorted(order)
        for life in lives(rows, world.last).values():
            types = {row["payment_type"] for row in life.versions}
            happened["changes payment"] += len(types) > 1
            happened["never activated"] += life.activated_on() is None
            happened["corrected activation"] += (
                len({row["activated_at"] for row in life.versions}) > 1
            )
            for loss in life.losses:
                happened[f"{loss.definition_code} {loss.outcome}"] += 1
                happened[loss.kind] += 1
                happened["named operator"] += loss.destination_operator is not None
                happened["never stood"] += loss.confirmed_date == loss.revoked_date

    expected = {
        *("third party", "key lists", "late", "changes payment", "never activated"),
        *("corrected activation", "named operator", "never stood"),
        *("commitment", "ordered ahead", "ended", "restated commitment"),
        *("commitments of one instant", "late commitment"),
        *(f"repeats of {table}" for table in ("cdr_voice", "cdr_sms", "cdr_data")),
        *(
            f"{definition} {outcome}"
            for definition in ("INACTIVITY_90", "TERMINATION")
            for outcome in ("standing", "won_back", "corrected")
        ),
        *("voluntary", "involuntary", "port_out", "administrative", "inactivity"),
    }
    assert {what for what in expected if not happened[what]} == set()


@pytest.mark.parametrize("seed", range(4))
def test_what_stood_on_a_day_is_what_would_have_been_counted_then(seed):
    """Of the rows as known now those that stood then are those that are counted from what was known."""
    world = crowd(seed, worlds=1 + seed % 2 * 2)
    rows = complete(world.rows)
    now = lives(rows, world.last)
    for back in range(5, 200, 31):
        day = world.last - timedelta(days=back)
        then = lives(known(rows, day), day)
        for name, life in now.items():
            stood = {
                (loss.definition_code, loss.confirmed_date)
                for loss in life.losses
                if loss.confirmed_date <= day < (loss.revoked_date or date.max)
            }
            counted = {
                (loss.definition_code, loss.confirmed_date)
                for loss in (then[name].losses if name in then else ())
                if loss.outcome == "standing"
            }
            assert stood == counted, (name, day)


# The count against what is published


def recount(world: World, rows: Rows) -> dict[str, dict[tuple[Any, ...], Row]]:
    """Return what should be published of a world, by table and key."""
    whole = complete(rows)
    all_lives, revenue = lives(whole, world.last), Revenue(whole)
    of_months = subscription_months(whole, all_lives, revenue, world.first, world.last)
    moved, delivered = movement(of_months), delivered_until(whole)
    paid = CELL.index("payment_type")
    return {
        "core.fct_churn_event": {
            (
                loss.subscription_id,
                loss.definition_code,
                loss.event_date,
                loss.confirmed_date,
            ): vars(loss)
            for life in all_lives.values()
            for loss in life.losses
        },
        "core.fct_subscription_month": {
            (row["subscription_id"], row["month_start"]): row for row in of_months
        },
        "marts.mart_subscriber_movement": {
            key: {name: counts[name] for name in (*COUNTS, "migration_in", "migration_out")}
            | {
                "is_whole_month": is_whole(key[0], world.first, world.last),
                "is_settled": is_settled(key[0], key[1 + paid], world.last, delivered),
            }
            for key, counts in moved.items()
        },
        "core.dim_subscription": {
            key: {"contract_end_date": end}
            for key, end in commitments(whole, all_lives, world.last).items()
        },
        "marts.mart_rfm_month": {
            (row["subscription_id"], row["month_start"]): row
            for row in rfm(whole, all_lives, revenue, of_months, world.first, world.last)
        },
        "marts.mart_pareto_month": {
            tuple(row[name] for name in KEYS["marts.mart_pareto_month"]): row
            for row in pareto(of_months, world.first, world.last)
        },
    }


KEYS = {
    "core.fct_churn_event": ("subscription_id", "definition_code", "event_date", "confirmed_date"),
    "core.fct_subscription_month": ("subscription_id", "month_start"),
    "marts.mart_subscriber_movement": ("month_start", *CELL),
    "core.dim_subscription": ("subscription_id", "day"),
    "marts.mart_rfm_month": ("subscription_id", "month_start"),
    "marts.mart_pareto_month": ("month_start", "level", "province_code", "brand_code"),
}


def differences(
    table: str, expected: Mapping[tuple[Any, ...], Row], published: list[Row], key: tuple[str, ...]
) -> list[str]:
    """Return one line per row that is not as it should be."""
    found = {tuple(row[name] for name in key): row for row in published}
    said = [f"{table} {names}: twice" for names, n in _counted(published, key).items() if n > 1]
    for names in sorted({*expected, *found}, key=str):
        if names not in found:
            said.append(f"{table} {names}: missing {expected[names]}")
        elif names not in expected:
            said.append(f"{table} {names}: not expected {found[names]}")
        else:
            # A column that is not published differs from every value.
            there = {name: found[names].get(name, "no such column") for name in expected[names]}
            unequal = {
                name: f"published {there[name]}, counted {value}"
                for name, value in expected[names].items()
                if there[name] != value
            }
            said += [f"{table} {names}: {unequal}"] if unequal else []
    return said


def _counted(rows: list[Row], key: tuple[str, ...]) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(row[name] for name in key) for row in rows)


def published(warehouse: Warehouse) -> dict[str, list[Row]]:
    return {table: warehouse.rows(f"select * from {table} order by all") for table in KEYS}


@pytest.fixture(scope="module")
def warehouse_of(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[World], tuple[Warehouse, Rows]]:
    """Return a function that tells a warehouse a world; all of them have one home."""
    home = tmp_path_factory.mktemp("independent") / "home"

    def told_of(world: World) -> tuple[Warehouse, Rows]:
        warehouse = Warehouse(home)
        landed = {
            table: [column.name for column in warehouse.contract[table].landed_columns]
            for table in world.rows
        }
        rows = columns_only(world.rows, landed)
        warehouse.add_all(rows)
        return warehouse, rows

    return told_of


def build(warehouse: Warehouse, windows: Iterable[tuple[date, date]]) -> None:
    for first, last in windows:
        warehouse.build("core", first, last)
        warehouse.build("marts", first, last)


def chunks(world: World, count: int, seed: int = 0) -> list[tuple[date, date]]:
    """Return windows of random length that follow each other."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    span = (world.last - world.first).days
    cuts = [0, *sorted(chance.sample(range(1, span), count - 1)), span + 1]
    return [
        (world.first + timedelta(days=cuts[n]), world.first + timedelta(days=cuts[n + 1] - 1))
        for n in range(count)
    ]


def check(world: World, rows: Rows, tables: Mapping[str, list[Row]]) -> list[str]:
    expected = recount(world, rows)
    first_days: dict[str, date] = {}
    for name, day in expected["core.dim_subscription"]:
        first_days.setdefault(name, day)
    of_days = versions_by_day(tables["core.dim_subscription"], first_days, world.last)
    tables = {**tables, "core.dim_subscription": of_days}
    return [
        line
        for table in KEYS
        for line in differences(table, expected[table], tables[table], KEYS[table])
    ]


def versions_by_day(versions: list[Row], first_days: Mapping[str, date], last: date) -> list[Row]:
    """Return the versions of subscriptions once per day on which they are valid, from a first day on."""
    return [
        {**row, "day": day}
        for row in versions
        if (first := first_days.get(row["subscription_id"]))
        for day in days(max(row["valid_from"], first), min(row["valid_to"] - timedelta(1), last))
    ]


def check_as_of(rows: Rows, warehouse: Warehouse, as_of: date) -> list[str]:
    """Compare the features of a day and the tiers of its base."""
    found, counted = warehouse.features(as_of), features(complete(rows), as_of)
    key = ("subscription_id",)
    return [
        *differences("features", {(name,): row for name, row in counted.items()}, found, key),
        *differences("tiers", tiers_of(counted, as_of), judged(found, as_of), key),
    ]


def judged(found: list[Row], as_of: date) -> list[Row]:
    """Return what keepline says of features, with chances and worths as if a model had said them."""
    seed = pd.DataFrame(Parameters.of_seed("param_risk_tier").rows)
    params = choose_params(seed, as_of)
    predicted = predict_rows(living_rows(pd.DataFrame(found)), None, params)
    scored = (predicted["unscored"] == RULE_NO_MODEL).to_numpy()
    reached = scored & ~is_silent(predicted, params)
    said = [said_of(name) for name in predicted["subscription_id"]]
    predicted["churn_probability"] = np.where(reached, [chance for chance, _ in said], np.nan)
    predicted["value_fen"] = np.where(scored, [worth for _, worth in said], np.nan)
    models = ModelSet({}, {}, as_of, LabelParams(3, 30), TrainingParams(), {}, "", {})
    scores = judge(predicted, models, params, Stamps(as_of, "", ""))
    named = scores[["subscription_id", "risk_tier", "tier_rule_id"]]
    return [{str(name): value for name, value in row.items()} for row in named.to_dict("records")]


def tiers_of(counted: dict[str, Row], as_of: date) -> dict[tuple[Any, ...], Row]:
    """Return what the words say of features that were counted, with the same chances and worths."""
    found, asked = {}, []
    for name, row in counted.items():
        months = row["full_months_on_net"]
        if not row["is_alive"]:
            continue
        if months is not None and months < 3:
            found[name] = ("NEW", "NEW_ON_NET")
        elif months is None or not row["known_flag"]:
            found[name] = ("NODATA", "NOTHING_KNOWN")
        else:
            chance, worth = said_of(name)
            group = "prepaid" if row["payment_type"] == "prepaid" else "postpaid"
            told = {"payment_group": group, "churn_probability": chance, "value_fen": worth}
            asked.append({**row, **told, "subscription_id": name})
    found |= tiers(asked, Parameters.of_seed("param_risk_tier"), as_of)
    return {
        (name,): {"risk_tier": tier, "tier_rule_id": rule} for name, (tier, rule) in found.items()
    }


def said_of(name: str) -> tuple[float, float]:
    """Return a chance and a worth in fen that depend on nothing but the name."""
    chance = random.Random(name)  # noqa: S311 - repeatable, not secret
    return chance.random() ** 3, float(chance.randrange(200_000))


def test_small_worlds_that_were_counted_otherwise(warehouse_of):
    """Each line alone is the smallest that showed a difference once, or a tie of commitments."""

    def line(name: str, *versions: Row) -> list[Row]:
        place = {"customer_id": f"{name} customer", "province_code": "BJ", "brand_code": "alpha"}
        return [{**place, **row, "subscription_id": name} for row in versions]

    begun = version(d(1, 2))
    postpaid = version(d(1, 2), payment_type="postpaid")

    def gone(on: date, dated: date, reason: str | None = "non_payment") -> Row:
        return ended(on, dated, payment_type="postpaid", termination_reason_code=reason)

    def again(on: date, status_on: date) -> Row:
        return {**postpaid, "load_date": on, "event_date": on, "status_at": at(status_on)}

    back = [gone(d(5, 10), d(5, 10), None), again(d(5, 20), d(5, 20)), gone(d(6, 1), d(6, 1))]
    ends = {
        "ported, then in debt": back,
        "ported when back": back,
        "announced, not come": [
            gone(d(5, 1), d(6, 10)),
            again(d(5, 20), d(5, 20)),
            gone(d(5, 25), d(5, 25)),
        ],
        "never ended": [
            gone(d(5, 12), d(5, 12)),
            again(d(5, 20), d(5, 11)),
            gone(d(6, 1), d(6, 1)),
        ],
        "two of a day": [gone(d(6, 1), d(6, 1))],
        "one unnamed": [gone(d(6, 1), d(6, 1))],
        "as far": [gone(d(6, 1), d(6, 1))],
        "told in july": [
            ended(d(6, 15), d(6, 15), termination_reason_code="non_payment"),
            version(d(6, 20), status_at=at(d(6, 20))),
        ],
    }
    noon = at(d(3, 1))
    ports = {
        "ported, then in debt": [port(d(5, 10), "rival")],
        "ported when back": [port(d(5, 20), "rival")],
        "announced, not come": [port(d(5, 10), "rival")],
        "never ended": [port(d(5, 10), "rival")],
        "two of a day": [
            port(d(5, 30), "rival", completed_at=at(d(5, 30), 9), updated_at=at(d(5, 30), 9)),
            port(d(5, 30), "third", completed_at=at(d(5, 30), 15), updated_at=at(d(5, 30), 15)),
        ],
        "one unnamed": [
            port(d(5, 30), "rival", updated_at=noon),
            port(d(5, 30), "x", recipient_operator=None, updated_at=noon),
        ],
        "as far": [port(d(5, 30), "rival"), port(d(6, 3), "third")],
        "told in july": [port(d(6, 5), "rival")],
    }
    # Prepaid ones fall silent on 5 March; all of them are postpaid or silent from then on, but one
    # that calls until nothing is delivered any more.
    use = {
        "came late": [d(1, 5), d(5, 20)],
        "talks": list(days(FIRST, d(7, 3))),
        "told in july": [d(6, 10)],
    }
    held = {
        "ordered ahead": [
            plan("a", date(2025, 1, 1), d(12, 31), d(3, 1)),
            plan("b", d(5, 1), date(2027, 4, 30), d(3, 3)),
            plan("a", date(2025, 1, 1), date(2028, 12, 31), d(3, 9)),
        ],
        # The longest commitment is of one row, the latest end of the other.
        "told together": [
            plan("a", d(1, 1), d(12, 31), d(3, 1), updated_at=noon, end_at=at(d(5, 1))),
            plan("a", d(1, 1), d(6, 30), d(3, 1), updated_at=noon),
        ],
        "told again": [
            plan("a", d(1, 1), d(12, 31), d(3, 1), updated_at=noon),
            plan("a", d(1, 1), d(6, 30), d(3, 20), updated_at=noon),
        ],
        "begun together": [
            plan("a", d(1, 1), d(6, 30), d(3, 1), updated_at=noon),
            plan("b", d(1, 1), d(12, 31), d(3, 1), updated_at=noon),
            plan("c", d(1, 1), date(2027, 7, 31), d(3, 1), updated_at=at(d(2, 28))),
        ],
    }
    rows: Rows = {
        "subscription": [
            *(row for name in held for row in line(name, postpaid)),
            *(
                row
                for name, told in ends.items()
                for row in line(name, begun if name == "told in july" else postpaid, *told)
            ),
            *line("talks", begun),
            # Created and never activated: it can't be lost.
            *line("created", version(d(1, 2), status_code="created")),
            # Its activation is corrected to the day before: the silence is from there.
            *line("a day earlier", version(d(1, 6)), version(d(1, 20), activated_at=at(d(1, 1)))),
            # Named by no master when a silence could have been confirmed.
            *line("came late", version(d(5, 25))),
            # Without a brand until February: its opening in February is that of UNKNOWN.
            *line(
                "no brand", {**postpaid, "brand_code": None}, {**postpaid, "load_date": d(2, 10)}
            ),
            # The end is announced for July; the silence is over before.
            *line("announced", begun, ended(d(3, 1), d(7, 3))),
            # The end is told with another date and another reason.
            *line(
                "restated",
                postpaid,
                ended(d(3, 1), d(3, 1), termination_reason_code="moving"),
                ended(d(3, 9), d(3, 4), termination_reason_code="price"),
            ),
        ],
        "subscription_offering": [
            {**row, "subscription_id": name} for name, plans in held.items() for row in plans
        ],
        "np_port": [
            {**row, "subscription_id": name, "port_id": f"{name} {row['port_id']}"}
            for name, told in ports.items()
            for row in told
        ],
        "cdr_voice": [
            *(
                call(day, line=name, call_type="local", roam_type="home")
                for name, used in use.items()
                for day in used
            ),
            call(d(3, 1), d(7, 1), line="told in july", call_type="local", roam_type="home"),
            # Of no activity: nobody was reached.
            call(d(7, 5), line="talks", call_type="local", roam_type="home", status="busy"),
        ],
    }
    world = World(FIRST, d(7, 5), rows)
    warehouse, landed = warehouse_of(world)
    build(warehouse, [(world.first, world.last)])

    tables = published(warehouse)
    assert check(world, landed, tables) == []
    # What was counted is what it was made for: March has had its 90 and 5 days by 4 July, and no
    # activity was delivered after the 3rd.
    settled = {
        (row["month_start"].month, row["payment_type"])
        for row in tables["marts.mart_subscriber_movement"]
        if row["is_settled"]
    }
    assert settled == {
        *((month, "postpaid") for month in range(1, 7)),
        *((month, "prepaid") for month in range(1, 3)),
    }
    debt = [
        (row["event_date"], row["kind"], row["returned_date"])
        for row in tables["core.fct_churn_event"]
        if row["subscription_id"] == "ported, then in debt"
    ]
    assert sorted(debt, key=lambda row: row[0]) == [
        (d(5, 10), "port_out", d(5, 20)),
        (d(6, 1), "involuntary", None),
    ]


def test_every_published_row_is_counted_again(warehouse_of):
    world = crowd(seed=7, worlds=4)
    warehouse, rows = warehouse_of(world)
    build(warehouse, [(world.first, world.last)])

    assert check(world, rows, published(warehouse)) == []

    as_of = months_later(world.last.replace(day=1), -1) + timedelta(days=9)
    assert check_as_of(rows, warehouse, as_of) == []
    tiers_there = tiers_of(features(complete(rows), as_of), as_of).values()
    assert {row["risk_tier"] for row in tiers_there} >= {"HIGH", "MEDIUM", "LOW", "NEW"}
    assert "SILENT_TOO_LONG" in {row["tier_rule_id"] for row in tiers_there}


def test_every_row_is_the_same_when_the_days_came_in_pieces(warehouse_of):
    world = crowd(seed=8, worlds=1, first=date(2025, 10, 9))
    warehouse, rows = warehouse_of(world)
    build(warehouse, chunks(world, 4))

    assert check(world, rows, published(warehouse)) == []


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(5))
def test_fifty_worlds_are_counted_again(warehouse_of, seed):
    world = crowd(seed=100 + seed, worlds=10, first=date(2025, 10, 1) + timedelta(days=7 * seed))
    warehouse, rows = warehouse_of(world)
    build(warehouse, chunks(world, 1 + seed, seed))

    assert check(world, rows, published(warehouse)) == []
    for back in (0, 45):
        assert check_as_of(rows, warehouse, world.last - timedelta(days=back)) == []


def test_tiers_are_counted_again():
    chance = random.Random(3)  # noqa: S311 - repeatable, not secret
    parameters = Parameters.of_seed("param_risk_tier")
    for _ in range(40):
        rows = [
            {
                "subscription_id": f"{chance.random()}",
                "payment_group": chance.choice(["prepaid", "postpaid"]),
                "churn_probability": chance.random() ** 4,
                "value_fen": float(int(chance.choice([1, 10, 100]) * chance.random() * 3000)),
                "days_since_activity": chance.choice([0.0, 14.0, 15.0, 60.0, None]),
            }
            for _ in range(chance.randint(1, 120))
        ]
        found = assign_tiers(pd.DataFrame(rows), choose_params(pd.DataFrame(parameters.rows), LAST))

        counted = tiers(rows, parameters, LAST)
        both = zip(found["risk_tier"], found["tier_rule_id"], strict=True)
        assert dict(zip((row["subscription_id"] for row in rows), both, strict=True)) == counted


@pytest.mark.parametrize("payment_type", ["prepaid", "postpaid"])
def test_recency_has_bands_of_days(payment_type):
    scores = [recency_score(days, "alpha", payment_type, LAST) for days in range(400)]

    assert recency_score(None, "alpha", payment_type, LAST) == 1
    assert (scores[0], scores[-1]) == (5, 1)
    assert scores == sorted(scores, reverse=True)
    # Silent longer than an offer reaches: the lowest band.
    assert recency_score(15, "alpha", "prepaid", LAST) < recency_score(
        15, "alpha", "postpaid", LAST
    )


def test_families_of_recency_are_named():
    assert set(FAMILIES) == {"call", "message", "data", "recharge", "payment"}
