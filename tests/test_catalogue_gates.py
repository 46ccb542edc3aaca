"""The fault catalogue at the gates: what must block a release, and what just may pass.

A batch that a gate blocks was extracted in order: its counts balance in every case here. What is wrong
is what it says, and each case has a twin just inside the limit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta

import duckdb
import pytest
from conftest import SECRETS
from gates_rows import LINES, World
from landing_days import LAST, ROWS, Landing
from release_rows import DAY_2

from expectations import runner
from keepline import cli, ops, release, store
from keepline.contract import Contract, load_contract
from keepline.errors import GateFailedError, UsageError
from keepline.ops import GateResult, Reconciliation
from keepline.settings import PROJECT_DIR, Settings
from keepline.window import Window

PHONE = "13812345678"


@dataclass(frozen=True)
class Case:
    """A last day after 40 usual ones.

    Attributes:
        table: contract table.
        blocked_by: column of the profile that must close the gate, or None if the day may pass.
        rows: rows of the last day.
        usual: rows of each day before.
        values: SQL expressions of the last day's columns; n is the row's number.
    """

    table: str
    blocked_by: str | None
    rows: int = ROWS
    usual: int = ROWS
    values: dict[str, str] = field(default_factory=dict)


def case(number: int, name: str, *words: object, **values: object) -> object:
    return pytest.param(Case(*words, **values), marks=pytest.mark.case(number), id=name)  # type: ignore[arg-type]


LAST_DAYS = [
    case(78, "30.3 % less", "cdr_voice", "rows_ratio", 209),
    case(78, "30 % less", "cdr_voice", None, 210),
    case(78, "50.3 % more", "cdr_data", "rows_ratio", 451),
    case(78, "50 % more", "cdr_data", None, 450),
    case(79, "no usage", "cdr_voice", "rows_when_expected", 0, 30),
    case(79, "one usage record of a small operator", "cdr_voice", None, 1, 30),
    case(79, "no recharges", "recharge", "rows_when_expected", 0, 30),
    case(79, "no changes of customers", "customer", "rows_when_expected", 0, 30),
    case(79, "one change of a customer", "customer", None, 1, 30),
    case(
        80,
        "a province sends nothing",
        "interaction",
        "missing_provinces",
        values={"served_province": "'v' || n % 6"},
    ),
    case(
        80,
        "a province sends one row",
        "interaction",
        None,
        values={"served_province": "'v' || case when n = 0 then 6 else n % 6 end"},
    ),
    case(
        81,
        "kilobytes for bytes",
        "cdr_data",
        "value_ratio",
        values={"bytes_up": "(1000 + n % 500) // 1024", "bytes_down": "(1000 + n % 500) // 1024"},
    ),
    case(81, "fen for yuan", "recharge", "value_ratio", values={"paid_amt": "(n % 3) * 100 + 50"}),
    case(
        81,
        "2.9 times as much",
        "recharge",
        None,
        values={"paid_amt": "case when n % 4 = 0 then 2.9 * (0.50 + n % 3) else 0 end"},
    ),
    case(
        81,
        "seconds for minutes, on 60 rows",
        "cdr_voice",
        "value_ratio",
        60,
        60,
        {"duration_s": "60 * (1 + n % 60)"},
    ),
    case(82, "a length of 0", "cdr_voice", "constant_columns", values={"duration_s": "0"}),
    case(
        82,
        "a length of 0 but for one",
        "cdr_voice",
        None,
        values={"duration_s": "case when n = 7 then 1 else 0 end"},
    ),
    case(82, "one direction", "cdr_voice", "constant_columns", values={"direction": "'v1'"}),
    case(
        82,
        "one direction but for one",
        "cdr_voice",
        None,
        values={"direction": "case when n = 7 then 'v2' else 'v1' end"},
    ),
]


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(PROJECT_DIR / "dbt_project")


@pytest.fixture
def landing(tmp_path, contract) -> Landing:
    return Landing(tmp_path, contract)


def broken(results: list[GateResult]) -> set[str]:
    return {result.column_name for result in runner.critical_failures(results)}


def balances(landing: Landing, table: str, day: date = LAST) -> bool:
    """Tell whether physical = loaded + quarantined + skipped, counting the file and not the manifest."""
    folder = landing.settings.landing_dir / table / f"load_date={day}"
    said = json.loads((folder / "_manifest.json").read_text())
    loaded = duckdb.execute(
        "select count(*) from read_parquet(?)", [str(folder / "part-0.parquet")]
    ).fetchone()[0]
    aside = sum(said["quarantined"].values())
    return said["rows"] == loaded and said["physical_rows"] == loaded + aside + said["skipped_rows"]


@pytest.mark.parametrize("told", LAST_DAYS)
def test_a_last_day_unlike_the_others_is_blocked_and_its_twin_passes(landing, told):
    landing.fill(told.table, rows=told.usual)
    landing.land(told.table, LAST, told.rows, told.values)

    results = landing.run()

    assert balances(landing, told.table)
    assert broken(results) == ({told.blocked_by} if told.blocked_by else set())
    for failure in runner.critical_failures(results):
        assert f"{told.table} {LAST}: " in failure.observed


@pytest.mark.case(81)
@pytest.mark.parametrize(("factor", "blocked"), [(100, {"value_ratio"}), (2.9, set())])
def test_a_bill_run_of_once_a_month_is_compared_with_the_last_ones(landing, factor, blocked):
    for month in (3, 4, 5):
        landing.land("bill", date(2026, month, 10), ROWS, {"amount_due_amt": "20 + n % 9"})
    landing.land("bill", LAST, ROWS, {"amount_due_amt": f"(20 + n % 9) * {factor}"})

    results = landing.run()

    assert balances(landing, "bill")
    assert broken(results) == blocked


@pytest.mark.case(79)
@pytest.mark.parametrize(("customers", "blocked"), [(0, {"rows_so_far"}), (1, set())])
def test_a_first_day_without_customers_is_blocked(landing, customers, blocked):
    landing.land("subscription", LAST, 5)
    if customers:
        landing.land("customer", LAST, customers)

    results = runner.run_landed(
        landing.settings,
        landing.contract,
        Window.day(LAST),
        given={"customer", "subscription"},
    )

    assert broken(results) == blocked


@pytest.mark.case(79)
def test_a_table_that_the_operator_does_not_give_is_not_missed(landing):
    landing.land("subscription", LAST, 5)

    results = runner.run_landed(
        landing.settings, landing.contract, Window.day(LAST), given={"subscription"}
    )

    assert broken(results) == set()


@pytest.mark.case(78)
def test_each_day_of_a_repaired_month_is_judged(landing):
    landing.fill("cdr_voice", days=70)
    odd = LAST - timedelta(days=5)
    landing.land("cdr_voice", odd, ROWS // 2)

    results = landing.run(Window(LAST - timedelta(days=29), LAST + timedelta(days=1)))

    assert broken(results) == {"rows_ratio"}
    assert f"cdr_voice {odd}: 0.5" in runner.critical_failures(results)[0].observed


# -- mass delete: the lists of keys ----------------------------------------------------------------


def land_keys(landing: Landing, day: date, **counts: int) -> None:
    """Land the key lists of a day: so many keys of each master, the first ones missing."""
    rows = " union all ".join(
        f"select '{master}', 'k' || (1000 - n), timestamp '{day} 20:00:00', date '{day}'"
        f" from range({count}) as r (n)"
        for master, count in counts.items()
    )
    landing.land("source_key", day, sum(counts.values()))
    path = landing.settings.landing_dir / "source_key" / f"load_date={day}" / "part-0.parquet"
    duckdb.sql(
        f"copy (select * from ({rows}) as k (table_name, key_text, listed_at, event_date)) to '{path}'"
    )


@pytest.mark.case(62)
@pytest.mark.parametrize(
    ("before", "now", "blocked"),
    [(1000, 989, True), (1000, 990, False), (40, 37, True), (40, 38, False), (40, 45, False)],
    ids=["1.1 %", "1 %", "three of a few", "two of a few", "none"],
)
def test_more_than_a_hundredth_of_the_keys_gone_at_once_is_blocked(landing, before, now, blocked):
    land_keys(landing, LAST - timedelta(days=1), customer=500, subscription=before)
    land_keys(landing, LAST, customer=500, subscription=now)

    results = landing.run()

    assert balances(landing, "source_key")
    assert broken(results) == ({"gone_share"} if blocked else set())
    if blocked:
        assert f"subscription {LAST}: " in runner.critical_failures(results)[0].observed


@pytest.mark.case(62)
def test_a_list_is_compared_with_the_last_one_however_far_apart(landing):
    land_keys(landing, LAST - timedelta(days=7), customer=500)
    land_keys(landing, LAST - timedelta(days=3), subscription=500)
    land_keys(landing, LAST, customer=400, subscription=500)

    failures = runner.critical_failures(landing.run())

    assert [failure.observed for failure in failures] == [f"customer {LAST}: 0.2"]


def test_a_first_list_is_not_judged(landing):
    land_keys(landing, LAST, customer=500)

    (told,) = [result for result in landing.run() if result.column_name == "gone_share"]

    assert (told.severity, told.success) == ("info", True)


# -- what leaves -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(postgres, tmp_path_factory) -> Settings:
    postgres.ensure_database("test_catalogue_gates")
    home = tmp_path_factory.mktemp("catalogue_gates")
    return Settings(home=home, store_dsn=postgres.dsn("test_catalogue_gates"), **SECRETS)


@pytest.fixture(scope="module")
def world(settings) -> World:
    """A world whose good release is published; a thousand bill lines landed on its day."""
    world = World(settings)
    with store.connect(settings) as connection:
        ops.record_reconciliation(
            connection, [Reconciliation("bill_line", DAY_2, 1000, 1000, {}, 0, {}, balanced=True)]
        )
    staged = world.project.stage().release_id
    assert runner.critical_failures(runner.run_leaving(settings, staged, Window.day(DAY_2))) == []
    release.mark_audited(settings, staged, passed=True)
    release.publish(settings, staged)
    return world


@dataclass(frozen=True)
class Spoiled:
    """A change of compute, and what must block it: (table of the check, column), or None."""

    relation: str
    statement: str
    blocked_by: tuple[str, str] | None


NOTED, LINE = "core.set_aside", "core.dim_subscription"


def unknown(count: int, code: str = "UNKNOWN_CODE") -> str:
    """Note so many bill lines of offerings that no catalogue has."""
    return (
        f"insert into {NOTED} (table_name, column_name, reason_code, key_text, row_cnt, load_date) values"
        f" ('bill_line', 'offering_id', '{code}', 'nowhere', {count - 2}, date '{DAY_2}'),"
        f" ('bill_line', 'offering_id', '{code}', 'nothing', 2, date '{DAY_2}')"
    )


RELEASES = [
    pytest.param(
        Spoiled(NOTED, unknown(6), ("set_aside", "unknown_share")),
        marks=pytest.mark.case(54),
        id="0.6 % of the codes unknown",
    ),
    pytest.param(
        Spoiled(NOTED, unknown(5), None),
        marks=pytest.mark.case(54),
        id="0.5 % of the codes unknown",
    ),
    pytest.param(
        Spoiled(NOTED, unknown(600, "EARLY_FACT"), None),
        id="lines that nobody knew yet",
    ),
    pytest.param(
        Spoiled(
            "core.dim_customer",
            "delete from core.dim_customer",
            ("dim_subscription", "current_rows"),
        ),
        marks=pytest.mark.case(79),
        id="no customers",
    ),
    pytest.param(
        Spoiled(
            "core.dim_customer",
            "update core.dim_customer set customer_id = 'UNKNOWN'",
            ("dim_subscription", "current_rows"),
        ),
        marks=pytest.mark.case(79),
        id="nobody but the unknown customer",
    ),
    pytest.param(
        Spoiled(
            "core.fct_usage_daily",
            f"delete from core.fct_usage_daily where load_date = date '{DAY_2}'",
            ("fct_usage_daily", "lines_with_usage"),
        ),
        marks=pytest.mark.case(79),
        id="no usage on the day",
    ),
    pytest.param(
        Spoiled(
            LINE,
            f"delete from {LINE} where subscription_id in ('s118', 's119')",
            ("dim_subscription", "keys_against_current"),
        ),
        marks=pytest.mark.case(62),
        id="1.7 % of the lines forgotten",
    ),
    pytest.param(
        Spoiled(
            LINE,
            f"update {LINE} set province_code = 'GD' where province_code = 'ZJ'",
            ("dim_subscription", "lines_against_current"),
        ),
        marks=pytest.mark.case(80),
        id="a province without lines",
    ),
    pytest.param(
        Spoiled(
            LINE,
            f"update {LINE} set province_code = 'GD' where province_code = 'ZJ' and subscription_id < 's060'",
            None,
        ),
        marks=pytest.mark.case(80),
        id="a province that lost half of its lines",
    ),
]


@pytest.fixture
def spoil(world) -> Callable[[Spoiled], None]:
    """Change compute for one test."""
    done: list[str] = []

    def change(told: Spoiled) -> None:
        done.append(told.relation)
        world.project.run(f"create or replace table kept as from {told.relation}; {told.statement}")

    yield change
    for relation in done:
        world.project.run(f"delete from {relation}; insert into {relation} from kept")


@pytest.mark.parametrize("told", RELEASES)
def test_a_release_that_lost_something_is_blocked_and_its_twin_passes(world, spoil, told):
    settings, before = world.project.settings, release.current_release(world.project.settings)
    spoil(told)

    staged = world.project.stage().release_id
    results = runner.run_leaving(settings, staged, Window.day(DAY_2))
    release.mark_audited(settings, staged, passed=not runner.critical_failures(results))

    found = {
        (result.table_name, result.column_name) for result in runner.critical_failures(results)
    }
    if told.blocked_by is None:
        assert found == set()
    else:
        assert told.blocked_by in found
        with pytest.raises(GateFailedError):
            release.publish(settings, staged)
    assert release.current_release(settings) == before


# -- the whole way: exit code 5, nothing published, readers keep what they have --------------------


@pytest.fixture
def keepline(world, monkeypatch) -> Callable[..., int]:
    """Run a command in this process and return its exit code."""
    settings = world.project.settings
    for name, value in SECRETS.items():
        monkeypatch.setenv(f"KEEPLINE_{name.upper()}", value)
    monkeypatch.setenv("KEEPLINE_HOME", str(settings.home))
    monkeypatch.setenv("KEEPLINE_STORE_DSN", settings.store_dsn.get_secret_value())

    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["keepline", *words])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        return int(leaving.value.code or 0)

    return run


def seen(world: World) -> list[tuple[object, ...]]:
    return world.project.rows(
        "select count(*), count(distinct subscription_id), max(churn_probability) <= 1, max(score_date)"
        " from mart.churn_risk_daily"
    )


@pytest.mark.case(78, 79)
def test_a_batch_that_the_gate_blocks_leaves_with_5_and_readers_keep_the_release(
    world, keepline, capsys
):
    landing = Landing(world.project.settings.home, load_contract(PROJECT_DIR / "dbt_project"))
    for table in ("customer", "subscription", "cdr_sms", "cdr_data"):
        landing.land(table, LAST, 5)
    landing.fill("cdr_voice")
    day = LAST + timedelta(days=1)
    before, rows = release.current_release(world.project.settings), seen(world)

    codes = {}
    for count in (ROWS, ROWS // 2, 0):
        landing.land("cdr_voice", day, count, {"msisdn_hash": f"'{PHONE}'"})
        codes[count] = keepline("check", "--date", str(day))
    said = capsys.readouterr()

    assert codes == {ROWS: 0, ROWS // 2: 5, 0: 5}
    assert f"the gate 'landed' stopped {day}" in said.err
    assert PHONE not in said.out + said.err
    assert keepline("publish", "--date", str(day)) == UsageError.exit_code
    assert (release.current_release(world.project.settings), seen(world)) == (before, rows)
    with store.connect(world.project.settings) as connection:
        found = connection.execute(
            "select distinct column_name from ops.gate_result where not success and from_date = %s",
            [day],
        ).fetchall()
    assert ("rows_when_expected",) in found


@pytest.mark.case(54, 79)
def test_a_release_that_the_gate_blocks_leaves_with_5_and_readers_keep_the_other(
    world, keepline, spoil
):
    before, rows = release.current_release(world.project.settings), seen(world)
    spoil(Spoiled(NOTED, unknown(7), ("set_aside", "unknown_share")))

    codes = [keepline(verb, "--date", str(DAY_2)) for verb in ("stage", "audit", "publish")]

    assert codes == [0, GateFailedError.exit_code, GateFailedError.exit_code]
    assert (release.current_release(world.project.settings), seen(world)) == (before, rows)
    assert rows[0][:2] == (2 * len(LINES), len(LINES))
