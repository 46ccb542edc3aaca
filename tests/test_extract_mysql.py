"""Extraction from a MariaDB: types, windows, counts, kindness, and a connection that is lost."""

from __future__ import annotations

import threading
import time
from datetime import date, timedelta
from decimal import Decimal

import duckdb
import mariadb
import pytest
from extract_source import DAY, Extraction

from keepline.contract import load_contract
from keepline.errors import SourceUnavailableError, UsageError
from keepline.extract import Verdict, database
from keepline.extract.operator import load_operator
from keepline.extract.query import QueryDelivery
from keepline.extract.session import Session
from keepline.window import Window

pytestmark = pytest.mark.skipif(mariadb.program() is None, reason=mariadb.MISSING)

OPERATOR = """
name: demo
description: a shop
connections:
  shop: {type: mysql, dsn_env: KEEPLINE_DEMO_SHOP}
tables:
"""
PAYMENT = """
  payment:
    sql: |
      select id as payment_id, account as account_id, booked as paid_at, amount as amt, method as method_code
      from shop.shop.payment
      where booked >= {from_at} and booked < {to_at}
"""
INTERACTION = """
  interaction:
    sql: |
      select
          id as interaction_id, line as subscription_id, direction, happened as started_at, ended as ended_at,
          queue_s, csat as csat_score
      from shop.shop.call_log
      where happened >= {from_at} and happened < {to_at}
"""
RECHARGE = """
  recharge:
    sql: |
      select
          id as recharge_id, line as subscription_id, happened as recharged_at, face as face_amt,
          face as paid_amt, undone as reversed_flag
      from shop.shop.recharge
      where happened >= {from_at} and happened < {to_at}
"""
DATA = """
  cdr_data:
    sql: |
      select
          id as usage_id, line as subscription_id, happened as session_start_at, up as bytes_up,
          0 as bytes_down, 'home' as roam_type, happened as received_at
      from shop.shop.data_use
      where happened >= {from_at} and happened < {to_at}
"""


@pytest.fixture(scope="module")
def server():
    server = mariadb.MariaDB()
    server.run("set global sql_mode = ''", "create user reader identified by 'rea''der'")
    yield server
    server.remove()


@pytest.fixture
def shop(server):
    server.run(
        "drop database if exists shop",
        "create database shop character set utf8mb4",
        "grant select on shop.* to reader",
        "create table shop.payment (id varchar(40) primary key, account varchar(40) character set gbk,"
        " booked datetime(6), amount decimal(18, 2), method varchar(40), index (booked))",
    )
    return server


