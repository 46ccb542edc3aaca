"""The two entry points, `train` and `score`: from stored Parquet to stored models and scores.

Everything between reading and writing is pure, so a rerun over the same files writes the same bytes.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from keepline.failpoint import reach
from models_ml.churn import score_shelf
from models_ml.churn.dataset import labelled_rows, payment_group
from models_ml.churn.errors import LabelError, ModelVerificationError, SnapshotError
from models_ml.churn.features import choose_features, refuse_leaks
from models_ml.churn.immutable import (
    canonical_json,
    sha256_of_bytes,
    sha256_of_file,
    write_atomically,
)
from models_ml.churn.model import LabelParams, ModelSet, TrainingParams
from models_ml.churn.parameters import RiskParams, choose_params
from models_ml.churn.reasons import Catalogue
from models_ml.churn.registry import (
    champion_version,
    load_model_set,
    promote,
    save_model_set,
)
from models_ml.churn.scoring import SCORE_COLUMNS, Stamps, score_parts, tier_counts
from models_ml.churn.snapshot import AS_OF, KEY, open_snapshot, read_frame, read_parts

SCORE_DATE = "score_date"
_INTEGERS = ("value_fen", "expected_profit_fen")
_NUMBERS = ("churn_probability", "score_percentile")


@dataclass(frozen=True)
class TrainingReport:
    """What a training did, for the screen and the log.

    Attributes:
        version: version of the model set.
        path: its folder.
        promoted: whether it is the champion now.
        sentences: what a person should read: which payment type has no model and why, why the
            champion stayed.
        notes: what else the model card says of the test and of suspicious features.
        metrics: measures on the test date by payment type that has a model.
        rows: labelled rows that were learned from, all parts.
        seconds: time taken.
    """

    version: str
    path: Path
    promoted: bool
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, Any]]
    rows: int
    seconds: float


@dataclass(frozen=True)
class ScoreReport:
    """What a scoring wrote, for the screen and the load.

    Attributes:
        path: Parquet file with the columns of `ml.fct_churn_score`.
        sha256: hash of its bytes.
        rows: subscriptions in it.
        tiers: rows per tier.
        model_version: None when no model was used.
        param_version: parameters that made the tiers.
        feature_snapshot_id: snapshot that was scored.
        score_run_id: hash of snapshot, model, parameters and catalogue.
        sentences: why rows are NODATA, and which categories were new to the model.
        seconds: time taken.
    """

    path: Path
    sha256: str
    rows: int
    tiers: Mapping[str, int]
    model_version: str | None
    param_version: str
    feature_snapshot_id: str
    score_run_id: str
    sentences: tuple[str, ...]
    seconds: float
    unseen_shares: Mapping[str, float] = field(default_factory=dict)


class Scorer(Protocol):
    """Scores a snapshot as `scoring.score_parts` does, on other machines."""

    def __call__(
        self,
        snapshot: Path,
        models: ModelSet | None,
        params: RiskParams,
        catalogue: Catalogue,
        stamps: Stamps,
    ) -> pd.DataFrame:
        """Return the same rows in the same order as `score_parts`."""
        ...


def train(
    snapshot_paths: Sequence[Path],
    labels_path: Path,
    models_dir: Path,
    catalog: pd.DataFrame,
    known_on: date,
    label: LabelParams,
    params: TrainingParams | None = None,
    *,
    risk_params: pd.DataFrame,
) -> TrainingReport:
    """Train, store and promote a model set.

    A set without a model for a payment type that the champion can score is stored but not promoted.

    Args:
        snapshot_paths: feature snapshots of the as-of dates to learn from.
        labels_path: Parquet of `label_churn`.
        models_dir: the model shelf.
        catalog: table `feature_catalog`; its features, where the snapshots have them, are used.
        known_on: training day; only labels with `matured_on <= known_on` are read.
        label: gap and window of the label.
        params: how to train.
        risk_params: table `param_risk_tier`, for the tiers that the test is told by.

    Returns:
        the report. Too little to train on is not an error: the set then holds the sentence.

    Raises:
        SnapshotError: a snapshot is damaged, or they do not have the same columns.
        LeakError: the catalogue names a column that knows the future.
        LabelError: the labels cannot be joined one to one.
        RiskParameterError: a parameter of a test date is missing or out of range.
    """
    from models_ml.churn.training import train_groups

    begun = time.perf_counter()
    params = params or TrainingParams()
    words = Catalogue.from_frame(catalog)
    refuse_leaks(words.features)
    features, snapshots = _read_snapshots(snapshot_paths)
    if not labels_path.is_file():
        raise LabelError(f"there is no label file {labels_path}: export the labels first")
    rows = labelled_rows(features, read_frame(labels_path), known_on)
    models, skipped = train_groups(
        rows,
        choose_features(words.features, rows),
        label,
        params,
        partial(choose_params, risk_params),
    )
    trained = ModelSet(
        models=models,
        skipped=skipped,
        known_on=known_on,
        label=label,
        params=params,
        snapshots=snapshots,
        labels_sha256=_hash_of_labels(rows),
        libraries=_libraries(),
    )
    path = save_model_set(trained, models_dir)
    kept = _why_champion_stays(trained, models_dir)
    if kept is None:
        promote(models_dir, trained.version)
    notes = [f"{group}: {note}" for group, model in models.items() for note in model.notes]
    return TrainingReport(
        version=trained.version,
        path=path,
        promoted=kept is None,
        sentences=(*skipped.values(), *([kept] if kept else [])),
        notes=tuple(notes),
        metrics={group: model.metrics["test"] for group, model in models.items()},
        rows=len(rows),
        seconds=time.perf_counter() - begun,
    )


def score(
    snapshot_path: Path,
    models_dir: Path,
    risk_params: pd.DataFrame,
    catalog: pd.DataFrame,
    scores_dir: Path,
    score_date: date,
    *,
    model_version: str | None = None,
    without_model_because: str | None = None,
    scorer: Scorer | None = None,
) -> ScoreReport:
    """Score a snapshot with the champion, or the version named, and write immutable scores.

    Args:
        snapshot_path: the feature snapshot of the score date.
        models_dir: the model shelf. Without a champion every row is NEW or NODATA.
        risk_params: table `param_risk_tier`.
        catalog: table `feature_catalog`.
        scores_dir: folder that gets `score_date=.../`.
        score_date: business day of the scores, the as-of date of the features.
        model_version: version to score with; None is the champion.
        without_model_because: use no model, for this reason (say after a `ModelVerificationError`).
        scorer: what scores the snapshot; None is this process.

    Returns:
        the report with the path of the Parquet file.

    Raises:
        ModelVerificationError: the champion is damaged; nothing was written.
        FeatureMismatchError: the features are not those of the model.
        RiskParameterError: a parameter of that day is missing or out of range.
        SnapshotError: the snapshot was changed after it was written.
    """
    begun = time.perf_counter()
    snapshot = open_snapshot(snapshot_path)
    params = choose_params(risk_params, score_date)
    words = Catalogue.from_frame(catalog)
    models, sentences = _chosen(models_dir, model_version, without_model_because)
    stamps = Stamps(
        score_date,
        snapshot.snapshot_id,
        _run_id(
            score_date.isoformat(),
            snapshot.sha256,
            models.version if models else None,
            without_model_because,
            params.version,
            [[feature, *entry] for feature, entry in words.entries.items()],
        ),
    )
    if scorer is None:
        read = partial(read_parts, snapshot.path)
        scores = score_parts(read, models, params, words, stamps)
    else:
        scores = scorer(snapshot.path, models, params, words, stamps)
    unseen = _unseen(read_frame(snapshot.path, _text_columns(snapshot.columns, models)), models)
    sentences += [
        f"{name}: {share:.1%} of the values were not there at training and count as missing"
        for name, share in unseen.items()
    ]
    content = _scores_as_parquet(scores)
    digest = sha256_of_bytes(content)
    folder = score_shelf.folder_of(scores_dir, score_date)
    path = folder / f"scores-{stamps.score_run_id}.parquet"
    model_version = models.version if models and models.models else None
    if not path.exists() or sha256_of_file(path) != digest:
        write_atomically(path, content)
    reach("scores.unlisted")
    report = ScoreReport(
        path=path,
        sha256=digest,
        rows=len(scores),
        tiers=tier_counts(scores),
        model_version=model_version,
        param_version=params.version,
        feature_snapshot_id=snapshot.snapshot_id,
        score_run_id=stamps.score_run_id,
        sentences=tuple(sentences),
        seconds=time.perf_counter() - begun,
        unseen_shares=unseen,
    )
    score_shelf.note(folder, _entry(report), report.score_run_id)
    return report


def _read_snapshots(paths: Sequence[Path]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the rows of all snapshots, oldest first, and the snapshot id of each date."""
    found = sorted((open_snapshot(path) for path in paths), key=lambda s: (s.as_of_date, s.path))
    if not found:
        raise SnapshotError("training needs at least one feature snapshot; none was given")
    dates = [s.as_of_date for s in found]
    if len(set(dates)) < len(dates):
        raise SnapshotError(
            "training was given two snapshots of one as-of date: take the current one"
        )
    differing = next((s for s in found if s.columns != found[-1].columns), None)
    if differing is not None:
        odd = sorted(set(differing.columns) ^ set(found[-1].columns))
        raise SnapshotError(
            f"{differing.path} and {found[-1].path} differ in the columns {', '.join(odd)}: export "
            "the older dates again, as a rerun"
        )
    frame = pd.concat([read_frame(s.path) for s in found], ignore_index=True)
    return frame, {s.as_of_date.isoformat(): s.snapshot_id for s in found}


