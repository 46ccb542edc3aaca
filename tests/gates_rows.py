"""A small published world with the columns of the real contracts, for the tests of the gate `leaving`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import yaml
from release_rows import DAY_1, DAY_2, JUNE, Model, Project

from keepline.settings import PROJECT_DIR

MAY = date(2026, 5, 1)
FOREVER = date(9999, 12, 31)
LINES = [f"s{n:03}" for n in range(120)]
PROVINCES = ("GD", "ZJ")


def real_models() -> dict[str, Model]:
    """Return the published models as the dbt project declares them."""
    models = {}
    for layer in ("core", "marts"):
        for path in sorted((PROJECT_DIR / "dbt_project" / "models" / layer).rglob("*.yml")):
            for raw in yaml.safe_load(path.read_text()).get("models") or []:
                publish = raw.get("config", {}).get("meta", {}).get("publish")
                if publish:
                    columns = {column["name"]: column["data_type"] for column in raw["columns"]}
                    pii = {
                        column["name"]: column["config"]["meta"]["pii"]
                        for column in raw["columns"]
                        if "pii" in column.get("config", {}).get("meta", {})
                    }
                    models[raw["name"]] = Model(raw["name"], layer, publish, columns, pii)
    return models


def province(line: str) -> str:
    """Return where a line lives: half of them in each province."""
    return PROVINCES[LINES.index(line) % 2]


class World:
    """A store migrated for every published model, and a compute file whose rows pass every check."""

    def __init__(self, settings: Any) -> None:
        self.models = real_models()
        self.project = Project(settings, tuple(self.models.values()))
        for model in self.models.values():
            self.project.fill(model, [])
        self._fill_master_data()
        self.fill_risk([DAY_1, DAY_2])
        self._fill_months()

    def put(self, name: str, rows: Sequence[dict[str, object]]) -> None:
        """Replace what compute holds of a model; columns that a row lacks are empty."""
        model = self.models[name]
        self.project.fill(model, [[row.get(column) for column in model.columns] for row in rows])

    def fill_risk(self, days: Sequence[date]) -> None:
        """Score every line on these days: two HIGH, ten MEDIUM, the rest LOW."""
        self.put(
            "mart_churn_risk_daily",
            [
                {
                    "score_date": day,
                    "subscription_id": line,
                    "msisdn_masked": "138****1234",
                    "province_code": province(line),
                    "churn_probability": 0.3 / (n + 1),
                    "score_percentile": 100.0 - n / 2,
                    "risk_tier": "HIGH" if n < 2 else "MEDIUM" if n < 12 else "LOW",
                    "param_version": "p1",
                    "model_version": "m1",
                    "reason_1_code": "silent_days",
                    "reason_1_text": "did not call for 9 days",
                    "eligible_flag": True,
                }
                for day in days
                for n, line in enumerate(LINES)
            ],
        )

    def _fill_master_data(self) -> None:
        version = {"valid_from": MAY, "valid_to": FOREVER, "is_current": True, "load_date": MAY}
        self.put(
            "dim_subscription",
            [
                {
                    "subscription_id": line,
                    "msisdn_hash": f"{n:064x}",
                    "msisdn_masked": "138****1234",
                    "activated_date": MAY,
                    "status_code": "active",
                    "province_code": province(line),
                    **version,
                }
                for n, line in enumerate(LINES)
            ],
        )
        self.put("dim_customer", [{"customer_id": "c1", **version}])
        self.put("dim_account", [{"account_id": "a1", **version}])
        self.put("dim_product_offering", [{"offering_id": "o1", **version}])
        self.put(
            "fct_usage_daily",
            [
                {"subscription_id": line, "event_date": day, "load_date": day, "record_cnt": 1}
                for day in (DAY_1, DAY_2)
                for line in LINES
            ],
        )
        self.put(
            "mart_coverage",
            [
                {
                    "mart_name": name,
                    "source_system": "bss",
                    "contract_table": "subscription",
                    "mart_coverage": "full",
                    "sentence": "Covered.",
                }
                for name in self.models
                if name.startswith("mart_") and name != "mart_coverage"
            ],
        )

    def _fill_months(self) -> None:
        base = len(LINES) // 2
        cell = {"brand_code": "B", "payment_type": "prepaid", "activation_channel": "SHOP"}
        zero = {"gross_adds": 0, "win_backs": 0, "migration_in": 0, "migration_out": 0, "churn": 0}
        zero |= {"churn_first_published": 0, "is_whole_month": True}
        self.put(
            "mart_subscriber_movement",
            [
                {"month_start": month, "province_code": name, "opening": base, "closing": base}
                | cell
                | zero
                for month in (MAY, JUNE)
                for name in PROVINCES
            ],
        )
        self.put(
            "mart_rfm_month",
            [
                {
                    "month_start": month,
                    "subscription_id": line,
                    "r_score": 5,
                    "f_score": 3,
                    "m_score": 1,
                    "segment": "Loyal",
                    "frequency_trend": "stable",
                }
                for month in (MAY, JUNE)
                for line in LINES
            ],
        )
        self.put(
            "mart_pareto_month",
            [
                {
                    "month_start": month,
                    "province_code": name,
                    "brand_code": "B",
                    "revenue_fen": 100,
                    "revenue_share_top20": "0.8",
                    "share_of_subscriptions_making_80": "0.2",
                }
                for month in (MAY, JUNE)
                for name in PROVINCES
            ],
        )