@pytest.fixture
def extraction(shop, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("KEEPLINE_DEMO_SHOP", shop.dsn())
    extraction = Extraction(settings, tmp_path, monkeypatch)
    use(extraction, PAYMENT)
    return extraction


def use(extraction, *tables):
    extraction.operator_file.write_text(OPERATOR + "".join(tables))


def pay(shop, *rows):
    for key, booked, amount in rows:
        shop.run(f"insert into shop.payment values ('{key}', 'A1', '{booked}', {amount}, 'card')")


def many(shop, count, day=DAY):
    shop.run(
        "insert into shop.payment with recursive n as (select 1 as i union all select i + 1 from n"
        f" where i < {min(count, 900)}) select concat('{day} ', i), 'A1', '{day} 12:00:00', 1.25, 'card'"
        " from n"
    )


def balance(result):
    (row,) = result.reconciliations
    return row.physical_rows, row.loaded_rows, sum(row.quarantined_rows.values()), row.balanced


def test_a_window_takes_the_local_days_and_the_database_counts_and_sums(extraction, shop):
    asked = extraction.note_counts()
    pay(
        shop,
        ("before", "2026-06-29 23:59:59.999999", 1),
        ("first", "2026-06-30 00:00:00", 2),
        ("last", "2026-06-30 23:59:59.999999", 3.25),
        ("after", "2026-07-01 00:00:00", 4),
    )

    result = extraction.run()["payment"]

    assert extraction.landed("payment", "payment_id, paid_at::text, amt, load_date") == [
        ("first", "2026-06-29 16:00:00", Decimal("2.00"), DAY),
        ("last", "2026-06-30 15:59:59.999999", Decimal("3.25"), DAY),
    ]
    assert "mysql_query" in asked[0]
    assert balance(result) == (2, 2, 0, True)
    assert extraction.manifest(table="payment")["sums"] == {"amt": 525} or extraction.manifest(
        table="payment"
    )["sums"] == {"fen": 525}


def test_a_wide_window_is_cut_into_load_dates_as_day_by_day(extraction, shop):
    pay(shop, *[(f"P{n}", f"2026-06-{n:02d} 12:00:00", n) for n in range(1, 11) if n != 5])

    result = extraction.run(Window(date(2026, 6, 1), date(2026, 6, 11)))["payment"]
    wide = extraction.files()
    for day in range(1, 11):
        extraction.run(date(2026, 6, day))

    assert extraction.files() == wide
    assert [b.physical_rows for b in result.reconciliations] == [int(n != 5) for n in range(1, 11)]


def test_a_timestamp_is_an_instant_and_a_datetime_the_operators_clock(extraction, shop):
    shop.run(
        "set time_zone = '+00:00'",
        "create table shop.recharge (id varchar(9), line varchar(9), happened timestamp(6),"
        " face decimal(18, 2), undone tinyint(1), index (happened))",
        # Noon in Shanghai.
        "insert into shop.recharge values ('R1', 'S1', from_unixtime(1782792000), 10, 0)",
    )
    use(extraction, RECHARGE)

    result = extraction.run()["recharge"]

    assert extraction.landed("recharge", "recharged_at::text, reversed_flag") == [
        ("2026-06-30 04:00:00", False)
    ]
    assert balance(result) == (1, 1, 0, True)


def test_names_of_any_character_set_arrive_as_they_are(extraction, shop):
    shop.run(
        "insert into shop.payment values ('1', '广州', '2026-06-30 12:00:00', 1, '𠮷野家 😀 O''Brien')"
    )

    extraction.run()

    assert extraction.landed("payment", "account_id, method_code") == [
        ("广州", "𠮷野家 😀 O'Brien")
    ]


@pytest.mark.case(31)
def test_a_nul_byte_is_refused_here_too(extraction, shop):
    many(shop, 400)
    shop.run("insert into shop.payment values ('1', 'A1', '2026-06-30 12:00:00', 1, 'ca\\0rd')")

    result = extraction.run()["payment"]

    assert extraction.quarantined("reason_code, column_name", "payment") == [
        ("NUL_BYTE", "method_code")
    ]
    assert balance(result) == (401, 400, 1, True)


def test_a_small_integer_is_no_boolean_unless_it_is_0_or_1(extraction, shop):
    shop.run(
        "create table shop.recharge (id varchar(9), line varchar(9), happened datetime, face decimal(18, 2),"
        " undone tinyint(1))",
        "insert into shop.recharge select account, id, booked, amount, 1 from shop.payment",
    )
    for number in range(200):
        shop.run(
            f"insert into shop.recharge values ('R{number}', 'S1', '2026-06-30', 1, {number % 2})"
        )
    shop.run("insert into shop.recharge values ('odd', 'S1', '2026-06-30', 1, 5)")
    use(extraction, RECHARGE)

    result = extraction.run()["recharge"]

    assert extraction.landed("recharge", "count(*), count_if(reversed_flag)") == [(200, 100)]
    assert [code for (code,) in extraction.quarantined("reason_code", "recharge")] == [
        "BAD_BOOLEAN"
    ]
    assert balance(result) == (201, 200, 1, True)


@pytest.mark.case(46)
def test_an_unsigned_number_that_does_not_fit_is_set_aside(extraction, shop):
    shop.run(
        "create table shop.data_use (id varchar(9), line varchar(9), happened datetime, up bigint unsigned)"
    )
    for number in range(200):
        shop.run(f"insert into shop.data_use values ({number}, 'S1', '2026-06-30', 9223372036854)")
    shop.run(
        "insert into shop.data_use values ('most', 'S1', '2026-06-30', 9223372036854775807)",
        "insert into shop.data_use values ('more', 'S1', '2026-06-30', 9223372036854775808)",
    )
    use(extraction, DATA)

    result = extraction.run()["cdr_data"]

    assert extraction.quarantined("reason_code, column_name", "cdr_data") == [
        ("OVERFLOW", "bytes_up")
    ]
    assert extraction.landed("cdr_data", "max(bytes_up)") == [(2**63 - 1,)]
    assert balance(result) == (202, 201, 1, True)


def calls_with_dates(shop, *ended):
    shop.run(
        "create table shop.call_log (id int auto_increment primary key, line varchar(9),"
        " direction varchar(9), happened datetime not null, ended datetime, queue_s int, csat tinyint(1))"
    )
    for at, text in ended:
        shop.run(
            "insert into shop.call_log (line, direction, happened, ended, csat)"
            f" values ('S1', 'in', '{at}', '{text}', 5)"
        )


def test_a_zero_date_is_no_value(extraction, shop):
    calls_with_dates(shop, ("2026-06-30 10:00:00", "0000-00-00 00:00:00"))
    use(extraction, INTERACTION)

    result = extraction.run()["interaction"]

    assert extraction.landed("interaction", "ended_at, csat_score") == [(None, 5)]
    assert balance(result) == (1, 1, 0, True)


@pytest.mark.case(48)
def test_a_date_without_a_day_holds_the_table(extraction, shop):
    calls_with_dates(shop, ("2026-06-30 10:00:00", "2026-06-00 10:00:00"))
    use(extraction, INTERACTION)

    assert extraction.held() == ["UNBALANCED"]
    assert extraction.landed("interaction") == []


@pytest.mark.case(44)
@pytest.mark.parametrize(
    ("amount", "code"),
    [("10.505", "SCALE_LOST"), ("-9999999999999999999", "OVERFLOW"), ("12345678901234.56", None)],
)
def test_amounts_of_another_scale(extraction, shop, amount, code):
    shop.run("alter table shop.payment modify amount decimal(38, 6)")
    many(shop, 400)
    pay(shop, ("odd", "2026-06-30 12:00:00", amount))

    result = extraction.run()["payment"]

    found = [row[0] for row in extraction.quarantined("reason_code", "payment")]
    assert found == ([code] if code else [])
    assert balance(result) == (401, 401 - len(found), len(found), True)
    if code is None:
        assert extraction.landed("payment", "max(amt)") == [(Decimal(amount),)]


def test_an_amount_that_changes_on_the_way_is_noticed(extraction, shop):
    # DuckDB reads more than 38 digits as a floating-point number.
    shop.run("alter table shop.payment modify amount decimal(60, 2)")
    pay(shop, ("P1", "2026-06-30 12:00:00", "1234567890123456.78"))

    assert extraction.held() == ["SUM_MISMATCH"]


def test_a_count_at_the_database_that_differs_holds_the_day(extraction, shop, monkeypatch):
    many(shop, 20)
    counted = QueryDelivery._count

    def lose_one(self, counting, summed):
        self._session.run(f"delete from taken where payment_id = '{DAY} 7'")
        counted(self, counting, summed)

    monkeypatch.setattr(QueryDelivery, "_count", lose_one)

    assert extraction.held() == ["UNBALANCED", "SUM_MISMATCH"]
    assert extraction.landed("payment") == []


@pytest.mark.parametrize("busy_share", [None, 0.5])
def test_rows_that_come_between_reading_and_counting_are_read_again(
    extraction, shop, monkeypatch, busy_share
):
    if busy_share:
        at_once = extraction.operator_file.read_text()
        extraction.operator_file.write_text(
            at_once.replace("_SHOP}", f"_SHOP, busy_share: {busy_share}}}")
        )
    many(shop, 20)
    counted = QueryDelivery._count
    late = [("late", "2026-06-30 13:00:00", 1)]

    def meanwhile(self, counting, summed):
        pay(shop, *[late.pop() for _ in list(late)])
        counted(self, counting, summed)

    monkeypatch.setattr(QueryDelivery, "_count", meanwhile)

    assert balance(extraction.run()["payment"]) == (21, 21, 0, True)


def test_a_select_that_only_duckdb_understands_is_counted_too(extraction, shop):
    use(
        extraction,
        PAYMENT.replace("select id", "from (select id").replace("{to_at}", "{to_at})"),
    )
    many(shop, 3)

    assert balance(extraction.run()["payment"]) == (3, 3, 0, True)


@pytest.mark.parametrize(
    ("dsn", "error", "message"),
    [
        ({"user": "nobody_here"}, SourceUnavailableError, "cannot be reached: Access denied"),
        ({"database": "nix"}, SourceUnavailableError, r"\(database nix\).*cannot be reached"),
        ({"password": 'x" hunter2="y'}, UsageError, "is not a MySQL connection string"),
    ],
    ids=["login", "database", "string"],
)
def test_what_is_wrong_with_a_connection_is_said_without_the_password(
    extraction, shop, monkeypatch, dsn, error, message
):
    monkeypatch.setenv("KEEPLINE_DEMO_SHOP", shop.dsn(**({"password": "hunter2"} | dsn)))

    with pytest.raises(error, match=message) as raised:
        extraction.run()

    assert "hunter2" not in str(raised.value)
    assert "KEEPLINE_DEMO_SHOP" in str(raised.value)


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        ("grant insert on shop.payment to writer", "has INSERT on `shop`.`payment`"),
        ("grant all on shop.* to writer", "has ALL PRIVILEGES on `shop`"),
        ("grant update (amount) on shop.payment to writer", "has UPDATE on `shop`.`payment`"),
    ],
)
def test_a_login_that_may_write_is_refused_with_the_grant_to_type(
    extraction, shop, monkeypatch, grant, words
):
    shop.run(
        "create or replace user writer identified by 'w'", "grant select on shop.* to writer", grant
    )
    monkeypatch.setenv("KEEPLINE_DEMO_SHOP", shop.dsn("writer", "w"))

    with pytest.raises(UsageError, match="GRANT SELECT ON") as raised:
        extraction.run()

    assert words in str(raised.value)


