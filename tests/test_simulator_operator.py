"""The simulated operator: balanced, readable through the contract, and true to its truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
import duckdb_extension_postgres_scanner
import numpy as np
import psycopg
import pytest
import truth_of_tables
import yaml
from simulated import PASSWORD, START, Demo

from keepline.contract import Table, load_contract
from keepline.embedded import EmbeddedPostgres
from keepline.simulator import simulate, world
from keepline.simulator.course import Course
from keepline.simulator.rhythm import NEVER

PROJECT = Path(__file__).parent.parent
CONTRACT = load_contract(PROJECT / "dbt_project")
OPERATOR = yaml.safe_load((PROJECT / "operators" / "demo.yml").read_text())
DAYS, MORNINGS = 130, 10
# Nobody of the demo sends more messages than his plan has.
SERVICES = ("fee", "data", "vas")
CDR_TABLES = ("cdr_voice", "cdr_sms", "cdr_data")
# The text of a value as the contract accepts it; see the kinds of broken rows in the truth.
READABLE_AMOUNT = r"regexp_full_match({}, '-?\d+(\.\d{{1,2}})?')"


@pytest.fixture(scope="module")
def demo(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    home = tmp_path_factory.mktemp("demo")
    postgres.ensure_database("simulated")
    summary = simulate(
        postgres.dsn("simulated"),
        home / "drops",
        home / "truth",
        subscribers=280,
        days=DAYS,
        seed=5,
        start=START,
        mornings=MORNINGS,
        extractor_password=PASSWORD,
    )
    return Demo(postgres, "simulated", home / "drops", home / "truth", summary)


def test_every_truth_is_held_against_the_tables(demo):
    # The broken rows are counted below, everything else where the lives are.
    told = {path.stem for path in demo.truth.iterdir()}

    assert told == {*truth_of_tables.TRUTHS, "dirty_truth"}


@pytest.fixture(scope="module")
def duck(demo: Demo) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the operator attached read-only, as extraction sees it."""
    connection = duckdb.connect()
    packaged = Path(duckdb_extension_postgres_scanner.__file__).parent
    connection.execute("set autoinstall_known_extensions = false")
    connection.execute(f"load '{next(packaged.rglob('*.duckdb_extension'))}'")
    dsn = demo.server.dsn(demo.database, "extractor", PASSWORD)
    connection.execute(f"attach '{dsn}' as operator (type postgres, read_only)")
    yield connection
    connection.close()


def select(table: Table, demo: Demo, first: date, last: date) -> str:
    """The table's SELECT in demo.yml for the load dates from `first` to `last`, both included."""
    source = OPERATOR["tables"][table.name]
    end = last + timedelta(days=1)
    sql = source["sql"].replace("{from_at}", f"timestamptz '{first} 00:00:00+08:00'")
    sql = sql.replace("{to_at}", f"timestamptz '{end} 00:00:00+08:00'").strip()
    if "file" not in source:
        return sql
    days = [first + timedelta(days=k) for k in range((end - first).days)]
    files = [str(demo.drops / day.isoformat() / f"{source['file']}.csv.gz") for day in days]
    return f"with records as (select * from read_csv({files}, all_varchar = true)) {sql}"


def whole(demo: Demo) -> tuple[date, date]:
    return demo.summary.first_day, demo.summary.last_day


# -- drops ----------------------------------------------------------------------------------------


def test_there_is_a_drop_for_every_day_and_its_manifest_is_right(demo: Demo):
    folders = sorted(path.name for path in demo.drops.iterdir())
    days = [START + timedelta(days=k) for k in range(DAYS + MORNINGS)]
    assert folders == [day.isoformat() for day in days]
    records = 0
    for day in (days[0], days[37], days[-1]):
        manifest = json.loads((demo.drops / str(day) / "manifest.json").read_text())
        assert manifest["date"] == str(day)
        assert [file["table"] for file in manifest["files"]] == list(CDR_TABLES)
        for file in manifest["files"]:
            path = demo.drops / str(day) / file["name"]
            content = path.read_bytes()
            assert file["bytes"] == len(content)
            assert file["sha256"] == hashlib.sha256(content).hexdigest()
            sums = ", ".join(_total(name) for name in file["sums"])
            rows, *totals = duckdb.sql(
                f"select count(*), {sums} from read_csv('{path}', all_varchar = true)"
            ).fetchone()
            assert rows == file["rows"]
            assert totals == list(file["sums"].values())
            records += rows
    assert records > 3 * 280 * 3


