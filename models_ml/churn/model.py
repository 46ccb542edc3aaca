"""A trained set of churn models: one per payment type, or the sentence that says why there is none.

Everything is plain data (a model is LightGBM's text), so the set has one JSON form and its version
is the hash of that form: the same training gives the same version on any day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from models_ml.churn.calibration import Calibration
from models_ml.churn.dataset import GROUPS, TimeSplit
from models_ml.churn.features import CHUNK_ROWS, FeatureSpace, Matrix
from models_ml.churn.immutable import canonical_json, sha256_of_bytes

FORMAT = 2
# What was written before keeps its meaning: it only lacks what later formats added.
READABLE_FORMATS = (1, FORMAT)
VERSION_PREFIX = "churn-"
VERSION_HEX = 16


@dataclass(frozen=True)
class LabelParams:
    """What the label means; kept with the model because its probabilities mean just that.

    Attributes:
        gap_days: days between the as-of date and the label window, so that a list can be worked.
        window_days: length of the label window.
        silence_days: by payment type that is lost by silence, for how many days a line may have been
            silent on the as-of date to be judged; its silence counts from its first day.
    """

    gap_days: int
    window_days: int
    silence_days: Mapping[str, int] = field(default_factory=dict)

    def span_days(self, group: str) -> int:
        """Return how far apart two as-of dates must be for no leaving to be labelled on both.

        A loss by silence is dated back to the first silent day, up to `silence_days` before the
        as-of date; any loss is labelled up to the end of the window. With the gap counted in, the
        leavings of the earlier date are over when the later date begins.
        """
        return self.gap_days + self.window_days + self.silence_days.get(group, 0)


@dataclass(frozen=True)
class TrainingParams:
    """How to train. The tree shape is chosen for the cost of exact reasons (leaves x depth^2).

    Attributes:
        seed: LightGBM's seed.
        num_threads: threads; part of the result, so it is fixed and not the machine's count.
        min_positives: leavers that the training dates must hold.
        min_positives_apart: leavers that the training dates must hold to keep the parts as far apart
            as a leaving reaches; with fewer, the parts are as far apart as the dates allow and the
            card says so.
        min_positives_held_out: leavers that validation and test must hold each.
        min_validation_auc: a model below it orders hardly better than chance and is not kept.
        test_dates: newest as-of dates kept for the test; as many before them validate.
        level_days: days of the newest as-of dates on which the chances add up to those who left. A
            year holds each season and several campaigns once; of a shorter time the level is that of
            a wave, which is over when the labels have matured.
    """

    seed: int = 20250101
    num_threads: int = 2
    num_leaves: int = 12
    max_depth: int = 4
    learning_rate: float = 0.06
    max_rounds: int = 300
    early_stopping_rounds: int = 30
    min_data_in_leaf: int = 30
    feature_fraction: float = 0.8
    lambda_l2: float = 5.0
    min_positives: int = 40
    min_positives_apart: int = 150
    min_positives_held_out: int = 10
    min_validation_auc: float = 0.55
    test_dates: int = 1
    level_days: int = 365


@dataclass(frozen=True)
class Hazards:
    """Chance of leaving in a month by brand and tenure band, for the worth of a kept subscription.

    Attributes:
        overall: monthly chance of the whole payment type.
        by_segment: monthly chance by `<brand>|<band>`, drawn towards `overall` where few were seen.
    """

    overall: float
    by_segment: Mapping[str, float]


@dataclass(frozen=True)
class Probe:
    """Made-up feature rows with the raw scores that the stored model must give them."""

    rows: tuple[tuple[float | None, ...], ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class PaymentModel:
    """The model of one payment type.

    Attributes:
        text: LightGBM's model text.
        space: its columns.
        calibration: raw score to probability.
        hazards: base chances of leaving, from the labels of all rows.
        metrics: measures by part: `validation`, `test`, `test_unseen_subscriptions`,
            `test_still_active`, made before the model in use was fitted to all rows (`training`);
            `said_and_came` of the test dates, a list of `tier` (HIGH, MEDIUM, LOW, TOTAL),
            `subscriptions`, `said` (sum of their chances) and `came` (those that left); `train` and
            `in_use` with `n` and `positives`; `trees` and `top_features` (name and share of the gain)
            of the model in use.
        split: as-of dates of each part; the model in use learned from all of them and those between.
        notes: sentences for the model card.
        probe: rows to try the stored model with.
    """

    text: str
    space: FeatureSpace
    calibration: Calibration
    hazards: Hazards
    metrics: Mapping[str, Any]
    split: TimeSplit
    notes: tuple[str, ...]
    probe: Probe
    _boosters: list[Any] = field(default_factory=list, repr=False, compare=False)

    def raw_scores(self, matrix: Matrix, num_threads: int = 0) -> npt.NDArray[np.float64]:
        """Return uncalibrated scores of a matrix in the model's column order."""
        booster = self.booster()
        parts = [
            booster.predict(matrix[start : start + CHUNK_ROWS], num_threads=num_threads)
            for start in range(0, len(matrix), CHUNK_ROWS)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def contributions(self, matrix: Matrix, num_threads: int = 0) -> npt.NDArray[np.float64]:
        """Return exact Shapley contributions to the log-odds, (n, k), without the base value."""
        if not len(matrix):
            return np.empty((0, len(self.space.names)))
        found = self.booster().predict(matrix, pred_contrib=True, num_threads=num_threads)
        return np.asarray(found)[:, :-1]

    def booster(self) -> Any:  # noqa: ANN401 - LightGBM has no types
        """Return LightGBM's object, made from the text at the first call."""
        if not self._boosters:
            import lightgbm

            self._boosters.append(lightgbm.Booster(model_str=self.text))
        return self._boosters[0]


@dataclass(frozen=True)
class ModelSet:
    """What one training left behind.

    Attributes:
        models: by payment type; none, one or two.
        skipped: by payment type, the sentence that says why it has no model.
        known_on: training day; every label used had matured by then.
        label: what the label means.
        params: how it was trained.
        snapshots: feature snapshot id by as-of date.
        labels_sha256: hash of the labels learned from, in order of date and subscription.
        libraries: versions of the libraries that made it.
    """

    models: Mapping[str, PaymentModel]
    skipped: Mapping[str, str]
    known_on: date
    label: LabelParams
    params: TrainingParams
    snapshots: Mapping[str, str]
    labels_sha256: str
    libraries: Mapping[str, str]

    @property
    def version(self) -> str:
        """The name of the set: a hash of all that it holds."""
        return version_of(self.as_document())

    def as_document(self) -> dict[str, Any]:
        """Return the set as JSON can hold it; model texts by their hash."""
        return {
            "format": FORMAT,
            "known_on": self.known_on.isoformat(),
            "label": vars(self.label).copy(),
            "params": vars(self.params).copy(),
            "snapshots": dict(self.snapshots),
            "labels_sha256": self.labels_sha256,
            "libraries": dict(self.libraries),
            "skipped": dict(self.skipped),
            "models": {group: _model_document(model) for group, model in self.models.items()},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], texts: Mapping[str, str]) -> ModelSet:
        """Return the set that `as_document` described.

        Args:
            document: what `as_document` gave.
            texts: LightGBM's model text by payment type.
        """
        return cls(
            models={
                group: _model_from(document["models"][group], texts[group])
                for group in GROUPS
                if group in document["models"]
            },
            skipped={g: document["skipped"][g] for g in GROUPS if g in document["skipped"]},
            known_on=date.fromisoformat(document["known_on"]),
            label=LabelParams(**document["label"]),
            params=TrainingParams(**document["params"]),
            snapshots=dict(document["snapshots"]),
            labels_sha256=document["labels_sha256"],
            libraries=dict(document["libraries"]),
        )


