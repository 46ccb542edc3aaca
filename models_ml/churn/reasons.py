"""Why a subscription is at risk: up to three reasons in words, from exact Shapley contributions.

A reason is a feature that raised this row's risk and whose value is not the typical one (the median,
or the commonest category, of training). Features of one family tell the same thing in other figures
(calls by their minutes, days and trend): only the strongest of them speaks, with the strength of all.
Reasons come from different perspectives where there are enough of them, the strongest first.

The words are the catalogue's: `text_high` when the value lies above the typical one or is another
category, `text_low` below; a number below zero is told in `text_below_zero`, whichever side of the
typical value it is on, and where nothing is left (0, or a drop of all) in `text_none`. `{value}` in them
is replaced by the value (below zero by its size) in the unit that people use, `(s)` by the ending that
fits that number. An empty text means that such a value makes no reason, and so does a value that reads
like nothing or like the typical one: "0 %" tells nobody anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from models_ml.churn.errors import FeatureMismatchError
from models_ml.churn.features import FeatureSpace

Vector = npt.NDArray[np.float64]

REASONS = 3
UP, DOWN = "up", "down"
# The forms of words, by their place in `Entry.texts`.
_HIGH, _LOW, _BELOW_ZERO, _NONE, _UNSAID = 0, 1, 2, 3, -1
REASON_COLUMNS = tuple(
    f"reason_{n}_{part}"
    for n in range(1, REASONS + 1)
    for part in ("code", "perspective", "direction", "text")
)
_CATALOG_COLUMNS = (
    *("feature", "perspective", "perspective_name", "unit"),
    *("text_high", "text_low", "text_below_zero", "text_none", "family"),
)
# The catalogue's texts speak of percent and yuan; the features are shares of one and fen.
_TIMES = {"share": 100.0, "ratio": 100.0, "drop": 100.0, "fen": 0.01}
_WHOLE = ("share", "ratio", "drop", "percent")
# How a low value that rounds to nothing is told: it is little, but not nothing.
_ONLY, _LESS_THAN = ("only {value}", "Only {value}"), ("less than {value}", "Less than {value}")


class Entry(NamedTuple):
    """A feature in words."""

    perspective: int
    perspective_name: str
    unit: str
    text_high: str
    text_low: str
    text_below_zero: str
    text_none: str
    family: str

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """The words for a high value, a low one, one below zero and one of nothing."""
        return (self.text_high, self.text_low, self.text_below_zero, self.text_none)

    @property
    def is_number(self) -> bool:
        """Whether the value is a number that the words may show."""
        return self.unit not in ("flag", "category")


@dataclass(frozen=True)
class Catalogue:
    """The feature catalogue: every feature with its perspective and its words."""

    entries: Mapping[str, Entry]

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Catalogue:
        """Return the catalogue held in the table `feature_catalog`.

        Raises:
            FeatureMismatchError: a column is missing or a feature is listed twice.
        """
        missing = sorted(set(_CATALOG_COLUMNS) - set(frame.columns))
        if missing:
            raise FeatureMismatchError(f"feature_catalog has no column {', '.join(missing)}")
        doubled = sorted(frame.loc[frame["feature"].duplicated(), "feature"].astype(str))
        if doubled:
            raise FeatureMismatchError(f"feature_catalog lists {', '.join(doubled)} twice")
        texts = frame[list(_CATALOG_COLUMNS)].astype(object)
        texts = texts.where(texts.notna(), "")
        return cls(
            {
                str(feature): Entry(
                    int(perspective), str(name), str(unit), *(str(text).strip() for text in words)
                )
                for feature, perspective, name, unit, *words in texts.itertuples(index=False)
            }
        )

    @property
    def features(self) -> tuple[str, ...]:
        """Feature names in catalogue order."""
        return tuple(self.entries)


def explain(
    rows: pd.DataFrame, contributions: Vector, space: FeatureSpace, catalogue: Catalogue
) -> pd.DataFrame:
    """Return up to three reasons per row.

    Args:
        rows: feature rows.
        contributions: (n, k) contributions to the log-odds in the order of `space.names`.
        space: the model's columns.
        catalogue: the words.

    Returns:
        `reason_<n>_code`, `_perspective`, `_direction`, `_text` for n = 1..3 with the index of
        `rows`; None where fewer features raised the risk.
    """
    forms, directions = _forms(rows, space, catalogue)
    strength = np.where((forms != _UNSAID) & (contributions > 0), contributions, 0.0)
    perspectives = np.array(
        [catalogue.entries[n].perspective if n in catalogue.entries else 0 for n in space.names]
    )
    chosen = _choose(_one_of_each_family(strength, space, catalogue), perspectives)
    found = {name: np.full(len(rows), None, dtype=object) for name in REASON_COLUMNS}
    for n in range(REASONS):
        for position in np.unique(chosen[:, n]):
            if position < 0:
                continue
            at = np.flatnonzero(chosen[:, n] == position)
            name = space.names[position]
            entry = catalogue.entries[name]
            found[f"reason_{n + 1}_code"][at] = name
            found[f"reason_{n + 1}_perspective"][at] = entry.perspective_name
            up = directions[at, position] > 0
            found[f"reason_{n + 1}_direction"][at] = np.where(up, UP, DOWN)
            found[f"reason_{n + 1}_text"][at] = [
                _sentence(entry, form, value)
                for form, value in zip(forms[at, position], rows[name].iloc[at], strict=True)
            ]
    return pd.DataFrame(found, index=rows.index, dtype=object)


def _forms(
    rows: pd.DataFrame, space: FeatureSpace, catalogue: Catalogue
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Return the form of words of each cell, and whether it lies above (1) or below (-1)."""
    forms = np.full((len(rows), len(space.names)), _UNSAID, dtype=np.int8)
    directions = np.zeros((len(rows), len(space.names)), dtype=np.int8)
    for position, name in enumerate(space.names):
        entry = catalogue.entries.get(name)
        if entry is None:
            continue
        found = space.column(name, rows[name]).astype(np.float64)
        typical = float(np.float32(space.typical[name]))
        if name in space.categories:
            # A category that training never saw is missing to the model: no reason either.
            side = np.where(found == space.typical[name], 0.0, np.where(np.isnan(found), 0.0, 1.0))
        else:
            # Compared as the model reads it, in single precision.
            side = np.nan_to_num(np.sign(found - typical))
        directions[:, position] = side.astype(np.int8)
        below_zero = (found < 0) & (side != 0)
        none = np.zeros(len(rows), dtype=bool)
        if entry.is_number:
            none = (side != 0) & (found >= 1 if entry.unit == "drop" else found == 0)
        for form, told in (
            (_HIGH, (side > 0) & ~below_zero & ~none),
            (_LOW, (side < 0) & ~below_zero & ~none),
            (_BELOW_ZERO, below_zero & ~none),
            (_NONE, none),
        ):
            if entry.texts[form]:
                forms[told, position] = form
        if entry.is_number:
            forms[_says_nothing(entry, forms[:, position], found, typical), position] = _UNSAID
    return forms, directions