def _total(name: str) -> str:
    """The manifest counts a value as long as it can be read, of broken rows too."""
    if name == "charge_fen":
        readable = READABLE_AMOUNT.format("charge_amt")
        amount = "cast(100 * try_cast(charge_amt as decimal(18, 3)) as bigint)"
        return f"cast(coalesce(sum({amount}) filter ({readable}), 0) as bigint)"
    return f"cast(coalesce(sum(try_cast({name} as bigint)), 0) as bigint)"


def test_the_history_of_the_summary_is_all_that_there_is(demo: Demo):
    rows = sum(
        file["rows"]
        for path in demo.drops.glob("*/manifest.json")
        for file in json.loads(path.read_text())["files"]
    )
    assert demo.summary.usage_records == rows
    assert demo.summary.last_history_day == START + timedelta(days=DAYS - 1)
    per_line = rows / 280 / (DAYS + MORNINGS)
    assert 3.5 < per_line < 5.5


def test_broken_rows_are_those_of_the_truth(demo: Demo):
    truth = dict(
        duckdb.sql(
            f"select kind, sum(rows) from '{demo.truth}/dirty_truth.parquet' group by kind"
        ).fetchall()
    )
    voice = f"read_csv('{demo.drops}/*/cdr_voice.csv.gz', all_varchar = true)"
    negative = duckdb.sql(f"select count(*) from {voice} where duration_s like '-%'").fetchone()[0]
    found = {"negative_duration": negative}
    for name, time in zip(CDR_TABLES, ("start_at", "sent_at", "session_start_at"), strict=True):
        records = f"read_csv('{demo.drops}/*/{name}.csv.gz', all_varchar = true)"
        directions = (
            "0" if name == "cdr_data" else "count(*) filter (direction not in ('in', 'out'))"
        )
        amount = READABLE_AMOUNT.format("charge_amt")
        dates, amounts, codes, twice = duckdb.sql(
            f"""select count(*) filter (try_cast({time} as timestamptz) is null),
                count(*) filter (not {amount}), {directions}, count(*) - count(distinct usage_id)
            from {records}"""
        ).fetchone()
        for kind, rows in (
            ("bad_date", dates),
            ("three_decimals", amounts),
            ("unknown_direction", codes),
            ("duplicate_usage_id", twice),
        ):
            found[kind] = found.get(kind, 0) + rows

    assert {kind: rows for kind, rows in found.items() if rows} == truth
    assert 5 < sum(truth.values()) < 0.001 * demo.summary.usage_records
    assert demo.summary.dirty_rows == sum(truth.values())


def test_a_late_record_comes_with_the_drop_of_the_day_it_was_handed_over(demo: Demo):
    wrong, late, latest = duckdb.sql(
        f"""
        select
            count(*) filter (not contains(filename, '/' || handed_over || '/')),
            count(*) filter (wait >= 1) / count(*),
            max(wait)
        from (
            select
                filename,
                left(received_at, 10) as handed_over,
                cast(handed_over as date) - try_cast(left(session_start_at, 10) as date) as wait
            from read_csv('{demo.drops}/*/cdr_data.csv.gz', all_varchar = true, filename = true)
        )"""
    ).fetchone()

    assert wrong == 0
    assert 0.01 < late < 0.05
    assert latest == 5


# -- databases ------------------------------------------------------------------------------------


