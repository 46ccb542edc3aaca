"""The gate `leaving` stops a bad release before a reader sees it, and tells a crash from a failure."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest
from conftest import SECRETS
from gates_rows import LINES, World
from release_rows import DAY_1, DAY_2, DAY_3

from expectations import gates, runner
from keepline import release
from keepline.errors import CheckCrashedError, GateFailedError, SourceUnavailableError, UsageError
from keepline.settings import Settings
from keepline.window import Window

RISK = "marts.mart_churn_risk_daily"
MOVEMENT = "marts.mart_subscriber_movement"
PHONE = "13812345678"

# What is broken, in compute, and the expectation that must say so: (table, column or words).
BROKEN = {
    "a probability above 1": (
        f"update {RISK} set churn_probability = 1.5 where subscription_id = 's050'",
        ("churn_risk_daily", "churn_probability"),
    ),
    "a line twice": (
        f"insert into {RISK} from {RISK} where subscription_id = 's051'",
        ("churn_risk_daily", "score_date, subscription_id"),
    ),
    "a line without a name": (
        f"update {RISK} set subscription_id = null where subscription_id = 's065'",
        ("churn_risk_daily", "a line is named"),
    ),
    "a tier that is not": (
        f"update {RISK} set risk_tier = 'WILD' where subscription_id = 's052'",
        ("churn_risk_daily", "the tier is HIGH, MEDIUM, LOW, NEW or NODATA"),
    ),
    "a HIGH line without a reason": (
        f"update {RISK} set reason_1_code = null where subscription_id = 's000'",
        ("churn_risk_daily", "a HIGH or MEDIUM line has a reason in words"),
    ),
    "a percentile above 100": (
        f"update {RISK} set score_percentile = 101 where subscription_id = 's053'",
        ("churn_risk_daily", "score_percentile"),
    ),
    "a score of no model": (
        f"update {RISK} set model_version = null where subscription_id = 's054'",
        ("churn_risk_daily", "a scored line says which model and parameters made it"),
    ),
    "a NEW line with a probability": (
        f"update {RISK} set risk_tier = 'NEW' where subscription_id = 's055'",
        ("churn_risk_daily", "just NEW, NODATA and lines silent for too long have no probability"),
    ),
    "a line beyond reach with a probability": (
        f"update {RISK} set tier_rule_id = 'SILENT_TOO_LONG' where subscription_id = 's057'",
        ("churn_risk_daily", "just NEW, NODATA and lines silent for too long have no probability"),
    ),
    "a LOW line in reach without a probability": (
        f"update {RISK} set churn_probability = null where subscription_id = 's058'",
        ("churn_risk_daily", "just NEW, NODATA and lines silent for too long have no probability"),
    ),
    "a phone number in clear": (
        f"update {RISK} set msisdn_masked = '{PHONE}' where subscription_id = 's056'",
        ("churn_risk_daily", "msisdn_masked"),
    ),
    "a phone number in clear in the star": (
        f"update core.dim_subscription set msisdn_masked = '{PHONE}' where subscription_id = 's1'"
        f" or subscription_id = 's057'",
        ("dim_subscription", "msisdn_masked"),
    ),
    "a score of nobody": (
        f"update {RISK} set subscription_id = 'nobody' where subscription_id = 's059'",
        ("churn_risk_daily", "strangers"),
    ),
    "a score of a line that was lost by silence": (
        "insert into core.fct_churn_event by name select 's063' as subscription_id, 'inactivity' as kind,"
        " date '2026-05-20' as confirmed_date",
        ("churn_risk_daily", "strangers"),
    ),
    "a line that was forgotten": (
        f"delete from {RISK} where subscription_id = 's060'",
        ("churn_risk_daily", "unscored_rows"),
    ),
    "two current versions": (
        "insert into core.dim_subscription from core.dim_subscription where subscription_id = 's061'",
        ("dim_subscription", "current_rows, current_keys"),
    ),
    "a version that ends before it begins": (
        "update core.dim_subscription set valid_to = valid_from where subscription_id = 's062'",
        ("dim_subscription", "versions begin before they end"),
    ),
    "a movement that is off by one": (
        f"update {MOVEMENT} set churn = 1 where month_start = '2026-06-01' and province_code = 'GD'",
        ("subscriber_movement", "opening + gross adds + win-backs"),
    ),
    "a month that opens with other lines than the last one closed with": (
        f"update {MOVEMENT} set closing = closing + 1, gross_adds = 1 where month_start = '2026-05-01'"
        " and province_code = 'ZJ'",
        ("subscriber_movement", "gap_to_month_before"),
    ),
    "a score of 6": (
        "update marts.mart_rfm_month set f_score = 6 where subscription_id = 's001'",
        ("rfm_month", "f_score"),
    ),
    "a line without a segment": (
        "update marts.mart_rfm_month set segment = null where subscription_id = 's002'",
        ("rfm_month", "nameless"),
    ),
    "a share above 1": (
        "update marts.mart_pareto_month set revenue_share_top20 = 1.1 where province_code = 'GD'",
        ("pareto_month", "revenue_share_top20"),
    ),
    "a coverage that says nothing": (
        "update marts.mart_coverage set mart_coverage = 'so so' where mart_name like '%rfm%'",
        ("coverage", "coverage is full, partial or empty"),
    ),
    "a province that fell silent": (
        "delete from core.fct_usage_daily where load_date = '2026-06-30' and subscription_id in"
        " (select subscription_id from core.dim_subscription where province_code = 'ZJ')",
        ("fct_usage_daily", "lines_with_usage"),
    ),
}
# What hides one of those above, so that it has a release of its own.
BROKEN_ALONE = {
    "no scores for the day": (
        f"delete from {RISK} where score_date = '2026-06-30'",
        ("coverage", "days_behind"),
    ),
    "the same score for all": (
        f"update {RISK} set churn_probability = 0.02",
        ("churn_risk_daily", "distinct_probabilities"),
    ),
    "too many HIGH": (
        f"update {RISK} set risk_tier = 'HIGH' where risk_tier = 'LOW' and subscription_id < 's040'",
        ("churn_risk_daily", "high_share"),
    ),
    "a negative count": (
        f"update {MOVEMENT} set churn = -1, closing = opening + 1 where month_start = '2026-06-01'",
        ("subscriber_movement", "no count is negative"),
    ),
}


@pytest.fixture(scope="module")
def settings(postgres, tmp_path_factory) -> Settings:
    postgres.ensure_database("test_gates")
    home, dsn = tmp_path_factory.mktemp("gates"), postgres.dsn("test_gates")
    return Settings(home=home, store_dsn=dsn, **SECRETS)


@pytest.fixture(scope="module")
def world(settings) -> World:
    return World(settings)


def audit(world: World, day: date = DAY_2, folder: Path = gates.FOLDER):
    """Stage and audit as the command does; returns the release and what the gate said."""
    staged = world.project.stage(day).release_id
    results = runner.run_leaving(world.project.settings, staged, Window.day(day), folder)
    passed = not runner.critical_failures(results)
    release.mark_audited(world.project.settings, staged, passed=passed)
    return staged, results


def failed(results, where: tuple[str, str]) -> bool:
    table, what = where
    return any(
        result.table_name == table
        and (result.column_name == what or result.expectation.startswith(what))
        for result in runner.critical_failures(results)
    )


@pytest.fixture(scope="module")
def good(world):
    """The results for a world in which all is well, published, and for the same again."""
    staged, results = audit(world)
    release.publish(world.project.settings, staged)
    return results, audit(world)[1]


@pytest.fixture(scope="module")
def published(world, good) -> World:
    """The world after its good release was published."""
    assert good
    return world


@pytest.fixture(scope="module")
def bad(published):
    """The results for a release in which everything is broken at once."""
    tables = {
        sql.split()[1] if sql.startswith("update") else sql.split()[2] for sql, _ in BROKEN.values()
    }
    for table in tables:
        published.project.run(
            f"create or replace table kept_{table.replace('.', '_')} as from {table}"
        )
    for sql, _ in BROKEN.values():
        published.project.run(sql)
    _, results = audit(published)
    for table in tables:
        published.project.run(
            f"delete from {table}; insert into {table} from kept_{table.replace('.', '_')}"
        )
    return results


def test_a_good_release_passes_every_check(good):
    first, _ = good

    assert [result for result in first if not result.success] == []
    judged = [result for result in first if not result.observed.startswith("not judged")]
    assert len(judged) >= 40
    assert all(result.release_id and result.gate == "leaving" for result in first)


def test_what_was_audited_is_not_looked_at_again(good):
    first, again = good

    assert len(again) == len(first)
    assert sum(result.observed.startswith("not judged: unchanged") for result in again) > 25


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_found(bad, case):
    assert failed(bad, BROKEN[case][1])


def test_what_is_broken_is_counted_and_never_quoted(bad, world):
    told = "; ".join(f"{result.column_name} {result.observed}" for result in bad)
    docs = [
        path.read_text(errors="replace")
        for path in (world.project.settings.data_docs_dir / "leaving").rglob("*.html")
    ]

    # Two days of 120 lines, of which one was deleted and one came twice.
    assert "churn_probability 2 of 240 rows" in told
    assert "msisdn_masked 2 of 240 rows" in told
    assert len(docs) > 10
    for text in (told, *docs):
        assert PHONE not in text
        assert SECRETS["store_password"] not in text


@pytest.mark.parametrize("case", BROKEN_ALONE)
def test_a_broken_rule_that_hides_others_is_found(published, case):
    sql, where = BROKEN_ALONE[case]
    table = sql.split()[1] if sql.startswith("update") else sql.split()[2]
    published.project.run(f"create or replace table kept as from {table}; {sql}")

    _, results = audit(published)

    published.project.run(f"delete from {table}; insert into {table} from kept")
    assert failed(results, where)


@pytest.mark.parametrize(
    "case", ["a probability above 1", "a line twice", "a movement that is off by one"]
)
def test_a_reader_never_sees_a_bad_release(published, case):
    sql, _ = BROKEN[case]
    table = sql.split()[1] if sql.startswith("update") else sql.split()[2]
    before = release.current_release(published.project.settings)
    published.project.run(f"create or replace table kept as from {table}; {sql}")

    staged, results = audit(published, DAY_3)
    with pytest.raises(GateFailedError):
        release.publish(published.project.settings, staged)

    published.project.run(f"delete from {table}; insert into {table} from kept")
    assert runner.critical_failures(results)
    assert release.current_release(published.project.settings) == before
    for role in ("bi_reader", "marketing"):
        assert published.project.rows(
            "select count(*), count(distinct subscription_id), max(churn_probability) <= 1"
            f" from mart.churn_risk_daily where score_date = date '{DAY_2}'",
            role,
        ) == [(len(LINES), len(LINES), True)]


@pytest.mark.parametrize("name", ["mart_churn_risk_daily", "mart_subscriber_movement"])
def test_a_mart_that_is_empty_without_need_is_found(postgres, tmp_path, name):
    postgres.ensure_database(f"test_empty_{name}")
    dsn = postgres.dsn(f"test_empty_{name}")
    empty = World(Settings(home=tmp_path, store_dsn=dsn, **SECRETS))
    empty.put(name, [])

    _, results = audit(empty)

    assert failed(results, ("coverage", "rows_expected"))


BY_MONTH = (MOVEMENT, "marts.mart_rfm_month", "marts.mart_pareto_month")


@pytest.mark.parametrize(
    ("sql", "column"),
    [
        ("delete from marts.mart_rfm_month where month_start = '2026-05-01'", "rfm_off_closing"),
        ("delete from marts.mart_pareto_month where month_start = '2026-06-01'", "no_pareto"),
        (
            "".join(f"delete from {mart} where month_start = '2026-06-01';" for mart in BY_MONTH),
            "no_movement",
        ),
        (f"delete from {MOVEMENT} where month_start = '2026-05-01'", "no_movement"),
        (
            f"insert into {MOVEMENT} by name select * replace (date '2026-03-01' as month_start)"
            f" from {MOVEMENT} where month_start = '2026-05-01'",
            "no_movement",
        ),
    ],
    ids=["rfm", "pareto", "newest", "first", "movement"],
)
def test_a_month_that_was_never_written_is_found(postgres, tmp_path, request, sql, column):
    name = f"test_month_{request.node.callspec.id}"
    postgres.ensure_database(name)
    dsn = postgres.dsn(name)
    world = World(Settings(home=tmp_path, store_dsn=dsn, **SECRETS))
    world.project.run(sql)

    _, results = audit(world)

    assert failed(results, ("subscriber_movement", column))


def test_empty_inputs_that_coverage_admits_are_no_failure(published):
    # An operator whose list of subscriptions is empty: nothing of the marts can be there.
    tables = [RISK, MOVEMENT, "marts.mart_rfm_month", "marts.mart_pareto_month"]
    kept = {table: f"kept_{n}" for n, table in enumerate([*tables, "marts.mart_coverage"])}
    published.project.run(
        "".join(f"create or replace table {copy} as from {table};" for table, copy in kept.items())
        + "".join(f"delete from {table};" for table in tables)
        + "update marts.mart_coverage set mart_coverage = 'empty'"
    )

    _, results = audit(published)

    published.project.run(
        "".join(
            f"delete from {table}; insert into {table} from {copy};" for table, copy in kept.items()
        )
    )
    assert runner.critical_failures(results) == []


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the gates that a test may spoil."""
    target = tmp_path / "expectations"
    shutil.copytree(gates.FOLDER / "suites", target / "suites")
    shutil.copy(gates.FOLDER / "gates.yml", target)
    return target


