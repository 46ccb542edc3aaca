"""The model card: what a person should know before trusting a version. Made from its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models_ml.churn.model import ModelSet, PaymentModel

_PARTS = (
    ("validation", "validation (rounds chosen on it)"),
    ("test", "test"),
    ("test_unseen_subscriptions", "test, subscriptions that training never saw"),
    ("test_still_active", "test, used within the last week"),
)
_MEASURES = (
    ("n", "rows"),
    ("positives", "left"),
    ("base_rate", "churn rate"),
    ("auc", "AUC"),
    ("auc_standard_error", "its standard error"),
    ("pr_auc", "PR-AUC"),
    ("top_decile_lift", "top-decile lift"),
    ("brier", "Brier"),
    ("ece", "calibration error"),
)


def model_card(models: ModelSet) -> str:
    """Return the card of a model set as Markdown."""
    label = models.label
    lines = [
        f"# Churn model {models.version}",
        "",
        f"Trained on what was known on {models.known_on}. Its probability is the chance that a "
        f"subscription is lost in the {label.window_days} days that begin {label.gap_days} days after "
        "the as-of date. Only subscriptions with three full months on net are learned and scored; "
        "labels count only once they have matured; excluded ones (administrative) are left out. A line "
        "that was won back later has left all the same; a loss that turned out never to have been is none.",
        "",
        "A prepaid line is lost by a silence of `inactivity_days` (`param_churn_definition`). Such a "
        "silence counts as leaving not only when it begins in those days, but also when it began before "
        f"them and did not end: in the {label.gap_days} days after the as-of date, or before the as-of "
        "date, if the line had by then been silent for at most `reachable_silence_days`. So a part of "
        "the prepaid losses had begun when the features were taken.",
        "",
        "A line that has been silent for more than `reachable_silence_days` of `param_risk_tier` is "
        "neither learned nor measured here, so it has no probability: it is LOW by that rule alone "
        "(`SILENT_TOO_LONG`), as no contact reaches a SIM that is out of the phone.",
        "",
    ]
    for group, model in models.models.items():
        lines += _model_section(group, model)
    for group, sentence in models.skipped.items():
        lines += [f"## {group}: no model", "", f"{_sentence(sentence)} The tier is NODATA.", ""]
    lines += [
        "## Made from",
        "",
        f"- labels with SHA-256 `{models.labels_sha256}`",
        *(f"- features of {day}: snapshot `{found}`" for day, found in models.snapshots.items()),
        *(f"- {name} {version}" for name, version in models.libraries.items()),
        "",
        "## Limits",
        "",
        "- A score says who is likely to leave, not whom a contact keeps.",
        "- A category that training never saw is read as missing.",
        "- Features that announce a port-out (enquiry calls, eligibility messages) are used; how the "
        "model does without them is not measured here.",
        "",
    ]
    return "\n".join(lines)


def _model_section(group: str, model: PaymentModel) -> list[str]:
    split = model.split
    shown = [(title, model.metrics[name]) for name, title in _PARTS]
    chosen, in_use = model.metrics["train"], model.metrics["in_use"]
    return [
        f"## {group}",
        "",
        f"Chosen on {chosen['n']} rows ({chosen['positives']} left) of "
        f"{', '.join(map(str, split.train))}, validated on {', '.join(map(str, split.validation))}, "
        f"tested on {', '.join(map(str, split.test))}. The model in use is fitted to all "
        f"{in_use['n']} matured rows ({in_use['positives']} left): {model.metrics['trees']} trees, "
        f"{len(model.space.names)} features. Its chances are moved as a whole, so that they add up to "
        "those who left in the newest year of them.",
        "",
        "| measure | " + " | ".join(title for title, _ in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
        *(
            f"| {title} | " + " | ".join(_number(values, name) for _, values in shown) + " |"
            for name, title in _MEASURES
        ),
        "",
        "Said and come on the test dates, by the tier that each line would have had:",
        "",
        "| tier | lines | said to leave | left |",
        "|---|---|---|---|",
        *(
            f"| {told['tier']} | {told['subscriptions']} | {told['said']:.1f} | {told['came']} |"
            for told in model.metrics["said_and_came"]
        ),
        "",
        "Most used features: "
        + ", ".join(f"{name} ({share:.0%})" for name, share in model.metrics["top_features"][:10])
        + ".",
        "",
        *(f"- {_sentence(note)}" for note in model.notes),
        *([""] if model.notes else []),
    ]


def _number(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
