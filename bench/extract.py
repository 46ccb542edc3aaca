"""Extraction of one PostgreSQL table against the limit: the server's own binary COPY, thrown away.

    python -m bench.extract                     1 million rows, 3 rounds
    python -m bench.extract --rows 10000000

keepline runs `keepline extract` of the table: the login that may only read, one snapshot with the
source's own count and sums, casts and rules of the contract, duplicates, partitions by day with checksums
and manifests, and the balance in the store. The rivals read the table and write Parquet, without any of
it. The table is that of bill lines: 12 columns of text, integer, boolean, decimal, date and timestamp.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo

from keepline.embedded import EmbeddedPostgres
from keepline.settings import PROJECT_DIR

from .alone import RIVALS_PYTHON, Clock, run_alone, serve
from .row import PASSWORD, Row, contest, environment_of, settings_for, workplace

AIM, AIM_MB = 1.4, 500
FIRST_DAY, DAYS = date(2026, 1, 1), 10
DATABASE, READER, TABLE = "operator", "extractor", "bil.bill_line"
RIVALS = ("connectorx", "dlt", "pandas")
# pandas takes 1.5 kB per row: beyond this it does not fit beside a server on a machine with 16 GB.
MOST_ROWS_IN_MEMORY = 3_000_000
OPERATOR = """
name: demo
description: a billing system
connections:
  operator: {type: postgres, dsn_env: KEEPLINE_DEMO_DSN}
tables:
  bill_line:
    sql: |
      select
          bill_id, line_no, subscription_id, offering_id, charge_class, usage_type, third_party_flag,
          partner_id, tax_excl as tax_excl_amt, tax as tax_amt, billed_date, updated_at
      from operator.bil.bill_line
      where updated_at >= {from_at} and updated_at < {to_at}
"""
FILL = """
create table bil.bill_line as
select
    'B' || lpad((n / 4)::text, 10, '0') as bill_id,
    (n % 4 + 1)::integer as line_no,
    'S' || lpad((n / 8)::text, 8, '0') as subscription_id,
    'OFR' || n % 120 as offering_id,
    (array['recurring', 'usage', 'one_off', 'discount'])[n % 4 + 1] as charge_class,
    (array['voice', 'sms', 'data'])[n % 3 + 1] as usage_type,
    n % 17 = 0 as third_party_flag,
    case when n % 17 = 0 then 'P' || n % 40 end as partner_id,
    (n * 7919 % 9000)::numeric(18, 2) / 100 as tax_excl,
    (n * 7919 % 900)::numeric(18, 2) / 100 as tax,
    (date '{first}' + (n * {days} / {rows})::integer) as billed_date,
    timestamptz '{first} 00:00+08' + n * interval '{days} days' / {rows} as updated_at
from generate_series(0::bigint, {rows} - 1) as n
"""


def limit(given: Mapping[str, Any], clock: Clock) -> int:
    """Let the server write the table as binary COPY, and throw it away."""
    with clock, Path("/dev/null").open("w") as nowhere:
        done = subprocess.run(
            [given["psql"], "-c", f"copy {given['table']} to stdout (format binary)", given["dsn"]],
            stdout=nowhere,
            check=True,
        )
    assert done.returncode == 0
    return int(given["rows"])


def keepline(given: Mapping[str, Any], clock: Clock) -> int:
    """Extract the table as the command does."""
    from keepline.commands import pipeline
    from keepline.settings import Settings
    from keepline.window import Window

    Settings.operator_file = property(lambda _: Path(given["operator_file"]))  # type: ignore[method-assign,assignment]
    window = Window(FIRST_DAY, FIRST_DAY + timedelta(days=DAYS))
    settings = Settings.load()
    import pyarrow.parquet  # noqa: F401 - as the command's own imports, before the clock

    import keepline.extract  # noqa: F401

    with clock:
        return pipeline.extract(settings, window, ["bill_line"])


CONTENDERS = {"limit": limit, "keepline": keepline}


def measure(rows: int, rounds: int = 3) -> list[Row]:
    """Extract a table of bill lines in turns with the limit and the rivals.

    Args:
        rows: rows of the table, over ten days.
        rounds: how often keepline and the limit run; rivals run once.
    """
    with workplace("extract") as (folder, server):
        server.ensure_database(DATABASE)
        _fill(server, rows)
        settings = settings_for(folder, server)
        with psycopg.connect(server.dsn("store"), autocommit=True) as connection:
            connection.execute((PROJECT_DIR / "keepline/release/sql/ops.sql").read_bytes())
        (folder / "demo.yml").write_text(OPERATOR)
        own = {"KEEPLINE_DEMO_DSN": server.dsn(DATABASE, READER, PASSWORD)}
        environment = environment_of(settings) | own
        dsn = server.dsn(DATABASE)
        given = {
            "psql": str(server._binaries() / "psql"),
            "dsn": dsn,
            "url": _url(dsn),
            "table": TABLE,
            "rows": rows,
            "operator_file": str(folder / "demo.yml"),
            "folder": str(folder),
        }
        runs = {
            name: partial(run_alone, "bench.extract", name, given, environment)
            for name in CONTENDERS
        }
        fitting = [name for name in RIVALS if name != "pandas" or rows <= MOST_ROWS_IN_MEMORY]
        for name in fitting:
            runs[name] = partial(run_alone, "bench.rivals", name, given, environment, RIVALS_PYTHON)
        found = contest(runs, rounds, once=RIVALS)
    size = f"{rows:,} rows x 12"
    against = "binary COPY to /dev/null"
    table = [
        Row(
            *("extract", size, "keepline extract", against, found.ratio("keepline", "limit"), AIM),
            *(found.peak_mb("keepline"), AIM_MB, found.seconds("keepline")),
        )
    ]
    for name in RIVALS:
        note, ratio, peak, seconds = found.failures.get(name, ""), None, None, None
        if name not in fitting:
            note = "not run: it holds the whole table in memory, 1.5 kB per row"
        elif not note:
            ratio, peak = found.ratio(name, "limit"), found.peak_mb(name)
            seconds = found.seconds(name)
        table.append(
            Row(
                "extract",
                size,
                f"{name} to Parquet",
                against,
                ratio,
                None,
                peak,
                None,
                seconds,
                note,
            )
        )
    return table


def _fill(server: EmbeddedPostgres, rows: int) -> None:
    with psycopg.connect(server.dsn(DATABASE), autocommit=True) as connection:
        connection.execute(f"create role {READER} login password '{PASSWORD}'")
        connection.execute("create schema bil")
        connection.execute(FILL.format(first=FIRST_DAY, days=DAYS, rows=rows).encode())
        connection.execute("create index on bil.bill_line (updated_at)")
        connection.execute("vacuum analyze bil.bill_line")
        connection.execute(f"grant usage on schema bil to {READER}")
        connection.execute(f"grant select on bil.bill_line to {READER}")


def _url(dsn: str) -> str:
    parts = conninfo.conninfo_to_dict(dsn)
    where = f"{parts['host']}:{parts['port']}/{parts['dbname']}"
    return f"postgresql://{parts['user']}:{parts['password']}@{where}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    from .row import print_rows

    print_rows(__doc__, measure, arguments, rows=1_000_000)


if __name__ == "__main__" and not serve(CONTENDERS):
    main()
