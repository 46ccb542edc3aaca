"""One simulated operator through each compute engine: the same rows in every table, and the same release.

Another engine is one more name in `engines.ENGINES`; Spark is compared when asked for (`make test-spark`).
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import psycopg
import pytest
from conftest import SECRETS
from engines import ENGINES, ON_SPARK, engine_of, forget
from models_ml_rows import write_labels
from psycopg import sql

from keepline import home, store
from keepline.commands import demo, modelling, pipeline, verify
from keepline.commands.rebuild import rebuild
from keepline.compute import compute_for
from keepline.embedded import EmbeddedPostgres
from keepline.errors import BadDataError
from keepline.settings import Settings
from keepline.simulator import simulate
from keepline.window import Window
from models_ml.churn import batch
from models_ml.churn.model import LabelParams, TrainingParams

START = date(2026, 1, 1)
SUBSCRIBERS, DAYS = 200, 135
LAST = START + timedelta(days=DAYS - 1)
# Days with three full months before them.
AS_OF_DATES = [LAST - timedelta(days=days) for days in (42, 28, 14)]
HISTORY, DAY = Window(START, LAST), Window.day(LAST)
REFERENCE = ENGINES[0]
OTHERS = [*ENGINES[1:], pytest.param("spark", marks=ON_SPARK)]
LAYERS = ("raw", "seeds", "core", "features", "ml", "marts")
# Model outputs: the same sum added in another order may end in another digit.
TOLERANCE = 1e-9

# What readers of this operator saw, and what has another name since that was written.
CONTENT = Path(__file__).with_name("published_content.json")
VIEWS_RENAMED: dict[str, str] = {}
COLUMNS_RENAMED: dict[str, str] = {}
OF_THE_RELEASE = {"release_id", "release_age_days"}
OF_THE_MODEL = {"mart.churn_risk_daily", "mart.churn_risk_latest"}

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Operator:
    """A simulated operator whose days have landed, and its warehouses by engine."""

    folder: Path
    server: EmbeddedPostgres
    built: dict[str, Settings] = field(default_factory=dict)

    def extract(self) -> None:
        """Land the history, then its last day: no engine takes part in that."""
        settings = self._settings("landed", REFERENCE)
        settings.operator_home.mkdir(parents=True)
        demo.remember(settings, START, LAST, LAST)
        pipeline.migrate(settings)
        for window in (HISTORY, DAY):
            pipeline.extract(settings, window)

    def warehouse(self, engine: str) -> Settings:
        """Return the warehouse of an engine, which is built and published when it is asked for first."""
        if engine not in self.built:
            self.built[engine] = self._build(engine)
        return self.built[engine]

    def _build(self, engine: str) -> Settings:
        """Build and publish: a history, then its last day as a daily run does it."""
        shutil.copytree(self.folder / "landed", self.folder / engine)
        # A home of its own, with a store of its own: as one that was moved, not as a copy.
        home.change(self.folder / engine, path=str(self.folder / engine))
        settings = self._settings(engine, engine)
        for window in (HISTORY, DAY):
            pipeline.load(settings, window)
            pipeline.build(settings, "core", window)
        train(settings)
        pipeline.build(settings, "features", DAY)
        modelling.score(settings, LAST)
        for window in (HISTORY, DAY):
            pipeline.build(settings, "marts", window)
        pipeline.stage_release(settings, DAY)
        pipeline.audit(settings, DAY)
        pipeline.publish(settings, DAY)
        return settings

    def _settings(self, home: str, engine: str) -> Settings:
        database = sql.Identifier(f"parity_{home}")
        with psycopg.connect(self.server.dsn("postgres"), autocommit=True) as connection:
            template = sql.Identifier("template0" if home == "landed" else "parity_landed")
            connection.execute(sql.SQL("create database {} template {}").format(database, template))
        return Settings(
            home=self.folder / home,
            store_dsn=self.server.dsn(f"parity_{home}"),
            **SECRETS,
            **engine_of(engine, lambda: self.server),
        )


def train(settings: Settings) -> None:
    """Train on features of this engine; who leaves is invented, as in so few days too few do."""
    compute, known_on = compute_for(settings), HISTORY.last_date
    snapshots = modelling._snapshots(settings, compute, AS_OF_DATES, known_on)
    lines = compute.execute(
        "select subscription_id, as_of_date from features.feat_subscription_asof order by 1, 2"
    )
    labels = pd.DataFrame(lines, columns=["subscription_id", "as_of_date"])
    labels["label"] = [zlib.crc32(f"{line}".encode()) % 3 // 2 for line, _ in lines]
    labels["matured_on"], labels["excluded_reason"] = known_on, None
    path = settings.exchange_dir / "invented.parquet"
    write_labels(labels, path)
    report = batch.train(
        [snapshot.path for snapshot in snapshots],
        path,
        settings.models_dir,
        modelling._seed(compute, "feature_catalog"),
        known_on,
        LabelParams(7, 30),
        TrainingParams(
            num_threads=1,
            test_dates=1,
            min_positives=10,
            min_positives_apart=10,
            min_positives_held_out=2,
            min_validation_auc=0,
        ),
        risk_params=modelling._seed(compute, "param_risk_tier"),
    )
    assert report.promoted, report


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres) -> Operator:
    folder = tmp_path_factory.mktemp("parity")
    postgres.ensure_database("parity_operator")
    simulate(
        postgres.dsn("parity_operator"),
        folder / "drops",
        folder / "truth",
        subscribers=SUBSCRIBERS,
        days=DAYS,
        seed=3,
        start=START,
        mornings=0,
        extractor_password=SECRETS["extractor_password"],
    )
    operator = Operator(folder, postgres)
    with operator_at(operator):
        operator.extract()
    return operator


@contextmanager
def operator_at(operator: Operator) -> Iterator[None]:
    """Let the operator's file find its systems."""
    login = ("extractor", SECRETS["extractor_password"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPLINE_DEMO_DSN", operator.server.dsn("parity_operator", *login))
        patch.setenv("KEEPLINE_DEMO_DROPS", str(operator.folder / "drops"))
        yield


@pytest.fixture(scope="module")
def reference(operator: Operator) -> Settings:
    return operator.warehouse(REFERENCE)


@pytest.mark.parametrize("other_engine", OTHERS)
def test_every_engine_gives_the_same_rows(
    operator: Operator,
    reference: Settings,
    other_engine: str,
    tally: Callable[[str, int, int], None],
) -> None:
    other = operator.warehouse(other_engine)

    expected, found = tables(reference), tables(other)

    assert found == expected
    differing = {}
    for name in expected:
        left, right = rows(reference, name), rows(other, name)
        if unequal := differences(left, right):
            differing[name] = unequal
    tally(
        f"tables equal on {other_engine} and {REFERENCE}",
        len(expected) - len(differing),
        len(expected),
    )
    assert differing == {}
    assert published(other) == published(reference)


@pytest.mark.parametrize("other_engine", OTHERS)
def test_what_is_lost_is_made_anew_and_agrees_with_the_source(
    operator: Operator, other_engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = operator.warehouse(other_engine)
    before = {name: rows(settings, name) for name in tables(settings) if "features." not in name}
    forget(settings)

    with pytest.raises(BadDataError, match=r"is gone; it held .* `keepline rebuild` makes it anew"):
        pipeline.load(settings, DAY)
    rebuild(settings)

    after = {name: rows(settings, name) for name in tables(settings)}
    assert [name for name in before if differences(before[name], after[name])] == []
    with operator_at(operator):
        verify.examine(settings, Window(START, DAY.to_date))
    assert "every hop agrees" in capsys.readouterr().out


def test_readers_see_what_they_saw(reference: Settings) -> None:
    """A change of the house alone changes no value; one that is meant writes the file anew.

    WRITE_CONTENT=1 pytest tests/test_parity.py -k what_they_saw
    """
    found = published_columns(reference)
    if os.environ.get("WRITE_CONTENT"):
        CONTENT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    before = json.loads(CONTENT.read_text(encoding="utf-8"))
    expected = {
        VIEWS_RENAMED.get(view, view): {
            COLUMNS_RENAMED.get(f"{view}.{name}", name): digest for name, digest in columns.items()
        }
        for view, columns in before.items()
    }
    assert {view: sorted(columns) for view, columns in found.items()} == {
        view: sorted(columns) for view, columns in expected.items()
    }
    assert {
        f"{view}.{name}": digest
        for view, columns in found.items()
        for name, digest in columns.items()
        if digest != expected[view][name]
    } == {}


def test_what_is_compared_is_there(reference: Settings) -> None:
    counts = {name: len(rows(reference, name)) for name in tables(reference)}

    assert {name.split(".")[0] for name in counts} == {*LAYERS}
    # The demo gives all of the contract but key lists; a model has scored.
    assert [name for name, count in counts.items() if not count and not may_be_empty(name)] == []
    scored = [row for row in rows(reference, "ml.fct_churn_score") if row[2] is not None]
    assert len(scored) > SUBSCRIBERS // 2


def test_no_model_compares_every_row_with_every_other(reference: Settings) -> None:
    # A condition of a join that DuckDB cannot hash makes the night grow with the square of the lines; so
    # does, in a left join, one on the left side alone.
    left_alone = (
        "select 1 from core.dim_customer as a left join core.dim_customer as b"
        " on a.customer_id = b.customer_id and a.is_current"
    )
    compiled = (reference.home / "dbt_target" / reference.operator / "compiled").rglob("*.sql")
    models = {path.stem: path.read_text(encoding="utf-8") for path in compiled}

    with compute_for(reference).connection() as duck:
        slow = {name: loops(duck, query) for name, query in models.items()}
        found = loops(duck, left_alone)

    assert {"fct_subscription_month", "feat_subscription_asof", "mart_rfm_month"} <= set(models)
    assert {name: joins for name, joins in slow.items() if joins} == {}
    assert found != []


def loops(duck: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    """Return the conditions of joins that could be hashed by a column and are not."""
    nodes = json.loads(duck.execute(f"explain (format json) {query}").fetchall()[0][1])
    found = []
    while nodes:
        node = nodes.pop()
        condition = str(node["extra_info"].get("Condition", ""))
        if node["name"] == "BLOCKWISE_NL_JOIN" and re.search(r"\((\w+) = (\w+)\)", condition):
            found.append(condition)
        nodes += node["children"]
    return found


def may_be_empty(name: str) -> bool:
    return name in {"raw.source_key", "core.key_change", "core.set_aside"}


def tables(settings: Settings) -> dict[str, list[str]]:
    """Return the columns of every table that is built, by name; their order is the engine's affair."""
    found = compute_for(settings).execute(
        "select table_schema || '.' || table_name, list(column_name order by column_name)"
        f" from information_schema.columns where table_schema in {LAYERS} group by 1 order by 1"
    )
    return dict(found)


def rows(settings: Settings, name: str) -> Rows:
    """Return the rows of a table, sorted by everything but its model outputs."""
    with compute_for(settings).connection() as duck:
        columns = ", ".join(sorted(duck.sql(f"select * from {name} limit 0").columns))
        types = duck.sql(f"select {columns} from {name} limit 0").types
        exact = [str(i) for i, kind in enumerate(types, start=1) if str(kind) != "DOUBLE"]
        ordered = f"select {columns} from {name} order by {', '.join(exact)}"
        return duck.execute(ordered).fetchall()


def differences(left: Rows, right: Rows) -> list[str]:
    """Return some pairs of rows that are not the same, or that one side has more."""
    if len(left) != len(right):
        return [f"{len(left)} and {len(right)} rows"]
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if not same(a, b)]
    return [f"{len(pairs)} rows", *map(str, pairs[:3])] if pairs else []


def same(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    return all(
        math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=0)
        if isinstance(a, float) and isinstance(b, float)
        else a == b
        for a, b in zip(left, right, strict=True)
    )


def published_columns(settings: Settings) -> dict[str, dict[str, str]]:
    """Return what each column of the readers' views holds, as rows and a checksum that knows no order.

    Of the views of model outputs it is the names alone: chances differ in their last digits between
    machines, and with them the tiers.
    """
    found: dict[str, dict[str, str]] = {}
    with store.connect(settings, "bi_reader") as connection:
        columns = connection.execute(
            "select table_schema || '.' || table_name, column_name from information_schema.columns"
            " where table_schema in ('mart', 'star') order by 1, 2"
        ).fetchall()
        for view, name in columns:
            if name in OF_THE_RELEASE or view in OF_THE_MODEL:
                found.setdefault(view, {})[name] = ""
                continue
            row = connection.execute(
                sql.SQL(
                    "select count(*) || ' ' || coalesce(sum("
                    "('x' || left(md5({}::text), 15))::bit(60)::bigint), 0) from {}"
                ).format(sql.Identifier(name), sql.Identifier(*view.split(".")))
            ).fetchone()
            assert row is not None
            found.setdefault(view, {})[name] = row[0]
    return found


def published(settings: Settings) -> dict[str, tuple[Any, ...]]:
    """Return count and content of all that readers see."""
    with store.connect(settings, "bi_reader") as connection:
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
