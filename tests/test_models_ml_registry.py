"""No score comes from a model file that is not exactly what training wrote, and nobody dies of it."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace

import models_ml_rows as made
import numpy as np
import pytest

from models_ml.churn.batch import score, train
from models_ml.churn.errors import ModelVerificationError
from models_ml.churn.immutable import canonical_json, sha256_of_bytes
from models_ml.churn.model import Probe, version_of
from models_ml.churn.registry import (
    champion_version,
    load_model_set,
    promote,
    save_model_set,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a world with a champion."""
    world = made.world(tmp_path_factory.mktemp("registry"), subscriptions=1200)
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


@pytest.fixture
def shelf(trained, tmp_path):
    """Return a copy of the model shelf that a test may damage."""
    return shutil.copytree(trained.models_dir, tmp_path / "models")


def version_folder(shelf):
    """Return the folder of the champion."""
    return shelf / champion_version(shelf)


def test_a_stored_set_comes_back_equal(shelf):
    version = champion_version(shelf)
    found = load_model_set(shelf, version)

    assert found.version == version
    assert set(found.models) == {"prepaid", "postpaid"}
    assert found.models["prepaid"].metrics["test"]["n"] == 720
    assert save_model_set(found, shelf) == version_folder(shelf)


def test_the_folder_holds_text_and_nothing_else(shelf):
    assert sorted(p.name for p in version_folder(shelf).iterdir()) == [
        "MODEL_CARD.md",
        "SHA256SUMS",
        "model.json",
        "postpaid.model.txt",
        "prepaid.model.txt",
    ]
    assert (version_folder(shelf) / "prepaid.model.txt").read_text().startswith("tree\n")


def test_a_model_of_the_format_before_is_still_read(shelf):
    # given: the champion as it was written before silences were part of the label
    folder = version_folder(shelf)
    document = json.loads((folder / "model.json").read_text())
    document["format"] = 1
    del document["label"]["silence_days"]
    older = folder.rename(shelf / version_of(document))
    (older / "model.json").write_bytes(canonical_json(document).encode())
    (older / "SHA256SUMS").write_text(
        "".join(
            f"{sha256_of_bytes(path.read_bytes())}  {path.name}\n"
            for path in sorted(older.iterdir())
            if path.name != "SHA256SUMS"
        )
    )

    # then
    promote(shelf, older.name)
    assert load_model_set(shelf, older.name).label.silence_days == {}


