"""A published release of made-up marts, for the tests of the report and of the closing screen.

Tables, views and rights are made by the real release code from the real dbt contracts.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import yaml
from release_rows import Model, Project

from keepline import ops, store
from keepline.report import write_report
from keepline.settings import Settings
from keepline.window import Window

JUNE_30 = date(2026, 6, 30)
JUNE, MAY, MARCH = date(2026, 6, 1), date(2026, 5, 1), date(2026, 3, 1)
BLANK: Mapping[str, object] = {
    "varchar": "",
    "bigint": 0,
    "integer": 0,
    "boolean": False,
    "date": JUNE_30,
    "double": None,
}
NEEDED = (
    "mart_churn_risk_daily",
    "mart_rfm_month",
    "mart_pareto_month",
    "mart_subscriber_movement",
    "mart_coverage",
    "fct_churn_event",
    "dim_brand",
    "dim_geography",
)
Row = dict[str, object]
MODEL = "churn-0123456789abcdef"


@functools.cache
def contracts(dbt_dir: Path) -> dict[str, Model]:
    """Return the published models that the report reads, as their dbt contracts are."""
    models: dict[str, Model] = {}
    for path in sorted(dbt_dir.glob("models/**/_*__models.yml")):
        for found in yaml.safe_load(path.read_text(encoding="utf-8")).get("models") or []:
            if found["name"] in NEEDED:
                models[found["name"]] = _model(found, "marts" if "/marts/" in str(path) else "core")
    assert sorted(models) == sorted(NEEDED)
    return models


def _model(found: dict[str, Any], layer: str) -> Model:
    columns = {column["name"]: column["data_type"] for column in found["columns"]}
    return Model(found["name"], layer, found["config"]["meta"]["publish"], columns)


@dataclass
class Morning:
    """Rows by model, the run book, and the release that they become."""

    settings: Settings
    rows: dict[str, list[Row]] = field(default_factory=dict)
    checks: list[ops.GateResult] = field(default_factory=list)
    balances: list[ops.Reconciliation] = field(default_factory=list)
    stages: list[ops.StageRun] = field(default_factory=list)

    def publish(self, day: date = JUNE_30) -> int:
        """Publish the rows as the release of a day and record the run book; returns its number."""
        models = contracts(self.settings.dbt_dir)
        project = Project(self.settings, tuple(models.values()))
        for name, model in models.items():
            found = self.rows.get(name, [])
            unknown = {column for row in found for column in row} - set(model.columns)
            assert not unknown, f"{name} has no column {unknown}"
            project.fill(model, [_whole(row, model.columns) for row in found])
        release_id = project.publish(day).release_id
        window = Window.day(day)
        with store.connect(self.settings) as connection:
            ops.record_reconciliation(connection, self.balances)
            for stage in self.stages:
                ops.record_stage(connection, stage)
            for gate in sorted({check.gate for check in self.checks}):
                found_checks = [check for check in self.checks if check.gate == gate]
                ops.record_gate(connection, gate, window, found_checks)
        return release_id


def _whole(row: Row, columns: Mapping[str, str]) -> Sequence[object]:
    return [row.get(name, BLANK.get(kind)) for name, kind in columns.items()]


def movement(month_start: date, brand: str = "B1", province: str = "P1", **more: object) -> Row:
    """Return a row of mart_subscriber_movement: a whole month that is settled, unless told else."""
    return {
        "month_start": month_start,
        "brand_code": brand,
        "province_code": province,
        "payment_type": "prepaid",
        "activation_channel": "SHOP",
        "churn_first_published": more.get("churn", 0),
        "is_settled": True,
        "is_whole_month": True,
    } | more


def loss(subscription_id: str, kind: str, event_date: date, **more: object) -> Row:
    """Return a row of fct_churn_event that stands, known on its day unless told else."""
    return {
        "churn_event_key": f"{subscription_id} {event_date}",
        "subscription_id": subscription_id,
        "definition_code": "INACTIVITY_90" if kind == "inactivity" else "TERMINATION",
        "kind": kind,
        "event_date": event_date,
        "confirmed_date": event_date,
        "revoked_date": None,
        "returned_date": None,
        "corrected_date": None,
        "outcome": "standing",
    } | more


def check(table: str, words: str, *, success: bool = True, severity: str = "critical") -> Any:
    """Return a check of the gate `leaving`... of `landed` when the table is of the contract."""
    gate = "leaving" if table.startswith(("mart.", "star.")) else "landed"
    return ops.GateResult(
        gate=gate,
        suite="suite",
        table_name=table,
        expectation=words,
        column_name="",
        severity=severity,
        success=success,
        observed="as expected" if success else "3 rows that are not",
    )


def risk(subscription_id: str, tier: str, **more: object) -> Row:
    """Return a row of mart_churn_risk_daily that its rules allow."""
    judged = tier in ("HIGH", "MEDIUM", "LOW")
    row: Row = {
        "score_date": JUNE_30,
        "subscription_id": subscription_id,
        "msisdn_masked": "138****0001",
        "province_code": "P1",
        "brand_code": "B1",
        "payment_type": "prepaid",
        # Beyond reach is no tier of the mart's: a rule made the line LOW, and nobody told a risk.
        "risk_tier": "LOW" if tier == "SILENT" else tier,
        "tier_rule_id": "SILENT_TOO_LONG" if tier == "SILENT" else None,
        "churn_probability": {"HIGH": 0.5, "MEDIUM": 0.2, "LOW": 0.01}.get(tier),
        "clv_12m_fen": 100_000 if judged else None,
        "expected_profit_of_contact_fen": 10_000 if judged else None,
        "eligible_flag": judged,
        "ineligible_reason": None if judged else tier,
        "model_version": MODEL if judged else None,
        "score_run_id": "run-1",
        "last_contact_date": None,
    }
    row |= {f"reason_{n}_{part}": None for n in (1, 2, 3) for part in ("code", "text")}
    return row | more


def save_model(
    settings: Settings, *, said_and_came: Sequence[Row] = (), **test_measures: object
) -> None:
    """Put a model document where training would."""
    measures = {"n": 500, "positives": 15, "base_rate": 0.03,
        "mean_probability": 0.031, "auc": 0.8125, "pr_auc": 0.25,
                "top_decile_lift": 4.25, "brier": 0.0212, "ece": 0.004} | test_measures  # fmt: skip
    metrics = {"test": measures} | ({"said_and_came": said_and_came} if said_and_came else {})
    document = {
        "known_on": "2026-06-29",
        "label": {"gap_days": 7, "window_days": 30},
        "skipped": {"postpaid": "postpaid: too little to train on: 3 leavers"},
        "models": {"prepaid": {"metrics": metrics, "notes": ["a note of the training"]}},
    }
    folder = settings.models_dir / MODEL
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(document))


def realistic(settings: Settings, lines: int = 2400) -> Morning:
    """Return a morning with the size and the unevenness of the demo, the same at each call."""
    chance = random.Random(7)  # noqa: S311 - data, not secrets
    morning = Morning(settings)
    brands = {"STAR": "Star", "GO": "Go 畅行", "VALUE": "Value"}
    provinces = {
        "11": "Beijing 北京",
        "31": "Shanghai",
        "44": "Guangdong",
        "51": "Sichuan",
        "65": "Xinjiang",
    }
    weights = [3, 4, 6, 4, 1]
    morning.rows["dim_brand"] = [
        {"brand_key": code, "brand_code": code, "brand_name": name, "is_current": True}
        for code, name in brands.items()
    ]
    morning.rows["dim_geography"] = [
        {
            "geography_key": code,
            "county_code": code,
            "province_code": code,
            "province_name": name,
            "is_current": True,
        }
        for code, name in provinces.items()
    ]
    places = [
        (chance.choices(list(brands), [2, 4, 3])[0], chance.choices(list(provinces), weights)[0])
        for _ in range(lines)
    ]
    morning.rows["mart_churn_risk_daily"] = [
        _some_risk(chance, n, brand, province, day)
        for day in (JUNE_30 - timedelta(days=2), JUNE_30 - timedelta(days=1), JUNE_30)
        for n, (brand, province) in enumerate(places)
    ]
    morning.rows["mart_subscriber_movement"] = _some_movement(chance, list(brands), list(provinces))
    morning.rows["mart_rfm_month"] = [
        _some_rfm(chance, n, brand, province) for n, (brand, province) in enumerate(places)
    ]
    morning.rows["mart_pareto_month"] = [
        {
            "month_start": date(2025 + n // 12, n % 12 + 1, 1),
            "province_code": province,
            "brand_code": brand,
            "subscriptions": 2000 + n if brand == "ALL" else chance.randint(20, 400),
            "revenue_fen": 9_800_000 + 10_000 * n
            if brand == "ALL"
            else chance.randint(40_000, 900_000),
            "revenue_share_top20": f"{chance.uniform(0.42, 0.55):.6f}",
            "share_of_subscriptions_making_80": f"{chance.uniform(0.45, 0.55):.6f}",
            "gini": "0.400000",
            "is_whole_month": n > 5,
        }
        for n in range(5, 18)
        for brand, province in [("ALL", "ALL"), *((b, p) for b in brands for p in provinces)]
    ]
    morning.rows["mart_coverage"] = [
        {
            "mart_name": mart,
            "source_system": "bss",
            "contract_table": table,
            "is_required": True,
            "rows_total": rows,
            "table_coverage": covered,
            "mart_coverage": covered if covered == "full" else "partial",
            "sentence": said,
        }
        for mart, table, rows, covered, said in (
            ("mart_rfm_month", "cdr_voice", 90_000, "full", "Covered."),
            (
                "mart_rfm_month",
                "cdr_sms",
                40,
                "partial",
                "Messages are a sample: few lines have any.",
            ),
            ("mart_churn_risk_daily", "subscription", 4_000, "full", "Covered."),
            ("mart_churn_risk_daily", "np_port", 0, "empty", "Ports away count as terminations."),
        )
    ]
    morning.checks = [
        check("mart.subscriber_movement", "opening + in - out = closing in every row"),
        check("mart.churn_risk_daily", "each line is scored once a day"),
        check(
            "mart.churn_risk_daily",
            "the share of HIGH moves by at most 5 points",
            success=False,
            severity="warning",
        ),
        *(
            check(f"table_{n}", f"rows are within 50 % of the last 28 days' mean ({n})")
            for n in range(24)
        ),
    ]
    morning.balances = [
        ops.Reconciliation(
            "cdr_data",
            JUNE_30,
            41_236,
            41_201,
            {"NEGATIVE_VOLUME": 12, "UNKNOWN_CODE": 23},
            0,
            {},
            balanced=True,
        ),
        ops.Reconciliation("recharge", JUNE_30, 402, 401, {"BAD_DATE": 1}, 0, {}, balanced=True),
    ]
    day, history = Window.day(JUNE_30), Window(date(2025, 5, 27), JUNE_30)
    morning.stages = [
        ops.StageRun("extract", history, 8_412_003, 14.21, "done"),
        ops.StageRun("load", history, 8_411_690, 6.02, "done"),
        ops.StageRun("build", history, 5_204_118, 22.4, "done", "core: 31 models, 110 tests"),
        ops.StageRun("extract", day, 41_602, 1.9, "failed", "the source went away"),
        ops.StageRun("extract", day, 41_602, 1.4, "done"),
        ops.StageRun("check", day, 0, 0.9, "done", "24 of 24 checks passed"),
        ops.StageRun("build", day, 41_000, 3.3, "done", "core: 31 models, 110 tests"),
        ops.StageRun("build", day, 2400, 2.1, "done", "features: 3 models, 20 tests"),
        ops.StageRun("score", day, 2400, 1.2, "done", "HIGH 96, MEDIUM 240"),
        ops.StageRun("publish", day, 0, 0.04, "done"),
    ]
    return morning


REASONS = (
    "Used only 31 % of the usual data last month",
    "Called a competitor's hotline 2 times in 30 days",
    "The promotional price ends in 9 days",
    "Complaints took 61 hours to resolve",
    "68 % of the minutes are with other operators",
    "The next recharge is overdue (240 % of the usual wait)",
    "Asked 1 time whether the number can be taken to another operator",
)


def _some_risk(chance: random.Random, n: int, brand: str, province: str, day: date) -> Row:
    tiers = ["HIGH", "MEDIUM", "LOW", "SILENT", "NEW", "NODATA"]
    tier = chance.choices(tiers, [4, 10, 70, 8, 7, 1])[0]
    more: Row = {
        "score_date": day,
        "msisdn_masked": f"1{chance.choice([38, 39, 86])}****{chance.randint(0, 9999):04d}",
        "brand_code": brand,
        "province_code": province,
        "payment_type": chance.choice(["prepaid", "prepaid", "postpaid"]),
    }
    if tier in ("HIGH", "MEDIUM", "LOW"):
        spread = {"HIGH": (0.25, 0.8), "MEDIUM": (0.08, 0.25), "LOW": (0.002, 0.08)}[tier]
        more["churn_probability"] = chance.uniform(*spread)
        more["clv_12m_fen"] = int(chance.lognormvariate(10.6, 0.7))
        more["expected_profit_of_contact_fen"] = chance.randint(500, 9000)
    if tier in ("HIGH", "MEDIUM"):
        barred = chance.choices([None, "SUSPENDED", "MINOR"], [90, 6, 4])[0]
        more |= {"eligible_flag": barred is None, "ineligible_reason": barred}
        for number, text in enumerate(chance.sample(REASONS, 3), start=1):
            more[f"reason_{number}_text"] = text
    return risk(f"S{n:05d}", tier, **more)


def _some_movement(chance: random.Random, brands: list[str], provinces: list[str]) -> list[Row]:
    base = {(b, p): chance.randint(60, 260) for b in brands for p in provinces}
    found: list[Row] = []
    # The record begins within the first month; of the last three prepaid losses are still coming in.
    for n in range(5, 18):
        for (brand, province), opening in base.items():
            adds, churn = chance.randint(2, 14), chance.randint(0, max(1, opening // 25))
            back = chance.randint(0, 2) if n > 8 else 0
            if n > 14:
                churn //= 2
            if n == 5:
                adds, churn = adds // 6, churn // 6
            base[brand, province] = opening + adds + back - churn
            found.append(
                movement(
                    date(2025 + n // 12, n % 12 + 1, 1),
                    brand,
                    province,
                    opening=opening,
                    gross_adds=adds,
                    win_backs=back,
                    churn=churn,
                    churn_first_published=churn + (chance.random() < 0.05),
                    closing=opening + adds + back - churn,
                    is_settled=n < 15,
                    is_whole_month=n > 5,
                )
            )
    return found


def _some_rfm(chance: random.Random, n: int, brand: str, province: str) -> Row:
    r = chance.choices([1, 2, 3, 4, 5], [2, 2, 2, 2, 2])[0]
    f = min(5, max(1, r + chance.choice([-2, -1, 0, 0, 1, 2])))
    segment = {1: "Lost", 2: "At Risk", 3: "Need Attention", 4: "Loyal", 5: "Champions"}[
        (r + f) // 2
    ]
    return {
        "subscription_id": f"S{n:05d}",
        "month_start": JUNE,
        "province_code": province,
        "brand_code": brand,
        "payment_type": "prepaid",
        "is_whole_month": True,
        "recency_days": {1: 60, 2: 20, 3: 10, 4: 4, 5: 0}[r] + chance.randint(0, 2),
        "frequency": 10 * f,
        "monetary_fen": int(chance.lognormvariate(8.4 + f / 4, 0.6)),
        "r_score": r,
        "f_score": f,
        "m_score": 3,
        "segment": segment if chance.random() > 0.1 else "Potential Loyalist",
        "frequency_trend": chance.choices(["rising", "stable", "falling", None], [2, 5, 3, 1])[0],
    }


def figure(page: str, name: str) -> dict[str, Any]:
    """Return the data and the layout of a plot as the page hands them to Plotly."""
    found = re.search(rf'<script type="application/json" data-plot="{name}">(.*?)</script>', page)
    assert found, f"the page has no plot {name}"
    return json.loads(found[1])


def words(page: str) -> str:
    """Return what the page says, without scripts, styles and marks."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def page_of(morning: Morning) -> str:
    """Publish a morning and return its report."""
    return write_report(morning.settings, morning.publish()).read_text()
