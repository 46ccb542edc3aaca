"""Which columns a model may see, and how a frame becomes the matrix that it reads.

Columns are bound by name: LightGBM itself takes a matrix in any order and scores it wrongly without
a word. Text becomes the code of a category frozen at training; a text never seen then is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from models_ml.churn.errors import FeatureMismatchError, LeakError

Matrix = npt.NDArray[np.float32]

MAX_CATEGORIES = 64
MIN_ROWS_PER_CATEGORY = 20
CHUNK_ROWS = 65_536

# A column with one of these words in its name tells what happened after the as-of date, or what
# an earlier model said of it. `churned_contacts_90d` and its like speak of other people and are legal.
_DENIED = re.compile(
    r"""^(
        label | label_.* | is_label | target | outcome
      | churn | churned | churn_(?!contact).* | is_churn(ed)? | churned_(flag|on|at|date) | .*_churn_flag
      | left_(date|on|at) | termination_.* | terminated_.* | is_terminated | .*_terminated_date
      | matured_on | excluded_reason | definition | definition_code
      | confirmed_date | revoked_date | .*_confirmed_date
      | health_stage | risk_tier | tier_rule_id | score_.* | score | model_version | expected_profit.*
      | port_out_date | ported_on | port_completed.* | destination_operator | recipient_operator
      | truth | truth_.* | .*_truth | future_.* | next_.*
    )$""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class FeatureSpace:
    """The columns of one model in their order, with what training knew of their values.

    Attributes:
        names: feature columns, in the model's order.
        categories: per text feature, its values in the order of their codes.
        typical: per feature, the median in training, or the code of the commonest category; NaN
            when it had no value.
    """

    names: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    typical: Mapping[str, float]

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse a frame without all columns, or with one of another kind than at training.

        Raises:
            FeatureMismatchError: a column is missing, text where numbers were, or the reverse.
        """
        missing = sorted(set(self.names) - set(frame.columns))
        if missing:
            raise FeatureMismatchError(
                f"the features lack {len(missing)} columns that the model knows: "
                f"{', '.join(missing)}; build the features again or train again"
            )
        retyped = [
            name
            for name in self.names
            if is_text(frame[name]) != (name in self.categories) and frame[name].notna().any()
        ]
        if retyped:
            raise FeatureMismatchError(
                f"the columns {', '.join(retyped)} changed between number and text since training; "
                "train again"
            )

    def matrix(self, frame: pd.DataFrame) -> Matrix:
        """Return the (n, k) matrix of a frame in the model's column order; missing is NaN."""
        self.check(frame)
        matrix = np.empty((len(frame), len(self.names)), dtype=np.float32)
        for position, name in enumerate(self.names):
            matrix[:, position] = self.column(name, frame[name])
        return matrix

    def column(self, name: str, values: pd.Series[float]) -> Matrix:
        """Return one column as the model reads it: a number, or the code of a frozen category."""
        if name not in self.categories:
            return pd.to_numeric(values).to_numpy(dtype=np.float32, na_value=np.nan)
        codes = pd.Categorical(values, categories=list(self.categories[name])).codes
        coded = codes.astype(np.float32)
        coded[coded < 0] = np.nan
        return coded

    def unseen_share(self, frame: pd.DataFrame) -> dict[str, float]:
        """Return, per text feature, the share of its values that training never saw."""
        shares = {}
        for name, known in self.categories.items():
            values = frame[name].dropna()
            shares[name] = float((~values.isin(list(known))).mean()) if len(values) else 0.0
        return shares


def refuse_leaks(names: Sequence[str]) -> None:
    """Refuse columns that know the future.

    Raises:
        LeakError: a name is on the deny-list.
    """
    denied = [name for name in names if _DENIED.match(name)]
    if denied:
        raise LeakError(
            f"{', '.join(denied)} may not be a feature: it tells what happened after the as-of "
            "date; take it out of the feature catalogue"
        )


def choose_features(catalogued: Sequence[str], frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the features to train on: catalogued, in the frame, allowed; in catalogue order.

    A text column with more than `MAX_CATEGORIES` values is an identifier, not a feature.

    Args:
        catalogued: feature names of the catalogue.
        frame: training rows.

    Raises:
        LeakError: the catalogue names a column that knows the future.
        FeatureMismatchError: nothing is left, or a feature is neither number nor text.
    """
    refuse_leaks(catalogued)
    chosen = []
    for name in dict.fromkeys(catalogued):
        if name not in frame.columns:
            continue
        values = frame[name]
        if is_text(values):
            if values.nunique() > MAX_CATEGORIES:
                continue
        elif not pd.api.types.is_numeric_dtype(values) and values.notna().any():
            raise FeatureMismatchError(
                f"feature {name} is {values.dtype}: a feature is a number or a text, a date becomes "
                "a number of days in the feature model"
            )
        chosen.append(name)
    if not chosen:
        raise FeatureMismatchError(
            "none of the catalogued features is in the snapshot: does feature_catalog.csv fit the "
            "feature model?"
        )
    return tuple(chosen)


def learn_space(names: Sequence[str], frame: pd.DataFrame) -> FeatureSpace:
    """Return the feature space of training rows: categories frozen, the typical values kept."""
    categories, typical = {}, {}
    enough = min(MIN_ROWS_PER_CATEGORY, max(1, len(frame) // 50))
    for name in names:
        values = frame[name]
        if is_text(values):
            counts = values.dropna().value_counts()
            known = sorted(str(value) for value in counts.index[counts >= enough])
            categories[name] = tuple(known)
            commonest = max(known, key=lambda value: int(counts[value]), default=None)
            typical[name] = float("nan") if commonest is None else float(known.index(commonest))
        else:
            numbers = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
            numbers = numbers[~np.isnan(numbers)]
            typical[name] = float(np.median(numbers)) if len(numbers) else float("nan")
    return FeatureSpace(tuple(names), categories, typical)


def is_text(values: pd.Series[float]) -> bool:
    """Tell whether a column holds texts; a column of nothing at all counts as numbers."""
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        return False
    present = values.dropna()
    return len(present) > 0 and isinstance(present.iloc[0], str)
