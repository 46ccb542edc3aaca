"""A foreign operator, from its own files to what readers see: equal to what the csv module reads there.

One run of the real command, as the README shows it, serves all tests.
"""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from keepline import store
from keepline.settings import PROJECT_DIR, Settings

FOLDER = Path("..", "shared", "data", "megaline")
MEGALINE = PROJECT_DIR / FOLDER
LAST = date(2018, 12, 31)
USERS, LEAVERS, NEW_LINES = 500, 34, 106

pytestmark = pytest.mark.skipif(
    not MEGALINE.is_dir(), reason=f"the Megaline files are not here: {MEGALINE.resolve()}"
)


@dataclass(frozen=True)
class Megaline:
    """A home in which `keepline run` ran twice, and the files beside it."""

    home: Path
    settings: Settings
    screens: list[str]
    published: list[dict[str, object]]

    def seen(self, query: str) -> list[tuple[object, ...]]:
        """Return rows as a reader sees them."""
        with store.connect(self.settings, "bi_reader") as connection:
            return connection.execute(query.encode()).fetchall()

    def owned(self, query: str) -> list[tuple[object, ...]]:
        """Return rows as the pipeline sees them."""
        with store.connect(self.settings) as connection:
            return connection.execute(query.encode()).fetchall()

    def landed(self, table: str, columns: str, rest: str = "") -> list[tuple[object, ...]]:
        """Return rows of landing."""
        glob = self.settings.landing_dir / table / "*" / "part-0.parquet"
        landing = f"read_parquet('{glob}', hive_partitioning = true)"
        return duckdb.sql(f"select {columns} from {landing} {rest}").fetchall()


