"""Extraction from an operator's PostgreSQL: windows, types, counts, and a connection that is lost."""

from __future__ import annotations

import re
import threading
import time
from datetime import date
from decimal import Decimal

import duckdb
import psycopg
import pytest
from extract_source import DAY, Extraction

from keepline import store
from keepline.contract import load_contract
from keepline.errors import SourceUnavailableError, UsageError
from keepline.extract import Verdict, database
from keepline.extract.delivery import window_values
from keepline.extract.operator import load_operator
from keepline.extract.query import QueryDelivery
from keepline.extract.session import Session
from keepline.settings import PROJECT_DIR
from keepline.simulator.database import OperatorDatabase
from keepline.window import Window

OPERATOR = """
name: demo
description: a billing system
connections:
  operator: {{type: postgres, dsn_env: KEEPLINE_DEMO_DSN}}
tables:
  payment:
    sql: |
      {sql}
"""
SELECT = """select payment_id, account_id, paid_at, amount as amt, method_code, channel_code
      from operator.bil.payment
      where paid_at >= {from_at} and paid_at < {to_at}"""


READER = "source_reader"


def login(settings, name):
    return psycopg.conninfo.make_conninfo(store.dsn(settings), user=name, password=name)


def make_login(connection, name):
    # Logins are shared by the databases of a server.
    if connection.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone() is None:
        connection.execute(f"create role {name} login password '{name}'")


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("KEEPLINE_DEMO_DSN", login(settings, READER))
    with store.connect(settings, autocommit=True) as connection:
        connection.execute("create schema bil")
        connection.execute(
            "create table bil.payment (payment_id text, account_id text, paid_at timestamptz,"
            " amount numeric(18, 2), method_code text, channel_code text)"
        )
        connection.execute("create index on bil.payment (paid_at)")
        make_login(connection, READER)
        connection.execute(f"grant usage on schema bil to {READER}")
        connection.execute(f"grant select on all tables in schema bil to {READER}")
    extraction = Extraction(settings, tmp_path, monkeypatch)
    select(extraction, SELECT)
    return extraction


def select(extraction, sql):
    extraction.operator_file.write_text(OPERATOR.format(sql=sql))


