"""How many the tiers say will leave, and how many do; what contacts are expected to earn, and earn.

    python -m bench.said_and_came                       2,500 lines, 540 days, six later dates

Simulates an operator, trains as of a day with what was known then, scores that day and every second week
after it, as long as the labels have matured by the end of the history, and prints by payment type and
tier: lines, the sum of their chances, those that left, and the quotient; the profit that was expected of
their contacts, and what the same formula gives when the chance is replaced by what came. Lines beyond
reach have no chance and are left out, and so are those that no label judges (ended by the operator, or
before a list could be worked).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd

from keepline.commands import modelling, pipeline
from keepline.compute import compute_for
from keepline.settings import Settings
from keepline.window import Window
from models_ml.churn.dataset import GROUPS, payment_group
from models_ml.churn.parameters import CHEAP, DEAR, RiskParams, choose_params
from models_ml.churn.tiers import HIGH, LOW, MEDIUM, contact_profit_fen

from .small import LAST_DATE, small_operator

STEP_DAYS = 14
ALL_TIERS = (HIGH, MEDIUM, LOW, "TOTAL")


def measure(settings: Settings, last: date, dates: int) -> pd.DataFrame:
    """Train, score the dates and return said and come by payment type and tier.

    Args:
        settings: a warehouse whose history is built.
        last: last day of the history.
        dates: how many as-of dates to score; the model is trained on the first of them.
    """
    compute = compute_for(settings)
    maturity = compute.execute(
        "select cast(max(value) as integer) from seeds.param_churn_definition"
        " where key = 'inactivity_days'"
    )[0][0]
    spans = modelling._thresholds(compute, last)
    label_days = int(spans["label_gap_days"] + spans["label_window_days"])
    newest = last - timedelta(days=label_days + maturity)
    days = [newest - timedelta(days=STEP_DAYS * n) for n in reversed(range(dates))]
    modelling.train(settings, days[0])
    whole = Window(days[0], last + timedelta(days=1))
    pipeline.build(settings, "features", whole, as_of_dates=days)
    for day in days:
        modelling.score(settings, day)
    wanted = ", ".join(f"date '{day}'" for day in days)
    with compute.connection() as connection:
        rows = connection.execute(
            "select scores.*, features.payment_type, labels.label"
            " from ml.fct_churn_score as scores"
            " inner join features.label_churn as labels"
            " on scores.subscription_id = labels.subscription_id"
            " and scores.score_date = labels.as_of_date"
            " inner join features.feat_subscription_asof as features"
            " on scores.subscription_id = features.subscription_id"
            " and scores.score_date = features.as_of_date"
            f" where scores.score_date in ({wanted}) and labels.label is not null"
            " and scores.churn_probability is not null"
        ).df()
    params = choose_params(modelling._seed(compute, "param_risk_tier"), days[0])
    return by_tier(rows, params)


def by_tier(rows: pd.DataFrame, params: RiskParams) -> pd.DataFrame:
    """Return said and come of scored rows with labels, by payment type and tier.

    Args:
        rows: `payment_type`, `risk_tier`, `churn_probability`, `value_fen`, `expected_profit_fen`,
            `label`.
        params: what contacts cost and earn.
    """
    rows = rows.assign(payment_group=payment_group(rows["payment_type"]))
    found = []
    for group in GROUPS:
        for tier in ALL_TIERS:
            part = rows[rows["payment_group"] == group]
            part = part if tier == "TOTAL" else part[part["risk_tier"] == tier]
            said, came = part["churn_probability"].sum(), part["label"].sum()
            contacted = part[part["risk_tier"].isin([HIGH, MEDIUM])]
            found.append(
                {
                    "payment type": group,
                    "tier": tier,
                    "lines": len(part),
                    "said": round(float(said), 1),
                    "came": int(came),
                    "said/came": round(float(said / came), 2) if came else np.nan,
                    "profit expected": round(float(contacted["expected_profit_fen"].sum()) / 100),
                    "profit made": round(_made(contacted, params, group) / 100),
                }
            )
    return pd.DataFrame(found)


def _made(rows: pd.DataFrame, params: RiskParams, group: str) -> float:
    """Return the profit in fen of contacts when who would have left is known."""
    made = 0.0
    for tier, kind in ((HIGH, DEAR), (MEDIUM, CHEAP)):
        part = rows[rows["risk_tier"] == tier]
        profit = contact_profit_fen(
            part["label"].to_numpy(dtype=np.float64),
            part["value_fen"].to_numpy(dtype=np.float64),
            params.treatment(kind, group),
        )
        made += float(profit.sum())
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2500)
    parser.add_argument("--days", type=int, default=540)
    parser.add_argument("--dates", type=int, default=6)
    given = parser.parse_args(arguments)
    with small_operator("said-and-came", given.lines, given.days, train=False) as settings:
        found = measure(settings, LAST_DATE, given.dates)
    print(found.to_string(index=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