def _hash_of_labels(rows: pd.DataFrame) -> str:
    """Return the SHA-256 of the labels learned from; the order in the file they came in is nothing."""
    lines = zip(rows[KEY], rows[AS_OF], rows["label"], strict=True)
    return sha256_of_bytes("".join(f"{k}|{d}|{label}\n" for k, d, label in lines).encode())


def _why_champion_stays(trained: ModelSet, models_dir: Path) -> str | None:
    """Return why a new set may not replace the champion, or None when it may."""
    try:
        version = champion_version(models_dir)
        champion = load_model_set(models_dir, version) if version else None
    except ModelVerificationError:
        return None  # what cannot be used need not be kept
    lost = sorted(set(champion.models) - set(trained.models)) if champion else []
    if not lost:
        return None
    return (
        f"the champion stays {version}: the new set has no model for {' and '.join(lost)}, the "
        "champion has"
    )


def _chosen(
    models_dir: Path, version: str | None, without_because: str | None
) -> tuple[ModelSet | None, list[str]]:
    if without_because is not None:
        return None, [f"no model was used: {without_because}"]
    version = version or champion_version(models_dir)
    if version is None:
        return None, ["no model was ever trained: every subscription is NEW or NODATA"]
    models = load_model_set(models_dir, version)
    return models, list(models.skipped.values())


