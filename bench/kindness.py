"""How much slower an operator's database answers its own users while keepline reads from it.

    python -m bench.kindness                            100,000 rows, 15 rounds of 3 turns of 4 s

One PostgreSQL holds pgbench's tables, which stand for the operator's business, and a table of payments.
pgbench runs its usual transactions (three updates, a read and an insert) at a fixed rate, so that the
machine has room. A round is three turns in changing order: without keepline, with keepline reading the
payments at once, and with keepline reading them with `busy_share`, in pieces with rests. Two servers:

- with a core to spare, as a server of the night has: the server, pgbench and keepline have two cores;
  keepline's own process, which stands for another machine's, gives way (nice 19);
- with one core for the server and pgbench, and another one for keepline: the hardest case.

What counts is the latency from the moment that a transaction was due (`--rate` measures that), at the
95th percentile of each turn; the figure is the median over the rounds of with / without. Turns are short
and take turns, because a shared machine is slower in some minutes than in others. Both extractions go on
from turn to turn, and stand still (SIGSTOP) while it is not theirs; their first one is over by then.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psycopg

from keepline.embedded import EmbeddedPostgres
from keepline.settings import PROJECT_DIR

from .results import write_section

TARGET_RISE = 0.10
# What docs/contract.md recommends for a server that has users of its own.
BUSY_SHARE = 0.02
WITHOUT, AT_ONCE, PACED = "without keepline", "read at once", f"read with busy_share {BUSY_SHARE}"
FIRST_DAY, DAYS = date(2026, 1, 1), 30
DATABASE, READER = "operator", "extractor"
OPERATOR = """
name: demo
description: a billing system
connections:
  operator: {type: postgres, dsn_env: KEEPLINE_DEMO_DSN%s}
tables:
  payment:
    sql: |
      select payment_id, account_id, paid_at, amount as amt, method_code, channel_code
      from operator.bil.payment
      where paid_at >= {from_at} and paid_at < {to_at}
"""
# Runs beside pgbench in a process of its own, as `keepline extract` does.
EXTRACT = """
import os, sys, time
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
    started = time.perf_counter()
    extract_window(settings, window)
    print(time.perf_counter() - started, flush=True)
"""


@dataclass(frozen=True)
class Turn:
    """What pgbench saw in one turn.

    Attributes:
        p50_ms: median latency.
        p95_ms: latency that 95 of 100 transactions did not exceed.
        transactions: how many there were.
    """

    p50_ms: float
    p95_ms: float
    transactions: int


class Operator:
    """The operator's server with its business and its payments, and a warehouse that reads them."""

    def __init__(
        self, folder: Path, rows: int, rate: int, cores: Sequence[int], reader_cores: Sequence[int]
    ) -> None:
        self._folder = folder
        self._rate = rate
        # Inherited by the server and by pgbench.
        os.sched_setaffinity(0, cores)
        self._server = EmbeddedPostgres(folder / "server", "bench")
        (folder / "server").mkdir()
        self._server.start()
        for name in (DATABASE, "store"):
            self._server.ensure_database(name)
        self._admin = self._server.dsn(DATABASE)
        self._fill(rows)
        for name, word in ((AT_ONCE, ""), (PACED, f", busy_share: {BUSY_SHARE}")):
            (folder / name).mkdir()
            (folder / name / "demo.yml").write_text(OPERATOR % word)
        (folder / "extract.py").write_text(EXTRACT)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("KEEPLINE_")},
            "KEEPLINE_STORE_DSN": self._server.dsn("store"),
            "KEEPLINE_DEMO_DSN": self._server.dsn(DATABASE, READER, "bench"),
            "PGPASSWORD": "bench",
        }
        with psycopg.connect(self._server.dsn("store"), autocommit=True) as connection:
            connection.execute((PROJECT_DIR / "keepline/release/sql/ops.sql").read_bytes())
        readers = ",".join(map(str, reader_cores))
        self._extractions = {
            how: Extraction(folder / how, environment, readers) for how in (AT_ONCE, PACED)
        }

    def remove(self) -> None:
        """Stop the server and throw everything away."""
        for extraction in self._extractions.values():
            extraction.end()
        self._server.remove()

    def turn(self, seconds: int, how: str) -> Turn:
        """Let pgbench run without keepline, or with it reading as `how` says."""
        prefix = self._folder / "latency"
        for old in self._folder.glob("latency*"):
            old.unlink()
        extraction = self._extractions.get(how)
        with extraction.going() if extraction else contextlib.nullcontext():
            rate = ("--rate", str(self._rate), "--client", "4", "--jobs", "1")
            log = ("--no-vacuum", "--log", "--log-prefix", str(prefix))
            self._pgbench("--time", str(seconds), *rate, *log)
        lines = [line.split() for path in self._folder.glob("latency*") for line in path.open()]
        # The third column is the latency in microseconds, since the moment the transaction was due.
        latencies = sorted(int(line[2]) / 1000 for line in lines if line[2].isdigit())
        cuts = statistics.quantiles(latencies, n=100)
        return Turn(cuts[49], cuts[94], len(latencies))

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


