"""Time orders what happened, then the order in which it was recorded; a name orders nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pytest
from dbt.cli.main import dbtRunner
from engines import Engine
from psycopg import conninfo
from warehouse import Row, Rows, Warehouse, at
from warehouse_rows import (
    AS_OF,
    FIRST_DAY,
    call,
    holding,
    offering,
    recharge,
    small_operator,
    subscription,
    ticket,
)

from keepline.settings import PROJECT_DIR

# On PostgreSQL it takes minutes; every change compares both engines in test_parity.
pytestmark = pytest.mark.deep(on="postgres")

# What names a thing: sorted, such a column gives an order that means nothing.
NAMES = ("_id", "_key", "_code", "key_text", "_hash", "_operator")
# Aggregates that take one value of many.
PICKING = ("min", "max", "first", "last", "any_value", "arg_min", "arg_max", "min_by", "max_by")
# (model, column): why the order of the names cannot change what the model tells.
HARMLESS = {
    ("feat_debt_asof", "account_id"): "the greatest of one: that of the last version",
    ("fct_churn_event", "recipient_operator"): "the greatest that is the least, too: one name",
}

DAY = date(2026, 3, 10)
# What a run tells the models that cannot be compiled without.
RUN = {
    "as_of_dates": ["2026-03-31"],
    "window_from": "2026-03-31",
    "window_to": "2026-04-01",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the SQL of every model as dbt compiles it, each without the ones that it reads."""
    home = tmp_path_factory.mktemp("home")
    (home / "demo").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPLINE_HOME", str(home))
        done = dbtRunner().invoke(
            [
                *("compile", "--quiet", "--no-inject-ephemeral-ctes", "--no-introspect"),
                *("--select", "resource_type:model", "--target", "duckdb"),
                *("--vars", json.dumps(RUN)),
                *("--project-dir", str(PROJECT_DIR / "dbt_project")),
                *("--profiles-dir", str(PROJECT_DIR / "dbt_project")),
                *("--target-path", str(home / "target"), "--log-path", str(home / "logs")),
            ]
        )
    assert done.success, done.exception or done.result
    nodes = [result.node for result in done.result.results]
    return {node.name: node.compiled_code for node in nodes if node.resource_type == "model"}


def names_that_order(sql: str) -> set[str]:
    """Return the columns of `sql`, as DuckDB parses it, that name something and put something in order.

    That is: sorted by in a window, an aggregate, a query with a limit or a `distinct on`; or the
    argument of an aggregate that picks by order. How a query's rows are stored orders nothing.
    """
    with duckdb.connect() as connection:
        text = connection.execute("select json_serialize_sql(?::varchar)", [sql]).fetchone()
    assert text is not None
    parsed = json.loads(text[0])
    assert not parsed["error"], parsed
    columns = {name for node in _nodes(parsed) for name in _that_order(node)}
    return {column for column in columns if column.endswith(NAMES)}


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every node of a parsed statement."""
    if isinstance(tree, dict):
        yield tree
    for piece in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(piece, dict | list):
            yield from _nodes(piece)


def _that_order(node: dict[str, Any]) -> Iterator[str]:
    """Yield the columns by which a function, a window or a query puts something in order."""
    if node.get("class") in ("FUNCTION", "WINDOW"):
        sorted_by = [node.get(name) for name in ("order_bys", "orders", "arg_orders")]
        yield from _columns([piece for piece in sorted_by if piece])
        if node["function_name"] in PICKING:
            yield from _columns(node["children"])
    modifiers = node.get("modifiers") or []
    if any(
        modifier["type"] == "LIMIT_MODIFIER" or modifier.get("distinct_on_targets")
        for modifier in modifiers
    ):
        yield from _columns([m for m in modifiers if m["type"] == "ORDER_MODIFIER"])


def _columns(tree: Any) -> Iterator[str]:
    """Yield the names of the columns that a value may come from; what a case asks is not what it gives."""
    if isinstance(tree, dict) and tree.get("class") == "COLUMN_REF":
        yield tree["column_names"][-1].lower()
    pieces = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for name, piece in pieces:
        if name != "when_expr" and isinstance(piece, dict | list):
            yield from _columns(piece)


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("select row_number() over (partition by a_id order by b_at, c_id) from t", {"c_id"}),
        ("select lead(x) over (order by a_at, coalesce(t.b_code, '') desc) from t", {"b_code"}),
        ("select string_agg(a, ',' order by key_text) from t", {"key_text"}),
        ("select a from t order by a_key limit 1", {"a_key"}),
        ("select distinct on (a) a, b from t order by a, b_hash", {"b_hash"}),
        ("with x as (select max(a_id) as b from t group by c) select b from x", {"a_id"}),
        ("select max(case when a_id <> b_id then c_id else d_id end) from t", {"c_id", "d_id"}),
        (
            "select a from t where b in (select max(c_hash) over (partition by d) from u)",
            {"c_hash"},
        ),
        ("select max(a_at) filter (where b_id > 'x') from t", set()),
        ("select a_id from t order by load_date, a_id", set()),
        ("select sum(a) over (partition by a_id order by a_at) from t", set()),
    ],
)
def test_an_order_by_name_is_found(sql, names):
    assert names_that_order(sql) == names


def test_no_model_orders_by_a_name(models):
    assert len(models) > 60

    found = {(model, column) for model, sql in models.items() for column in names_that_order(sql)}

    assert found - set(HARMLESS) == set(), "order by time, record or value, not by name"
    assert set(HARMLESS) - found == set(), "these exceptions are needed no more"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Warehouse:
    """Return a warehouse of each engine that knows a busy day of the small operator."""
    home = tmp_path_factory.mktemp(f"order_{engine['compute']}") / "home"
    warehouse = Warehouse(home, engine)
    warehouse.add_all(busy_operator())
    warehouse.build("core", FIRST_DAY, AS_OF)
    return warehouse


def hour(hour_of_day: int, day: date = DAY) -> datetime:
    """Return an hour of the local clock in UTC."""
    return at(day, hour_of_day - 8)


def status(line: str, event_id: str, hour_of_day: int, to_status: str, **values: Any) -> Row:
    """Return a change of a line's state on `DAY`, recorded in the evening."""
    return {
        "event_id": event_id,
        "subscription_id": line,
        "to_status": to_status,
        "event_at": hour(hour_of_day),
        "recorded_at": hour(20),
        "event_date": DAY,
        **values,
    }


