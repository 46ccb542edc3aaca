"""A foreign operator, from its own files: what lands equals what the csv module reads there."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from keepline import store
from keepline.extract import TableResult, extract_window
from keepline.settings import PROJECT_DIR, Settings
from keepline.window import Window

MEGALINE = PROJECT_DIR.parent / "shared" / "data" / "megaline"
YEAR = Window(date(2018, 1, 1), date(2019, 1, 1))

pytestmark = pytest.mark.skipif(not MEGALINE.is_dir(), reason="the Megaline files are not here")


class Megaline:
    """Landing of the whole year, and the files beside it."""

    def __init__(self, settings: Settings, results: list[TableResult]) -> None:
        self.settings = settings
        self.results = {result.table_name: result for result in results}

    def rows(self, table: str, columns: str, rest: str = "") -> list[tuple[object, ...]]:
        glob = self.settings.landing_dir / table / "*" / "part-0.parquet"
        landing = f"read_parquet('{glob}', hive_partitioning = true)"
        return duckdb.sql(f"select {columns} from {landing} {rest}").fetchall()

    @staticmethod
    def csv(name: str) -> Iterator[dict[str, str]]:
        with (MEGALINE / f"megaline_{name}.csv").open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


@pytest.fixture(scope="module")
def megaline(postgres, tmp_path_factory):
    postgres.ensure_database("megaline")
    settings = Settings(
        home=tmp_path_factory.mktemp("megaline"),
        operator="megaline",
        store_dsn=postgres.dsn("megaline"),
        pseudonym_key="11" * 32,
        vault_key="22" * 32,
    )
    with store.connect(settings, autocommit=True) as connection:
        ddl = Path(PROJECT_DIR / "keepline" / "release" / "sql" / "ops.sql").read_bytes()
        connection.execute(ddl)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEGALINE_DIR", str(MEGALINE))
        return Megaline(settings, extract_window(settings, YEAR))


def up(amount: str, unit: int) -> int:
    """Return a measure in its smallest unit, rounded up."""
    return math.ceil(Decimal(amount) * unit)


def test_calls_by_day_and_user_and_their_seconds(megaline):
    calls: Counter[tuple[str, str]] = Counter()
    seconds: Counter[tuple[str, str]] = Counter()
    for row in megaline.csv("calls"):
        calls[row["call_date"], row["user_id"]] += 1
        seconds[row["call_date"], row["user_id"]] += up(row["duration"], 60)

    found = megaline.rows(
        "cdr_voice", "load_date::text, subscription_id, count(*), sum(duration_s)", "group by all"
    )

    assert {(day, user): n for day, user, n, _ in found} == dict(calls)
    assert {(day, user): s for day, user, _, s in found} == dict(seconds)
    assert sum(calls.values()) == 137_735


def test_a_call_of_no_length_was_not_answered(megaline):
    missed = sum(1 for row in megaline.csv("calls") if Decimal(row["duration"]) == 0)

    assert megaline.rows("cdr_voice", "count(*)", "where status = 'no_answer'") == [(missed,)]
    assert megaline.rows("cdr_voice", "count(*)", "where duration_s = 0") == [(missed,)]


def test_messages_by_day_and_user(megaline):
    messages = Counter((row["message_date"], row["user_id"]) for row in megaline.csv("messages"))

    found = megaline.rows("cdr_sms", "load_date::text, subscription_id, count(*)", "group by all")

    assert {(day, user): n for day, user, n in found} == dict(messages)
    assert sum(messages.values()) == 76_051


def test_sessions_by_day_and_user_and_their_bytes(megaline):
    sessions: Counter[tuple[str, str]] = Counter()
    volume: Counter[tuple[str, str]] = Counter()
    for row in megaline.csv("internet"):
        sessions[row["session_date"], row["user_id"]] += 1
        volume[row["session_date"], row["user_id"]] += up(row["mb_used"], 1 << 20)

    found = megaline.rows(
        "cdr_data", "load_date::text, subscription_id, count(*), sum(bytes_down)", "group by all"
    )

    assert {(day, user): n for day, user, n, _ in found} == dict(sessions)
    assert {(day, user): s for day, user, _, s in found} == dict(volume)
    assert sum(sessions.values()) == 104_825


def test_what_happened_on_a_day_was_known_on_that_day(megaline):
    for table in ("cdr_voice", "cdr_sms", "cdr_data", "subscription", "subscription_status_event"):
        assert megaline.rows(table, "count(*)", "where event_date <> load_date") == [(0,)]


def test_who_left_has_a_second_version_from_that_day(megaline):
    users = list(megaline.csv("users"))
    left = {row["user_id"]: row["churn_date"] for row in users if row["churn_date"]}

    ended = megaline.rows(
        "subscription", "subscription_id, load_date::text", "where status_code = 'terminated'"
    )
    begun = megaline.rows(
        "subscription", "subscription_id, load_date::text", "where status_code = 'active'"
    )

    assert dict(ended) == left
    assert dict(begun) == {row["user_id"]: row["reg_date"] for row in users}
    assert len(left) == 34


def test_names_are_in_the_vault_only(megaline):
    assert megaline.rows("party_individual", "count(*)") == [(500,)]
    with store.connect(megaline.settings) as connection:
        kept = connection.execute("select count(*) from vault.personal_value").fetchone()

    assert kept == (500,)


def test_plans_and_places_are_those_of_the_files(megaline):
    plans = {row["plan_name"]: Decimal(row["usd_monthly_pay"]) for row in megaline.csv("plans")}
    cities = {row["city"].removesuffix(" MSA") for row in megaline.csv("users")}

    assert dict(megaline.rows("product_offering", "offering_id, monthly_fee_amt")) == plans
    assert {row[0] for row in megaline.rows("geography", "city_code")} == cities
    assert megaline.rows("geography", "count(*)", "where length(province_code) <> 2") == [(0,)]


def test_every_day_balances_and_nothing_is_set_aside(megaline):
    balances = [b for result in megaline.results.values() for b in result.reconciliations]

    assert all(balance.balanced and not balance.quarantined_rows for balance in balances)
    assert not megaline.settings.quarantine_dir.exists()


def test_what_the_files_do_not_have_is_not_invented(megaline):
    left_out = {name for name, result in megaline.results.items() if not result.provided}

    assert {"bill", "bill_line", "payment", "recharge", "interaction", "trouble_ticket"} <= left_out
    assert {"np_port", "dealer", "holiday", "number_range", "competitor_hotline"} <= left_out
