"""How good the models are that scored a release, from the files that training and scoring left."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepline.errors import BadDataError
from keepline.report.formats import sentence
from keepline.report.rows import Outcome, Scoring, Tenth
from keepline.settings import Settings

DOCUMENT = "model.json"
# A row of the document over all tiers: the page adds them up itself.
TOTAL = "TOTAL"
MANIFEST = "_manifest.json"
PARTS = {
    "test": "later month",
    "test_unseen_subscriptions": "later month, lines never trained on",
}


@dataclass(frozen=True)
class Measured:
    """A model of one payment type, measured on rows that it was not trained on.

    Attributes:
        payment_type: whose model it is.
        part: which rows, in words.
        values: measures as `models_ml` names them; None where one could not be computed.
    """

    payment_type: str
    part: str
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Quality:
    """One model version.

    Attributes:
        version: folder of the model.
        known_on: day of the training, as written.
        gap_days: days after the score date before the window of its risk begins.
        window_days: days of that window.
        measured: measures by payment type.
        tenths: said against seen, where training recorded it.
        outcomes: said against came in its own test, by payment type and tier, where training
            recorded it.
        notes: sentences about single models.
    """

    version: str
    known_on: str
    gap_days: int
    window_days: int
    measured: Sequence[Measured]
    tenths: Sequence[Tenth]
    outcomes: Sequence[Outcome]
    notes: Sequence[str]

    @property
    def horizon(self) -> str:
        """What its risk means, in words."""
        return (
            f"the chance that the line is lost in the {self.window_days} days that begin "
            f"{self.gap_days} days after the score date"
        )


def read_quality(settings: Settings, scorings: Sequence[Scoring]) -> list[Quality]:
    """Return the quality of each model that scored a release.

    Args:
        settings: where the models are.
        scorings: the runs that scored it.

    Raises:
        BadDataError: a model that scored the release has no document that can be read.
    """
    versions = sorted({run.model_version for run in scorings if run.model_version})
    return [_read(settings.models_dir / version / DOCUMENT) for version in versions]


def read_sentences(settings: Settings, scorings: Sequence[Scoring]) -> list[str]:
    """Return what the scoring had to say: why lines have no risk, which values the model never saw.

    The manifest of the scores is no part of the release: where it is gone, so is what it said.
    """
    sentences: dict[str, None] = {}
    for run in scorings:
        folder = settings.exchange_dir / "scores" / f"score_date={run.score_date}"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads((folder / MANIFEST).read_bytes())
            found = document["runs"][run.score_run_id]["sentences"]
            sentences |= dict.fromkeys(sentence(str(text)) for text in found)
    return list(sentences)


def _read(path: Path) -> Quality:
    version = path.parent.name
    try:
        return _quality(version, json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadDataError(
            f"model {version} scored this release, but {path} cannot be read "
            f"({type(error).__name__}): restore the folder from a backup"
        ) from error


def _quality(version: str, document: Mapping[str, Any]) -> Quality:
    label, models = document["label"], sorted(document["models"].items())
    sentences = [f"{group}: {note}" for group, model in models for note in model["notes"]]
    return Quality(
        version=version,
        known_on=str(document["known_on"]),
        gap_days=int(label["gap_days"]),
        window_days=int(label["window_days"]),
        measured=[
            Measured(group, words, model["metrics"].get(part) or {})
            for group, model in models
            for part, words in PARTS.items()
        ],
        tenths=[
            Tenth(group, float(tenth["said"]), float(tenth["seen"]), int(tenth["n"]))
            for group, model in models
            for tenth in model["metrics"].get("test", {}).get("reliability", [])
        ],
        outcomes=[
            Outcome(
                payment_type=group,
                tier=str(row["tier"]),
                score_date=None,
                lines=int(row["subscriptions"]),
                said=float(row["said"]),
                came=int(row["came"]),
            )
            for group, model in models
            for row in model["metrics"].get("said_and_came") or []
            if row["tier"] != TOTAL and row["subscriptions"]
        ],
        notes=[sentence(text) for text in sentences],
    )
