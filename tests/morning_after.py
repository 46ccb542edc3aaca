"""A small operator whose warehouse stands: a history, two scored days, one release. It can be set back.

What is wrong with it is planned: one drop of calls came short, and three calls bear an ending that
the contract does not know. Tests mend that, each in its way, and compare what comes of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from conftest import SECRETS
from psycopg import sql

from keepline import store
from keepline.commands import demo, modelling, pipeline
from keepline.embedded import EmbeddedPostgres
from keepline.settings import Settings
from keepline.simulator import simulate
from keepline.window import Window

ONE = timedelta(days=1)
START = date(2026, 5, 24)
# The last day of the history, and the two days that were scored and published; one more has been.
SECOND, LAST = date(2026, 6, 27), date(2026, 6, 28)
COMING = LAST + ONE
SHORT_DAY = date(2026, 6, 18)
STRANGE_DAY = date(2026, 6, 12)
STRANGE = "diverted"
LAYERS = ("raw", "core", "marts", "ml", "seeds")


class Morning:
    """The operator, its warehouse, and what they were; `open` makes the environment fit."""

    def __init__(self, folder: Path, server: EmbeddedPostgres) -> None:
        self._folder = folder
        self._server = server
        self._number = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        self.drops = folder / "drops"
        self.database = f"warehouse_{self._number}"
        self._operator = f"operator_{self._number}"
        server.ensure_database(self.database)
        self.settings = Settings(
            home=folder / "home", store_dsn=server.dsn(self.database), **SECRETS
        )
        self.environment = {
            "KEEPLINE_DEMO_DSN": server.dsn(self._operator, "extractor", "test-extractor"),
            "KEEPLINE_DEMO_DROPS": str(self.drops),
        }

    def simulate(self) -> None:
        """Let the operator live through its days and write what a calendar needs to know."""
        self._server.ensure_database(self._operator)
        simulate(
            self._server.dsn(self._operator),
            self.drops,
            self._folder / "truth",
            subscribers=60,
            days=(SECOND - START).days,
            seed=5,
            start=START,
            mornings=4,
            extractor_password=SECRETS["extractor_password"],
        )
        self.settings.operator_home.mkdir(parents=True)
        demo.remember(self.settings, START, SECOND, COMING)
        shutil.copytree(self.drops, self._folder / "whole")
        lines = self.calls(SHORT_DAY)
        self.deliver(SHORT_DAY, lines[: len(lines) // 2])
        self.deliver(STRANGE_DAY, strange(self.calls(STRANGE_DAY)))

    def build(self) -> None:
        """Bring the warehouse to the end of `LAST` and publish it."""
        settings = self.settings
        whole, scored = Window(START, COMING), Window(SECOND, COMING)
        pipeline.migrate(settings)
        pipeline.extract(settings, whole)
        pipeline.load(settings, whole)
        pipeline.build(settings, "core", whole)
        pipeline.build(settings, "features", scored)
        for day in scored.days():
            modelling.score(settings, day)
        pipeline.build(settings, "marts", whole)
        self.publish(whole)

    def publish(self, window: Window) -> None:
        """Stage, audit and publish."""
        pipeline.stage_release(self.settings, window)
        pipeline.audit(self.settings, window)
        pipeline.publish(self.settings, window)

    # -- the operator's drops ------------------------------------------------------------------------

    def calls(self, day: date) -> list[str]:
        """Return the lines of a drop of calls, its header first."""
        with gzip.open(self.drops / str(day) / "cdr_voice.csv.gz", "rt") as file:
            return file.read().splitlines()

    def deliver(self, day: date, lines: list[str]) -> None:
        """Write a drop of calls anew, with its manifest."""
        folder = self.drops / str(day)
        content = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
        (folder / "cdr_voice.csv.gz").write_bytes(content)
        manifest = json.loads((folder / "manifest.json").read_text())
        for entry in manifest["files"]:
            if entry["name"] == "cdr_voice.csv.gz":
                digest = hashlib.sha256(content).hexdigest()
                entry |= {
                    "rows": len(lines) - 1,
                    "bytes": len(content),
                    "sha256": digest,
                    "sums": {},
                }
        (folder / "manifest.json").write_text(json.dumps(manifest))

    def deliver_whole(self, day: date) -> None:
        """Deliver a day's drop again, as it should have been."""
        shutil.rmtree(self.drops / str(day))
        shutil.copytree(self._folder / "whole" / str(day), self.drops / str(day))

    def command_environment(self) -> dict[str, str]:
        """Return what a keepline command of this operator must find in its environment."""
        settings = self.settings
        names = ("store_dsn", *SECRETS)
        secrets = {f"KEEPLINE_{n.upper()}": getattr(settings, n).get_secret_value() for n in names}
        return self.environment | secrets | {"KEEPLINE_HOME": str(settings.home), "COLUMNS": "100"}

    # -- back to an earlier state --------------------------------------------------------------------

    def save(self, name: str) -> None:
        """Keep the warehouse and the drops as they are now."""
        for own in ("home", "drops"):
            shutil.copytree(self._folder / own, self._folder / name / own, symlinks=True)
        self._copy_database(self.database, f"{self.database}_{name}")

    def restore(self, name: str) -> None:
        """Set the warehouse and the drops back."""
        for own in ("home", "drops"):
            shutil.rmtree(self._folder / own)
            shutil.copytree(self._folder / name / own, self._folder / own, symlinks=True)
        self._copy_database(f"{self.database}_{name}", self.database)

    def _copy_database(self, source: str, target: str) -> None:
        with psycopg.connect(self._server.dsn("postgres"), autocommit=True) as connection:
            for step in (
                # Great Expectations keeps its connections.
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = {name}",
                "drop database if exists {target} with (force)",
                "create database {target} template {source}",
            ):
                connection.execute(
                    sql.SQL(step).format(
                        target=sql.Identifier(target),
                        source=sql.Identifier(source),
                        name=sql.Literal(source),
                    )
                )

    # -- what there is -------------------------------------------------------------------------------

    def state(self) -> dict[str, tuple[Any, ...]]:
        """Return count and content of all that is built and of all that readers see."""
        return self.tables() | self.published()

    def tables(self) -> dict[str, tuple[Any, ...]]:
        """Return count and content of every table that is built, whatever the order of its rows."""
        return contents(self.settings.compute_path)

    def published(self) -> dict[str, tuple[Any, ...]]:
        """Return count and content of everything that readers see, whatever its release."""
        with store.connect(self.settings, "bi_reader") as connection:
            names = connection.execute(
                "select table_schema || '.' || table_name from information_schema.views"
                " where table_schema in ('mart', 'star') order by 1"
            ).fetchall()
            return {
                name: connection.execute(
                    "select count(*), sum(hashtextextended("
                    "(to_jsonb(t) - 'release_id' - 'release_age_days')::text, 0)::numeric)"
                    f" from {name} as t".encode()
                ).fetchone()
                for (name,) in names
            }

    def facts(self, query: str) -> list[tuple[Any, ...]]:
        """Return rows of the compute file."""
        with duckdb.connect(str(self.settings.compute_path), read_only=True) as connection:
            return connection.execute(query).fetchall()

    def owned(self, query: str) -> list[tuple[Any, ...]]:
        """Return rows of the store as the pipeline sees them."""
        with store.connect(self.settings) as connection:
            return connection.execute(query.encode()).fetchall()


def differing(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return the names of the tables that are not the same."""
    return sorted(n for n in found | expected if found.get(n) != expected.get(n))


def contents(path: Path) -> dict[str, tuple[Any, ...]]:
    """Return count and content of the tables of a compute file."""
    with duckdb.connect(str(path), read_only=True) as connection:
        names = connection.execute(
            "select table_schema || '.' || table_name from information_schema.tables"
            f" where table_type = 'BASE TABLE' and table_schema in {LAYERS} order by 1"
        ).fetchall()
        return {
            name: connection.execute(
                f"select count(*), sum(hash(cast(x as varchar))::hugeint) from {name} as x"
            ).fetchone()
            for (name,) in names
        }


def strange(lines: list[str]) -> list[str]:
    """Give three calls an ending that the contract does not know; two happened the day before."""
    column = lines[0].split(",").index("status")
    started = lines[0].split(",").index("start_at")
    changed = [line.split(",") for line in lines]
    for number in (1, 2, 3):
        changed[number][column] = STRANGE
    for number in (1, 2):
        changed[number][started] = f"{STRANGE_DAY - ONE} 21:00:00+08:00"
    return [",".join(values) for values in changed]
