"""The spine, end to end: an operator's systems, two business days through Airflow, two releases.

Everything is real and small: PostgreSQL, files, the DAG, the model. One run serves all tests here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
import psycopg
import pytest
import wheel

from keepline import store
from keepline.settings import PROJECT_DIR, Settings

LAST = date(2026, 6, 30)
FIRST_MORNING, SECOND_MORNING = LAST, LAST + timedelta(days=1)
# Enough for a prepaid model: its labels need 127 days to mature, its features 92 before them.
SUBSCRIBERS, DAYS = 800, 320


BALANCES = (
    "select table_name, load_date, physical_rows, loaded_rows, quarantined_rows, skipped_rows, sums::text"
    " from ops.reconciliation order by 1, 2"
)


@dataclass(frozen=True)
class Demo:
    """A home in which two mornings were run."""

    home: Path
    settings: Settings
    screens: list[str]

    def run(self, *words: str) -> str:
        """Run a keepline command and return what it printed; fails with its output."""
        return _keepline(self.home, *words)

    def rows(self, query: str, role: str = "bi_reader") -> list[tuple[object, ...]]:
        """Return rows as a reader sees them."""
        with store.connect(self.settings, role) as connection:
            return connection.execute(query.encode()).fetchall()

    def owned(self, query: str) -> list[tuple[object, ...]]:
        """Return rows as the pipeline sees them."""
        with store.connect(self.settings) as connection:
            return connection.execute(query.encode()).fetchall()

    def kept(self) -> dict[str, str]:
        """Return the hash of every landed, quarantined and exchanged file, by its place."""
        home = self.settings.operator_home
        return {
            str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
            for name in ("landing", "quarantine", "exchange", "models")
            for path in sorted((home / name).rglob("*"))
            if path.is_file()
        }

    def published(self) -> dict[str, tuple[object, ...]]:
        """Return count and content hash of everything that readers see, whatever its release."""
        names = self.rows(
            "select table_schema || '.' || table_name from information_schema.views"
            " where table_schema in ('mart', 'star') order by 1"
        )
        return {
            str(name): self.rows(
                "select count(*), md5(string_agg(line, '' order by line)) from"
                f" (select (to_jsonb(t) - 'release_id' - 'release_age_days')::text as line from {name} t) x"
            )[0]
            for (name,) in names
        }


def _keepline(home: Path, *words: str, installed: Path | None = None) -> str:
    """Run a keepline command: that of the tree, or the one that pip installed elsewhere."""
    command = [str(installed)] if installed else [sys.executable, "-m", "keepline"]
    environment = wheel.environment(KEEPLINE_HOME=str(home))
    if not installed:
        environment["PYTHONPATH"] = str(PROJECT_DIR)
    done = subprocess.run(
        [*command, *words],
        cwd=home.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"keepline {' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    home = tmp_path_factory.mktemp("morning") / "home"
    _keepline(
        home,
        *("simulate", "--subscribers", str(SUBSCRIBERS), "--days", str(DAYS)),
        *("--end", LAST.isoformat(), "--mornings", "3"),
    )
    # The second day is the wheel's, which knows nothing of this tree.
    folder = tmp_path_factory.mktemp("installed")
    installed = wheel.install(wheel.build_wheel(folder), folder / "venv")
    screens = [_keepline(home, "run"), _keepline(home, "run", installed=installed)]
    patch = pytest.MonkeyPatch()
    patch.setenv("KEEPLINE_HOME", str(home))
    yield Demo(home, Settings.load(), screens)
    patch.undo()
    _keepline(home, "clean", "--yes")


def test_each_morning_publishes_one_release_for_its_business_day(demo):
    days = demo.owned(
        "select to_date - 1 from ctl.release where published_at is not null order by release_id"
    )

    assert days == [(FIRST_MORNING,), (SECOND_MORNING,)]


def test_the_risk_table_holds_both_days_and_latest_shows_the_second(demo):
    dates = demo.rows("select distinct score_date from mart.churn_risk_daily order by 1")
    latest = demo.rows("select distinct score_date from mart.churn_risk_latest")

    assert dates == [(FIRST_MORNING,), (SECOND_MORNING,)]
    assert latest == [(SECOND_MORNING,)]


def test_every_active_subscription_has_one_row_and_one_tier(demo):
    scored = demo.rows(
        "select count(*), count(distinct subscription_id) from mart.churn_risk_latest"
    )[0]
    active = demo.rows(
        "select sum(closing) from mart.subscriber_movement"
        f" where month_start = date '{SECOND_MORNING.replace(day=1)}'"
    )[0][0]
    tiers = {row[0] for row in demo.rows("select distinct risk_tier from mart.churn_risk_latest")}

    assert scored == (active, active)
    assert tiers <= {"HIGH", "MEDIUM", "LOW", "NEW", "NODATA"}
    assert {"HIGH", "LOW", "NEW"} <= tiers


def test_the_base_moves_by_exactly_what_came_and_went(demo):
    off = demo.rows(
        "select count(*) from mart.subscriber_movement where opening + gross_adds + migration_in"
        " - migration_out - churn <> closing"
    )
    months = demo.rows("select count(distinct month_start) from mart.subscriber_movement")

    assert off == [(0,)]
    assert months[0][0] >= DAYS // 31


def test_nothing_was_lost_between_the_drops_and_the_facts(demo):
    """Physical lines of the drops = landed + quarantined, and the landed ones are in the facts."""
    physical = {"cdr_voice": 0, "cdr_sms": 0, "cdr_data": 0}
    for folder in sorted(demo.settings.drops_dir.iterdir()):
        if folder.name > SECOND_MORNING.isoformat():
            continue
        for name in physical:
            with gzip.open(folder / f"{name}.csv.gz", "rb") as file:
                physical[name] += sum(1 for _ in file) - 1
    counted = {
        name: (loaded, held)
        for name, loaded, held in demo.owned(
            "select table_name, sum(loaded_rows), sum(quarantined_rows) from ops.reconciliation"
            " group by table_name"
        )
    }
    in_facts = dict(
        demo.rows(
            "select 'cdr_' || usage_type, sum(record_cnt) from star.fct_usage_daily group by 1"
        )
    )

    for name, lines in physical.items():
        loaded, held = counted[name]
        assert lines == loaded + held, name
        assert in_facts[name] == loaded, name
    assert demo.owned("select count(*) from ops.reconciliation where not balanced") == [(0,)]


def test_the_quarantine_holds_just_what_the_simulator_spoiled(demo):
    spoiled = duckdb.sql(
        f"select sum(rows) from read_parquet('{demo.settings.truth_dir}/dirty_truth.parquet')"
        f" where date <= date '{SECOND_MORNING}'"
    ).fetchone()
    held = demo.owned("select sum(rows) from ops.quarantine_count where table_name like 'cdr_%'")

    assert held == [spoiled]


def test_the_same_day_again_changes_nothing(demo):
    before = demo.published(), demo.kept(), demo.owned(BALANCES)
    release = demo.rows("select max(release_id) from mart.coverage")

    demo.run("run", "--date", SECOND_MORNING.isoformat())

    assert (demo.published(), demo.kept(), demo.owned(BALANCES)) == before
    assert demo.rows("select max(release_id) from mart.coverage") == release


def test_rollback_shows_the_first_day_and_forward_again_the_second(demo):
    second = demo.published()
    release = demo.rows("select max(release_id) from mart.coverage")[0][0]

    demo.run("rollback")
    assert demo.rows("select distinct score_date from mart.churn_risk_latest") == [(FIRST_MORNING,)]
    demo.run("rollback", "--to", str(release))

    assert demo.published() == second


def test_high_and_medium_lines_have_reasons_in_words(demo):
    unexplained = demo.rows(
        "select count(*) from mart.churn_risk_daily where risk_tier in ('HIGH', 'MEDIUM')"
        " and (reason_1_text is null or reason_2_text is null or reason_3_text is null)"
    )

    assert unexplained == [(0,)]


def test_marketing_reads_the_risk_table_and_nothing_else_of_the_star(demo):
    assert demo.rows("select count(*) from mart.churn_risk_latest", "marketing")[0][0] > 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        demo.rows("select count(*) from star.dim_customer", "marketing")


def test_the_screen_says_what_a_newcomer_wants_to_know(demo):
    screen = " ".join(demo.screens[0].split())
    port = store.embedded(demo.settings).port

    for words in (
        "rows/s",
        "quarantine",
        "HIGH",
        "NEW",
        "****",
        "html",
        "synthetic",
        "keepline query",
    ):
        assert words in screen, words
    assert f"postgresql://bi_reader@127.0.0.1:{port}/keepline_demo" in screen
    for name in ("bi_reader_password", "store_password", "pseudonym_key"):
        assert getattr(demo.settings, name).get_secret_value() not in screen


def test_the_address_and_password_on_the_screen_work(demo):
    password = (demo.home / "secrets" / "keepline_bi_reader_password").read_text()
    shown = json.loads(
        demo.run("query", "select count(*) as n from mart.churn_risk_latest", "--format", "json")
    )

    assert password == demo.settings.bi_reader_password.get_secret_value()
    assert shown[0]["n"] > 0


PERSONAL = """
    select distinct msisdn from bss.subscription where msisdn is not null
    union select distinct phone from crm.party_individual where phone is not null
    union select distinct email from crm.party_individual where email is not null
    union select distinct id_no from crm.party_individual where id_no is not null
    union select distinct address from crm.party_individual where address is not null
