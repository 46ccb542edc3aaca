"""Loading one fact from compute into the store against the limit: a raw binary COPY from table to table.

    python -m bench.load                        1 million rows, 3 rounds
    python -m bench.load --rows 10000000

keepline copies as its stage does: a new partition is made, filled from DuckDB and attached, in one
transaction. The limit pipes the same rows with psql from one table of the same server into a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import partial
from typing import Any

from .alone import Clock, Run, run_alone, serve
from .row import Row, contest, environment_of, print_rows, workplace

AIM, AIM_MB = 1.3, 500
MODEL = "fct_usage_daily"
DAY = date(2026, 1, 15)
LEAF = f"{MODEL}__bench"


def limit(given: Mapping[str, Any], clock: Clock) -> int:
    """Pipe the rows from table to table."""
    from .published import limit as pipe

    return pipe(given, clock)


def keepline(_given: Mapping[str, Any], clock: Clock) -> int:
    """Copy the rows into a new partition."""
    from psycopg import sql

    from keepline import store
    from keepline.compute import compute_for
    from keepline.release.copying import Copier
    from keepline.release.published import from_store
    from keepline.settings import Settings

    settings = Settings.load()
    with store.connect(settings, autocommit=True) as connection:
        (table,) = from_store(connection)
        connection.execute("checkpoint")
        with compute_for(settings).connection() as duck, clock:
            copier = Copier(duck, connection)
            copier.attach(store.dsn(settings))
            with copier.transaction():
                copier.make_leaf(table, LEAF)
                copier.forget_catalogue()
                rows = copier.copy(table, LEAF, {DAY: 1})
                bound = sql.SQL("from ({}) to ({})").format(
                    DAY.replace(day=1), DAY.replace(month=2, day=1)
                )
                copier.attach_leaf(table, LEAF, bound)
    return rows


CONTENDERS = {"limit": limit, "keepline": keepline}


def measure(rows: int, rounds: int = 3) -> list[Row]:
    """Load rows of one fact in turns with the limit."""
    from .published import Published

    with workplace("load") as (folder, server):
        published = Published(folder, server, MODEL)
        published.fill(DAY, rows)
        environment = environment_of(published.settings)

        def copy() -> Run:
            _drop(published.server.dsn("store"))
            return run_alone("bench.load", "keepline", {}, environment)

        copy()
        given = published.keep_copy(LEAF, rows)
        pipe = partial(run_alone, "bench.load", "limit", given, environment)
        found = contest({"limit": pipe, "keepline": copy}, rounds)
        width = len(published.table.columns)
    return [
        Row(
            *("load to PostgreSQL", f"{rows:,} rows x {width}", "keepline stage, its copy"),
            *("binary COPY pipe", found.ratio("keepline", "limit"), AIM),
            *(found.peak_mb("keepline"), AIM_MB, found.seconds("keepline")),
        )
    ]


def _drop(dsn: str) -> None:
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"drop table if exists store.{LEAF}".encode())


if __name__ == "__main__" and not serve(CONTENDERS):
    print_rows(__doc__, measure, rows=1_000_000)
