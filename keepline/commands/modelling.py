"""Training and scoring, wired: features out of the compute engine, scores back into it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING

from keepline import lease
from keepline.build import build
from keepline.commands.context import stage
from keepline.commands.mending import mending, mends
from keepline.commands.rebuild import SCORE_TABLE, score_columns
from keepline.compute import Compute, compute_for
from keepline.errors import BadDataError
from keepline.failpoint import reach
from keepline.progress import err
from keepline.settings import Settings
from keepline.window import Window

if TYPE_CHECKING:
    import pandas as pd

    from models_ml.churn.batch import Scorer
    from models_ml.churn.snapshot import Snapshot

# Training looks at the base every two weeks: closer dates repeat the same leavers, wider ones waste.
AS_OF_STEP_DAYS = 14
# Three full months on net are the least that a model row needs.
LEAST_HISTORY_DAYS = 92
# As-of dates that validate, and as many that test: one alone holds too few leavers to judge by.
HELD_OUT_DATES = 2
# As a snapshot wants its rows, so that they need not be in memory to be sorted.
IN_ORDER = "as_of_date, subscription_id"


@mends
def train(settings: Settings, day: date) -> None:
    """Train on every second week whose labels had matured by the end of `day`, and promote."""
    from models_ml.churn import batch
    from models_ml.churn.model import LabelParams, TrainingParams

    compute = compute_for(settings)
    with stage(settings, "train", Window.day(day)) as clock, lease.committing():
        params = _thresholds(compute, day)
        risk_params = _seed(compute, "param_risk_tier")
        label = LabelParams(
            int(params["label_gap_days"]),
            int(params["label_window_days"]),
            _silence_days(compute, day, risk_params),
        )
        dates = _training_dates(compute, day, label.gap_days + label.window_days)
        if not dates:
            clock.message = (
                f"no model: less than {LEAST_HISTORY_DAYS} days of history before the label window"
            )
            return
        snapshots = _snapshots(settings, compute, dates, known_on=day)
        labels = settings.exchange_dir / "labels" / f"known_on={day}.parquet"
        wanted = ", ".join(f"date '{each}'" for each in dates)
        compute.export(
            f"select * from features.label_churn where as_of_date in ({wanted})",  # noqa: S608
            labels,
        )
        report = batch.train(
            [snapshot.path for snapshot in snapshots],
            labels,
            settings.models_dir,
            _seed(compute, "feature_catalog"),
            day,
            label,
            TrainingParams(num_threads=settings.compute_threads, test_dates=HELD_OUT_DATES),
            risk_params=risk_params,
        )
        clock.rows = report.rows
        quality = "; ".join(
            f"{group} lift {metrics['top_decile_lift']:.1f}, AUC {metrics['auc']:.2f}"
            for group, metrics in report.metrics.items()
        )
        state = "promoted" if report.promoted else "stored, not promoted"
        clock.message = (
            f"{report.version} {state}: {quality}"
            if quality
            else f"{report.version} holds no model: too little to train on"
        )
    _say([*report.sentences, *report.notes])


def score(settings: Settings, day: date, *, use_champion: bool = False) -> None:
    """Score the base as of the end of `day` and put the scores beside it.

    A day that has scores is scored again with the model that made them, whatever was trained since: late
    rows may change its scores, a later model may not. A day without takes the champion.

    Args:
        settings: where things are.
        day: score date.
        use_champion: take the champion, also for a day that another model has scored.
    """
    work = partial(_score, settings, day, use_champion=use_champion)
    # A rebuild leaves the features out.
    described: dict[str, object] = {"as_of_dates": [day.isoformat()], "known_on": day.isoformat()}
    features = partial(build, settings, "features", Window.day(day), described)
    mending(settings, "score", work, features)


def _score(settings: Settings, day: date, *, use_champion: bool) -> None:
    from models_ml.churn import batch, score_shelf
    from models_ml.churn.snapshot import write_snapshots

    compute = compute_for(settings)
    with stage(settings, "score", Window.day(day)) as clock, lease.committing():
        exported = settings.exchange_dir / "features-score.parquet"
        rows = compute.export(
            f"select * from features.feat_subscription_asof where as_of_date = date '{day}'"  # noqa: S608
            f" order by {IN_ORDER}",
            exported,
        )
        if rows == 0:
            raise BadDataError(
                f"no features for {day}: keepline build --layer features --date {day}"
            )
        snapshot = write_snapshots(exported, settings.exchange_dir / "features", rerun=True)[0]
        exported.unlink()
        scores_dir = settings.exchange_dir / "scores"
        report = batch.score(
            snapshot.path,
            settings.models_dir,
            _seed(compute, "param_risk_tier"),
            _seed(compute, "feature_catalog"),
            scores_dir,
            day,
            model_version=None if use_champion else score_shelf.scored_with(scores_dir, day),
            scorer=_scorer(settings),
        )
        reach("scores.unloaded")
        compute.replace_partition(
            SCORE_TABLE, score_columns(settings.dbt_dir), [report.path], "score_date", [day]
        )
        reach("scores.loaded")
        clock.rows = report.rows
        clock.message = ", ".join(f"{tier} {count:,}" for tier, count in report.tiers.items())
    _say(report.sentences)


def _scorer(settings: Settings) -> Scorer | None:
    """Return what scores on the machines that compute, or None when this process does."""
    if settings.compute != "spark":
        return None
    from keepline.commands.spark_scoring import SparkScorer

    return SparkScorer(settings)


def _training_dates(compute: Compute, day: date, label_days: int) -> list[date]:
    """Return the as-of dates whose label window ended by `day`, oldest first."""
    first = compute.execute("select min(event_date) from core.fct_usage_daily")[0][0]
    if first is None:
        return []
    newest = day - timedelta(days=label_days)
    oldest = first + timedelta(days=LEAST_HISTORY_DAYS)
    count = (newest - oldest).days // AS_OF_STEP_DAYS + 1
    return sorted(newest - timedelta(days=AS_OF_STEP_DAYS * n) for n in range(max(count, 0)))


def _snapshots(
    settings: Settings, compute: Compute, dates: Sequence[date], known_on: date
) -> list[Snapshot]:
    """Build the features and labels of these dates and freeze the features."""
    from models_ml.churn.snapshot import write_snapshots

    variables: dict[str, object] = {
        "as_of_dates": [each.isoformat() for each in dates],
        "known_on": known_on.isoformat(),
    }
    build(settings, "features", Window(dates[0], known_on + timedelta(days=1)), variables)
    exported = settings.exchange_dir / "features-train.parquet"
    wanted = ", ".join(f"date '{each}'" for each in dates)
    compute.export(
        f"select * from features.feat_subscription_asof where as_of_date in ({wanted})"  # noqa: S608
        f" order by {IN_ORDER}",
        exported,
    )
    snapshots = write_snapshots(exported, settings.exchange_dir / "features", rerun=True)
    exported.unlink()
    return snapshots


def _thresholds(compute: Compute, day: date) -> dict[str, float]:
    """Return the parameters for everybody that are valid on a day."""
    rows = compute.execute(
        "select key, value from seeds.param_threshold where scope = 'ALL'"
        " and valid_from <= ? and ? < valid_to",
        [day, day],
    )
    return {str(key): float(value) for key, value in rows}


def _silence_days(compute: Compute, day: date, risk_params: pd.DataFrame) -> dict[str, int]:
    """Return, for each payment type that is lost by silence, for how many days it is within reach."""
    from models_ml.churn.dataset import GROUPS
    from models_ml.churn.parameters import REACHABLE, choose_params

    rows = compute.execute(
        "select distinct scope from seeds.param_churn_definition where key = 'inactivity_days'"
        " and valid_from <= ? and ? < valid_to",
        [day, day],
    )
    lost_by_silence = {str(scope) for (scope,) in rows}
    reach = choose_params(risk_params, day)
    return {group: int(reach.get(REACHABLE, group)) for group in GROUPS if group in lost_by_silence}


def _seed(compute: Compute, name: str) -> pd.DataFrame:
    """Return a seed table as a frame."""
    with compute.connection() as connection:
        # In an order of its own: engines keep that of the file or not, and a model depends on it.
        return connection.execute(f"select * from seeds.{name} order by all").df()  # noqa: S608


def _say(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        err.print(f"  {sentence}", markup=False)
