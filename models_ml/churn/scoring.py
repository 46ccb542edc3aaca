"""Score one feature snapshot: probability, worth, tier and reasons for every living subscription.

Pure: frames and a model set in, a frame out. Reading the snapshot, verifying the model and writing
the scores is the job of `models_ml.churn.batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd

from models_ml.churn.dataset import flag, is_known, is_new, payment_group
from models_ml.churn.errors import FeatureMismatchError
from models_ml.churn.features import CHUNK_ROWS
from models_ml.churn.model import ModelSet, PaymentModel
from models_ml.churn.parameters import RiskParams
from models_ml.churn.reasons import REASON_COLUMNS, Catalogue, explain
from models_ml.churn.snapshot import AS_OF, KEY
from models_ml.churn.tiers import HIGH, MEDIUM, NEW, NODATA, SILENCE, assign_tiers, is_silent
from models_ml.churn.value import clv_12m_fen

RULE_NEW = "NEW_ON_NET"
RULE_UNKNOWN = "NOTHING_KNOWN"
RULE_NO_MODEL = "NO_MODEL"

SCORE_COLUMNS = (
    "score_date",
    KEY,
    "churn_probability",
    "score_percentile",
    "risk_tier",
    "tier_rule_id",
    "param_version",
    "value_fen",
    "expected_profit_fen",
    *REASON_COLUMNS,
    "model_version",
    "feature_snapshot_id",
    "score_run_id",
)
PREDICTED_COLUMNS = (
    KEY, AS_OF, "payment_group", SILENCE, "unscored", "raw_score", "churn_probability", "value_fen",
)  # fmt: skip
_NEEDED = (KEY, AS_OF, "payment_type", "full_months_on_net", "known_flag", SILENCE)


@dataclass(frozen=True)
class Stamps:
    """What every score carries so that it can be traced.

    Attributes:
        score_date: business day of the scores, equal to the as-of date of the features.
        feature_snapshot_id: the snapshot that was scored.
        score_run_id: hash of snapshot, model, parameters and catalogue.
    """

    score_date: date
    feature_snapshot_id: str
    score_run_id: str


def score_parts(
    parts: Callable[[], Iterable[pd.DataFrame]],
    models: ModelSet | None,
    params: RiskParams,
    catalogue: Catalogue,
    stamps: Stamps,
    num_threads: int = 0,
) -> pd.DataFrame:
    """Return one row per living subscription, in the order of the features, in `SCORE_COLUMNS`.

    NEW has less than three full months on net; NODATA has nothing known or no model; both have
    neither probability nor worth. A line that is silent for too long is LOW by a rule alone (`tiers`):
    no model learned from such lines and no contact reaches it, so it has neither probability nor
    percentile nor profit, but what it would bring in a year if it came back, its 12-month worth. All
    others get the calibrated probability of their payment type's model, their percentile among those
    of the payment type that have one (100 = the most at risk), their worth, a tier, and HIGH and
    MEDIUM up to three reasons.

    Args:
        parts: reads the features of one as-of date from the start, columns in any order; called once to
            predict and once to explain, so that one part at a time is in memory. Each part is sorted by
            `subscription_id` here; they must follow each other.
        models: verified models; None when there are none to use.
        params: parameters of the score date.
        catalogue: the features in words.
        stamps: what to write beside each score.
        num_threads: threads for prediction; 0 takes LightGBM's default. Does not change a score.

    Raises:
        FeatureMismatchError: a needed column is missing or retyped, a subscription has no id or
            more than one row, or the rows are of another day than the score date.
    """
    predicted = []
    for part in parts():
        _check_columns(part)
        predicted.append(predict_rows(living_rows(part), models, params, num_threads))
    result = judge(pd.concat(predicted, ignore_index=True), models, params, stamps)
    listed = is_listed(result)
    if models is None or not listed.any():
        return result
    start = 0
    for part, asked in zip(parts(), predicted, strict=True):
        at = listed[start : start + len(asked)]
        if at.any():
            reasons = explain_rows(living_rows(part)[at], models, catalogue, num_threads)
            result.loc[reasons.index + start, list(REASON_COLUMNS)] = reasons.to_numpy()
        start += len(asked)
    return result


def living_rows(features: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of living subscriptions, sorted by `subscription_id`, with `payment_group`."""
    rows = features
    if "is_alive" in rows:
        rows = rows[flag(rows["is_alive"])]
    rows = rows.sort_values(KEY, kind="stable").reset_index(drop=True)
    rows["payment_group"] = payment_group(rows["payment_type"])
    return rows