def _text_columns(columns: Sequence[str], models: ModelSet | None) -> list[str]:
    """Return the columns that `_unseen` looks at."""
    texts = {
        name
        for model in (models.models if models else {}).values()
        for name in model.space.categories
    }
    return [name for name in columns if name in texts | {"payment_type"}]


def _unseen(features: pd.DataFrame, models: ModelSet | None) -> dict[str, float]:
    """Return the share of unseen values of each text feature that has any, the worst of all models."""
    shares: dict[str, float] = {}
    groups = payment_group(features["payment_type"])
    for group, model in models.models.items() if models else ():
        # Only what the model is asked about: it never saw the brands of the other payment type.
        for name, share in model.space.unseen_share(features[groups == group]).items():
            if share > 0:
                shares[name] = max(share, shares.get(name, 0.0))
    return dict(sorted(shares.items()))


def _run_id(*parts: object) -> str:
    return sha256_of_bytes(canonical_json(parts).encode())[:16]


def _scores_as_parquet(scores: pd.DataFrame) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {SCORE_DATE: pa.date32()}
    kinds |= dict.fromkeys(_INTEGERS, pa.int64()) | dict.fromkeys(_NUMBERS, pa.float64())
    schema = pa.schema([pa.field(name, kinds.get(name, pa.string())) for name in SCORE_COLUMNS])
    table = pa.Table.from_pandas(
        scores[list(SCORE_COLUMNS)], schema=schema, preserve_index=False
    ).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=131_072, version="2.6")
    return buffer.getvalue()


def _entry(report: ScoreReport) -> dict[str, Any]:
    return {
        "file": report.path.name,
        "sha256": report.sha256,
        "rows": report.rows,
        "tiers": dict(report.tiers),
        "model_version": report.model_version,
        "param_version": report.param_version,
        "feature_snapshot_id": report.feature_snapshot_id,
        "sentences": list(report.sentences),
    }


def _libraries() -> dict[str, str]:
    import lightgbm
    import sklearn

    return {
        "lightgbm": str(lightgbm.__version__),
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "scikit-learn": str(sklearn.__version__),
    }