class Extraction:
    """keepline reading the payments again and again, in a process of its own, when it is told to."""

    def __init__(self, folder: Path, environment: dict[str, str], cores: str) -> None:
        last = FIRST_DAY + timedelta(days=DAYS)
        self._process = subprocess.Popen(
            [
                *(sys.executable, str(folder.parent / "extract.py")),
                *(str(folder / "demo.yml"), str(FIRST_DAY), str(last), cores),
            ],
            env={**environment, "KEEPLINE_HOME": str(folder)},
            stdout=subprocess.PIPE,
            text=True,
        )
        # The first one warms up, as the days before have in an operator's night.
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("the extraction did not run")
        self._process.send_signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def going(self) -> Iterator[None]:
        """Let it read for the length of a `with` block."""
        self._process.send_signal(signal.SIGCONT)
        yield
        if self._process.poll() is not None:
            raise RuntimeError("the extraction ended")
        self._process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def table(
    server: str, rounds: Sequence[dict[str, Turn]], rows: int, seconds: int, rate: int
) -> str:
    """Return the section of bench/README.md; a round has a turn of each kind."""

    def median(how: str, name: str) -> float:
        return statistics.median(getattr(turns[how], name) for turns in rounds)

    def rises(how: str) -> list[float]:
        return sorted(turns[how].p95_ms / turns[WITHOUT].p95_ms - 1 for turns in rounds)

    paced = rises(PACED)
    verdict = "met" if statistics.median(paced) <= TARGET_RISE else "MISSED"
    quarters = statistics.quantiles(paced, n=4)
    load = os.getloadavg()[2]
    lines = [
        f"**{server}**: {rows:,} payments of {DAYS} days, extracted again and again beside {rate}",
        f"transactions/s by 4 clients; {len(rounds)} rounds of 3 turns of {seconds} s; load of the",
        f"machine in the last 15 minutes: {load:.1f}.",
        "",
        "| median over the rounds | 95th percentile | rise | median | rise | transactions |",
        "|---|---|---|---|---|---|",
    ]
    for how in (WITHOUT, AT_ONCE, PACED):
        p95_rise = f"{statistics.median(rises(how)):+.0%}" if how != WITHOUT else ""
        p50_rise = median(how, "p50_ms") / median(WITHOUT, "p50_ms") - 1
        lines.append(
            f"| {how} | {median(how, 'p95_ms'):.2f} ms | {p95_rise} | {median(how, 'p50_ms'):.2f} ms"
            f" | {f'{p50_rise:+.0%}' if how != WITHOUT else ''}"
            f" | {median(how, 'transactions'):,.0f} |"
        )
    lines += [
        "",
        f"The aim, a rise of the 95th percentile by at most {TARGET_RISE:.0%}, is {verdict} with",
        f"`busy_share`; half of its rounds were between {quarters[0]:+.0%} and {quarters[2]:+.0%}.",
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
        operator.turn(5, WITHOUT)
        seen = []
        for number in range(rounds):
            # In turns, so that what else the machine does falls on all.
            order = [WITHOUT, AT_ONCE, PACED]
            turns = {}
            for how in order[number % 3 :] + order[: number % 3]:
                turns[how] = operator.turn(seconds, how)
            seen.append(turns)
            print(f"{server}, round {number + 1}:", *turns.items(), sep="\n  ", flush=True)
        return table(server, seen, rows, seconds, rate)
    finally:
        operator.remove()
        shutil.rmtree(folder)


def main() -> None:
    """Measure, print, and write bench/README.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=4)
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
