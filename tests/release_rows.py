"""A small dbt project's worth of published tables, for the tests of releases and gates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import duckdb

from keepline import release, store
from keepline.settings import Settings
from keepline.window import Window

DAY_1, DAY_2, DAY_3 = date(2026, 6, 29), date(2026, 6, 30), date(2026, 7, 1)
JUNE = date(2026, 6, 1)


@dataclass(frozen=True)
class Model:
    """A published dbt model: its folder, how it is published, its columns and which are personal."""

    name: str
    layer: str
    publish: dict[str, str]
    columns: dict[str, str]
    pii: dict[str, str] = field(default_factory=dict)

    @property
    def relation(self) -> str:
        return f"{self.layer}.{self.name}"

    @property
    def node(self) -> dict[str, object]:
        return {
            "name": self.name,
            "resource_type": "model",
            "schema": self.layer,
            "alias": self.name,
            "original_file_path": f"models/{self.layer}/{self.name}.sql",
            "description": f"What {self.name} holds.",
            "config": {"meta": {"publish": self.publish}},
            "columns": {
                name: {"name": name, "data_type": kind, "description": f"The {name}."}
                | ({"config": {"meta": {"pii": self.pii[name]}}} if name in self.pii else {})
                for name, kind in self.columns.items()
            },
        }


RISK = Model(
    "mart_churn_risk_daily",
    "marts",
    {"kind": "day", "period": "score_date"},
    {
        "score_date": "date",
        "subscription_id": "varchar",
        "churn_probability": "double",
        "risk_tier": "varchar",
        "run": "integer",
    },
)
RFM = Model(
    "mart_rfm_month",
    "marts",
    {"kind": "month", "period": "month_start"},
    {"month_start": "date", "subscription_id": "varchar", "segment": "varchar", "run": "integer"},
)
LINES = Model(
    "dim_subscription",
    "core",
    {"kind": "state"},
    {
        "subscription_id": "varchar",
        "activated_date": "date",
        "is_current": "boolean",
        "share": "decimal(18,6)",
        "run": "integer",
    },
)
MODELS = (RISK, RFM, LINES)


@dataclass
class Project:
    """A store that is migrated for some models, and the compute file that they are staged from."""

    settings: Settings
    models: tuple[Model, ...] = MODELS
    has_ended: bool = True
    manifest: Path = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = self.settings.home / "dbt_target" / "manifest.json"
        self.migrate()

    def migrate(self, models: Iterable[Model] | None = None) -> release.MigrationReport:
        self.models = tuple(models) if models is not None else self.models
        nodes = {f"model.keepline.{model.name}": model.node for model in self.models}
        self.manifest.parent.mkdir(parents=True, exist_ok=True)
        self.manifest.write_text(json.dumps({"nodes": nodes}))
        return release.migrate(self.settings, self.manifest, has_ended=self.has_ended)

    def fill(self, model: Model, rows: Sequence[Sequence[object]]) -> None:
        """Replace what compute holds of a model."""
        columns = ", ".join(f'"{name}" {kind}' for name, kind in model.columns.items())
        marks = "(" + ", ".join("?" for _ in model.columns) + ")"
        with self.compute() as duck:
            duck.execute(f"create schema if not exists {model.layer}")
            duck.execute(f"create or replace table {model.relation} ({columns})")
            for start in range(0, len(rows), 500):
                chunk = rows[start : start + 500]
                values = [value for row in chunk for value in row]
                duck.execute(
                    f"insert into {model.relation} values {', '.join([marks] * len(chunk))}", values
                )

    def run(self, sql: str) -> None:
        """Change compute by SQL."""
        with self.compute() as duck:
            duck.execute(sql)

    def compute(self) -> duckdb.DuckDBPyConnection:
        self.settings.compute_path.parent.mkdir(parents=True, exist_ok=True)
        duck = duckdb.connect(str(self.settings.compute_path))
        # As a build does: what it replaces is no longer known to the stage.
        duck.execute("create schema if not exists ops")
        duck.execute(
            "create or replace table ops.period_content"
            " (relation varchar, shape varchar, period date, rows bigint, content varchar)"
        )
        return duck

    def fill_all(self, run: int, days: Sequence[date] = (DAY_1, DAY_2), lines: int = 20) -> None:
        """Fill the three models so that every row bears the number of the run that made it."""
        ids = [f"s{n}" for n in range(lines)]
        self.fill(
            RISK,
            [(day, i, n / lines, "LOW", run) for day in days for n, i in enumerate(ids)],
        )
        self.fill(RFM, [(JUNE, i, "Loyal", run) for i in ids])
        self.fill(LINES, [(i, DAY_1, True, "0.5", run) for i in ids])

    def stage(self, day: date = DAY_2) -> release.StageReport:
        return release.stage(self.settings, Window.day(day))

    def publish(self, day: date = DAY_2) -> release.StageReport:
        """Stage, pass the audit and publish."""
        report = self.stage(day)
        release.mark_audited(self.settings, report.release_id, passed=True)
        release.publish(self.settings, report.release_id)
        return report

    def rows(self, sql: str, role: str | None = "bi_reader") -> list[tuple[object, ...]]:
        """Return rows as a reader sees them, or as the pipeline does."""
        with store.connect(self.settings, role) as connection:
            return connection.execute(sql.encode()).fetchall()

    def change(self, sql: str) -> None:
        """Change the store by SQL, as the pipeline's login."""
        with store.connect(self.settings) as connection:
            connection.execute(sql.encode())