"""


def test_no_phone_number_name_or_document_leaves_the_operators_systems(demo):
    """Looks for what the operator holds in clear in every value and every file that keepline wrote."""
    with psycopg.connect(store.embedded(demo.settings).dsn("operator_demo")) as connection:
        personal = {str(value) for (value,) in connection.execute(PERSONAL)}
        names = {str(v) for (v,) in connection.execute("select name from crm.party_individual")}
    assert len(personal) > 2000
    written = written_values(demo)

    # The scan finds what may be there, so that finding nothing means something.
    assert {
        row[0] for row in demo.rows("select subscription_id from mart.churn_risk_latest")
    } <= written
    assert not personal & written
    assert not names & written


def test_no_log_report_or_model_holds_a_personal_value(demo):
    with psycopg.connect(store.embedded(demo.settings).dsn("operator_demo")) as connection:
        personal = "\n".join(str(value) for (value,) in connection.execute(PERSONAL))
    skipped = {demo.settings.drops_dir, demo.home / "postgres", demo.settings.landing_dir}
    files = [
        str(path)
        for path in demo.home.rglob("*")
        if path.is_file() and not skipped & set(path.parents) and path.suffix != ".parquet"
    ]
    assert len(files) > 50
    # The scan finds what is there, so that finding nothing means something.
    known = demo.home / "known"
    known.write_text(f"before {personal.splitlines()[0]} after")

    assert holding(personal, [*files, str(known)]) == [str(known)]
    known.unlink()


def holding(texts: str, files: list[str]) -> list[str]:
    """Return the files that hold one of some texts, a line each."""
    found = subprocess.run(
        ["grep", "--files-with-matches", "--text", "--fixed-strings", "--file=-", "--", *files],
        input=texts.encode(),
        capture_output=True,
        check=False,
        env={"LC_ALL": "C"},
    )
    assert found.returncode in (0, 1), found.stderr
    return found.stdout.decode().splitlines()


def written_values(demo: Demo) -> set[str]:
    """Return every distinct text of landing, quarantine, exchange, compute and store."""
    found: set[str] = set()
    with duckdb.connect(str(demo.settings.compute_path), read_only=True) as connection:
        columns = connection.execute(
            "select table_schema, table_name, column_name from information_schema.columns"
            " where data_type = 'VARCHAR' and table_schema not in ('information_schema', 'staging')"
        ).fetchall()
        for schema, table, column in columns:
            query = f'select distinct "{column}" from "{schema}"."{table}"'
            found.update(str(value) for (value,) in connection.execute(query).fetchall())
        for folder in ("landing", "quarantine", "exchange"):
            for table_dir in sorted((demo.settings.operator_home / folder).iterdir()):
                files = f"{table_dir}/**/*.parquet"
                if not any(table_dir.rglob("*.parquet")):
                    continue
                relation = f"read_parquet('{files}', union_by_name = true)"
                described = connection.execute(f"describe select * from {relation}").fetchall()
                for column, kind, *_ in described:
                    if kind == "VARCHAR":
                        query = f'select distinct "{column}" from {relation}'
                        found.update(str(v) for (v,) in connection.execute(query).fetchall())
    for schema, table, column in demo.owned(
        "select table_schema, table_name, column_name from information_schema.columns"
        " where data_type = 'text' and table_schema in ('store', 'ops', 'ctl', 'vault')"
    ):
        query = f'select distinct "{column}" from "{schema}"."{table}"'
        found.update(str(value) for (value,) in demo.owned(query))
    return found