def _says_nothing(
    entry: Entry, forms: npt.NDArray[np.int8], found: Vector, typical: float
) -> npt.NDArray[np.bool_]:
    """Tell which values of a number would read like nothing, or like the typical value."""
    said, usual = _rounded(found, entry.unit), _rounded(np.array([typical]), entry.unit)[0]
    empty = np.zeros(len(found), dtype=bool)
    for form in (_HIGH, _LOW, _BELOW_ZERO):
        if "{value}" not in entry.texts[form]:
            continue
        reads_empty = said == usual
        if form == _LOW and any(only in entry.text_low for only in _ONLY):
            # Little is told as less than the least that can be said; all of it is not "only".
            if entry.unit in ("share", "ratio"):
                reads_empty = reads_empty | (said == 100)
        else:
            reads_empty = reads_empty | (said == 0)
        empty |= (forms == form) & reads_empty
    return empty


def _rounded(values: Vector, unit: str) -> Vector:
    """Return numbers as `_spoken` says them."""
    numbers = values * _TIMES.get(unit, 1.0)
    if unit in _WHOLE:
        return np.asarray(np.round(numbers))
    return np.where(np.abs(numbers) >= 10, np.round(numbers), np.round(numbers, 1))


def _one_of_each_family(strength: Vector, space: FeatureSpace, catalogue: Catalogue) -> Vector:
    """Return the strengths with each family's in its strongest member, nothing in the others."""
    members: dict[str, list[int]] = {}
    for position, name in enumerate(space.names):
        entry = catalogue.entries.get(name)
        if entry is not None and entry.family:
            members.setdefault(entry.family, []).append(position)
    joined = strength.copy()
    rows = np.arange(len(strength))
    for positions in members.values():
        strongest = np.array(positions)[np.argmax(strength[:, positions], axis=1)]
        whole = strength[:, positions].sum(axis=1)
        joined[:, positions] = 0.0
        joined[rows, strongest] = whole
    return joined