def pay(extraction, *rows):
    settings = extraction.settings
    with store.connect(settings, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany("insert into bil.payment values (%s, 'A1', %s, %s, 'card', 'web')", rows)


def test_a_window_takes_the_operators_local_days(extraction):
    pay(
        extraction,
        ("before", "2026-06-29 23:59:59.999999+08", 1),
        ("first", "2026-06-30 00:00:00+08", 2),
        ("last", "2026-06-30 15:59:59.999999Z", 3),
        ("after", "2026-06-30 16:00:00Z", 4),
    )

    extraction.run()

    assert extraction.landed(
        "payment", "payment_id, paid_at::text, amt, event_date, load_date"
    ) == [
        ("first", "2026-06-29 16:00:00", Decimal("2.00"), DAY, DAY),
        ("last", "2026-06-30 15:59:59.999999", Decimal("3.00"), DAY, DAY),
    ]


def test_a_wide_window_is_cut_into_load_dates_as_day_by_day(extraction):
    pay(extraction, *[(f"P{n}", f"2026-06-{n:02d} 12:00:00+08", n) for n in range(1, 11) if n != 5])

    result = extraction.run(Window(date(2026, 6, 1), date(2026, 6, 11)))["payment"]
    wide = extraction.files()
    for day in range(1, 11):
        extraction.run(date(2026, 6, day))

    assert extraction.files() == wide
    assert [b.physical_rows for b in result.reconciliations] == [int(n != 5) for n in range(1, 11)]


@pytest.mark.parametrize(
    ("words", "pieces"),
    [
        ("paid_at >= {from_at} and paid_at < {to_at}", "many"),
        ("cast(paid_at as date) >= {from_date} and cast(paid_at as date) < {to_date}", "many"),
        ("true", "one"),
    ],
)
def test_a_source_that_may_rest_is_read_in_pieces_and_gives_the_same(extraction, words, pieces):
    # Given ten days of payments, some at the very edges of a day
    pay(
        extraction,
        *[
            (f"{day} {time}", f"2026-06-{day:02d} {time}+08", day)
            for day in range(1, 11)
            for time in ("00:00:00", "09:17:23.123456", "23:59:59.999999")
        ],
    )
    window = Window(date(2026, 6, 1), date(2026, 6, 11))
    sql = SELECT.split("where")[0] + "where " + words
    select(extraction, sql)
    extraction.run(window)
    at_once = extraction.files()
    asked = extraction.note_counts()

    # When its server may be busy for half of the time
    extraction.operator_file.write_text(
        OPERATOR.replace("_DSN}}", "_DSN, busy_share: 0.5}}").format(sql=sql)
    )
    result = extraction.run(window)["payment"]

    # Then the same rows land, and the database counted each piece by itself
    assert extraction.files() == at_once
    assert [(row.physical_rows, row.balanced) for row in result.reconciliations] == [(3, True)] * 10
    assert (len(asked) > 1) == (pieces == "many")
    assert len(set(asked)) == len(asked)


def test_a_row_that_the_operator_took_back_is_taken_back(extraction):
    pay(extraction, ("P1", "2026-06-30 12:00:00+08", 1))
    extraction.run()
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute("delete from bil.payment")

    extraction.run()

    assert extraction.landed("payment") == []


def test_local_times_without_a_zone_are_the_operators_clock(extraction):
    select(
        extraction,
        SELECT.replace(
            "paid_at, amount", "paid_at at time zone 'Asia/Shanghai' as paid_at, amount"
        ),
    )
    pay(extraction, ("P1", "2026-06-30 12:00:00+08", 1))

    extraction.run()

    assert extraction.landed("payment", "paid_at::text") == [("2026-06-30 04:00:00",)]


def test_an_amount_without_a_scale_is_not_rounded(extraction):
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute("alter table bil.payment alter amount type numeric")
    pay(extraction, *[(f"P{n}", "2026-06-30 12:00:00+08", "2.50") for n in range(200)])
    pay(extraction, ("bad", "2026-06-30 12:00:00+08", "1.005"))

    extraction.run()

    row = extraction.quarantined("reason_code, column_name, source_file, row_json", "payment")
    assert [r[:3] for r in row] == [("SCALE_LOST", "amt", None)]
    assert '"payment_id":"bad"' in row[0][3]
    assert extraction.landed("payment", "sum(amt)") == [(Decimal("500.00"),)]


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "123456789012345.67"])
def test_an_amount_that_changes_on_the_way_is_noticed(extraction, amount):
    # DuckDB reads the first two as 0, and the third as the nearest floating-point number.
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute("alter table bil.payment alter amount type numeric")
    pay(extraction, ("P1", "2026-06-30 12:00:00+08", amount), ("P2", "2026-06-30 12:00:00+08", 1))

    assert extraction.held() == ["SUM_MISMATCH"]


def test_an_instant_at_infinity_is_no_instant(extraction):
    select(extraction, SELECT.replace("paid_at, amount", "paid_at, amount").split("where")[0])
    pay(extraction, *[(f"P{n}", "2026-06-30 12:00:00+08", 1) for n in range(200)])
    pay(extraction, ("never", "infinity", 1))

    extraction.run()

    assert extraction.quarantined("reason_code, load_date", "payment") == [("BAD_DATE", DAY)]


def test_a_count_at_the_database_that_differs_holds_the_table(extraction, monkeypatch):
    pay(extraction, *[(f"P{n}", "2026-06-30 12:00:00+08", 1) for n in range(20)])
    counted = QueryDelivery._count
    asked = []

    def lose_one(self, counting, summed):
        asked.append(counting)
        self._session.run("delete from taken where payment_id = 'P7'")
        counted(self, counting, summed)

    monkeypatch.setattr(QueryDelivery, "_count", lose_one)

    assert extraction.held() == ["UNBALANCED", "SUM_MISMATCH"]
    assert "postgres_query" in asked[0]
    assert extraction.landed("payment") == []


