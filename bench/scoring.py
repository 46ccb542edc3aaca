"""Scoring end to end against the limit: LightGBM's bare `Booster.predict` on the same matrix.

    python -m bench.scoring                     100,000 subscriptions, 3 rounds
    python -m bench.scoring --rows 1000000

keepline scores as its command does: features exported from compute, frozen with a checksum, read,
predicted, calibrated, ranked, valued, put into tiers, explained where people will read it, written and
loaded back. The limit holds the finished matrices in memory and predicts, nothing else. The model is
trained on a small simulated operator, whose rows are repeated under new keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from .alone import Clock, run_alone, serve
from .row import Row, contest, environment_of, print_rows

AIM = 1.25
# Fewer lines or days leave too few leavers to train on.
LINES, DAYS = 2_000, 300
FEATURES = "features.feat_subscription_asof"


def limit(given: Mapping[str, Any], clock: Clock) -> int:
    """Predict the matrices of both payment types with the bare boosters."""
    from pathlib import Path

    import numpy as np

    from keepline.settings import Settings
    from models_ml.churn.dataset import is_known, is_new, payment_group
    from models_ml.churn.registry import champion_version, load_model_set
    from models_ml.churn.snapshot import read_frame

    settings = Settings.load()
    version = champion_version(settings.models_dir)
    assert version is not None
    models = load_model_set(settings.models_dir, version).models
    assert models, "the operator is too small: nothing was trained"
    frame = read_frame(Path(given["features"]))
    groups = payment_group(frame["payment_type"])
    scored = ~is_new(frame) & is_known(frame)
    matrices = {
        group: model.space.matrix(frame[(groups == group).to_numpy() & scored])
        for group, model in models.items()
    }
    boosters = {group: model.booster() for group, model in models.items()}
    with clock:
        for group, matrix in matrices.items():
            predicted = boosters[group].predict(matrix, num_threads=settings.compute_threads)
            assert np.isfinite(predicted).all()
    clock.more["predicted"] = sum(len(matrix) for matrix in matrices.values())
    return len(frame)


def keepline(given: Mapping[str, Any], clock: Clock) -> int:
    """Score the day as the command does."""
    from datetime import date

    import lightgbm  # noqa: F401 - imports do not count
    import pyarrow.parquet  # noqa: F401

    from keepline.commands import modelling
    from keepline.compute import compute_for
    from keepline.settings import Settings
    from models_ml.churn import batch  # noqa: F401

    settings = Settings.load()
    day = date.fromisoformat(given["day"])
    with clock:
        modelling.score(settings, day)
    found = compute_for(settings).execute(
        f"select count(*) from {modelling.SCORE_TABLE} where score_date = ?", [day]
    )
    return int(found[0][0])


CONTENDERS = {"limit": limit, "keepline": keepline}


def measure(rows: int, rounds: int = 3) -> list[Row]:
    """Score a day of a base in turns with the bare prediction."""
    from keepline.commands import pipeline
    from keepline.compute import compute_for
    from keepline.window import Window

    from .small import LAST_DATE, small_operator

    with small_operator("scoring", LINES, DAYS, train=True) as settings:
        pipeline.build(settings, "features", Window.day(LAST_DATE))
        with compute_for(settings).connection() as duck:
            duck.execute(
                f"create temp table base as select * from {FEATURES}"
                f" where as_of_date = date '{LAST_DATE}' and is_alive"
            )
            found = duck.execute("select count(*) from base").fetchone()
            copies = -(-rows // (found[0] if found else 1))
            duck.execute(f"delete from {FEATURES} where as_of_date = date '{LAST_DATE}'")
            duck.execute(
                f"insert into {FEATURES} select base.* replace"
                " (subscription_id || '-' || copy as subscription_id)"
                f" from base, range({copies}) as t(copy) limit {rows}"
            )
        features = settings.exchange_dir / "bench-features.parquet"
        compute_for(settings).export(
            f"select * from {FEATURES} where as_of_date = date '{LAST_DATE}'", features
        )
        given = {"day": LAST_DATE.isoformat(), "features": str(features)}
        environment = environment_of(settings)
        found_ = contest(
            {
                name: partial(run_alone, "bench.scoring", name, given, environment)
                for name in CONTENDERS
            },
            rounds,
        )
        predicted = found_.runs["limit"][0].more["predicted"]
        with compute_for(settings).connection() as duck:
            (explained,) = duck.execute(
                "select count(*) from ml.fct_churn_score where reason_1_code is not null"
            ).fetchall()[0]
    return [
        Row(
            *("scoring", f"{rows:,} subscriptions", "keepline score", "bare Booster.predict"),
            *(found_.ratio("keepline", "limit"), AIM, found_.peak_mb("keepline")),
            seconds=found_.seconds("keepline"),
            note=f"{predicted:,} of them have a prediction, {explained:,} exact reasons.",
        )
    ]


if __name__ == "__main__" and not serve(CONTENDERS):
    print_rows(__doc__, measure, rows=100_000)
