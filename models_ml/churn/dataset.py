"""Training rows: features of several as-of dates joined to labels that had matured, split by time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd

from models_ml.churn.errors import LabelError
from models_ml.churn.snapshot import AS_OF, KEY

PREPAID, POSTPAID = "prepaid", "postpaid"
GROUPS = (PREPAID, POSTPAID)
_GROUP_OF = {"prepaid": PREPAID, "postpaid": POSTPAID, "hybrid": POSTPAID}

FULL_MONTHS_TO_SCORE = 3
LEFT_DATE = "left_date"
LABEL_COLUMNS = (KEY, AS_OF, "label", "matured_on", "excluded_reason", LEFT_DATE)


@dataclass(frozen=True)
class TimeSplit:
    """As-of dates of training, validation and test: each later than all before it."""

    train: tuple[date, ...]
    validation: tuple[date, ...]
    test: tuple[date, ...]


def payment_group(payment_type: pd.Series[str]) -> pd.Series[str]:
    """Return the model that a payment type belongs to: `prepaid`, `postpaid` (with hybrid) or None."""
    return payment_type.map(_GROUP_OF).astype(object)


def is_new(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Tell which subscriptions have less than three full months on net (unknown counts as no)."""
    months = frame["full_months_on_net"].to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(months < FULL_MONTHS_TO_SCORE)


def is_known(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Tell for which subscriptions enough is known to score them."""
    months = frame["full_months_on_net"].to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(flag(frame["known_flag"]) & ~np.isnan(months))


def flag(values: pd.Series[bool]) -> npt.NDArray[np.bool_]:
    """Return a flag column as booleans; a missing flag is false."""
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=0.0) == 1.0)


def labelled_rows(features: pd.DataFrame, labels: pd.DataFrame, known_on: date) -> pd.DataFrame:
    """Return the rows that may be learned from, with `label` (0 or 1), `left_date`, `payment_group`.

    A row is kept when it would have been scored on its as-of date (alive, three full months on net,
    something known of it), its label had matured by `known_on` and nothing excludes it.

    Args:
        features: one row per subscription and as-of date.
        labels: `subscription_id`, `as_of_date`, `label`, `matured_on`, `excluded_reason`, `left_date`.
        known_on: the training day; a label that matured later is not known yet.

    Raises:
        LabelError: a label column is missing, a subscription and date has two labels, or a usable
            label is neither 0 nor 1.
    """
    missing = sorted(set(LABEL_COLUMNS) - set(labels.columns))
    if missing:
        raise LabelError(f"the labels have no column {', '.join(missing)}")
    repeated = int(labels.duplicated([KEY, AS_OF]).sum())
    if repeated:
        raise LabelError(
            f"{repeated} labels repeat a subscription and as-of date: choose one definition"
        )
    labels = labels.assign(**{AS_OF: _days(labels[AS_OF])})
    features = features.assign(**{AS_OF: _days(features[AS_OF])})
    matured = pd.to_datetime(labels["matured_on"]) <= pd.Timestamp(known_on)
    usable = labels.loc[
        matured & labels["excluded_reason"].isna(), [KEY, AS_OF, "label", LEFT_DATE]
    ]
    wrong = int((~usable["label"].isin([0, 1])).sum())
    if wrong:
        raise LabelError(
            f"{wrong} labels that had matured by {known_on} are neither 0 nor 1 and carry no "
            f"excluded_reason: build label_churn as known on {known_on} again"
        )
    clashing = features.columns.intersection(["label", LEFT_DATE, "payment_group"])
    rows = features.drop(columns=clashing).merge(usable, on=[KEY, AS_OF], how="inner")
    rows["payment_group"] = payment_group(rows["payment_type"])
    scorable = is_known(rows) & ~is_new(rows) & rows["payment_group"].notna().to_numpy()
    if "is_alive" in rows:
        scorable &= flag(rows["is_alive"])
    rows = rows[scorable].sort_values([AS_OF, KEY], kind="stable").reset_index(drop=True)
    rows["label"] = rows["label"].astype(np.int8)
    rows[AS_OF] = rows[AS_OF].dt.date
    return rows


def _days(values: pd.Series[date]) -> pd.Series[pd.Timestamp]:
    """Return days in one type, whatever the Parquet file kept them in."""
    return pd.to_datetime(values).astype("datetime64[s]")


def split_by_time(
    dates: Sequence[date], test_dates: int = 1, apart_days: int = 0
) -> TimeSplit | None:
    """Split as-of dates: the newest test, as many before them validate, those before that train.

    Args:
        dates: as-of dates, in any order, repeats allowed.
        test_dates: how many of the newest dates are kept for the test, and as many to validate.
        apart_days: least days between parts. With `LabelParams.span_days` no leaving is in two
            parts; dates that fall between are not used.

    Returns:
        the split, or None when there are not enough dates for all three parts.
    """
    ordered = sorted(set(dates))
    test = ordered[-test_dates:]
    validation = _before(ordered, test, apart_days)[-test_dates:]
    train = _before(ordered, validation, apart_days)
    if len(validation) < test_dates or not train:
        return None
    return TimeSplit(train=tuple(train), validation=tuple(validation), test=tuple(test))


def _before(ordered: Sequence[date], part: Sequence[date], apart_days: int) -> list[date]:
    """Return the dates that lie before a part and at least so many days from it."""
    return [d for d in ordered if part and (part[0] - d).days >= max(apart_days, 1)]