def predict_rows(
    rows: pd.DataFrame, models: ModelSet | None, params: RiskParams, num_threads: int = 0
) -> pd.DataFrame:
    """Return what can be said of each row alone, whatever part of a day the rows are.

    Args:
        rows: of `living_rows`.
        models: verified models; None when there are none to use.
        params: parameters of the score date.
        num_threads: threads for prediction; 0 takes LightGBM's default.

    Returns:
        `PREDICTED_COLUMNS` with the index of the rows; raw score, probability and worth are NaN where
        there is no model to ask, and `unscored` says why (`NEW_ON_NET`, `NOTHING_KNOWN` or `NO_MODEL`).
        Of a line that is silent for too long only the worth is told.

    Raises:
        FeatureMismatchError: the columns are not those of the model.
    """
    predicted = rows[[KEY, AS_OF, "payment_group", SILENCE]].copy()
    new = is_new(rows)
    unknown = ~new & (~is_known(rows) | rows["payment_group"].isna().to_numpy())
    predicted["unscored"] = np.where(
        new, RULE_NEW, np.where(unknown, RULE_UNKNOWN, RULE_NO_MODEL)
    ).astype(object)
    for name in ("raw_score", "churn_probability", "value_fen"):
        predicted[name] = np.nan
    for group, model in models.models.items() if models else ():
        at = (rows["payment_group"] == group).to_numpy() & ~new & ~unknown
        if at.any():
            _predict(predicted, rows[at], model, params, num_threads)
    return predicted


def judge(
    predicted: pd.DataFrame, models: ModelSet | None, params: RiskParams, stamps: Stamps
) -> pd.DataFrame:
    """Return the scores of a whole day, without reasons: percentiles and tiers compare its rows.

    Args:
        predicted: `PREDICTED_COLUMNS` of all rows of the day, sorted by `subscription_id`.
        models: the models that predicted.
        params: parameters of the score date.
        stamps: what to write beside each score.

    Raises:
        FeatureMismatchError: a subscription has no id or more than one row, or the rows are of
            another day than the score date.
    """
    _check_keys(predicted, stamps)
    result = _empty_result(predicted, params, stamps)
    new = (predicted["unscored"] == RULE_NEW).to_numpy()
    result["tier_rule_id"] = predicted["unscored"].astype(object)
    result.loc[new, "risk_tier"] = NEW
    # All that have a model: also the lines beyond reach, whose tier needs no probability.
    scored = predicted["value_fen"].notna().to_numpy()
    if models is None or not scored.any():
        return result
    result["churn_probability"] = predicted["churn_probability"]
    for group in models.models:
        of_group = (predicted["payment_group"] == group).to_numpy()
        raw = predicted.loc[of_group, "raw_score"].dropna()
        # Ranked by the raw score: calibration may put many rows on one step.
        result.loc[raw.index, "score_percentile"] = raw.rank(method="average", pct=True) * 100
    result.loc[scored, "value_fen"] = predicted.loc[scored, "value_fen"].astype(np.int64)
    result.loc[scored, "model_version"] = models.version
    judged = result.loc[scored, [KEY, "churn_probability", "value_fen"]]
    tiers = assign_tiers(judged.join(predicted.loc[scored, ["payment_group", SILENCE]]), params)
    for name in tiers:
        # By place: a label that pandas looks up among missing whole numbers may not be there.
        result.loc[scored, name] = tiers[name].array
    return result


