"""Training is by time, reproducible, free of leaks, and says so when there is too little."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import models_ml_rows as made
import numpy as np
import pandas as pd
import pytest

from models_ml.churn.batch import score, train
from models_ml.churn.dataset import labelled_rows, split_by_time
from models_ml.churn.errors import FeatureMismatchError, LabelError, LeakError, SnapshotError
from models_ml.churn.features import choose_features, learn_space, refuse_leaks
from models_ml.churn.model import LabelParams, TrainingParams
from models_ml.churn.parameters import choose_params
from models_ml.churn.registry import champion_version, load_model_set
from models_ml.churn.training import make_probe
from models_ml.churn.training import train_groups as train_any_groups


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Return stored snapshots and labels of four as-of dates."""
    return made.world(tmp_path_factory.mktemp("training"))


def run(world, models_dir, **changes):
    """Train over a stored world."""
    given = {
        "snapshot_paths": world.snapshots,
        "labels_path": world.labels,
        "models_dir": models_dir,
        "catalog": made.CATALOG,
        "known_on": made.KNOWN_ON,
        "label": made.LABEL,
        "params": made.QUICK,
        "risk_params": made.RISK_PARAMS,
    }
    return train(**(given | changes))


def train_groups(rows, names, label, params):
    """Train over rows in memory, with the risk parameters of these tests."""
    return train_any_groups(
        rows, names, label, params, lambda day: choose_params(made.RISK_PARAMS, day)
    )