def _run(home: Path) -> str:
    """Run `keepline run` with the operator's folder as a relative path."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("KEEPLINE_")}
    mine |= {"KEEPLINE_HOME": str(home), "KEEPLINE_OPERATOR": "megaline", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "keepline", "run"],
        env=mine | {"MEGALINE_DIR": str(FOLDER)},
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def _published(settings: Settings) -> dict[str, object]:
    """Return count and content hash of everything that readers see."""
    with store.connect(settings, "bi_reader") as connection:
        names = connection.execute(
            "select table_schema || '.' || table_name from information_schema.views"
            " where table_schema in ('mart', 'star') order by 1"
        ).fetchall()
        return {
            str(name): connection.execute(
                "select count(*), md5(string_agg(line, '' order by line)) from"
                f" (select to_jsonb(t)::text as line from {name} as t) as x".encode()
            ).fetchone()
            for (name,) in names
        }


@pytest.fixture(scope="module")
def megaline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Megaline]:
    home = tmp_path_factory.mktemp("megaline") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPLINE_HOME", str(home))
        patch.setenv("KEEPLINE_OPERATOR", "megaline")
        try:
            screens = [_run(home)]
            settings = Settings.load()
            published = [_published(settings)]
            screens.append(_run(home))
            published.append(_published(settings))
            yield Megaline(home, settings, screens, published)
        finally:
            clean = [sys.executable, "-m", "keepline", "clean", "--yes"]
            subprocess.run(clean, cwd=PROJECT_DIR, capture_output=True, check=False)


def records(name: str) -> Iterator[dict[str, str]]:
    with (MEGALINE / f"megaline_{name}.csv").open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def up(amount: str, unit: int) -> int:
    """Return a measure in its smallest unit, rounded up."""
    return math.ceil(Decimal(amount) * unit)


def used(usage_type: str, name: str, day: str, measure: str = "", unit: int = 1) -> Counter[object]:
    """Return how often each user did something on each day, and how much of it."""
    found: Counter[object] = Counter()
    for row in records(name):
        found[usage_type, row["user_id"], row[day], "count"] += 1
        if measure:
            found[usage_type, row["user_id"], row[day], "amount"] += up(row[measure], unit)
    return found


def base_on(day: date) -> set[str]:
    """Return who had registered and not left by the end of a day."""
    return {
        row["user_id"]
        for row in records("users")
        if row["reg_date"] <= str(day) and not "" < row["churn_date"] <= str(day)
    }


# -- what lands ------------------------------------------------------------------------------------


def test_every_day_balances_and_nothing_is_set_aside(megaline):
    files = {"cdr_voice": "calls", "cdr_sms": "messages", "cdr_data": "internet"}
    loaded = dict(
        megaline.owned("select table_name, sum(loaded_rows) from ops.reconciliation group by 1")
    )
    off = "select count(*) from ops.reconciliation where not balanced or quarantined_rows > 0"

    assert megaline.owned(off) == [(0,)]
    assert not megaline.settings.quarantine_dir.exists()
    for table, name in files.items():
        assert loaded[table] == sum(1 for _ in records(name))


def test_what_happened_on_a_day_was_known_on_that_day(megaline):
    for table in ("cdr_voice", "cdr_sms", "cdr_data", "subscription", "subscription_status_event"):
        assert megaline.landed(table, "count(*)", "where event_date <> load_date") == [(0,)]


def test_a_call_of_no_length_was_not_answered(megaline):
    missed = sum(1 for row in records("calls") if Decimal(row["duration"]) == 0)

    assert megaline.landed("cdr_voice", "count(*)", "where status = 'no_answer'") == [(missed,)]
    assert megaline.landed("cdr_voice", "count(*)", "where duration_s = 0") == [(missed,)]


def test_what_the_files_do_not_have_is_not_invented(megaline):
    landed = {path.name for path in megaline.settings.landing_dir.iterdir()}

    assert not landed & {"bill", "bill_line", "payment", "recharge", "interaction", "np_port"}
    assert not landed & {"trouble_ticket", "dealer", "holiday", "number_range"}
    for table in ("bill_line", "payment", "recharge", "interaction", "case", "port_request"):
        assert megaline.seen(f"select count(*) from star.fct_{table}") == [(0,)], table


def test_names_are_in_the_vault_and_nowhere_else(megaline):
    people = [(row["first_name"], row["last_name"]) for row in records("users")]
    whole = [f"{first} {last}" for first, last in people]
    # A city or a program may be called like a person, but not like a rare one.
    cities = " ".join(row["city"] for row in records("users"))
    rare = {name for pair in people for name in pair if len(name) > 8 and name not in cities}
    # Every fifth person will do: what lets one name through lets a whole column through.
    canaries = [name.encode() for name in {*whole[::5], *rare}]
    assert len(rare) > 20

    for path in (path for path in megaline.home.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found = [name for name in canaries if name in content]
        assert not found, f"{path} holds {len(found)} names"
    # Parquet and DuckDB compress: look at their values, too.
    everyone = {*whole, *(name for pair in people for name in pair)}
    assert not everyone & set(_texts(megaline.settings))
    assert megaline.owned("select count(*) from vault.personal_value") == [(USERS,)]


def _texts(settings: Settings) -> Iterator[str]:
    """Yield every text value of landing and of the compute engine."""
    with duckdb.connect(settings.compute_path, read_only=True) as connection:
        tables = connection.execute("select schema_name, table_name from duckdb_tables()")
        sources = [f'"{schema}"."{table}"' for schema, table in tables.fetchall()]
        sources += [
            f"read_parquet('{folder}/*/part-0.parquet')"
            for folder in settings.landing_dir.iterdir()
        ]
        for source in sources:
            described = connection.execute(f"describe select * from {source}").fetchall()
            for column in (row[0] for row in described if row[1] == "VARCHAR"):
                query = f'select distinct "{column}" from {source} where "{column}" is not null'
                yield from (row[0] for row in connection.execute(query).fetchall())


# -- what readers see ------------------------------------------------------------------------------


def test_usage_of_each_user_and_day_is_that_of_the_files(megaline):
    expected = (
        used("voice", "calls", "call_date", "duration", 60)
        + used("sms", "messages", "message_date")
        + used("data", "internet", "session_date", "mb_used", 1 << 20)
    )

    found: Counter[object] = Counter()
    for usage_type, user, day, count, seconds, volume in megaline.seen(
        "select usage_type, subscription_id, event_date::text, sum(record_cnt)::bigint,"
        " sum(duration_s)::bigint, sum(volume_bytes)::bigint from star.fct_usage_daily"
        " group by 1, 2, 3"
    ):
        found[usage_type, user, day, "count"] = count
        found[usage_type, user, day, "amount"] = seconds + volume

    assert +found == +expected
    whole: Counter[object] = Counter()
    for (usage_type, _, _, what), amount in expected.items():
        whole[usage_type, what] += amount
    assert whole["voice", "count"] == 137_735
    assert whole["sms", "count"] == 76_051
    assert whole["data", "count"] == 104_825


def test_lines_are_the_users_with_their_plans_and_who_left_has_a_second_version(megaline):
    users = list(records("users"))
    left = {row["user_id"]: row["churn_date"] for row in users if row["churn_date"]}

    current = megaline.seen(
        "select subscription_id, offering_id, activated_date::text from star.dim_subscription"
        " where is_current and subscription_id <> 'UNKNOWN'"
    )
    versions = Counter(
        row[0]
        for row in megaline.seen(
            "select subscription_id from star.dim_subscription where subscription_id <> 'UNKNOWN'"
        )
    )

    assert sorted(current) == sorted((u["user_id"], u["plan"], u["reg_date"]) for u in users)
    assert versions == Counter(u["user_id"] for u in users) + Counter([*left])
    assert (len(users), len(left)) == (USERS, LEAVERS)


def test_plans_and_places_are_those_of_the_files(megaline):
    plans = {row["plan_name"]: int(row["usd_monthly_pay"]) * 100 for row in records("plans")}
    cities = {row["city"].removesuffix(" MSA") for row in records("users")}

    offered = megaline.seen(
        "select offering_id, monthly_fee_fen from star.dim_product_offering"
        " where offering_id <> 'UNKNOWN'"
    )
    places = megaline.seen(
        "select city_code, province_code from star.dim_geography where county_code <> 'UNKNOWN'"
    )

    assert dict(offered) == plans == {"surf": 2_000, "ultimate": 7_000}
    assert len(offered) == 2
    assert {city for city, _ in places} == cities
    assert all(len(str(province)) == 2 for _, province in places)


def test_who_was_lost_and_when(megaline):
    left = {row["user_id"]: row["churn_date"] for row in records("users") if row["churn_date"]}

    events = megaline.seen(
        "select subscription_id, event_date::text, definition_code, revoked_date"
        " from star.fct_churn_event"
    )

    assert {user: day for user, day, _, _ in events} == left
    assert len(events) == LEAVERS
    assert {(definition, revoked) for _, _, definition, revoked in events} == {
        ("TERMINATION", None)
    }


def test_the_base_moves_by_who_came_and_who_left(megaline):
    came = Counter(row["reg_date"][:7] for row in records("users"))
    left = Counter(row["churn_date"][:7] for row in records("users") if row["churn_date"])
    expected, base = [], 0
    for month in (f"2018-{number:02d}" for number in range(1, 13)):
        closing = base + came[month] - left[month]
        expected.append((month, base, came[month], left[month], closing))
        base = closing

    found = megaline.seen(
        "select to_char(month_start, 'YYYY-MM'), sum(opening)::bigint, sum(gross_adds)::bigint,"
        " sum(churn)::bigint, sum(closing)::bigint from mart.subscriber_movement"
        " group by 1 order by 1"
    )

    assert found == expected
    assert found[-1][-1] == len(base_on(LAST)) == USERS - LEAVERS


def test_recency_and_frequency_are_the_active_days_and_money_is_no_guess(megaline):
    """November: active is who calls and is answered, writes, or moves data."""
    end = date(2018, 11, 30)
    active: dict[str, set[date]] = defaultdict(set)
    for name, day, measure in (
        ("calls", "call_date", "duration"),
        ("messages", "message_date", ""),
        ("internet", "session_date", "mb_used"),
    ):
        for row in records(name):
            if row[day] <= str(end) and (not measure or Decimal(row[measure]) > 0):
                active[row["user_id"]].add(date.fromisoformat(row[day]))
    first = end - timedelta(days=89)
    expected = {
        user: (
            sum(day >= first for day in active[user]),
            (end - max(active[user])).days if active[user] else None,
        )
        for user in base_on(end)
    }

    found = megaline.seen(
        "select subscription_id, frequency, recency_days, monetary_fen, m_score"
        " from mart.rfm_month where month_start = date '2018-11-01'"
    )

    assert {user: (frequency, recency) for user, frequency, recency, _, _ in found} == expected
    # Nothing was billed, so nobody pays more or less than another.
    assert {(money, score) for *_, money, score in found} == {(0, None)}


def test_without_a_model_everybody_in_the_base_is_new_or_nodata(megaline):
    """Three full months on the last day of December have those who came by the first of October."""
    registered = {row["user_id"]: row["reg_date"] for row in records("users")}
    expected = {
        user: "NEW" if registered[user] > "2018-10-01" else "NODATA" for user in base_on(LAST)
    }

    found = megaline.seen(
        "select subscription_id, risk_tier, score_date, churn_probability, model_version"
        " from mart.churn_risk_latest"
    )

    assert {user: tier for user, tier, *_ in found} == expected
    assert len(found) == USERS - LEAVERS
    assert Counter(expected.values())["NEW"] == NEW_LINES
    assert {tuple(rest) for _, _, *rest in found} == {(LAST, None, None)}


def test_coverage_says_what_is_missing(megaline):
    missing = megaline.seen(
        "select distinct contract_table from mart.coverage where table_coverage = 'empty'"
    )
    counted = dict(megaline.seen("select distinct contract_table, rows_total from mart.coverage"))
    silent = "select count(*) from mart.coverage where sentence is null or sentence = 'Covered.'"

    assert {name for (name,) in missing} == {
        *("bill", "bill_line", "payment", "recharge", "interaction", "trouble_ticket", "np_port"),
        *("dealer", "number_range", "competitor_hotline"),
    }
    assert megaline.seen(f"{silent} and table_coverage = 'empty'") == [(0,)]
    assert counted["cdr_voice"] == 137_735
    assert counted["subscription"] == USERS + LEAVERS


# -- what a person is told -------------------------------------------------------------------------


def test_the_screen_and_the_report_say_why_nobody_is_scored(megaline):
    screen = " ".join(megaline.screens[0].split())
    reports = list(megaline.settings.reports_dir.glob("*/index.html"))

    assert "is published: megaline, business date 2018-12-31" in screen
    assert "There is no model, so nobody has a risk. Prepaid: too little to train on" in screen
    assert "Postpaid: too little to train on: 11 leavers among" in screen
    assert "there is no next business day" in screen
    assert "KEEPLINE_OPERATOR=megaline" in screen
    assert "synthetic" not in screen
    assert len(reports) == 1
    page = " ".join(reports[0].read_text(encoding="utf-8").split())
    assert "No model scored this release. Prepaid: too little to train on" in page
    assert "Bills are not seen: postpaid lines make no revenue." in page


def test_the_gates_ran_whole_and_say_what_they_could_not_judge(megaline):
    judged = dict(
        megaline.owned(
            "select gate || case when observed like 'not judged%' then ', not judged' else '' end,"
            " count(*) from ops.gate_result where success group by 1"
        )
    )

    assert megaline.owned("select count(*) from ops.gate_result where not success") == [(0,)]
    assert judged["landed"] > judged["landed, not judged"]
    assert judged["leaving"] > judged["leaving, not judged"]
    for gate in ("landed", "leaving"):
        unjudged = judged[f"{gate}, not judged"]
        whole = judged[gate] + unjudged
        assert (
            f"{gate}: {whole} of {whole} checks passed, {unjudged} of them with too little to judge by"
            in megaline.screens[0]
        )


def test_a_second_run_has_nothing_left_to_do_and_changes_nothing(megaline):
    first, second = megaline.published

    assert "2018-12-31, and that day is published: nothing is left to run" in megaline.screens[1]
    assert second == first
    assert megaline.owned("select count(*) from ctl.release") == [(1,)]
