"""Train one LightGBM model per payment type, calibrated and measured on later dates.

Training is reproducible: rows sorted, `deterministic` with `force_row_wise`, a fixed seed and a
fixed number of threads. Nothing here reads or writes a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from models_ml.churn.calibration import fit_calibration
from models_ml.churn.dataset import GROUPS, TimeSplit, split_by_time
from models_ml.churn.features import FeatureSpace, Matrix, learn_space
from models_ml.churn.metrics import area_under_curve, measure
from models_ml.churn.model import LabelParams, PaymentModel, Probe, TrainingParams
from models_ml.churn.snapshot import AS_OF, KEY
from models_ml.churn.value import learn_hazards

PROBE_ROWS = 16
SUSPICIOUS_AUC = 0.97
ACTIVE_WITHIN_DAYS = 7


@dataclass(frozen=True)
class Part:
    """Rows of one part of the time split, as the model reads them."""

    rows: pd.DataFrame
    matrix: Matrix
    left: np.ndarray[Any, np.dtype[np.float64]]

    @property
    def positives(self) -> int:
        """How many left."""
        return int(self.left.sum())


def train_groups(
    rows: pd.DataFrame, names: Sequence[str], label: LabelParams, params: TrainingParams
) -> tuple[dict[str, PaymentModel], dict[str, str]]:
    """Train a model for each payment type that has enough to learn from.

    Args:
        rows: labelled rows as `dataset.labelled_rows` returns them.
        names: feature columns in order.
        label: what the label means.
        params: how to train.

    Returns:
        the models by payment type, and for every other payment type the sentence that says why
        there is none.
    """
    models: dict[str, PaymentModel] = {}
    skipped: dict[str, str] = {}
    for group in GROUPS:
        # A fresh index: nothing of the other payment type's rows may be reached by position.
        found = rows[rows["payment_group"] == group].reset_index(drop=True)
        outcome = _train_group(group, found, names, label, params)
        if isinstance(outcome, PaymentModel):
            models[group] = outcome
        else:
            skipped[group] = outcome
    return models, skipped


def _train_group(
    group: str,
    rows: pd.DataFrame,
    names: Sequence[str],
    label: LabelParams,
    params: TrainingParams,
) -> PaymentModel | str:
    if rows.empty:
        return f"{group}: too little to train on: there is not one matured row"
    problem = ""
    # With the parts a label window apart no leaving is in two of them. That costs dates, so it is done
    # where enough leavers remain; a note says when it was not.
    for apart_days, least in (
        (label.window_days, params.min_positives_apart),
        (0, params.min_positives),
    ):
        split = split_by_time(list(rows[AS_OF]), params.test_dates, apart_days)
        if split is None:
            problem = (
                f"{group}: too little to train on: {int(rows['label'].sum())} leavers among "
                f"{len(rows)} matured rows of {rows[AS_OF].nunique()} as-of dates; training, "
                f"validation and test need {params.test_dates + 2} dates"
            )
            continue
        space = learn_space(names, rows[rows[AS_OF].isin(split.train)])
        train, validation, test = (
            _part(rows, dates, space) for dates in (split.train, split.validation, split.test)
        )
        problem = _too_few(
            group,
            least,
            params.min_positives_held_out,
            train=train,
            validation=validation,
            test=test,
        )
        if not problem:
            return _train_split(group, space, split, (train, validation, test), label, params)
    return problem


def _train_split(
    group: str,
    space: FeatureSpace,
    split: TimeSplit,
    parts: tuple[Part, Part, Part],
    label: LabelParams,
    params: TrainingParams,
) -> PaymentModel | str:
    train, validation, test = parts
    booster = _fit(space, train, validation, params)
    raw = np.asarray(booster.predict(validation.matrix, num_threads=params.num_threads))
    auc = area_under_curve(raw, validation.left)
    if auc < params.min_validation_auc:
        return (
            f"{group}: the features do not tell leavers from stayers: AUC {auc:.3f} on "
            f"{split.validation[0]} with {validation.positives} leavers, below "
            f"{params.min_validation_auc}; no model is kept"
        )
    probe_rows = make_probe(space, train.matrix, params.seed)
    model = PaymentModel(
        text=booster.model_to_string(),
        space=space,
        calibration=fit_calibration(raw, validation.left),
        hazards=learn_hazards(train.rows, label.window_days),
        metrics={},
        split=split,
        notes=(
            *_suspicions(space, train),
            *_overlap_note(split, label),
        ),
        probe=Probe(
            rows=tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in probe_rows),
            scores=tuple(float(s) for s in booster.predict(probe_rows, num_threads=1)),
        ),
    )
    metrics = _measure_parts(model, train=train, validation=validation, test=test)
    metrics["trees"] = booster.num_trees()
    return replace(model, metrics=metrics)


def _part(rows: pd.DataFrame, dates: Sequence[date], space: FeatureSpace) -> Part:
    found = rows[rows[AS_OF].isin(dates)]
    return Part(found, space.matrix(found), found["label"].to_numpy(dtype=np.float64))


def _too_few(group: str, least: int, least_held_out: int, **parts: Part) -> str:
    for name, part in parts.items():
        needed = least if name == "train" else least_held_out
        if part.positives < needed or part.positives == len(part.left):
            shown = "training" if name == "train" else name
            return (
                f"{group}: too little to train on: {part.positives} leavers among {len(part.left)} "
                f"rows of the {shown} dates, and a model needs at least {needed}"
            )
    return ""


def _fit(space: FeatureSpace, train: Part, validation: Part, params: TrainingParams) -> Any:  # noqa: ANN401
    """Return a booster cut at the round that did best on the validation date."""
    import lightgbm

    settings = {
        "objective": "binary",
        "metric": "binary_logloss",
        "deterministic": True,
        "force_row_wise": True,
        "seed": params.seed,
        "num_threads": params.num_threads,
        "num_leaves": params.num_leaves,
        "max_depth": params.max_depth,
        "learning_rate": params.learning_rate,
        "min_data_in_leaf": params.min_data_in_leaf,
        "feature_fraction": params.feature_fraction,
        "lambda_l2": params.lambda_l2,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(
        train.matrix,
        train.left,
        feature_name=list(space.names),
        categorical_feature=[space.names.index(name) for name in space.categories],
        params=settings,
    )
    booster = lightgbm.train(
        settings,
        data,
        num_boost_round=params.max_rounds,
        valid_sets=[lightgbm.Dataset(validation.matrix, validation.left, reference=data)],
        callbacks=[lightgbm.early_stopping(params.early_stopping_rounds, verbose=False)],
    )
    # A fresh booster of the best rounds: what is measured is exactly what is stored.
    best = booster.model_to_string(num_iteration=booster.best_iteration)
    return lightgbm.Booster(model_str=best)


def make_probe(space: FeatureSpace, matrix: Matrix, seed: int) -> Matrix:
    """Return made-up rows that reach many leaves: each cell a quantile of its column, or missing.

    No row is a real subscription, so a model file holds nothing of a person.
    """
    generator = np.random.default_rng(seed)
    probe = np.full((PROBE_ROWS, len(space.names)), np.nan, dtype=np.float32)
    for position in range(len(space.names)):
        values = matrix[:, position]
        values = values[~np.isnan(values)]
        if len(values):
            levels = np.quantile(
                values, [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0], method="nearest"
            ).astype(np.float32)
            probe[:, position] = generator.choice(levels, PROBE_ROWS)
    probe[0, :] = np.nan
    return probe


def _measure_parts(model: PaymentModel, **parts: Part) -> dict[str, Any]:
    """Return the measures per part, and of two harder halves of the test.

    Those are the subscriptions that training never saw, and those that were still in use: it is easy
    to foresee that a line which has gone silent is lost.
    """
    metrics: dict[str, Any] = {
        "train": {"n": len(parts["train"].left), "positives": parts["train"].positives}
    }
    for name in ("validation", "test"):
        part = parts[name]
        raw = model.raw_scores(part.matrix)
        metrics[name] = measure(model.calibration.apply(raw), part.left)
        if name == "test":
            seen = part.rows[KEY].isin(parts["train"].rows[KEY]).to_numpy()
            for title, rows in (
                ("test_unseen_subscriptions", ~seen),
                ("test_still_active", _is_active(part.rows)),
            ):
                metrics[title] = measure(model.calibration.apply(raw[rows]), part.left[rows])
    gains = model.booster().feature_importance(importance_type="gain")
    order = np.argsort(-gains, kind="stable")[:20]
    total = float(gains.sum()) or 1.0
    metrics["top_features"] = [
        [model.space.names[i], round(float(gains[i]) / total, 6)] for i in order if gains[i] > 0
    ]
    return metrics


def _is_active(rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell which subscriptions were used within a week: those that have not gone silent already."""
    if "days_since_activity" not in rows:
        return np.ones(len(rows), dtype=bool)
    silent = rows["days_since_activity"].to_numpy(dtype=np.float64, na_value=np.inf)
    return np.asarray(silent < ACTIVE_WITHIN_DAYS)


def _suspicions(space: FeatureSpace, train: Part) -> list[str]:
    """Return a sentence per feature that alone tells the label almost exactly: look for a leak."""
    sentences = []
    for position, name in enumerate(space.names):
        if name in space.categories:
            continue
        values = train.matrix[:, position].astype(np.float64)
        values = np.where(np.isnan(values), -np.inf, values)
        auc = area_under_curve(values, train.left)
        if max(auc, 1 - auc) >= SUSPICIOUS_AUC:
            sentences.append(
                f"{name} alone orders leavers with an AUC of {max(auc, 1 - auc):.3f}: check that it "
                "does not know the future"
            )
    return sentences


def _overlap_note(split: TimeSplit, label: LabelParams) -> list[str]:
    """Say when the test is kinder than life: the same leavings in training and test."""
    overlap = label.window_days - (split.test[0] - split.train[-1]).days
    if overlap <= 0:
        return []
    return [
        f"the label windows of the training dates reach {overlap} days into that of the test date "
        f"{split.test[0]}, so some leavings are in both and the test is kinder than life"
    ]