def _sentence(entry: Entry, form: int, value: object) -> str:
    """Return a form of words with the value in it."""
    size = abs(float(str(value))) if form == _BELOW_ZERO else value
    said, text = _spoken(size, entry.unit), entry.texts[form]
    if form == _LOW and said == "0" and entry.is_number:
        said = "1" if entry.unit in _WHOLE else "0.1"
        for only, less_than in zip(_ONLY, _LESS_THAN, strict=True):
            text = text.replace(only, less_than)
    text = text.replace("(s)", "" if said == "1" else "s")
    return text.replace("{value}", said)


def _spoken(value: object, unit: str) -> str:
    """Return a value as people say it: yuan, percent, few digits; a text as it is."""
    if isinstance(value, str):
        return value
    number = float(str(value)) * _TIMES.get(unit, 1.0)
    if unit == "drop" and 99 < number < 100:
        return "99"  # nearly all is not all
    digits = 0 if abs(number) >= 10 or unit in _WHOLE else 1
    text = f"{number:,.{digits}f}"
    return text.removesuffix(".0") if text not in ("-0", "-0.0") else "0"


def _choose(strength: Vector, perspectives: npt.NDArray[np.int_]) -> npt.NDArray[np.int_]:
    """Return the column numbers of up to three reasons per row, -1 where there is none.

    First the strongest column of each perspective, best three; rows with fewer such perspectives
    are filled with their next strongest columns. The result is in order of strength.
    """
    rows = np.arange(len(strength))
    kinds = np.unique(perspectives)
    best = np.empty((len(strength), len(kinds)), dtype=np.int64)
    for at, kind in enumerate(kinds):
        members = np.flatnonzero(perspectives == kind)
        best[:, at] = members[np.argmax(strength[:, members], axis=1)]
    best_strength = strength[rows[:, None], best]
    order = np.argsort(-best_strength, axis=1, kind="stable")[:, :REASONS]
    chosen = np.full((len(strength), REASONS), -1, dtype=np.int64)
    found = np.take_along_axis(best, order, axis=1)
    positive = np.take_along_axis(best_strength, order, axis=1) > 0
    chosen[:, : order.shape[1]] = np.where(positive, found, -1)
    for row in np.flatnonzero((chosen < 0).any(axis=1)):
        ranked = [int(c) for c in np.argsort(-strength[row], kind="stable") if strength[row, c] > 0]
        taken = [int(c) for c in chosen[row] if c >= 0]
        spare = [c for c in ranked if c not in taken][: REASONS - len(taken)]
        full = sorted(taken + spare, key=lambda c: (-strength[row, c], c))
        chosen[row, : len(full)] = full
    return chosen