def version_of(document: Mapping[str, Any]) -> str:
    """Return the version that a document of `ModelSet.as_document` has by its content."""
    digest = sha256_of_bytes(canonical_json(document).encode())
    return VERSION_PREFIX + digest[:VERSION_HEX]


def _model_document(model: PaymentModel) -> dict[str, Any]:
    return {
        "text_sha256": sha256_of_bytes(model.text.encode()),
        "features": list(model.space.names),
        "categories": {name: list(values) for name, values in model.space.categories.items()},
        "typical": {name: _none_if_nan(v) for name, v in model.space.typical.items()},
        "calibration": model.calibration.as_document(),
        "hazards": {
            "overall": model.hazards.overall,
            "by_segment": dict(model.hazards.by_segment),
        },
        "metrics": dict(model.metrics),
        "split": {
            "train": [d.isoformat() for d in model.split.train],
            "validation": [d.isoformat() for d in model.split.validation],
            "test": [d.isoformat() for d in model.split.test],
        },
        "notes": list(model.notes),
        "probe": {
            "rows": [list(row) for row in model.probe.rows],
            "scores": list(model.probe.scores),
        },
    }


def _model_from(part: Mapping[str, Any], text: str) -> PaymentModel:
    return PaymentModel(
        text=text,
        space=FeatureSpace(
            names=tuple(part["features"]),
            categories={name: tuple(v) for name, v in part["categories"].items()},
            typical={name: _nan_if_none(v) for name, v in part["typical"].items()},
        ),
        calibration=Calibration.from_document(part["calibration"]),
        hazards=Hazards(part["hazards"]["overall"], dict(part["hazards"]["by_segment"])),
        metrics=dict(part["metrics"]),
        split=TimeSplit(
            **{
                name: tuple(date.fromisoformat(day) for day in part["split"][name])
                for name in ("train", "validation", "test")
            }
        ),
        notes=tuple(part["notes"]),
        probe=Probe(
            rows=tuple(tuple(row) for row in part["probe"]["rows"]),
            scores=tuple(part["probe"]["scores"]),
        ),
    )


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan_if_none(value: float | None) -> float:
    return math.nan if value is None else value