def test_the_source_is_attached_read_only(extraction):
    operator = load_operator(extraction.operator_file, load_contract(extraction.settings.dbt_dir))

    with Session(extraction.settings, operator) as session:
        session.attach("payment")
        for statement in (
            "insert into shop.shop.payment (id) values ('x')",
            "delete from shop.shop.payment",
            "call mysql_execute('shop', 'delete from shop.payment')",
        ):
            with pytest.raises(duckdb.Error, match="read-only"):
                session.run(statement)


def test_the_window_is_sent_to_the_server_so_that_an_index_serves(extraction, shop):
    for day in range(28):
        many(shop, 900, DAY - timedelta(days=day))
    shop.run("analyze table shop.payment", "set global slow_query_log = 0")
    shop.run("set global log_output = 'TABLE'", "truncate table mysql.general_log")
    shop.run("set global general_log = 1")

    extraction.run()

    shop.run("set global general_log = 0")
    sent = [
        str(row[0])
        for row in shop.rows(
            "select cast(argument as char) from mysql.general_log where command_type in ('Query', 'Execute')"
            " and user_host like 'reader%' and argument like '%payment%booked%'"
            " and argument not like '%information_schema%'"
        )
    ]
    assert len(sent) == 2, sent
    for statement in sent:
        plan = shop.rows(f"explain {statement}")
        assert "range" in {row[3] for row in plan}, (statement, plan)


