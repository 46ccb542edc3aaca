"""Where scores are kept: one folder per day, its files never changed, a manifest that says which counts.

scores/score_date=2026-06-30/scores-<run id>.parquet
_manifest.json      which run is current, and all earlier ones
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from models_ml.churn.errors import SnapshotError
from models_ml.churn.immutable import canonical_json, sha256_of_file, write_atomically
from models_ml.churn.snapshot import MANIFEST

SCORE_DATE = "score_date"


def folder_of(scores_dir: Path, score_date: date) -> Path:
    """Return the folder of a day's scores."""
    return scores_dir / f"{SCORE_DATE}={score_date.isoformat()}"


def note(folder: Path, entry: Mapping[str, Any], run_id: str) -> None:
    """Record a score file as the current one of its day; earlier ones stay listed.

    Raises:
        SnapshotError: the manifest is damaged.
    """
    path = folder / MANIFEST
    runs = {**_read(folder)["runs"], run_id: dict(entry)}
    document = {SCORE_DATE: folder.name.removeprefix(f"{SCORE_DATE}="), "runs": runs}
    content = canonical_json(document | {"current": run_id}).encode()
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)


def scored_with(scores_dir: Path, score_date: date) -> str | None:
    """Return the model version behind a day's current scores; None without scores or without a model.

    Raises:
        SnapshotError: the manifest is damaged.
    """
    run = _current_run(scores_dir, score_date)
    return str(run["model_version"]) if run and run["model_version"] else None


def current_scores(scores_dir: Path, score_date: date) -> Path | None:
    """Return the file of a day's current scores, or None when it was never scored.

    Raises:
        SnapshotError: the file is missing or was changed, or the manifest is damaged.
    """
    run = _current_run(scores_dir, score_date)
    if run is None:
        return None
    path = folder_of(scores_dir, score_date) / str(run["file"])
    if not path.is_file() or sha256_of_file(path) != run["sha256"]:
        raise SnapshotError(f"{path} is missing or was changed: score {score_date} again")
    return path


def _current_run(scores_dir: Path, score_date: date) -> dict[str, Any] | None:
    document = _read(folder_of(scores_dir, score_date))
    run: dict[str, Any] | None = document["runs"].get(document["current"])
    return run


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.exists():
        return {"runs": {}, "current": None}
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {"runs": dict(document["runs"]), "current": document["current"]}
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"{path} is damaged: remove {folder} and score again") from error