def test_a_select_that_only_duckdb_understands_is_counted_too(extraction):
    select(extraction, SELECT.replace("select payment_id", "from (select payment_id") + ")")
    pay(extraction, ("P1", "2026-06-30 12:00:00+08", 1))

    assert extraction.run()["payment"].reconciliations[0].physical_rows == 1


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", "syntax error"),
        ("select 1; select 2", "must be one SELECT"),
        ("drop table x", "must be one SELECT"),
        ("select * from operator.bil.nothing", "nothing does not exist"),
        ("select nothing from operator.bil.payment", '"nothing" not found'),
        ("select 1 as payment_id", "the SELECT must return account_id, paid_at, amt"),
        (SELECT.replace("as amt", "as amount"), "returns amount, which the contract does not have"),
        (
            SELECT.replace("{to_at}", "{until}"),
            r"no placeholder {until}; there are {from_at}, {from_local}",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_a_mistake_in_a_select_names_file_table_and_mistake(extraction, sql, message):
    select(extraction, sql)

    with pytest.raises(UsageError, match=rf"^demo\.yml, table payment: .*{re.escape(message)}"):
        extraction.run()


def test_an_error_about_a_value_does_not_show_it(extraction):
    select(
        extraction,
        SELECT.replace("method_code,", "cast(payment_id as integer)::text as method_code,"),
    )
    pay(extraction, ("13800007777x", "2026-06-30 12:00:00+08", 1))

    with pytest.raises(UsageError, match=r"<value>.*leave casting to keepline") as raised:
        extraction.run()

    assert "13800007777" not in str(raised.value)


def balance(result):
    (row,) = result.reconciliations
    return row.physical_rows, row.loaded_rows, sum(row.quarantined_rows.values()), row.balanced


def cut(settings):
    with store.connect(settings, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and usename = %s",
            [READER],
        )


def cut_while_it_reads(settings):
    """Cut the reader when it reads the slow view, however long it takes to come to that."""
    with store.connect(settings, autocommit=True) as connection:
        for _ in range(600):
            reading = connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and usename = %s and state = 'active' and query like '%%slow%%'"
                " and clock_timestamp() > query_start + interval '300 milliseconds'",
                [READER],
            ).fetchone()
            if reading[0]:
                break
            time.sleep(0.05)
    cut(settings)


def slow_view(extraction, rows_a_second):
    """A view that gives its rows one by one, so that a test can reach in between."""
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute(
            "create or replace view bil.slow as select *, pg_sleep("
            f"{1 / rows_a_second})::text as waited from bil.payment"
        )
        connection.execute(f"grant select on bil.slow to {READER}")
    select(
        extraction,
        SELECT.replace("bil.payment", "bil.slow").replace("method_code,", "waited as method_code,"),
    )


@pytest.mark.case(88)
@pytest.mark.parametrize("moment", ["reading", "counting"])
def test_a_connection_cut_on_the_way_is_worth_another_try(extraction, monkeypatch, moment):
    # What landed before, and what a second extraction reads when it is cut.
    pay(extraction, ("P0", "2026-06-30 11:00:00+08", 1))
    extraction.run()
    before = extraction.files()
    pay(extraction, *[(f"P{n}", "2026-06-30 12:00:00+08", 1) for n in range(1, 100)])
    slow_view(extraction, rows_a_second=30)
    counted = QueryDelivery._count

    def cut_first(self, counting, summed):
        cut(extraction.settings)
        counted(self, counting, summed)

    with monkeypatch.context() as patch:
        if moment == "reading":
            threading.Thread(target=cut_while_it_reads, args=[extraction.settings]).start()
        else:
            select(extraction, SELECT)
            patch.setattr(QueryDelivery, "_count", cut_first)
        with pytest.raises(
            SourceUnavailableError, match=r"payment: lost the connection to 127\.0\.0\.1"
        ):
            extraction.run()

    assert extraction.files() == before
    select(extraction, SELECT)
    result = extraction.run()["payment"]
    assert result.verdict is Verdict.LOAD
    assert balance(result) == (100, 100, 0, True)
    assert extraction.landed("payment", "count(distinct payment_id)") == [(100,)]


