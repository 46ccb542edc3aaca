"""How much slower an operator's database answers its own users while keepline reads from it.

    python -m bench.kindness                            3 million rows, 5 rounds of 20 s each

One PostgreSQL holds pgbench's tables, which stand for the operator's business, and a table of payments.
pgbench runs its usual transactions (three updates, a read and an insert) at a fixed rate, so that the
machine has room; half of the time keepline extracts the payments meanwhile, in turns: with, without,
without, with. Two servers are measured:

- with a core to spare, as a server of the night has: the server, pgbench and keepline have two cores;
  keepline's own process, which stands for another machine's, gives way (nice 19);
- with one core for the server and pgbench, and another one for keepline: the hardest case.

What counts is the latency from the moment that a transaction was due (`--rate` measures that), at the
95th percentile of each turn; the figure is the median over the rounds of with / without.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psycopg

from keepline.embedded import EmbeddedPostgres
from keepline.settings import PROJECT_DIR

from .results import write_section

TARGET_RISE = 0.10
FIRST_DAY, DAYS = date(2026, 1, 1), 30
DATABASE, READER = "operator", "extractor"
OPERATOR = """
name: demo
description: a billing system
connections:
  operator: {type: postgres, dsn_env: KEEPLINE_DEMO_DSN}
tables:
  payment:
    sql: |
      select payment_id, account_id, paid_at, amount as amt, method_code, channel_code
      from operator.bil.payment
      where paid_at >= {from_at} and paid_at < {to_at}
"""
# Runs beside pgbench in a process of its own, as `keepline extract` does.
EXTRACT = """
import os, sys
from datetime import date
from pathlib import Path
os.sched_setaffinity(0, {int(core) for core in sys.argv[4].split(",")})
os.nice(19)
from keepline.extract import extract_window
from keepline.settings import Settings
from keepline.window import Window
Settings.operator_file = property(lambda _: Path(sys.argv[1]))
window = Window(date.fromisoformat(sys.argv[2]), date.fromisoformat(sys.argv[3]))
settings = Settings.load()
while True:
    print(sum(result.rows for result in extract_window(settings, window)), flush=True)
"""


@dataclass(frozen=True)
class Turn:
    """What pgbench saw in one turn.

    Attributes:
        p50_ms: median latency.
        p95_ms: latency that 95 of 100 transactions did not exceed.
        transactions: how many there were.
        extractions: whole extractions that ended meanwhile.
        connections: most connections of keepline that the server saw at once.
    """

    p50_ms: float
    p95_ms: float
    transactions: int
    extractions: int = 0
    connections: int = 0


class Operator:
    """The operator's server with its business and its payments, and a warehouse that reads them."""

    def __init__(
        self, folder: Path, rows: int, rate: int, cores: Sequence[int], reader_cores: Sequence[int]
    ) -> None:
        self._folder = folder
        self._rate = rate
        self._reader_cores = ",".join(map(str, reader_cores))
        # Inherited by the server and by pgbench.
        os.sched_setaffinity(0, cores)
        self._server = EmbeddedPostgres(folder / "server", "bench")
        (folder / "server").mkdir()
        self._server.start()
        for name in (DATABASE, "store"):
            self._server.ensure_database(name)
        self._admin = self._server.dsn(DATABASE)
        self._fill(rows)
        (folder / "demo.yml").write_text(OPERATOR)
        (folder / "extract.py").write_text(EXTRACT)
        home = folder / "home"
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("KEEPLINE_")},
            "KEEPLINE_HOME": str(home),
            "KEEPLINE_STORE_DSN": self._server.dsn("store"),
            "KEEPLINE_DEMO_DSN": self._server.dsn(DATABASE, READER, "bench"),
            "PGPASSWORD": "bench",
        }
        home.mkdir()
        with psycopg.connect(self._server.dsn("store"), autocommit=True) as connection:
            connection.execute((PROJECT_DIR / "keepline/release/sql/ops.sql").read_bytes())

    def remove(self) -> None:
        """Stop the server and throw everything away."""
        self._server.remove()

    def turn(self, seconds: int, *, extracting: bool) -> Turn:
        """Let pgbench run, with or without keepline beside it."""
        prefix = self._folder / "latency"
        for old in self._folder.glob("latency*"):
            old.unlink()
        wanted = self._environment if extracting else None
        with _Extraction(self._folder, wanted, self._admin, self._reader_cores) as extraction:
            self._pgbench(
                *(
                    "--time",
                    str(seconds),
                    "--rate",
                    str(self._rate),
                    "--client",
                    "4",
                    "--jobs",
                    "1",
                ),
                *("--no-vacuum", "--log", "--log-prefix", str(prefix)),
            )
        lines = [line.split() for path in self._folder.glob("latency*") for line in path.open()]
        # The third column is the latency in microseconds, since the moment the transaction was due.
        latencies = sorted(int(line[2]) / 1000 for line in lines if line[2].isdigit())
        cuts = statistics.quantiles(latencies, n=100)
        return Turn(cuts[49], cuts[94], len(latencies), extraction.ended, extraction.connections)

    def _fill(self, rows: int) -> None:
        self._pgbench("--initialize", "--scale", "10", "--quiet")
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(f"create role {READER} login password 'bench'")
            connection.execute("create schema bil")
            connection.execute(
                "create table bil.payment as select 'P' || n as payment_id, 'A' || n % 100000 as account_id,"
                f" timestamptz '{FIRST_DAY} 00:00+08' + n * interval '{DAYS} days' / {rows + 1} as paid_at,"
                " (n % 9000)::numeric(18, 2) / 100 as amount, 'card' as method_code, 'web' as channel_code"
                f" from generate_series(1, {rows}) n"
            )
            connection.execute("create index on bil.payment (paid_at)")
            connection.execute("vacuum analyze bil.payment")
            connection.execute(f"grant usage on schema bil to {READER}")
            connection.execute(f"grant select on bil.payment to {READER}")

    def _pgbench(self, *arguments: str) -> None:
        parts = psycopg.conninfo.conninfo_to_dict(self._admin)
        program = self._server._binaries() / "pgbench"
        where = ["-h", str(parts["host"]), "-p", str(parts["port"]), "-U", str(parts["user"])]
        done = subprocess.run(
            [str(program), *where, *arguments, DATABASE],
            env={**os.environ, "PGPASSWORD": "bench"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr)


class _Extraction:
    """keepline reading the payments again and again, in a process of its own."""

    def __init__(
        self, folder: Path, environment: dict[str, str] | None, admin: str, cores: str
    ) -> None:
        last = FIRST_DAY + timedelta(days=DAYS)
        self._command = [
            *(sys.executable, str(folder / "extract.py")),
            *(str(folder / "demo.yml"), str(FIRST_DAY), str(last), cores),
        ]
        self._environment, self._admin = environment, admin
        self._wanted = environment is not None
        self.ended = self.connections = 0

    def __enter__(self) -> _Extraction:
        self._stop = threading.Event()
        if self._wanted:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=subprocess.PIPE, text=True
            )
            # The first one warms up, as the days before have in an operator's night.
            assert self._process.stdout is not None
            first = self._process.stdout.readline()
            if not first:
                raise RuntimeError("the extraction did not run")
            self._watcher = threading.Thread(target=self._watch)
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._wanted:
            self._watcher.join()
            self._process.terminate()
            out, _ = self._process.communicate()
            self.ended = len(out.split())

    def _watch(self) -> None:
        asked = "select count(*) from pg_stat_activity where usename = %s"
        with psycopg.connect(self._admin, autocommit=True) as connection:
            while not self._stop.wait(0.1):
                found = connection.execute(asked, [READER]).fetchone()
                self.connections = max(self.connections, found[0] if found else 0)