def test_the_reader_can_read_everything_and_change_nothing(demo: Demo):
    with demo.reader() as connection:
        tables = connection.execute(
            "select schemaname, tablename from pg_tables where tableowner <> 'postgres' "
            "and schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(tables) == 21
        for schema, table in tables:
            assert connection.execute(f"select count(*) from {schema}.{table}").fetchone()[0] > 0
    with demo.reader() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("delete from bil.payment")
    for statement in (
        "update bss.subscription set brand_code = 'X'",
        "create table crm.mine (a int)",
        "create table public.mine (a int)",
    ):
        with demo.reader() as connection:
            connection.read_only = False
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_every_bill_is_the_sum_of_its_lines(demo: Demo):
    wrong, bills = demo.all(
        """
        select
            count(*) filter (where total is distinct from amount_due),
            count(*)
        from (select distinct bill_id, amount_due from bil.bill) as bill
        left join (
            select bill_id, sum(tax_excl + tax) as total from bil.bill_line group by bill_id
        ) as line using (bill_id)
        """
    )[0]
    assert wrong == 0
    assert bills > 300


def test_a_bill_is_taxed_by_service_and_by_its_day(demo: Demo):
    """Calls 9 %; the rest of the network 6 %, from 2026 on 9 %; what partners sell 6 %."""
    lines = demo.all(
        """
        select
            case when third_party_flag then 'content' else coalesce(usage_type, 'fee') end,
            billed_date >= date '2026-01-01', cast(100 * tax_excl as int), cast(100 * tax as int)
        from bil.bill_line
        """
    )
    percents = {
        **{(service, late): 9 if late else 6 for service in SERVICES for late in (False, True)},
        **{("voice", late): 9 for late in (False, True)},
        **{("content", late): 6 for late in (False, True)},
    }

    assert {(service, late) for service, late, *_ in lines} == set(percents)
    for service, late, untaxed, tax in lines:
        rate = percents[service, late]
        assert untaxed == pytest.approx((untaxed + tax) / (1 + rate / 100), abs=0.5), service


def test_the_catalogue_names_the_partner_that_a_fee_is_for(demo: Demo):
    named = dict(
        demo.all("select offering_id, max(partner_id) from bss.product_offering group by 1")
    )
    billed = demo.all(
        "select distinct offering_id, partner_id, third_party_flag from bil.bill_line "
        "where offering_id is not null"
    )
    assert {o: p for o, p in named.items() if p} == {
        "VMUSIC": "SP01",
        "VVIDEO": "SP02",
        "VRING": "SP03",
    }
    assert {named[offering] for offering, *_ in billed} > {None}
    assert [
        row for row in billed if row[1] != named[row[0]] or row[2] != (row[1] is not None)
    ] == []


def test_a_prepaid_balance_pays_the_partners_fees_too():
    """Given two lines alike but for an add-on of a partner, then its fee is taken from the balance."""
    course = Course(200, 5, START)
    s = course.people.lines
    at = np.flatnonzero(s.prepaid[: s.n])[:2]
    music = [o.offering_id for o in world.OFFERINGS[world.N_MAIN :]].index("VMUSIC")
    s.offering[at], s.balance[at], s.promo_end[at] = s.offering[at[0]], 100_000, NEVER
    s.add_on[at] = NEVER
    s.add_on[at[1], music] = 0

    fees = course.catalogue.fee, course.catalogue.fee_after
    for day in range(30):
        course.prepaid.run(day, *fees)
        s.voice_fen[at] = s.sms_fen[at] = s.data_fen[at] = 0

    rows = course.sink.take(30)["ocs.recharge"]
    topped = [int(rows["face"][rows["subscription_id"] == line + 1].sum()) for line in at]
    spent = 100_000 + np.array(topped) - s.balance[at]
    fee = int(course.catalogue.fee_after[s.offering[at[0]]])
    assert spent.tolist() == [fee // 30 * 30, (fee + 1200) // 30 * 30]


def test_what_is_left_of_a_bill_is_what_was_not_paid(demo: Demo):
    billed, left, paid = demo.all(
        """
        with last as (
            select distinct on (bill_id) amount_due, remaining from bil.bill
            order by bill_id, updated_at desc
        )
        select sum(amount_due), sum(remaining), (select sum(amount) from bil.payment) from last
        """
    )[0]
    assert billed - left == paid
    assert 0.8 < paid / billed < 1


def test_states_of_a_line_follow_each_other(demo: Demo):
    broken = demo.all(
        """
        select * from (
            select
                subscription_id, from_status,
                lag(to_status) over (partition by subscription_id order by event_at) as before
            from bss.subscription_status_event
        ) as step
        where before is not null and before <> from_status
        """
    )
    assert broken == []


def test_references_between_tables_hold(demo: Demo):
    for child, column, parent in (
        ("bss.subscription", "customer_id", "crm.customer"),
        ("bss.subscription", "account_id", "crm.billing_account"),
        ("crm.customer", "party_id", "crm.party_individual"),
        ("bil.bill", "account_id", "crm.billing_account"),
        ("bil.bill_line", "subscription_id", "bss.subscription"),
        ("bil.bill_line", "bill_id", "bil.bill"),
        ("ocs.recharge", "subscription_id", "bss.subscription"),
        ("cc.trouble_ticket", "interaction_id", "cc.interaction"),
        ("bss.subscription", "dealer_id", "chn.dealer"),
        ("bss.subscription", "county_code", "ref.geography"),
        ("bss.subscription_offering", "offering_id", "bss.product_offering"),
    ):
        lost = demo.all(
            f"select count(*) from {child} where {column} is not null "
            f"and {column} not in (select {column} from {parent})"
        )
        assert lost == [(0,)], (child, column)


def test_nothing_is_recorded_outside_the_run(demo: Demo):
    first, last = whole(demo)
    bounds = f"'{first} 00:00+08', '{last + timedelta(days=1)} 00:00+08'"
    for table in CONTRACT.values():
        if table.system != "med" and table.name in OPERATOR["tables"]:
            name = f"{table.system}.{table.name}"
            outside = demo.all(
                f"select count(*) from {name} where not {table.load_cursor} <@ tstzrange({bounds})"
            )
            assert outside == [(0,)], name


# -- the contract ---------------------------------------------------------------------------------


def test_the_operator_file_fills_every_table_of_the_contract():
    # Key lists are for operators that delete; this one does not.
    assert set(CONTRACT) - set(OPERATOR["tables"]) == {"source_key"}


@pytest.mark.parametrize("name", sorted(set(CONTRACT) - {"source_key"}))
def test_a_select_returns_what_the_contract_asks_for(
    name: str, demo: Demo, duck: duckdb.DuckDBPyConnection
):
    table = CONTRACT[name]
    query = select(table, demo, *whole(demo))

    duck.execute(f"create or replace temp table given as {query}")

    given = duck.sql("select * from given")
    assert sorted(given.columns) == sorted(column.name for column in table.columns)
    rows = duck.sql("select count(*) from given").fetchone()[0]
    assert rows > 0
    keys = duck.sql(f"select count(distinct ({', '.join(table.key)})) from given").fetchone()[0]
    broken = 0 if table.system != "med" else 0.001 * rows
    assert rows - keys <= broken
    for column in table.columns:
        kind = {"text": "varchar"}.get(column.data_type, column.data_type)
        value = f"try_cast({column.name} as {kind})"
        bad = [f"{column.name} is not null and {value} is null"]
        if not column.nullable:
            bad.append(f"{column.name} is null")
        if column.codes:
            bad.append(f"{value} not in {column.codes}" if len(column.codes) > 1 else "false")
        if column.minimum is not None:
            below = f"{value} < {column.minimum}"
            if column.min_unless is not None:
                below += f" and {column.min_unless.column} not in {column.min_unless.codes}"
            bad.append(f"({below})")
        if column.maximum is not None:
            bad.append(f"{value} > {column.maximum}")
        if column.format == "msisdn":
            bad.append(f"not regexp_full_match({column.name}, '1\\d{{10}}')")
        found = duck.sql(f"select count(*) from given where {' or '.join(bad)}").fetchone()[0]
        assert found <= broken, column.name


def test_a_window_of_one_day_holds_that_day_only(demo: Demo, duck: duckdb.DuckDBPyConnection):
    day = START + timedelta(days=60)
    table = CONTRACT["recharge"]

    rows = duck.sql(
        f"""select
            count(*),
            count(*) filter (cast(recharged_at at time zone 'UTC' + interval 8 hour as date) = date '{day}')
        from ({select(table, demo, day, day)})"""
    ).fetchone()

    assert rows[0] == rows[1] > 0


# -- people ---------------------------------------------------------------------------------------


def test_a_silent_line_is_never_used_again_and_never_terminated(demo: Demo):
    truth = f"'{demo.truth}/churn_truth.parquet'"
    lines = dict(
        duckdb.sql(
            f"select subscription_id, leave_date from {truth} "
            f"where kind = 'silent' and leave_date < date '{demo.summary.last_day}'"
        ).fetchall()
    )
    assert len(lines) > 5
    ended = demo.all(
        "select distinct subscription_id from bss.subscription where status_code = 'terminated'"
    )
    assert not lines.keys() & {line for (line,) in ended}
    used = duckdb.sql(
        f"""
        select subscription_id, max(try_cast(left(start_at, 10) as date))
        from read_csv('{demo.drops}/*/cdr_voice.csv.gz', all_varchar = true) group by all
        """
    ).fetchall()
    assert [line for line, last in used if line in lines and last >= lines[line]] == []


def test_a_number_that_leaves_is_ported_on_the_day_it_leaves(demo: Demo):
    truth = duckdb.sql(
        f"""select subscription_id, leave_date, destination_operator from '{demo.truth}/churn_truth.parquet'
        where kind = 'port_out' and leave_date < date '{demo.summary.last_day - timedelta(days=5)}'"""
    ).fetchall()
    ported = {
        line: (day, operator, states)
        for line, day, operator, states in demo.all(
            """
            select
                subscription_id, cast(max(completed_at) at time zone 'Asia/Shanghai' as date),
                max(recipient_operator), array_agg(status order by updated_at)
            from npd.np_port where direction = 'out' group by port_id, subscription_id
            having max(completed_at) is not null
            """
        )
    }
    assert truth
    for line, day, operator in truth:
        states = ["eligibility_query", "authorised", "requested", "completed"]
        assert ported[line] == (day, operator, states)
