"""Scoring on Spark: each partition of the feature rows is predicted where it lies.

The functions are those of `models_ml.churn.scoring`, the model is the verified one, sent to each
worker once. What compares the rows of a day (percentiles, tiers) is made here, of eight columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from keepline.compute.spark_session import session
from keepline.settings import Settings
from models_ml.churn import scoring
from models_ml.churn.model import ModelSet
from models_ml.churn.parameters import RiskParams
from models_ml.churn.reasons import REASON_COLUMNS, Catalogue
from models_ml.churn.snapshot import AS_OF, KEY, to_frame
from models_ml.churn.tiers import SILENCE

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import DataFrame

# A prediction task has one core: LightGBM is not to start threads of its own.
THREADS_PER_TASK = 1
LISTED = "listed_key"
PREDICTED = pa.schema(
    [
        (KEY, pa.string()),
        (AS_OF, pa.date32()),
        ("payment_group", pa.string()),
        (SILENCE, pa.float64()),
        ("unscored", pa.string()),
        ("raw_score", pa.float64()),
        ("churn_probability", pa.float64()),
        ("value_fen", pa.float64()),
    ]
)
EXPLAINED = pa.schema([(name, pa.string()) for name in (KEY, *REASON_COLUMNS)])
Part = Callable[[pd.DataFrame], pd.DataFrame]


class SparkScorer:
    """Scores a snapshot on Spark; see `models_ml.churn.batch.Scorer`.

    Args:
        settings: where Spark computes. Workers read the snapshot from the path that it has here.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(
        self,
        snapshot: Path,
        models: ModelSet | None,
        params: RiskParams,
        catalogue: Catalogue,
        stamps: scoring.Stamps,
    ) -> pd.DataFrame:
        """Return one row per living subscription, sorted by `subscription_id`."""
        spark = session(self._settings)
        features = spark.read.parquet(str(snapshot))
        # A snapshot is one file of few row groups: a part for each core.
        parts = max(spark.sparkContext.defaultParallelism, 1)
        spread = features.repartition(parts, KEY)
        sent = spark.sparkContext.broadcast((models, params, catalogue))
        try:
            predicted = _mapped(spread, PREDICTED, _predicting(sent)).sort_values(
                KEY, kind="stable"
            )
            scores = scoring.judge(predicted.reset_index(drop=True), models, params, stamps)
            listed = scoring.is_listed(scores)
            if models is not None and listed.any():
                keys = pa.table({LISTED: pa.array(scores.loc[listed, KEY], pa.string())})
                wanted = spread.join(
                    spark.createDataFrame(keys), spread[KEY] == _column(LISTED), "left_semi"
                )
                reasons = _mapped(wanted, EXPLAINED, _explaining(sent)).set_index(KEY)
                found = reasons.loc[scores.loc[listed, KEY], list(REASON_COLUMNS)].astype(object)
                missing = found.isna().to_numpy()
                scores.loc[listed, list(REASON_COLUMNS)] = found.mask(missing, None).to_numpy()
        finally:
            sent.destroy()
        return scores


def _predicting(sent: Broadcast[Any]) -> Part:
    def predict(rows: pd.DataFrame) -> pd.DataFrame:
        models, params, _ = sent.value
        return scoring.predict_rows(rows, models, params, THREADS_PER_TASK)

    return predict


def _explaining(sent: Broadcast[Any]) -> Part:
    def explain(rows: pd.DataFrame) -> pd.DataFrame:
        models, _, catalogue = sent.value
        reasons = scoring.explain_rows(rows, models, catalogue, THREADS_PER_TASK)
        return reasons.join(rows[[KEY]])

    return explain


def _mapped(rows: DataFrame, schema: pa.Schema, part: Part) -> pd.DataFrame:
    """Return what a function makes of every Arrow batch of the rows, in no order."""
    from pyspark.sql.pandas.types import from_arrow_schema

    def over_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            living = scoring.living_rows(to_frame(pa.Table.from_batches([batch])))
            if len(living):
                made = part(living)
                yield from pa.Table.from_pandas(
                    made[schema.names], schema=schema, preserve_index=False
                ).to_batches()

    return to_frame(rows.mapInArrow(over_batches, from_arrow_schema(schema)).toArrow())


def _column(name: str) -> Any:  # noqa: ANN401 - PySpark's Column
    from pyspark.sql import functions

    return functions.col(name)