def spoil(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("suites/leaving_coverage.json", '"sentence"', '"sentense"', "says nothing about the data"),
        (
            "suites/leaving_coverage.json",
            "expect_column_values_to_not_be_null",
            "expect_a_miracle",
            "evaluated 2 of 3 expectations",
        ),
        (
            "gates.yml",
            "{all[coverage]}",
            "{all[covrage]}",
            "asks for covrage, which no model publishes",
        ),
        ("gates.yml", "min(mart_coverage)", "min(mart_covrage)", "the query of marts does not run"),
        (
            "gates.yml",
            "suite: leaving_coverage",
            "suite: leaving_hope",
            "leaving_hope.json cannot be read",
        ),
        ("suites/leaving_coverage.json", '"critical"', '"fatal"', "a severity is one of"),
    ],
    ids=["column", "expectation", "table", "query", "suite", "severity"],
)
def test_a_check_that_cannot_be_made_is_a_crash_and_no_failure(
    published, folder, name, old, new, said
):
    spoil(folder, name, old, new)
    published.project.run("update marts.mart_coverage set rows_total = coalesce(rows_total, 0) + 1")

    with pytest.raises(CheckCrashedError, match=said):
        audit(published, folder=folder)


def test_a_store_that_is_gone_is_worth_trying_again(published, folder, monkeypatch):
    spoil(folder, "suites/leaving_coverage.json", '"sentence"', '"sentense"')
    monkeypatch.setattr(runner, "_is_alive", lambda _connection: False)

    with pytest.raises(SourceUnavailableError, match="audit again"):
        audit(published, folder=folder)


def test_a_release_that_is_not_there_or_of_another_window_is_refused(published):
    with pytest.raises(UsageError, match="no release 999"):
        runner.run_leaving(published.project.settings, 999, Window.day(DAY_2))
    current = release.current_release(published.project.settings)
    with pytest.raises(CheckCrashedError, match="was staged for"):
        runner.run_leaving(published.project.settings, current.release_id, Window.day(DAY_1))


def test_every_suite_is_used_and_its_words_are_for_people():
    used = {check.suite.name for gate in ("landed", "leaving") for check in gates.load_gate(gate)}
    written = {path.stem for path in (gates.FOLDER / "suites").glob("*.json")}

    assert used == written
    for path in (gates.FOLDER / "suites").glob("*.json"):
        for expectation in json.loads(path.read_text())["expectations"]:
            assert len(expectation["meta"]["words"].split()) >= 3