def is_listed(scores: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Tell which scores need reasons: those that somebody may be called for."""
    listed: npt.NDArray[np.bool_] = scores["risk_tier"].isin([HIGH, MEDIUM]).to_numpy()
    return listed


def explain_rows(
    rows: pd.DataFrame, models: ModelSet, catalogue: Catalogue, num_threads: int = 0
) -> pd.DataFrame:
    """Return the reasons of listed rows, `REASON_COLUMNS` with the index of the rows.

    Args:
        rows: of `living_rows`, only those that need reasons.
        models: the models that predicted.
        catalogue: the features in words.
        num_threads: threads; 0 takes LightGBM's default.
    """
    found = []
    for group, model in models.models.items():
        of_group = rows[(rows["payment_group"] == group).to_numpy()]
        for part in _chunks(of_group, CHUNK_ROWS):
            contributions = model.contributions(model.space.matrix(part), num_threads)
            found.append(explain(part, contributions, model.space, catalogue))
    return pd.concat(found) if found else pd.DataFrame(columns=list(REASON_COLUMNS), dtype=object)


def _check_columns(features: pd.DataFrame) -> None:
    missing = sorted(set(_NEEDED) - set(features.columns))
    if missing:
        raise FeatureMismatchError(f"the features have no column {', '.join(missing)}")


def _check_keys(features: pd.DataFrame, stamps: Stamps) -> None:
    if features[KEY].isna().any():
        raise FeatureMismatchError(f"{int(features[KEY].isna().sum())} rows have no {KEY}")
    if features[KEY].duplicated().any():
        raise FeatureMismatchError(f"{int(features[KEY].duplicated().sum())} rows repeat a {KEY}")
    wrong = int((pd.to_datetime(features[AS_OF]) != pd.Timestamp(stamps.score_date)).sum())
    if wrong:
        raise FeatureMismatchError(f"{wrong} rows are not of the score date {stamps.score_date}")


def _empty_result(rows: pd.DataFrame, params: RiskParams, stamps: Stamps) -> pd.DataFrame:
    """Return the rows as NODATA without a model, every column in place."""
    result = pd.DataFrame(index=rows.index)
    result["score_date"] = pd.Series(stamps.score_date, index=rows.index, dtype=object)
    result[KEY] = rows[KEY].astype(object)
    result["churn_probability"] = np.nan
    result["score_percentile"] = np.nan
    result["risk_tier"] = pd.Series(NODATA, index=rows.index, dtype=object)
    result["tier_rule_id"] = pd.Series(RULE_NO_MODEL, index=rows.index, dtype=object)
    result["param_version"] = pd.Series(params.version, index=rows.index, dtype=object)
    result["value_fen"] = pd.Series(pd.NA, index=rows.index, dtype="Int64")
    result["expected_profit_fen"] = pd.Series(pd.NA, index=rows.index, dtype="Int64")
    for name in (*REASON_COLUMNS, "model_version"):
        result[name] = pd.Series(None, index=rows.index, dtype=object)
    result["feature_snapshot_id"] = pd.Series(
        stamps.feature_snapshot_id, index=rows.index, dtype=object
    )
    result["score_run_id"] = pd.Series(stamps.score_run_id, index=rows.index, dtype=object)
    return result


def _predict(
    predicted: pd.DataFrame,
    rows: pd.DataFrame,
    model: PaymentModel,
    params: RiskParams,
    num_threads: int,
) -> None:
    """Fill the worth of one payment type's rows, and raw score and probability of those in reach."""
    model.space.check(rows)
    worth = clv_12m_fen(rows, model.hazards, params.get("annual_discount_rate"))
    predicted.loc[rows.index, "value_fen"] = worth.astype(np.int64)
    reached = rows[~is_silent(rows, params)]
    for part in _chunks(reached, CHUNK_ROWS):
        raw = model.raw_scores(model.space.matrix(part), num_threads)
        predicted.loc[part.index, "raw_score"] = raw
        predicted.loc[part.index, "churn_probability"] = model.calibration.apply(raw)


def _chunks(rows: pd.DataFrame, size: int) -> list[pd.DataFrame]:
    return [rows.iloc[start : start + size] for start in range(0, len(rows), size)]


def tier_counts(scores: pd.DataFrame) -> dict[str, int]:
    """Return the number of rows per tier, tiers in a fixed order, zeros included."""
    counts: npt.NDArray[np.object_] = scores["risk_tier"].to_numpy(dtype=object)
    return {tier: int((counts == tier).sum()) for tier in (HIGH, MEDIUM, "LOW", NEW, NODATA)}