def answer(line: str, interaction_id: str, hour_of_day: int, score: int) -> Row:
    """Return a contact of `DAY` with an answer about satisfaction."""
    return {
        "interaction_id": interaction_id,
        "subscription_id": line,
        "direction": "in",
        "channel_code": "phone",
        "started_at": hour(hour_of_day),
        "csat_score": score,
        "event_date": DAY,
    }


def busy_operator() -> Rows:
    """Return the small operator with a day on which much happens, in each order of the ids."""
    rows = small_operator()
    more: Rows = {
        "product_offering": [
            offering(plan, FIRST_DAY, fee=fee) for plan, fee in (("q1", 39), ("q9", 29), ("q5", 19))
        ],
        "subscription_status_event": [
            status("s1", "E9", 9, "suspended"),
            status("s1", "E10", 14, "active"),
            status("s2", "E20", 9, "active"),
            status("s2", "E3", 14, "suspended"),
            status("s3", "E31", 9, "suspended"),
            status("s3", "E30", 9, "active", recorded_at=hour(21)),
            status("s4", "E40", 9, "suspended"),
            status("s4", "E41", 9, "active"),
            status("s5", "E51", 9, "suspended"),
            status("s5", "E50", 9, "active"),
        ],
        "subscription_offering": [
            # Down in steps within a day, up again, and two that begin in one instant.
            *(
                holding(line, plan, DAY, start_at=hour(hour_of_day))
                for line, steps in {
                    "s1": (("q1", 9), ("q9", 12), ("q5", 15)),
                    "s2": (("q5", 9), ("q9", 12), ("q1", 15)),
                    "s3": (("q1", 9), ("q9", 9)),
                    "s4": (("q9", 9), ("q5", 9)),
                }.items()
                for plan, hour_of_day in steps
            ),
        ],
        "interaction": [
            answer("s1", "I9", 9, 5),
            answer("s1", "I10", 14, 1),
            answer("s2", "I20", 9, 2),
            answer("s2", "I3", 14, 3),
            answer("s3", "I30", 9, 2),
            answer("s3", "I31", 9, 5),
        ],
        "trouble_ticket": [
            # Told again when it is closed already.
            ticket("s3", DAY, "closed", updated_at=hour(15)),
            ticket("s3", DAY, "open", updated_at=hour(12), load_date=DAY + timedelta(days=2)),
        ],
        "bill": [
            bill_version("s3", "issued", hour(9), DAY + timedelta(days=3)),
            bill_version("s3", "settled", hour(12), DAY),
        ],
        "subscription": [
            # One number, handed on within a day; two lines that got one in the same instant.
            subscription("s11", DAY, msisdn_hash="n1", activated_at=hour(14)),
            subscription("s12", DAY, msisdn_hash="n1", activated_at=hour(9)),
            subscription("s13", DAY, msisdn_hash="n2", activated_at=hour(9)),
            subscription("s14", DAY, msisdn_hash="n2", activated_at=hour(9)),
        ],
        "cdr_voice": [
            call(
                "s1", DAY, 77, other_prefix=prefix, usage_id=f"tie-{prefix}", other_number_hash="x"
            )
            for prefix in ("186", "176")
        ],
        "operator": [
            {"operator_code": "third", "name": "third", "type": "MNO", "own_flag": False}
            | {"event_date": FIRST_DAY}
        ],
        "number_range": [
            {"prefix": "176", "operator_code": "third", "valid_from": date(2020, 1, 1)}
            | {"event_date": FIRST_DAY}
        ],
        "recharge": [recharge("s2", DAY, paid=7, recharge_id="again")],
    }
    for table, table_rows in more.items():
        rows[table] = [*rows.get(table, []), *table_rows]
    return rows


