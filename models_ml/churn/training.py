"""Train one LightGBM model per payment type: chosen and measured on later dates, then fitted to all.

A booster is fitted to the oldest dates (train) and its rounds are chosen on later ones (validation).
With as many rounds, grown with the rows, it is fitted again to all dates up to the validation and
measured on the newest ones (test); no leaving is in two of these parts. What is shipped is made in the
same way of every matured date, as the newest tell most of the months to come: none is left to measure
it on, so the measures that stay with it are those of the same recipe, ended before the test.

Training is reproducible: rows sorted, `deterministic` with `force_row_wise`, a fixed seed and a
fixed number of threads. Nothing here reads or writes a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from models_ml.churn.calibration import own_chances, settle
from models_ml.churn.dataset import GROUPS, TimeSplit, split_by_time
from models_ml.churn.features import FeatureSpace, Matrix, learn_space
from models_ml.churn.metrics import area_under_curve, measure
from models_ml.churn.model import LabelParams, PaymentModel, Probe, TrainingParams
from models_ml.churn.parameters import RiskParams
from models_ml.churn.said_and_came import said_and_came
from models_ml.churn.snapshot import AS_OF, KEY
from models_ml.churn.value import learn_hazards

Vector = np.ndarray[Any, np.dtype[np.float64]]

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
    rows: pd.DataFrame,
    names: Sequence[str],
    label: LabelParams,
    params: TrainingParams,
    params_of: Callable[[date], RiskParams],
) -> tuple[dict[str, PaymentModel], dict[str, str]]:
    """Train a model for each payment type that has enough to learn from.

    Args:
        rows: labelled rows as `dataset.labelled_rows` returns them.
        names: feature columns in order.
        label: what the label means.
        params: how to train.
        params_of: the risk parameters of a day, for the tiers that the test is told by.

    Returns:
        the models by payment type, and for every other payment type the sentence that says why
        there is none.
    """
    models: dict[str, PaymentModel] = {}
    skipped: dict[str, str] = {}
    for group in GROUPS:
        # A fresh index: nothing of the other payment type's rows may be reached by position.
        found = rows[rows["payment_group"] == group].reset_index(drop=True)
        outcome = _train_group(group, found, names, label, params, params_of)
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
    params_of: Callable[[date], RiskParams],
) -> PaymentModel | str:
    if rows.empty:
        return f"{group}: too little to train on: there is not one matured row"
    split = _split(group, rows, label, params)
    if isinstance(split, str):
        return split
    space = learn_space(names, rows[rows[AS_OF].isin(split.train)])
    train, validation, test = (
        _part(rows, dates, space) for dates in (split.train, split.validation, split.test)
    )
    chosen = _choose(space, train, validation, params)
    auc = area_under_curve(_scores(chosen, validation.matrix, params), validation.left)
    if auc < params.min_validation_auc:
        return (
            f"{group}: the features do not tell leavers from stayers: AUC {auc:.3f} on "
            f"{split.validation[0]} with {validation.positives} leavers, below "
            f"{params.min_validation_auc}; no model is kept"
        )
    rounds = chosen.num_trees()
    known = rows[rows[AS_OF] <= split.validation[-1]]
    measured = _fit_again(known, names, split, rounds, label, params)
    metrics = _measure_parts(measured, chosen, known, train, validation, test)
    metrics["said_and_came"] = said_and_came(
        test.rows,
        measured.calibration.apply(measured.raw_scores(measured.space.matrix(test.rows))),
        measured.hazards,
        params_of,
    )
    shipped = _fit_again(rows, names, split, rounds, label, params)
    metrics["in_use"] = {"n": len(rows), "positives": int(rows["label"].sum())}
    metrics["trees"] = shipped.booster().num_trees()
    metrics["top_features"] = _top_features(shipped)
    notes = (
        *_suspicions(space, train),
        *_nearness_note(group, split, label),
        f"the model in use is fitted again to all {len(rows)} matured rows up to {split.test[-1]}; the "
        f"measures are of the same recipe, ended on {split.validation[-1]}",
    )
    return replace(shipped, metrics=metrics, notes=notes)


def _split(
    group: str, rows: pd.DataFrame, label: LabelParams, params: TrainingParams
) -> TimeSplit | str:
    """Return the parts, as far apart as a leaving reaches where the history is long enough for it.

    Else the farthest apart at which the oldest part holds enough leavers; or the sentence that says
    why there is no split at all.
    """
    leavers = rows.groupby(AS_OF)["label"].sum()
    problem = ""
    for least in (params.min_positives_apart, params.min_positives):
        for apart_days in range(label.span_days(group), 0, -1):
            split = split_by_time(list(leavers.index), params.test_dates, apart_days)
            if split is None:
                problem = problem or (
                    f"{group}: too little to train on: {int(leavers.sum())} leavers among "
                    f"{len(rows)} matured rows of {len(leavers)} as-of dates; training, "
                    f"validation and test need {params.test_dates + 2} dates"
                )
                continue
            problem = _too_few(group, rows, split, least, params.min_positives_held_out)
            if not problem:
                return split
    return problem


def _too_few(
    group: str, rows: pd.DataFrame, split: TimeSplit, least: int, least_held_out: int
) -> str:
    for name, dates, needed in (
        ("training", split.train, least),
        ("validation", split.validation, least_held_out),
        ("test", split.test, least_held_out),
    ):
        part = rows.loc[rows[AS_OF].isin(dates), "label"]
        positives = int(part.sum())
        if positives < needed or positives == len(part):
            return (
                f"{group}: too little to train on: {positives} leavers among {len(part)} "
                f"rows of the {name} dates, and a model needs at least {needed}"
            )
    return ""


def _fit_again(
    rows: pd.DataFrame,
    names: Sequence[str],
    split: TimeSplit,
    rounds: int,
    label: LabelParams,
    params: TrainingParams,
) -> PaymentModel:
    """Return a model of all these rows, without measures and notes.

    More rows carry more rounds. They grow with the square root of the rows: a tree more for each row
    more would learn the noise that the chosen number of rounds avoided.

    The chances are the booster's own, moved as a whole so that over the newest year they add up to
    those who left. The shape is not fitted: held-out scores exist only of the booster that chose the
    rounds, and what that one overstates or understates with its few rows is its own; bent after it,
    this one came out worse on later dates. The level is one figure; that the booster has seen the
    rows hardly sways their sum. It drifts over years and swings within months: set on the few newest
    dates it follows swings that are over when the scores are used, and came out worse, too.

    Args:
        rows: what to fit to.
        names: feature columns in order.
        split: the parts, to stay with the model.
        rounds: rounds that were chosen on the training part.
        label: what the label means.
        params: how to train.
    """
    space = learn_space(names, rows)
    whole = _part(rows, sorted(set(rows[AS_OF])), space)
    grown = math.sqrt(len(rows) / rows[AS_OF].isin(split.train).sum())
    booster = _fit(space, whole, params, min(max(round(rounds * grown), 1), params.max_rounds))
    level = rows[rows[AS_OF] > rows[AS_OF].max() - timedelta(days=params.level_days)]
    probe_rows = make_probe(space, whole.matrix, params.seed)
    return PaymentModel(
        text=booster.model_to_string(),
        space=space,
        calibration=settle(
            own_chances(),
            _scores(booster, space.matrix(level), params),
            level["label"].to_numpy(dtype=np.float64),
        ),
        hazards=learn_hazards(whole.rows, label),
        metrics={},
        split=split,
        notes=(),
        probe=Probe(
            rows=tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in probe_rows),
            scores=tuple(float(s) for s in booster.predict(probe_rows, num_threads=1)),
        ),
    )


def _scores(booster: Any, matrix: Matrix, params: TrainingParams) -> Vector:  # noqa: ANN401
    return np.asarray(booster.predict(matrix, num_threads=params.num_threads))


def _part(rows: pd.DataFrame, dates: Sequence[date], space: FeatureSpace) -> Part:
    found = rows[rows[AS_OF].isin(dates)]
    return Part(found, space.matrix(found), found["label"].to_numpy(dtype=np.float64))


def _choose(space: FeatureSpace, train: Part, validation: Part, params: TrainingParams) -> Any:  # noqa: ANN401
    """Return a booster cut at the round that did best on the validation dates."""
    import lightgbm

    data = _dataset(space, train, params)
    booster = lightgbm.train(
        _settings(params),
        data,
        num_boost_round=params.max_rounds,
        valid_sets=[lightgbm.Dataset(validation.matrix, validation.left, reference=data)],
        callbacks=[lightgbm.early_stopping(params.early_stopping_rounds, verbose=False)],
    )
    # A fresh booster of the best rounds: what is measured is exactly what it is cut to.
    best = booster.model_to_string(num_iteration=booster.best_iteration)
    return lightgbm.Booster(model_str=best)


def _fit(space: FeatureSpace, part: Part, params: TrainingParams, rounds: int) -> Any:  # noqa: ANN401
    """Return a booster of so many rounds, as it reads from its own text."""
    import lightgbm

    booster = lightgbm.train(
        _settings(params), _dataset(space, part, params), num_boost_round=rounds
    )
    return lightgbm.Booster(model_str=booster.model_to_string())


def _dataset(space: FeatureSpace, part: Part, params: TrainingParams) -> Any:  # noqa: ANN401
    import lightgbm

    return lightgbm.Dataset(
        part.matrix,
        part.left,
        feature_name=list(space.names),
        categorical_feature=[space.names.index(name) for name in space.categories],
        params=_settings(params),
    )


def _settings(params: TrainingParams) -> dict[str, Any]:
    return {
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


def _measure_parts(
    measured: PaymentModel,
    chosen: Any,  # noqa: ANN401 - LightGBM has no types
    known: pd.DataFrame,
    train: Part,
    validation: Part,
    test: Part,
) -> dict[str, Any]:
    """Return the measures per part, and of two harder halves of the test.

    Those are the subscriptions that training never saw, and those that were still in use: it is easy
    to foresee that a line which has gone silent is lost. On the validation dates the booster that
    chose the rounds is measured, as the one that is tested has learned from them.
    """
    held_out = np.asarray(chosen.predict(validation.matrix, num_threads=1))
    level = settle(own_chances(), held_out, validation.left)
    said = measured.calibration.apply(measured.raw_scores(measured.space.matrix(test.rows)))
    seen = test.rows[KEY].isin(known[KEY]).to_numpy()
    active = _is_active(test.rows)
    return {
        "train": {"n": len(train.left), "positives": train.positives},
        "validation": measure(level.apply(held_out), validation.left),
        "test": measure(said, test.left),
        "test_unseen_subscriptions": measure(said[~seen], test.left[~seen]),
        "test_still_active": measure(said[active], test.left[active]),
    }


def _top_features(model: PaymentModel) -> list[list[Any]]:
    """Return the most used features with their share of the gain, at most twenty."""
    gains = model.booster().feature_importance(importance_type="gain")
    order = np.argsort(-gains, kind="stable")[:20]
    total = float(gains.sum()) or 1.0
    return [
        [model.space.names[i], round(float(gains[i]) / total, 6)] for i in order if gains[i] > 0
    ]


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


def _nearness_note(group: str, split: TimeSplit, label: LabelParams) -> list[str]:
    """Say when the test is kinder than life: the same leavings in two parts."""
    wanted = label.span_days(group)
    apart = min(
        (split.validation[0] - split.train[-1]).days, (split.test[0] - split.validation[-1]).days
    )
    if apart >= wanted:
        return []
    return [
        f"the history is too short to keep training, validation and test {wanted} days apart, as far "
        f"as a leaving reaches: they are {apart} days apart, so some leavings are in two of them and "
        "the test is kinder than life"
    ]