def table(
    server: str, rounds: Sequence[tuple[Turn, Turn]], rows: int, seconds: int, rate: int
) -> str:
    """Return the section of bench/README.md; a round is the turn without and the turn with keepline."""

    def median(part: int, name: str) -> float:
        return statistics.median(getattr(turns[part], name) for turns in rounds)

    rises = sorted(with_.p95_ms / without.p95_ms - 1 for without, with_ in rounds)
    rise = statistics.median(rises)
    verdict = "met" if rise <= TARGET_RISE else "MISSED"
    extractions = sum(with_.extractions for _, with_ in rounds)
    most = max(with_.connections for _, with_ in rounds)
    load = os.getloadavg()[2]
    p50 = median(1, "p50_ms") / median(0, "p50_ms") - 1
    before, beside = (f"{median(part, 'p95_ms'):.2f} ms" for part in (0, 1))
    middles = [f"{median(part, 'p50_ms'):.2f} ms" for part in (0, 1)]
    counts = [f"{median(part, 'transactions'):,.0f}" for part in (0, 1)]
    lines = [
        f"**{server}**: {rows:,} payments of {DAYS} days, extracted whole, again and again, beside {rate}",
        f"transactions/s by 4 clients; {len(rounds)} rounds of {seconds} s without and {seconds} s with",
        f"keepline, which ended {extractions} extractions meanwhile and had at most {most} connection(s);",
        f"load of the machine in the last 15 minutes: {load:.1f}.",
        "",
        "| median over the rounds | without keepline | with keepline | rise |",
        "|---|---|---|---|",
        f"| latency, 95th percentile | {before} | {beside} | {rise:+.0%} |",
        f"| latency, median | {middles[0]} | {middles[1]} | {p50:+.0%} |",
        f"| transactions | {counts[0]} | {counts[1]} | |",
        "",
        f"The aim, a rise of the 95th percentile by at most {TARGET_RISE:.0%}, is {verdict};",
        f"the rounds went from {rises[0]:+.0%} to {rises[-1]:+.0%}.",
    ]
    return "\n".join(lines)


def measure(
    server: str,
    cores: Sequence[int],
    reader_cores: Sequence[int],
    rows: int,
    rounds: int,
    seconds: int,
    rate: int,
) -> str:
    """Measure on a server with these cores and return the section's part."""
    folder = Path(tempfile.mkdtemp(prefix="keepline-kindness-"))
    operator = Operator(folder, rows, rate, cores, reader_cores)
    try:
        operator.turn(5, extracting=False)
        seen = []
        for number in range(rounds):
            # In turns, so that what else the machine does falls on both.
            turns = {}
            for extracting in (False, True) if number % 2 else (True, False):
                turns[extracting] = operator.turn(seconds, extracting=extracting)
                time.sleep(1)
            seen.append((turns[False], turns[True]))
            print(f"round {number + 1}: without {turns[False]}, with {turns[True]}", flush=True)
        return table(server, seen, rows, seconds, rate)
    finally:
        operator.remove()
        shutil.rmtree(folder)


def main() -> None:
    """Measure, print, and write bench/README.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument(
        "--print", dest="only_print", action="store_true", help="leave the file alone"
    )
    given = parser.parse_args()
    first, *_, last = sorted(os.sched_getaffinity(0))
    text = "\n\n".join(
        measure(server, cores, readers, given.rows, given.rounds, given.seconds, given.rate)
        for server, cores, readers in (
            ("A server with a core to spare", (first, last), (first, last)),
            ("A server with one core", (first,), (last,)),
        )
    )
    print(text)
    if not given.only_print:
        write_section("kindness", text)


if __name__ == "__main__":
    main()