def bill_version(line: str, state: str, recorded: datetime, load_date: date) -> Row:
    """Return a version of a bill of February, due on 1 March."""
    return {
        "bill_id": f"x-{line}",
        "account_id": f"a{line[1:]}",
        "period_start": date(2026, 1, 1),
        "period_end": date(2026, 2, 1),
        "bill_date": date(2026, 2, 1),
        "due_date": date(2026, 3, 1),
        "amount_due_amt": 77,
        "remaining_amt": 77 if state == "issued" else 0,
        "state": state,
        "updated_at": recorded,
        "event_date": date(2026, 2, 1),
        "load_date": load_date,
    }


def test_events_of_a_day_count_in_the_order_of_their_time(warehouse):
    found = {row["subscription_id"]: row for row in warehouse.features(AS_OF)}

    def told(column: str, *lines: str) -> list[Any]:
        return [found[line][column] for line in lines]

    suspended_since = (AS_OF - DAY).days + 1
    lines = ("s1", "s2", "s3", "s4", "s5", "s6")
    assert told("suspended_days_180d", *lines) == [0, suspended_since, 0, 0, 0, 0]
    # 50, 39, 29, 19 yuan; 50, 19, 29, 39; 50, 29, 39; 50, 19, 29: where nothing tells, it rises.
    assert told("plan_changes_180d", *lines) == [3, 3, 2, 2, 0, 0]
    assert told("plan_downgrade_90d", *lines) == [3, 1, 1, 1, 0, 0]
    # The worse of two answers about contacts that began together; 4 is the answer of the 12th.
    assert told("csat_avg_180d", "s1") != told("csat_avg_180d", "s2")
    assert told("complaints_open", "s3") == [0]
    assert told("arrears_amt", "s3") == told("arrears_amt", "s5")
    assert {
        row["subscription_id"]
        for row in warehouse.rows("select * from core.dim_subscription where is_suspect_reuse")
    } == {"s11", "s13", "s14"}


def test_the_last_answer_of_a_day_is_the_last_by_the_clock(warehouse):
    found = {row["subscription_id"]: row for row in warehouse.features(DAY)}

    assert [found[line]["csat_last"] for line in ("s1", "s2", "s3")] == [1, 3, 2]


# The columns that hold a name of each kind of thing; renamed, they have to tell the same.
NAMED = {
    "subscription": ("subscription_id", "secondary_of_id"),
    "customer": ("customer_id", "group_customer_id"),
    "party": ("party_id",),
    "account": ("account_id",),
    "offering": ("offering_id",),
    "dealer": ("dealer_id",),
    "usage": ("usage_id",),
    "bill": ("bill_id",),
    "recharge": ("recharge_id",),
    "event": ("event_id",),
    "interaction": ("interaction_id",),
    "ticket": ("ticket_id",),
    "number": ("msisdn_hash", "other_number_hash", "number_hash"),
}


def renamed(rows: Rows) -> tuple[Rows, dict[str, dict[str, str]]]:
    """Return the rows with all names replaced so that their order turns round, and the names."""
    new_names: dict[str, dict[str, str]] = {}
    for kind, columns in NAMED.items():
        names = {
            row[column]
            for table_rows in rows.values()
            for row in table_rows
            for column in columns
            if row.get(column) is not None
        }
        backwards = sorted(names, reverse=True)
        new_names[kind] = {name: f"{kind}-{n:06}" for n, name in enumerate(backwards)}
    kind_of = {column: kind for kind, columns in NAMED.items() for column in columns}
    return {
        table: [
            {
                column: new_names[kind_of[column]].get(value, value) if column in kind_of else value
                for column, value in row.items()
            }
            for row in table_rows
        ]
        for table, table_rows in rows.items()
    }, new_names


def test_ids_may_be_renamed(warehouse, engine, tmp_path_factory):
    before = [row for day in (AS_OF, DAY) for row in warehouse.features(day)]
    rows, new_names = renamed(busy_operator())
    other = Warehouse(tmp_path_factory.mktemp("renamed") / "home", engine_of_its_own(engine))
    other.add_all(rows)
    other.build("core", FIRST_DAY, AS_OF)

    after = [row for day in (AS_OF, DAY) for row in other.features(day)]

    old = {
        column: {new: old for old, new in new_names[kind].items()}
        for kind, column in (("subscription", "subscription_id"), ("customer", "customer_id"))
    }
    mapped = [
        {name: old[name].get(value, value) if name in old else value for name, value in row.items()}
        for row in after
    ]
    assert _sorted(mapped) == _sorted(before)
    assert [row["subscription_id"] for row in mapped] != [row["subscription_id"] for row in before]


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["as_of_date"], row["subscription_id"]))


def engine_of_its_own(engine: Engine) -> Engine:
    """Return the engine with another database where databases have names."""
    if "compute_dsn" not in engine:
        return engine
    dsn = str(engine["compute_dsn"])
    name = conninfo.conninfo_to_dict(dsn)["dbname"]
    return engine | {"compute_dsn": conninfo.make_conninfo(dsn, dbname=f"{name}_renamed")}