def watch(shop, seen, stop):
    while not stop.is_set():
        (count,) = shop.rows(
            "select count(*) from information_schema.processlist where user = 'reader'"
        )[0]
        seen.append(count)
        time.sleep(0.002)


def test_the_server_sees_two_connections_at_most(extraction, shop):
    for day in range(28):
        many(shop, 900, DAY - timedelta(days=day))
    seen, stop = [], threading.Event()
    watcher = threading.Thread(target=watch, args=(shop, seen, stop))
    watcher.start()

    extraction.run(Window(DAY - timedelta(days=27), DAY + timedelta(days=1)))

    stop.set()
    watcher.join()
    assert 1 <= max(seen) <= database.CONNECTIONS


@pytest.mark.case(88)
def test_a_connection_cut_while_it_reads_is_worth_another_try(extraction, shop):
    many(shop, 300)
    extraction.run()
    before = extraction.files()
    many(shop, 300, DAY - timedelta(days=1))
    shop.run("update shop.payment set amount = 2, booked = '2026-06-30 13:00:00'")
    shop.run("create view shop.slow as select *, sleep(0.02) as waited from shop.payment")
    use(
        extraction,
        PAYMENT.replace("amount as amt", "amount + waited as amt").replace(
            "shop.payment", "shop.slow"
        ),
    )
    threading.Thread(target=kill_readers, args=[shop, "slow"]).start()

    with pytest.raises(SourceUnavailableError, match=r"payment: lost the connection to 127"):
        extraction.run()

    assert extraction.files() == before
    use(extraction, PAYMENT)
    result = extraction.run()["payment"]
    assert result.verdict is Verdict.LOAD
    assert balance(result) == (600, 600, 0, True)
    assert extraction.landed("payment", "count(*), count(distinct payment_id)") == [(600, 600)]