def test_sixty_damaged_model_files_are_all_refused(shelf, trained):
    folder = version_folder(shelf)
    whole = (folder / "prepaid.model.txt").read_bytes()
    chance = np.random.default_rng(5)
    damaged = [whole[: len(whole) * n // 31] for n in range(30)]
    for _ in range(20):
        flipped = bytearray(whole)
        flipped[chance.integers(len(whole))] ^= 1 << chance.integers(8)
        damaged.append(bytes(flipped))
    lines = whole.splitlines(keepends=True)
    for _ in range(10):
        lost = chance.integers(len(lines) - 1)
        damaged.append(b"".join(lines[:lost] + lines[lost + 1 :]))
    before = sorted(trained.scores_dir.rglob("*"))

    refused = 0
    for content in damaged:
        (folder / "prepaid.model.txt").write_bytes(content)
        with pytest.raises(ModelVerificationError, match=r"prepaid\.model\.txt does not have"):
            score(
                trained.score_snapshot,
                shelf,
                made.RISK_PARAMS,
                made.CATALOG,
                trained.scores_dir,
                made.SCORE_DATE,
            )
        refused += 1

    assert refused == 60
    assert sorted(trained.scores_dir.rglob("*")) == before


@pytest.mark.parametrize("share", [0.2, 0.6, 0.85])
def test_a_cut_text_with_fitting_hashes_dies_in_the_child_only(shelf, share):
    whole = load_model_set(shelf, champion_version(shelf))
    prepaid = whole.models["prepaid"]
    cut = replace(prepaid, text=prepaid.text[: int(len(prepaid.text) * share)], _boosters=[])
    forged = replace(whole, models={**whole.models, "prepaid": cut})
    save_model_set(forged, shelf)

    with pytest.raises(ModelVerificationError, match="LightGBM could not read it"):
        promote(shelf, forged.version)

    assert champion_version(shelf) == whole.version


def test_a_text_that_scores_otherwise_than_at_training_is_refused(shelf):
    whole = load_model_set(shelf, champion_version(shelf))
    prepaid = whole.models["prepaid"]
    other = replace(
        prepaid, probe=Probe(prepaid.probe.rows, tuple(s + 1e-6 for s in prepaid.probe.scores))
    )
    forged = replace(whole, models={**whole.models, "prepaid": other})
    save_model_set(forged, shelf)

    with pytest.raises(ModelVerificationError, match="prepaid model scores the probe rows unlike"):
        load_model_set(shelf, forged.version)


def test_a_text_of_other_columns_is_refused(shelf):
    whole = load_model_set(shelf, champion_version(shelf))
    prepaid = whole.models["prepaid"]
    turned = replace(prepaid, space=replace(prepaid.space, names=prepaid.space.names[::-1]))
    forged = replace(whole, models={**whole.models, "prepaid": turned})
    save_model_set(forged, shelf)

    with pytest.raises(ModelVerificationError, match="trained on other columns"):
        load_model_set(shelf, forged.version)


class Trap:
    """Whoever unpickles it fails the test."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_a_pickle_is_refused_by_kind_and_never_opened(shelf):
    folder = version_folder(shelf)
    (folder / "prepaid.model.pkl").write_bytes(pickle.dumps(Trap()))

    with pytest.raises(ModelVerificationError, match=r"no model has: prepaid\.model\.pkl"):
        load_model_set(shelf, folder.name)

    (folder / "prepaid.model.pkl").unlink()
    (folder / "prepaid.model.txt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelVerificationError, match="SHA-256"):
        load_model_set(shelf, folder.name)


def test_changing_a_file_and_its_recorded_hash_does_not_help(shelf):
    folder = version_folder(shelf)
    document = json.loads((folder / "model.json").read_text())
    document["models"]["prepaid"]["calibration"]["values"][-1] = 0.5
    changed = json.dumps(document).encode()
    old = sha256_of_bytes((folder / "model.json").read_bytes())
    (folder / "model.json").write_bytes(changed)
    sums = (folder / "SHA256SUMS").read_text().replace(old, sha256_of_bytes(changed))
    (folder / "SHA256SUMS").write_text(sums)

    with pytest.raises(ModelVerificationError, match="its content is that of churn-"):
        load_model_set(shelf, folder.name)


@pytest.mark.parametrize(
    "name", ["model.json", "SHA256SUMS", "MODEL_CARD.md", "postpaid.model.txt"]
)
def test_a_missing_file_is_refused(shelf, name):
    (version_folder(shelf) / name).unlink()

    with pytest.raises(ModelVerificationError, match="is refused"):
        load_model_set(shelf, champion_version(shelf))


def test_a_link_to_elsewhere_is_refused(shelf, tmp_path):
    text = version_folder(shelf) / "prepaid.model.txt"
    text.rename(tmp_path / "elsewhere.txt")
    text.symlink_to(tmp_path / "elsewhere.txt")

    with pytest.raises(ModelVerificationError, match="not a plain file"):
        load_model_set(shelf, champion_version(shelf))


@pytest.mark.parametrize("pointer", ["", "../../etc", "churn-12", "churn-00000000000000zz\n", "\0"])
def test_a_damaged_champion_pointer_is_refused(shelf, pointer):
    (shelf / "champion").write_text(pointer)

    with pytest.raises(ModelVerificationError, match="names no model version"):
        champion_version(shelf)


def test_a_champion_that_is_not_there_is_refused(shelf):
    with pytest.raises(ModelVerificationError, match="there is no such folder"):
        load_model_set(shelf, "churn-0000000000000000")


def test_training_again_mends_a_damaged_version(shelf, trained):
    folder = version_folder(shelf)
    (folder / "prepaid.model.txt").write_text("tree\n")

    report = train(
        trained.snapshots,
        trained.labels,
        shelf,
        made.CATALOG,
        made.KNOWN_ON,
        made.LABEL,
        made.QUICK,
        risk_params=made.RISK_PARAMS,
    )

    assert report.path == folder
    assert report.promoted
    assert load_model_set(shelf, folder.name).models
