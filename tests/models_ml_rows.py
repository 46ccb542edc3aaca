"""Made-up feature rows with a planted cause of leaving, for the tests of models_ml."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from models_ml.churn.model import LabelParams, TrainingParams
from models_ml.churn.snapshot import write_snapshots

AS_OF_DATES = [date(2025, 1, 31), date(2025, 2, 28), date(2025, 3, 31), date(2025, 4, 30)]
SCORE_DATE = date(2025, 9, 30)
KNOWN_ON = date(2025, 9, 30)
LABEL = LabelParams(gap_days=7, window_days=60)
QUICK = TrainingParams(max_rounds=80, num_threads=1)

CATALOG = pd.DataFrame(
    [
        ("brand_code", 1, "life cycle", "category", "Brand {value}", "Brand {value}"),
        (
            "tenure_days",
            1,
            "life cycle",
            "days",
            "With us {value} days",
            "Only {value} days with us",
        ),
        ("arpu_avg3m", 2, "spend", "fen", "Pays {value} yuan", "Pays only {value} yuan"),
        ("usage_days_30d", 3, "voice", "days", "Used on {value} days", "Used on only {value} days"),
        ("silent_gap_days", 3, "voice", "days", "Silent for {value} days", ""),
        ("complaints_90d", 9, "service", "count", "Complained {value} time(s)", ""),
        ("competitor_calls_30d", 7, "competition", "count", "Called a competitor", ""),
        ("noise", 8, "payment", "ratio", "Noise is {value} %", "Noise is only {value} %"),
        ("not_built_yet", 4, "messaging", "count", "Never seen", "Never seen"),
    ],
    columns=["feature", "perspective", "perspective_name", "unit", "text_high", "text_low"],
).assign(text_below_zero=None, text_none=None, family=None)

RISK_PARAMS = pd.DataFrame(
    [
        (key, "ALL", value, "2020-01-01", None, "product", "first values")
        for key, value in {
            "incentive_dear_fen": 3000,
            "contact_cost_dear_fen": 500,
            "accept_rate_dear": 0.3,
            "incentive_cheap_fen": 500,
            "contact_cost_cheap_fen": 20,
            "accept_rate_cheap": 0.15,
            "annual_discount_rate": 0.1,
            "max_high_share": 1.0,
            "max_medium_share": 1.0,
            "reachable_silence_days": 14,
        }.items()
    ],
    columns=["key", "scope", "value", "valid_from", "valid_to", "author", "reason"],
)


def feature_rows(as_of: date, subscriptions: int, seed: int = 7) -> pd.DataFrame:
    """Return feature rows; few usage days, complaints and competitor calls go with leaving."""
    generator = np.random.default_rng([seed, as_of.toordinal()])
    n = subscriptions
    usage_days = generator.integers(0, 31, n)
    return pd.DataFrame(
        {
            "subscription_id": [f"s{i:05d}" for i in range(n)],
            "as_of_date": as_of,
            "payment_type": np.where(np.arange(n) % 5 < 3, "prepaid", "postpaid"),
            "brand_code": generator.choice(["ALFA", "BETA"], n),
            "province_code": "11",
            "tenure_days": generator.integers(100, 2000, n),
            "full_months_on_net": 12,
            "known_flag": True,
            "is_alive": True,
            "days_since_activity": 0,
            "arpu_avg3m": generator.integers(1000, 12000, n),
            "usage_days_30d": usage_days,
            "silent_gap_days": 30 - usage_days + generator.integers(0, 3, n),
            "complaints_90d": generator.poisson(0.2, n),
            "competitor_calls_30d": generator.poisson(0.1, n),
            "noise": generator.normal(size=n),
        }
    )


def leaving_chance(rows: pd.DataFrame) -> np.ndarray:
    """Return the planted chance of leaving within the label window."""
    odds = (
        -4.2
        + 2.6 * (rows["usage_days_30d"] < 6)
        + 1.2 * rows["complaints_90d"].clip(upper=2)
        + 1.8 * (rows["competitor_calls_30d"] > 0)
    )
    return (1 / (1 + np.exp(-odds))).to_numpy()


def label_rows(features: pd.DataFrame, seed: int = 11) -> pd.DataFrame:
    """Return matured labels drawn from the planted chances."""
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "subscription_id": features["subscription_id"],
            "as_of_date": features["as_of_date"],
            "definition": "TERMINATION",
            "label": (generator.random(len(features)) < leaving_chance(features)).astype(int),
            "matured_on": features["as_of_date"] + timedelta(days=67),
            "excluded_reason": pd.Series(None, index=features.index, dtype=object),
            "left_date": pd.Series(None, index=features.index, dtype=object),
        }
    )


@dataclass(frozen=True)
class World:
    """Stored snapshots and labels."""

    snapshots: list[Path]
    labels: Path
    models_dir: Path
    scores_dir: Path
    score_snapshot: Path


def world(folder: Path, subscriptions: int = 1500, dates: list[date] | None = None) -> World:
    """Write features, labels and a snapshot of the score date below a folder."""
    frame = pd.concat(
        [feature_rows(d, subscriptions) for d in dates or AS_OF_DATES], ignore_index=True
    )
    features_dir = folder / "features"
    stored = write_snapshots(pa.Table.from_pandas(frame), features_dir)
    labels = folder / "labels.parquet"
    write_labels(label_rows(frame), labels)
    today = pa.Table.from_pandas(feature_rows(SCORE_DATE, 400))
    return World(
        [s.path for s in stored],
        labels,
        folder / "models",
        folder / "scores",
        write_snapshots(today, features_dir)[0].path,
    )


def write_labels(labels: pd.DataFrame, path: Path) -> None:
    """Write labels as the compute engine exports them."""
    if "left_date" not in labels:
        labels = labels.assign(left_date=None)
    labels = labels.assign(left_date=pd.to_datetime(labels["left_date"]))
    table = pa.Table.from_pandas(labels, preserve_index=False)
    reason = table.schema.get_field_index("excluded_reason")
    table = table.set_column(reason, "excluded_reason", table["excluded_reason"].cast(pa.string()))
    pq.write_table(table, path)


def risk_params(**values: object) -> pd.DataFrame:
    """Return the risk parameters with some values replaced."""
    changed = RISK_PARAMS.copy()
    changed["value"] = [
        values.get(k, v) for k, v in zip(changed["key"], changed["value"], strict=True)
    ]
    return changed
