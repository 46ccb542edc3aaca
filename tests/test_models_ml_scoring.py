"""Scores: right columns, honest tiers, reasons in words, and the same bytes every time."""

from __future__ import annotations

import json
import shutil
from datetime import date

import models_ml_rows as made
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models_ml.churn.batch import score, train
from models_ml.churn.dataset import payment_group
from models_ml.churn.errors import (
    FeatureMismatchError,
    ModelVerificationError,
    SnapshotError,
)
from models_ml.churn.model import Hazards
from models_ml.churn.parameters import choose_params
from models_ml.churn.reasons import Catalogue
from models_ml.churn.registry import champion_version, load_model_set
from models_ml.churn.score_shelf import current_scores, scored_with
from models_ml.churn.scoring import SCORE_COLUMNS, Stamps, is_listed, score_parts
from models_ml.churn.snapshot import write_snapshot

STAMPS = Stamps(made.SCORE_DATE, "f" * 16, "0" * 16)
PARAMS = choose_params(made.RISK_PARAMS, made.SCORE_DATE)
WORDS = Catalogue.from_frame(made.CATALOG)
NO_INTEREST = Hazards(overall=0.0, by_segment={})


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Return a world with a champion."""
    world = made.world(tmp_path_factory.mktemp("scoring"))
    train(
        world.snapshots,
        world.labels,
        world.models_dir,
        made.CATALOG,
        made.KNOWN_ON,
        made.LABEL,
        made.QUICK,
        risk_params=made.RISK_PARAMS,
    )
    return world


@pytest.fixture(scope="module")
def models(stored):
    """Return the champion."""
    return load_model_set(stored.models_dir, champion_version(stored.models_dir))


def scored(features, models, params=PARAMS):
    """Return the scores of a frame."""
    return score_parts(lambda: [features], models, params, WORDS, STAMPS)


def run(world, scores_dir, **changes):
    """Score the stored snapshot."""
    given = {
        "snapshot_path": world.score_snapshot,
        "models_dir": world.models_dir,
        "risk_params": made.RISK_PARAMS,
        "catalog": made.CATALOG,
        "scores_dir": scores_dir,
        "score_date": made.SCORE_DATE,
    }
    return score(**(given | changes))


def twins(**columns) -> pd.DataFrame:
    """Return prepaid rows that differ only in the given columns."""
    count = len(next(iter(columns.values())))
    rows = made.feature_rows(made.SCORE_DATE, 1)
    rows = pd.concat([rows] * count, ignore_index=True)
    rows["subscription_id"] = [f"t{n}" for n in range(count)]
    rows[["complaints_90d", "competitor_calls_30d", "noise"]] = 0.0
    return rows.assign(**columns)


# Probability


def test_the_quiet_line_scores_higher(models):
    scores = scored(twins(usage_days_30d=[1, 28], silent_gap_days=[29, 2]), models)

    quiet, busy = scores["churn_probability"]
    assert quiet > 3 * busy
    assert scores["score_percentile"].tolist() == [100, 50]


def test_all_columns_are_there_in_their_order(models):
    scores = scored(made.feature_rows(made.SCORE_DATE, 50), models)

    assert tuple(scores.columns) == SCORE_COLUMNS
    assert scores["churn_probability"].between(0, 1).all()
    assert scores["model_version"].unique().tolist() == [models.version]
    assert scores["param_version"].unique().tolist() == [PARAMS.version]


def test_column_and_row_order_do_not_matter(models):
    features = made.feature_rows(made.SCORE_DATE, 200)
    turned = features[features.columns[::-1]].sample(frac=1, random_state=4)

    pd.testing.assert_frame_equal(scored(turned, models), scored(features, models))


def test_percentiles_are_within_the_payment_type(models):
    features = made.feature_rows(made.SCORE_DATE, 300)
    scores = scored(features, models)

    for kind in ("prepaid", "postpaid"):
        found = scores["score_percentile"][(features["payment_type"] == kind).to_numpy()]
        assert found.max() > 99
        assert found.mean() == pytest.approx(50, abs=1)


def test_hybrid_lines_take_the_postpaid_model(models):
    postpaid = made.feature_rows(made.SCORE_DATE, 100).assign(payment_type="postpaid")

    pd.testing.assert_frame_equal(
        scored(postpaid, models), scored(postpaid.assign(payment_type="hybrid"), models)
    )


def test_lines_that_are_gone_are_not_scored(models):
    features = made.feature_rows(made.SCORE_DATE, 3)
    features.loc[1, "is_alive"] = False

    assert scored(features, models)["subscription_id"].tolist() == ["s00000", "s00002"]


def test_no_subscriptions_give_no_scores(models):
    assert len(scored(made.feature_rows(made.SCORE_DATE, 5).head(0), models)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="tenure_days"), "lack 1 columns .* tenure_days"),
        (lambda f: f.assign(noise="loud"), "noise changed between number and text"),
        (lambda f: f.assign(brand_code=7), "brand_code changed between number and text"),
        (lambda f: f.drop(columns="known_flag"), "no column known_flag"),
        (lambda f: f.drop(columns="days_since_activity"), "no column days_since_activity"),
        (lambda f: pd.concat([f, f.head(2)]), "2 rows repeat"),
        (lambda f: f.assign(subscription_id=[None, *f["subscription_id"][1:]]), "1 rows have no"),
        (lambda f: f.assign(as_of_date=date(2025, 9, 29)), "10 rows are not of the score date"),
    ],
    ids=[
        "missing",
        "text",
        "number",
        "no eligibility",
        "no silence",
        "repeated id",
        "no id",
        "other day",
    ],
)
def test_a_wrong_frame_is_refused(models, change, message):
    with pytest.raises(FeatureMismatchError, match=message):
        scored(change(made.feature_rows(made.SCORE_DATE, 10)), models)


# NEW and NODATA


def test_new_and_unknown_lines_get_no_probability(models):
    features = made.feature_rows(made.SCORE_DATE, 5)
    features["full_months_on_net"] = [2, 3, 12, np.nan, 2]
    features["known_flag"] = [True, True, False, True, False]

    scores = scored(features, models)

    assert scores["risk_tier"].isin(["NEW", "NODATA"]).tolist() == [True, False, True, True, True]
    assert scores["risk_tier"].drop(1).tolist() == ["NEW", "NODATA", "NODATA", "NEW"]
    assert scores["tier_rule_id"].drop(1).tolist() == [
        "NEW_ON_NET",
        "NOTHING_KNOWN",
        "NOTHING_KNOWN",
        "NEW_ON_NET",
    ]
    assert scores["churn_probability"].notna().tolist() == [False, True, False, False, False]
    for empty_unless_scored in ("value_fen", "model_version", "score_percentile"):
        assert scores[empty_unless_scored].notna().tolist() == [False, True, False, False, False]


def test_without_a_champion_all_is_new_or_nodata_and_the_run_goes_on(stored, tmp_path):
    report = run(stored, tmp_path, models_dir=tmp_path / "empty")

    assert report.tiers == {"HIGH": 0, "MEDIUM": 0, "LOW": 0, "NEW": 0, "NODATA": 400}
    assert report.model_version is None
    assert report.sentences == ("no model was ever trained: every subscription is NEW or NODATA",)
    rows = pd.read_parquet(report.path)
    assert tuple(rows.columns) == SCORE_COLUMNS
    assert rows["churn_probability"].isna().all()


def test_the_caller_may_go_on_without_a_damaged_model(stored, tmp_path):
    import shutil

    shelf = shutil.copytree(stored.models_dir, tmp_path / "models")
    (shelf / champion_version(shelf) / "prepaid.model.txt").write_text("tree")

    with pytest.raises(ModelVerificationError) as caught:
        run(stored, tmp_path / "scores", models_dir=shelf)
    assert not (tmp_path / "scores").exists()

    report = run(
        stored, tmp_path / "scores", models_dir=shelf, without_model_because=str(caught.value)
    )
    assert report.tiers["NODATA"] == 400
    assert report.sentences[0].startswith("no model was used: model churn-")


# Silence


def test_a_line_silent_for_too_long_has_no_chance_and_is_low_by_the_rule_alone(models):
    rows = twins(days_since_activity=[14.0, 15.0, np.nan], usage_days_30d=[1, 1, 1])
    rows["arpu_avg3m"] = 100_000

    scores = scored(rows, models)

    assert scores["risk_tier"].tolist() == ["HIGH", "LOW", "HIGH"]
    assert scores["tier_rule_id"].tolist() == ["PROFIT_DEAR", "SILENT_TOO_LONG", "PROFIT_DEAR"]
    in_reach = [True, False, True]
    for told in ("churn_probability", "score_percentile", "expected_profit_fen", "reason_1_text"):
        assert scores[told].notna().tolist() == in_reach
    # What it would bring if it came back is still told, and by which model.
    assert len(set(scores["value_fen"])) == 1
    assert scores["model_version"].notna().all()


def test_lines_beyond_reach_take_no_place_among_the_percentiles(models):
    rows = twins(days_since_activity=[1.0, 99, 1, 99], usage_days_30d=[1, 1, 28, 28])

    assert scored(rows, models)["score_percentile"].tolist()[::2] == [100, 50]


def test_a_day_on_which_nobody_is_in_reach_has_scores_too(models):
    scores = scored(twins(days_since_activity=[99.0, 99.0]), models)

    assert scores["tier_rule_id"].tolist() == ["SILENT_TOO_LONG"] * 2
    assert scores["churn_probability"].isna().all()


def test_a_new_or_unknown_line_stays_new_or_unknown_when_it_is_silent(models):
    rows = twins(days_since_activity=[200, 200], full_months_on_net=[2, 12])
    rows["known_flag"] = [True, False]

    assert scored(rows, models)["risk_tier"].tolist() == ["NEW", "NODATA"]


@pytest.mark.parametrize("place", range(4))
def test_new_and_silent_lines_may_stand_anywhere_among_the_others(models, place):
    # Given a new line at each place among a silent one and two others, the later of which is worth more
    rows = twins(days_since_activity=[1.0, 99.0, 1.0], arpu_avg3m=[100_000, 100_000, 110_000])
    newcomer = twins(full_months_on_net=[0])
    mixed = pd.concat([rows[:place], newcomer, rows[place:]], ignore_index=True)
    mixed["subscription_id"] = [f"t{n}" for n in range(4)]

    scores = scored(mixed, models)

    assert scores["risk_tier"][place] == "NEW"
    alone = scored(rows, models).drop(columns=["subscription_id", "feature_snapshot_id"])
    beside = scores.drop(index=place)[alone.columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(beside, alone)


# Reasons


def test_reasons_are_in_words_and_name_the_planted_causes(models):
    rows = twins(usage_days_30d=[1, 15], silent_gap_days=[30, 15], complaints_90d=[3, 0])
    rows["arpu_avg3m"] = 100_000
    scores = scored(rows, models)

    first = scores.iloc[0]
    assert first["risk_tier"] == "HIGH"
    causes = {first[f"reason_{n}_text"] for n in (1, 2, 3)}
    assert "Complained 3 times" in causes
    assert causes & {"Used on only 1 days", "Silent for 30 days"}
    assert first["reason_1_direction"] in ("up", "down")


def test_low_rows_have_no_reasons_and_the_others_have(models):
    scores = scored(made.feature_rows(made.SCORE_DATE, 400), models)

    urgent = scores["risk_tier"].isin(["HIGH", "MEDIUM"])
    assert urgent.any()
    assert scores.loc[~urgent, "reason_1_code"].isna().all()
    assert scores.loc[urgent, "reason_1_code"].notna().all()


# Files


def test_the_score_file_has_its_contract_and_its_manifest(stored, tmp_path):
    report = run(stored, tmp_path)

    schema = pq.read_schema(report.path)
    assert tuple(schema.names) == SCORE_COLUMNS
    assert schema.field("score_date").type == pa.date32()
    assert schema.field("value_fen").type == pa.int64()
    assert schema.field("reason_3_text").type == pa.string()
    assert report.path.parent.name == "score_date=2025-09-30"
    manifest = json.loads((report.path.parent / "_manifest.json").read_text())
    assert manifest["current"] == report.score_run_id
    assert manifest["runs"][report.score_run_id]["sha256"] == report.sha256
    assert report.rows == 400 == sum(report.tiers.values())


def test_scoring_twice_gives_the_same_bytes_and_touches_nothing(stored, tmp_path):
    first = run(stored, tmp_path)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in first.path.parent.iterdir()}
    again = run(stored, tmp_path)
    elsewhere = run(stored, tmp_path / "other")

    assert again.sha256 == first.sha256 == elsewhere.sha256
    assert elsewhere.path.read_bytes() == first.path.read_bytes()
    assert {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in first.path.parent.iterdir()
    } == before


def test_other_parameters_are_another_run_beside_the_first(stored, tmp_path):
    first = run(stored, tmp_path)
    second = run(stored, tmp_path, risk_params=made.risk_params(max_high_share=0.01))

    assert second.tiers["HIGH"] == 4 < first.tiers["HIGH"]
    assert second.path != first.path
    assert first.path.exists()
    manifest = json.loads((first.path.parent / "_manifest.json").read_text())
    assert manifest["current"] == second.score_run_id
    assert len(manifest["runs"]) == 2


def test_a_day_in_parts_gets_the_scores_of_the_day_at_once(models):
    # Given a day in parts, one of which has nobody to explain
    features = made.feature_rows(made.SCORE_DATE, 90).sort_values("subscription_id")
    at_once = scored(features, models)
    quiet = int(np.flatnonzero(~is_listed(at_once))[0])
    parts = [features.iloc[:quiet], features.iloc[quiet : quiet + 1], features.iloc[quiet + 1 :]]

    found = score_parts(lambda: parts, models, PARAMS, WORDS, STAMPS)

    pd.testing.assert_frame_equal(found, at_once)
    assert found["reason_1_code"].notna().sum() > 1


def test_a_changed_snapshot_is_not_scored(stored, tmp_path):
    table = pa.Table.from_pandas(made.feature_rows(made.SCORE_DATE, 5))
    snapshot = write_snapshot(table, tmp_path, made.SCORE_DATE)
    snapshot.path.write_bytes(stored.score_snapshot.read_bytes())

    with pytest.raises(SnapshotError, match="changed after it was written"):
        run(stored, tmp_path / "scores", snapshot_path=snapshot.path)


def test_categories_that_training_never_saw_are_reported(stored, tmp_path):
    features = made.feature_rows(made.SCORE_DATE, 10).assign(brand_code=["NEW"] + ["ALFA"] * 9)
    snapshot = write_snapshot(pa.Table.from_pandas(features), tmp_path, made.SCORE_DATE)

    report = run(stored, tmp_path / "scores", snapshot_path=snapshot.path)

    asked = int((payment_group(features["payment_type"]) == "prepaid").sum())
    assert report.unseen_shares == {"brand_code": pytest.approx(1 / asked)}
    assert "brand_code: 16.7% of the values" in report.sentences[0]


# Which model


def test_a_day_that_was_scored_can_keep_its_model_when_another_is_champion(
    stored, models, tmp_path
):
    # given a day that the champion has scored, and a new champion
    models_dir, scores_dir = tmp_path / "models", tmp_path / "scores"
    shutil.copytree(stored.models_dir, models_dir)
    assert scored_with(scores_dir, made.SCORE_DATE) is None
    assert current_scores(scores_dir, made.SCORE_DATE) is None
    first = run(stored, scores_dir, models_dir=models_dir)
    kept = first.path.read_bytes()
    again = train(
        stored.snapshots[:-1],
        stored.labels,
        models_dir,
        made.CATALOG,
        made.KNOWN_ON,
        made.LABEL,
        made.QUICK,
        risk_params=made.RISK_PARAMS,
    )
    assert champion_version(models_dir) == again.version != models.version

    # when the day is scored again with the model on record
    version = scored_with(scores_dir, made.SCORE_DATE)
    second = run(stored, scores_dir, models_dir=models_dir, model_version=version)

    # then the scores are the same bytes
    assert version == models.version
    assert second.path.read_bytes() == kept
    assert current_scores(scores_dir, made.SCORE_DATE) == first.path
    # and the champion is taken when nobody names another
    assert run(stored, scores_dir, models_dir=models_dir).model_version == again.version
    assert scored_with(scores_dir, made.SCORE_DATE) == again.version


def test_scores_that_were_changed_are_not_loaded_again(stored, tmp_path):
    report = run(stored, tmp_path)
    report.path.write_bytes(report.path.read_bytes() + b"x")

    with pytest.raises(SnapshotError, match="missing or was changed"):
        current_scores(tmp_path, made.SCORE_DATE)