@pytest.mark.case(88)
def test_a_source_that_is_too_slow_is_left_in_time(extraction, monkeypatch):
    monkeypatch.setattr(database, "TIMEOUT_S", 1)
    pay(extraction, *[(f"P{n}", "2026-06-30 12:00:00+08", 1) for n in range(200)])
    slow_view(extraction, rows_a_second=20)
    started = time.monotonic()

    with pytest.raises(
        SourceUnavailableError, match=r"127\.0\.0\.1.* needs more than 1 s"
    ) as raised:
        extraction.run()

    assert raised.value.exit_code == 3
    assert time.monotonic() - started < 5
    assert extraction.landed("payment") == []
    with store.connect(extraction.settings, autocommit=True) as connection:
        running = connection.execute(
            "select count(*) from pg_stat_activity where usename = %s and state = 'active'",
            [READER],
        )
        assert running.fetchone() == (0,)


def test_a_window_that_takes_too_long_is_taken_in_halves(extraction, monkeypatch):
    monkeypatch.setattr(database, "TIMEOUT_S", 2)
    days = range(27, 31)
    pay(extraction, *[(f"{d}-{n}", f"2026-06-{d} 12:00+08", 1) for d in days for n in range(40)])
    slow_view(extraction, rows_a_second=60)

    result = extraction.run(Window(date(2026, 6, 27), date(2026, 7, 1)))["payment"]

    assert [row.loaded_rows for row in result.reconciliations] == [40, 40, 40, 40]


@pytest.mark.parametrize("timeout", [database.TIMEOUT_S, 7])
def test_the_server_itself_ends_what_takes_too_long(extraction, monkeypatch, timeout):
    monkeypatch.setattr(database, "TIMEOUT_S", timeout)
    names = (
        "statement_timeout",
        "transaction_timeout",
        "idle_in_transaction_session_timeout",
        "default_transaction_read_only",
    )
    asked = ", ".join(f"current_setting('{name}') as {name}" for name in names)
    with _session(extraction) as session:
        session.attach("payment")
        (row,) = session.rows(f"from postgres_query('operator', $$select {asked}$$)")

    whole = {300: "5min", 7: "7s"}[timeout]
    assert row == (whole, whole, {300: "1min", 7: "7s"}[timeout], "on")


def test_the_source_sees_two_connections_at_most(extraction):
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute(
            "insert into bil.payment select 'P' || n, 'A' || n,"
            " timestamptz '2026-06-01 12:00+08' + n % 30 * interval '1 day', 1"
            " from generate_series(1, 300000) n"
        )
    seen, stop = [], threading.Event()

    def watch():
        with store.connect(extraction.settings, autocommit=True) as connection:
            while not stop.is_set():
                found = connection.execute(
                    "select count(*) from pg_stat_activity where usename = %s", [READER]
                ).fetchone()
                seen.append(found[0])
                time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()

    extraction.run(Window(date(2026, 6, 1), date(2026, 7, 1)))

    stop.set()
    watcher.join()
    assert 1 <= max(seen) <= database.CONNECTIONS


def test_a_small_window_of_a_large_table_is_read_by_its_index(extraction):
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute(
            "insert into bil.payment select 'P' || n, 'A' || n,"
            " timestamptz '2020-01-01 12:00+08' + n * interval '15 minutes', 1"
            " from generate_series(1, 230000) n"
        )
        # A vacuum would read the table meanwhile.
        connection.execute("alter table bil.payment set (autovacuum_enabled = false)")
        connection.execute("analyze bil.payment")
        pages = connection.execute(
            "select relpages from pg_class where oid = 'bil.payment'::regclass"
        ).fetchone()[0]
        # More than DuckDB reads in one piece, so that it could read in several.
        assert pages > 1000

    read_before = _pages_read(extraction)
    rows = extraction.run(date(2026, 6, 1))["payment"].rows
    pages_read = _pages_read(extraction) - read_before

    assert rows == 96
    assert pages_read < pages / 10


def _pages_read(extraction):
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute("select pg_stat_clear_snapshot()")
        # The server's processes report when they end.
        for _ in range(100):
            found = connection.execute(
                "select count(*) from pg_stat_activity where usename = %s", [READER]
            ).fetchone()
            if found == (0,):
                break
            time.sleep(0.02)
        return connection.execute(
            "select heap_blks_read + heap_blks_hit from pg_statio_user_tables where relname = 'payment'"
        ).fetchone()[0]