def kill_readers(shop, while_they_read=""):
    """Kill what the reader has, as soon as it reads a view if one is named."""
    own = "select id from information_schema.processlist where user = 'reader'"
    for _ in range(600 if while_they_read else 0):
        if shop.rows(
            f"{own} and time_ms > 300 and info like '%{while_they_read}%' and info like '%waited%'"
        ):
            break
        time.sleep(0.05)
    for (number,) in shop.rows(own):
        shop.run(f"kill {number}")


@pytest.mark.case(88)
def test_a_source_that_is_too_slow_is_left_in_time(extraction, shop, monkeypatch):
    monkeypatch.setattr(database, "TIMEOUT_S", 1)
    many(shop, 900)
    shop.run("create view shop.slow as select *, sleep(0.02) as waited from shop.payment")
    use(
        extraction,
        PAYMENT.replace("amount as amt", "amount + waited as amt").replace(
            "shop.payment", "shop.slow"
        ),
    )
    started = time.monotonic()

    with pytest.raises(SourceUnavailableError, match="needs more than 1 s"):
        extraction.run()

    assert time.monotonic() - started < 5
    assert extraction.landed("payment") == []
    running = "select count(*) from information_schema.processlist where user = 'reader'"
    assert shop.rows(f"{running} and info like '%slow%'") == [(0,)]


def test_a_window_that_takes_too_long_is_taken_in_halves(extraction, shop, monkeypatch):
    monkeypatch.setattr(database, "TIMEOUT_S", 1)
    days = [DAY - timedelta(days=n) for n in range(4)]
    for day in days:
        many(shop, 30, day)
    shop.run("create view shop.slow as select *, sleep(0.006) as waited from shop.payment")
    use(
        extraction,
        PAYMENT.replace("amount as amt", "amount + waited as amt").replace(
            "shop.payment", "shop.slow"
        ),
    )

    result = extraction.run(Window(days[-1], DAY + timedelta(days=1)))["payment"]

    assert [row.loaded_rows for row in result.reconciliations] == [30, 30, 30, 30]