def labelled(subscriptions: int = 300) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return features and labels of the four dates as frames."""
    frame = pd.concat(
        [made.feature_rows(d, subscriptions) for d in made.AS_OF_DATES], ignore_index=True
    )
    return frame, made.label_rows(frame)


# Time


def test_dates_are_split_in_order_and_never_mixed():
    days = [date(2025, 1, 1) + timedelta(days=30 * n) for n in range(6)]

    split = split_by_time([*days[::-1], *days], test_dates=2)

    assert split is not None
    assert (split.train, split.validation, split.test) == (
        tuple(days[:2]),
        tuple(days[2:4]),
        tuple(days[4:]),
    )
    assert max(split.train) < min(split.validation) < min(split.test)


def test_parts_that_are_a_label_window_apart_share_no_leaving():
    fortnights = [date(2025, 1, 1) + timedelta(days=14 * n) for n in range(9)]

    split = split_by_time(fortnights, apart_days=30)

    assert split is not None
    assert (split.train, split.validation, split.test) == (
        tuple(fortnights[:3]),
        (fortnights[5],),
        (fortnights[8],),
    )
    assert split_by_time(fortnights[:6], apart_days=30) is None


@pytest.mark.parametrize(
    ("group", "span"), [("prepaid", 7 + 30 + 14), ("postpaid", 7 + 30)], ids=["silence", "ends"]
)
def test_no_leaving_is_labelled_in_two_parts(group, span):
    # given: as-of dates every week, and the days of a leaving that each would label: of a line that is
    # lost by silence also one that began up to 14 days before, the first silent day being the next
    label = LabelParams(7, 30, {"prepaid": 14})
    weeks = [date(2025, 1, 1) + timedelta(days=7 * n) for n in range(30)]
    back = {"prepaid": 13, "postpaid": -8}[group]

    # when
    split = split_by_time(weeks, 2, label.span_days(group))

    # then
    assert label.span_days(group) == span
    parts = [
        {day + timedelta(days=n) for day in part for n in range(-back, 38)}
        for part in (split.train, split.validation, split.test)
    ]
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    # and a later part begins when the leavings of the one before are over
    assert split.validation[0] > split.train[-1] + timedelta(days=37)


def months_of_rows(count: int, subscriptions: int = 1000) -> pd.DataFrame:
    """Return labelled rows of as-of dates that are 30 days apart."""
    days = [date(2025, 1, 1) + timedelta(days=30 * n) for n in range(count)]
    frame = pd.concat([made.feature_rows(day, subscriptions) for day in days], ignore_index=True)
    return labelled_rows(frame, made.label_rows(frame), date(2027, 12, 31))


def test_training_keeps_the_parts_as_far_apart_as_a_leaving_reaches():
    rows = months_of_rows(7)
    days = sorted(set(rows["as_of_date"]))
    few = replace(made.QUICK, min_positives_apart=20)

    models, _ = train_groups(rows, ["usage_days_30d"], LabelParams(7, 30, {"prepaid": 14}), few)

    # 51 and 37 days: two months of 30 days for both
    for group in ("prepaid", "postpaid"):
        split = models[group].split
        assert (split.train, split.validation, split.test) == (
            tuple(days[:3]),
            (days[4],),
            (days[6],),
        )
        assert not any("too short" in note for note in models[group].notes)


def test_a_short_history_keeps_the_parts_as_far_apart_as_it_can_and_says_so():
    rows = months_of_rows(4)
    days = sorted(set(rows["as_of_date"]))

    models, _ = train_groups(
        rows, ["usage_days_30d"], LabelParams(7, 30, {"prepaid": 14}), made.QUICK
    )

    # Not two months apart, but one: never the dates side by side that would need no distance at all.
    split = models["prepaid"].split
    assert (split.train, split.validation, split.test) == (tuple(days[:2]), (days[2],), (days[3],))
    assert models["prepaid"].notes[0] == (
        "the history is too short to keep training, validation and test 51 days apart, as far as a "
        "leaving reaches: they are 30 days apart, so some leavings are in two of them and the test "
        "is kinder than life"
    )


def test_three_dates_are_the_least():
    days = made.AS_OF_DATES

    assert split_by_time(days[:2]) is None
    assert split_by_time(days[:3]) is not None


def test_only_matured_labels_of_scorable_subscriptions_are_learned_from():
    # given: one subscription per rule
    features = made.feature_rows(date(2025, 1, 31), 7)
    labels = made.label_rows(features)
    labels.loc[1, "matured_on"] = date(2025, 10, 1)
    labels.loc[2, "excluded_reason"] = "administrative"
    features.loc[3, "full_months_on_net"] = 2
    features.loc[4, "known_flag"] = False
    features.loc[5, "is_alive"] = False

    # when
    rows = labelled_rows(features, labels, known_on=date(2025, 9, 30))

    # then: only the one that no rule touches, and the last, stay
    assert rows["subscription_id"].tolist() == ["s00000", "s00006"]


def test_a_label_that_matures_on_the_training_day_counts_and_a_day_later_not():
    features = made.feature_rows(date(2025, 1, 31), 1)
    labels = made.label_rows(features).assign(matured_on=date(2025, 9, 30))

    assert len(labelled_rows(features, labels, date(2025, 9, 30))) == 1
    assert len(labelled_rows(features, labels, date(2025, 9, 29))) == 0


def test_each_date_keeps_its_own_features_and_label():
    features, labels = labelled(4)

    rows = labelled_rows(features, labels.sample(frac=1, random_state=1), made.KNOWN_ON)

    expected = features.sort_values(["as_of_date", "subscription_id"])
    assert rows["usage_days_30d"].tolist() == expected["usage_days_30d"].tolist()
    assert rows["label"].tolist() == labels["label"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: pd.concat([labels, labels.head(2)]), "2 labels repeat"),
        (lambda labels: labels.assign(label=2), "neither 0 nor 1"),
        (lambda labels: labels.drop(columns="matured_on"), "no column matured_on"),
    ],
    ids=["two definitions", "no label", "no maturity"],
)
def test_labels_that_cannot_be_joined_are_refused(change, message):
    features, labels = labelled(10)

    with pytest.raises(LabelError, match=message):
        labelled_rows(features, change(labels), made.KNOWN_ON)


# Leaks


@pytest.mark.parametrize(
    "name",
    [
        "label",
        "churn_flag",
        "churned",
        "is_churned",
        "terminated_date",
        "termination_reason_code",
        "matured_on",
        "excluded_reason",
        "health_stage",
        "risk_tier",
        "score_percentile",
        "churn_probability",
        "port_out_date",
        "truth_cause",
        "future_usage",
    ],
)
def test_a_column_that_knows_the_future_is_refused_as_a_feature(name):
    with pytest.raises(LeakError, match=name):
        refuse_leaks(["usage_days_30d", name])


def test_what_others_did_before_is_no_leak():
    refuse_leaks(
        [
            "churned_contacts_90d",
            "churned_contact_share_90d",
            "port_enquiry_calls_90d",
            "port_eligibility_sms_180d",
            "credit_score",
            "dual_sim_suspect_score",
            "contract_expired_days",
            "suspended_days_180d",
        ]
    )


def test_training_refuses_a_catalogue_with_a_leak(stored, tmp_path):
    leaky = made.CATALOG.copy()
    leaky.loc[0, "feature"] = "churn_flag"

    with pytest.raises(LeakError, match="churn_flag may not be a feature"):
        run(stored, tmp_path, catalog=leaky)

    assert not (tmp_path / "champion").exists()


def test_a_feature_that_tells_the_label_alone_is_pointed_at():
    features, labels = labelled(400)
    rows = labelled_rows(features, labels, made.KNOWN_ON)
    rows["innocent_name"] = rows["label"] * 5.0

    models, _ = train_groups(rows, ["usage_days_30d", "innocent_name"], made.LABEL, made.QUICK)

    assert any("innocent_name alone" in note for note in models["prepaid"].notes)


def test_values_after_the_training_dates_do_not_touch_what_is_measured():
    # given: two worlds that are equal but for the features of the test date
    features, labels = labelled(1500)
    names = ["usage_days_30d", "complaints_90d", "competitor_calls_30d"]
    rows = labelled_rows(features, labels, made.KNOWN_ON)
    poisoned = rows.copy()
    poisoned.loc[poisoned["as_of_date"] == made.AS_OF_DATES[-1], names] = 999.0

    # when
    honest, _ = train_groups(rows, names, made.LABEL, made.QUICK)
    other, _ = train_groups(poisoned, names, made.LABEL, made.QUICK)

    # then: what was chosen before the test is the same
    for group in ("prepaid", "postpaid"):
        assert honest[group].metrics["validation"] == other[group].metrics["validation"]
        assert honest[group].metrics["train"] == other[group].metrics["train"]


# What is shipped


def test_the_model_in_use_has_learned_from_every_matured_date():
    # given: competitor calls mean leaving on the newest date alone
    rows = months_of_rows(7)
    newest = (rows["as_of_date"] == rows["as_of_date"].max()).to_numpy()
    called = (rows["competitor_calls_30d"] > 0).to_numpy()
    rows["label"] = np.where(called, newest, rows["label"]).astype(np.int8)
    names = ["usage_days_30d", "competitor_calls_30d"]

    models, _ = train_groups(rows, names, LabelParams(7, 30), made.QUICK)

    # then: the measured model could not know it, the one in use does
    model = models["postpaid"]
    quiet = rows[newest].iloc[[0, 0]].assign(usage_days_30d=28, competitor_calls_30d=[0, 2])
    stays, leaves = model.raw_scores(model.space.matrix(quiet))
    assert leaves > 1.5 * stays
    assert model.metrics["test"]["auc"] < 0.5
    assert any("the model in use is fitted again" in note for note in model.notes)
    assert model.metrics["trees"] == model.booster().num_trees()


def test_the_chances_of_the_model_in_use_add_up_to_those_who_left_in_the_newest_year():
    # given: a year and a half; half a year ago and before that twice as many left as since
    rows = months_of_rows(18, 1500)
    days = sorted(set(rows["as_of_date"]))
    recent = (rows["as_of_date"] >= days[5]).to_numpy()
    odd = np.random.default_rng(5).random(len(rows)) < 0.5
    rows["label"] = np.where(recent & odd, 0, rows["label"]).astype(np.int8)
    names = ["usage_days_30d", "complaints_90d", "competitor_calls_30d"]

    # when
    models, _ = train_groups(rows, names, LabelParams(7, 30), made.QUICK)

    # then: over other people of a later month, of whom half leave too, it is right
    model = models["prepaid"]
    later = made.feature_rows(date(2026, 9, 1), 20_000, seed=99)
    said = model.calibration.apply(model.raw_scores(model.space.matrix(later))).sum()
    assert said == pytest.approx(0.5 * made.leaving_chance(later).sum(), rel=0.1)
    assert model.calibration.method == "settled"


def test_said_and_came_are_told_by_tier_for_the_test_dates():
    # given: a tenth of the lines is silent for too long on the test date
    rows = months_of_rows(7)
    rows["days_since_activity"] = np.where(np.arange(len(rows)) % 10 == 0, 15, 0)

    models, _ = train_groups(
        rows, ["usage_days_30d", "complaints_90d"], LabelParams(7, 30), made.QUICK
    )

    model = models["prepaid"]
    told = model.metrics["said_and_came"]
    test = rows[
        (rows["as_of_date"] == model.split.test[0])
        & (rows["payment_group"] == "prepaid")
        & (rows["days_since_activity"] <= 14)
    ]
    assert [part["tier"] for part in told] == ["HIGH", "MEDIUM", "LOW", "TOTAL"]
    *tiers, total = told
    assert total["subscriptions"] == len(test) == sum(part["subscriptions"] for part in tiers)
    assert total["came"] == test["label"].sum() == sum(part["came"] for part in tiers)
    assert total["said"] == pytest.approx(sum(part["said"] for part in tiers))
    assert total["said"] == pytest.approx(total["came"], rel=0.5)
    # HIGH is likelier to leave than MEDIUM, and MEDIUM than LOW, in what is said and in what came
    for measure in ("said", "came"):
        high, medium, low = (part[measure] / part["subscriptions"] for part in tiers)
        assert high > medium > low


# Features


def test_features_are_those_of_the_catalogue_in_its_order():
    frame = made.feature_rows(made.SCORE_DATE, 50)

    chosen = choose_features(list(made.CATALOG["feature"]), frame)

    assert chosen == tuple(made.CATALOG["feature"][:-1])  # the last is not built yet


def test_a_text_with_a_value_per_row_is_an_identifier_and_left_out():
    frame = made.feature_rows(made.SCORE_DATE, 200)

    assert choose_features(["subscription_id", "noise"], frame) == ("noise",)


def test_a_date_is_no_feature():
    frame = made.feature_rows(made.SCORE_DATE, 5)

    with pytest.raises(FeatureMismatchError, match="as_of_date is object"):
        choose_features(["as_of_date"], frame)


def test_a_category_never_seen_counts_as_missing():
    frame = pd.DataFrame({"brand_code": ["A", "B"] * 50, "calls": [1.0, np.nan] * 50})
    space = learn_space(["brand_code", "calls"], frame)

    matrix = space.matrix(pd.DataFrame({"calls": [2, 3], "brand_code": ["B", "C"]}))

    assert space.categories == {"brand_code": ("A", "B")}
    np.testing.assert_array_equal(matrix, np.array([[1, 2], [np.nan, 3]], dtype=np.float32))
    assert space.unseen_share(pd.DataFrame({"brand_code": ["B", "C"]})) == {"brand_code": 0.5}


def test_the_probe_rows_are_nobody():
    frame = made.feature_rows(made.SCORE_DATE, 300)
    names = ["usage_days_30d", "arpu_avg3m", "noise", "tenure_days"]
    space = learn_space(names, frame)
    matrix = space.matrix(frame)

    probe = make_probe(space, matrix, seed=1)

    assert not any((matrix == row).all(axis=1).any() for row in probe)


# Models


def test_the_planted_cause_is_found_and_the_order_is_worth_more_than_chance(stored, tmp_path):
    report = run(stored, tmp_path)

    assert report.promoted
    assert report.sentences == ()
    for group in ("prepaid", "postpaid"):
        measured = report.metrics[group]
        assert measured["top_decile_lift"] > 2
        assert measured["auc"] > 0.7
        assert measured["ece"] < 0.05
        assert measured["n"] == (900 if group == "prepaid" else 600)
    card = (report.path / "MODEL_CARD.md").read_text()
    assert "## prepaid" in card
    assert "top-decile lift" in card


def test_lines_that_went_silent_already_are_measured_apart():
    features, labels = labelled(400)
    features["days_since_activity"] = [0, 20, None, 6] * (len(features) // 4)
    rows = labelled_rows(features, labels, made.KNOWN_ON)

    models, _ = train_groups(rows, ["usage_days_30d"], made.LABEL, made.QUICK)

    metrics = models["prepaid"].metrics
    assert metrics["test"]["n"] == 240
    assert metrics["test_still_active"]["n"] == 120


def test_training_twice_gives_the_same_version(stored, tmp_path):
    first = run(stored, tmp_path / "a")
    shuffled = tmp_path / "shuffled.parquet"
    labels = pd.read_parquet(stored.labels).sample(frac=1, random_state=2)
    made.write_labels(labels, shuffled)
    second = run(
        stored, tmp_path / "b", labels_path=shuffled, snapshot_paths=stored.snapshots[::-1]
    )

    assert first.version == second.version
    for path in sorted(first.path.iterdir()):
        assert path.read_bytes() == (second.path / path.name).read_bytes()


def test_another_seed_is_another_version(stored, tmp_path):
    versions = {
        run(stored, tmp_path, params=replace(made.QUICK, seed=seed)).version for seed in (1, 2)
    }

    assert len(versions) == 2


def test_too_few_leavers_give_a_sentence_and_tier_nodata(stored, tmp_path):
    # given: nearly all leavers of the training dates are excluded
    labels = pd.read_parquet(stored.labels)
    early = labels["as_of_date"].isin(made.AS_OF_DATES[:2]) & (labels["label"] == 1)
    labels.loc[labels[early].index[34:], "label"] = 0
    few = tmp_path / "few.parquet"
    made.write_labels(labels, few)

    # when
    report = run(stored, tmp_path / "models", labels_path=few)
    scored = score(
        stored.score_snapshot,
        tmp_path / "models",
        made.RISK_PARAMS,
        made.CATALOG,
        tmp_path / "scores",
        made.SCORE_DATE,
    )

    # then
    assert report.promoted
    assert report.metrics == {}
    assert len(report.sentences) == 2
    assert "prepaid: too little to train on" in report.sentences[0]
    assert "leavers among 1800 rows of the training dates" in report.sentences[0]
    assert "needs at least 40" in report.sentences[0]
    assert scored.tiers == {"HIGH": 0, "MEDIUM": 0, "LOW": 0, "NEW": 0, "NODATA": 400}
    assert scored.sentences == report.sentences
    assert scored.model_version is None


def test_one_payment_type_may_have_a_model_and_the_other_not(stored, tmp_path):
    labels = pd.read_parquet(stored.labels)
    postpaid = labels["subscription_id"].str[1:].astype(int) % 5 >= 3
    labels.loc[postpaid, "label"] = 0
    half = tmp_path / "half.parquet"
    made.write_labels(labels, half)

    report = run(stored, tmp_path / "models", labels_path=half)
    scored = score(
        stored.score_snapshot,
        tmp_path / "models",
        made.RISK_PARAMS,
        made.CATALOG,
        tmp_path / "scores",
        made.SCORE_DATE,
    )

    assert list(report.metrics) == ["prepaid"]
    assert scored.tiers["NODATA"] == 160
    rows = pd.read_parquet(scored.path)
    assert rows.loc[rows["risk_tier"] == "NODATA", "tier_rule_id"].unique().tolist() == ["NO_MODEL"]
    assert scored.model_version == report.version


def test_a_set_that_lost_a_model_does_not_replace_the_champion(stored, tmp_path):
    whole = run(stored, tmp_path)
    poorer = run(stored, tmp_path, params=replace(made.QUICK, min_positives=10_000))

    assert not poorer.promoted
    assert poorer.sentences[-1].startswith(f"the champion stays {whole.version}")
    assert champion_version(tmp_path) == whole.version
    assert load_model_set(tmp_path, poorer.version).models == {}


def test_no_matured_labels_at_all_is_a_sentence_too(stored, tmp_path):
    report = run(stored, tmp_path, known_on=date(2025, 2, 1))

    assert report.sentences == tuple(
        f"{group}: too little to train on: there is not one matured row"
        for group in ("prepaid", "postpaid")
    )


def test_features_that_say_nothing_give_no_model():
    features, labels = labelled(600)
    rows = labelled_rows(features, labels, made.KNOWN_ON)
    strict = TrainingParams(max_rounds=20, num_threads=1, min_validation_auc=0.6)

    models, skipped = train_groups(rows, ["noise"], made.LABEL, strict)

    assert models == {}
    assert "do not tell leavers from stayers" in skipped["prepaid"]


def test_snapshots_of_other_columns_are_refused(stored, tmp_path):
    import pyarrow as pa

    from models_ml.churn.snapshot import write_snapshot

    old = made.feature_rows(date(2024, 12, 31), 20).drop(columns="noise")
    odd = write_snapshot(pa.Table.from_pandas(old), tmp_path, date(2024, 12, 31))

    with pytest.raises(SnapshotError, match="differ in the columns noise"):
        run(stored, tmp_path, snapshot_paths=[odd.path, *stored.snapshots])