def _session(extraction):
    contract = load_contract(extraction.settings.dbt_dir)
    return Session(extraction.settings, load_operator(extraction.operator_file, contract))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("alter role writer superuser", "is a superuser"),
        ("grant insert on bil.payment to writer", "may change the table bil.payment"),
        ("grant update (amount) on bil.payment to writer", "may change the table bil.payment"),
        ("grant truncate on bil.payment to writer", "may change the table bil.payment"),
        ("grant pg_write_all_data to writer", "may change the table bil.payment"),
        ("alter table bil.payment owner to writer", "may change the table bil.payment"),
        ("grant create on schema bil to writer", "may create in the schema bil"),
    ],
)
def test_a_login_that_may_write_is_refused_with_the_grant_to_type(
    extraction, monkeypatch, sql, words
):
    with store.connect(extraction.settings, autocommit=True) as connection:
        make_login(connection, "writer")
        connection.execute("grant usage on schema bil to writer")
        connection.execute("grant select on bil.payment to writer")
        connection.execute(sql)
        monkeypatch.setenv("KEEPLINE_DEMO_DSN", login(extraction.settings, "writer"))
        try:
            with pytest.raises(
                UsageError, match="GRANT SELECT ON ALL TABLES IN SCHEMA bil"
            ) as raised:
                extraction.run()
        finally:
            connection.execute("drop owned by writer cascade")
            connection.execute("drop role writer")

    assert words in str(raised.value)
    assert "KEEPLINE_DEMO_DSN" in str(raised.value)


def test_every_select_of_the_demo_has_an_index_for_its_window(extraction):
    """The simulated operator's tables as they are made, asked as keepline asks them."""
    settings = extraction.settings
    operator = OperatorDatabase(store.dsn(settings), date(2026, 6, 1))
    operator.close(password="reader")
    contract = load_contract(settings.dbt_dir)
    demo = load_operator(PROJECT_DIR / "operators" / "demo.yml", contract)
    window = Window.day(DAY)
    with store.connect(settings, autocommit=True) as connection:
        # An empty table is read as a whole, unless that is made dear.
        connection.execute("set enable_seqscan = off")
        for table, source in demo.tables.items():
            if source.file is not None:
                continue
            with _session(extraction) as session:
                sql = demo.render(table, window_values(session, window))
            plan = connection.execute(f"explain {sql.replace('operator.', '', 1)}").fetchall()
            text = "\n".join(str(row[0]) for row in plan)
            if "where" in sql:
                assert "Index" in text, (table, text)


@pytest.mark.case(94)
def test_a_window_after_the_data_reads_nothing_and_skips_nothing(extraction):
    pay(extraction, ("P1", "2026-06-30 12:00:00+08", 1))
    ahead = date(2027, 6, 30)

    early = extraction.run(ahead)["payment"]
    late = extraction.run()["payment"]

    assert balance(early) == (0, 0, 0, True)
    assert early.reconciliations[0].load_date == ahead
    assert balance(late) == (1, 1, 0, True)
    assert extraction.landed("payment", "payment_id, load_date") == [("P1", DAY)]


def test_the_source_is_attached_read_only(extraction):
    contract = load_contract(extraction.settings.dbt_dir)
    operator = load_operator(extraction.operator_file, contract)

    with Session(extraction.settings, operator) as session:
        session.attach("payment")
        for statement in (
            "create table operator.bil.x (a integer)",
            "insert into operator.bil.payment (payment_id) values ('x')",
            "delete from operator.bil.payment",
            "call postgres_execute('operator', 'delete from bil.payment')",
        ):
            with pytest.raises(duckdb.Error, match="read-only"):
                session.run(statement)


def test_a_login_that_may_not_read_a_table_is_told_so(extraction, monkeypatch):
    with store.connect(extraction.settings, autocommit=True) as connection:
        make_login(connection, "outsider")
    monkeypatch.setenv("KEEPLINE_DEMO_DSN", login(extraction.settings, "outsider"))

    with pytest.raises(UsageError, match="payment"):
        extraction.run()
