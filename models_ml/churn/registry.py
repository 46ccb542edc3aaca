"""The shelf of trained models, and the only way to take one off it.

    models/champion                        the version in use
           <version>/model.json            features, categories, calibration, metrics, probe rows
                     prepaid.model.txt     LightGBM's text
                     postpaid.model.txt
                     MODEL_CARD.md
                     SHA256SUMS

A version is the hash of its content, so a changed file cannot keep its name. Before use every file
is hashed, then the texts are tried in a child process: LightGBM does not check a text and a cut one
ends the process that reads it. Pickles and files of unknown kind are never opened.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models_ml.churn.card import model_card
from models_ml.churn.dataset import GROUPS
from models_ml.churn.errors import ModelVerificationError
from models_ml.churn.immutable import canonical_json, sha256_of_bytes, write_atomically
from models_ml.churn.model import READABLE_FORMATS, ModelSet, version_of

CHAMPION = "champion"
DOCUMENT = "model.json"
CARD = "MODEL_CARD.md"
SUMS = "SHA256SUMS"
TEXT_SUFFIX = ".model.txt"
PROBE_TOLERANCE = 1e-9
PROBE_SECONDS = 120

_VERSION = re.compile(r"churn-[0-9a-f]{16}")
_KNOWN_FILES = {DOCUMENT, CARD, SUMS, *(group + TEXT_SUFFIX for group in GROUPS)}


def save_model_set(models: ModelSet, models_dir: Path) -> Path:
    """Write a model set into its own folder, once.

    Args:
        models: what training returned.
        models_dir: the shelf.

    Returns:
        the folder of this version. When it is there and whole already, nothing is written; a
        damaged one is set aside as `.damaged-<version>` and written anew.
    """
    version = models.version
    folder = models_dir / version
    if folder.exists():
        try:
            _verified_files(folder)
            return folder
        except ModelVerificationError:
            aside = models_dir / f".damaged-{version}"
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
    files = {
        DOCUMENT: canonical_json(models.as_document()).encode(),
        CARD: model_card(models).encode(),
        **{group + TEXT_SUFFIX: model.text.encode() for group, model in models.models.items()},
    }
    sums = "".join(f"{sha256_of_bytes(files[name])}  {name}\n" for name in sorted(files))
    models_dir.mkdir(parents=True, exist_ok=True)
    half_done = Path(tempfile.mkdtemp(prefix=f".{version}.", dir=models_dir))
    for name, content in (files | {SUMS: sums.encode()}).items():
        write_atomically(half_done / name, content)
    half_done.rename(folder)
    return folder


def champion_version(models_dir: Path) -> str | None:
    """Return the version in use, or None when nothing was ever trained.

    Raises:
        ModelVerificationError: the pointer does not hold a version.
    """
    pointer = models_dir / CHAMPION
    if not pointer.exists():
        return None
    version = pointer.read_bytes()[:100].decode("ascii", errors="replace").strip()
    _require_version(version, pointer)
    return version


def promote(models_dir: Path, version: str) -> None:
    """Make a stored version the champion, after verifying it.

    Raises:
        ModelVerificationError: the version is missing or damaged; the champion stays.
    """
    load_model_set(models_dir, version)
    write_atomically(models_dir / CHAMPION, f"{version}\n".encode())


def load_model_set(models_dir: Path, version: str) -> ModelSet:
    """Return a stored model set after every check.

    Args:
        models_dir: the shelf.
        version: folder name, `churn-` and 16 hex digits.

    Raises:
        ModelVerificationError: anything about it is not as it was written.
    """
    _require_version(version, models_dir)
    folder = models_dir / version
    files = _verified_files(folder)
    document, texts = _parse(folder, files)
    _try_in_child(folder, document, texts)
    try:
        return ModelSet.from_document(document, texts)
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(folder, f"{DOCUMENT} lacks something: {error!r}") from error


def _verified_files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file of a version after checking kinds and hashes."""
    if folder.is_symlink() or not folder.is_dir():
        raise _refused(folder, "there is no such folder")
    names = {path.name for path in folder.iterdir()}
    unknown = sorted(names - _KNOWN_FILES)
    if unknown:
        raise _refused(folder, f"it holds files that no model has: {', '.join(unknown)}")
    if not {DOCUMENT, CARD, SUMS} <= names:
        missing = sorted({DOCUMENT, CARD, SUMS} - names)
        raise _refused(folder, f"{', '.join(missing)} is missing")
    for name in names:
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise _refused(folder, f"{name} is not a plain file")
    # Read once: what is hashed here is what is parsed, probed and used.
    content = {name: (folder / name).read_bytes() for name in sorted(names)}
    sums = {
        line[66:]: line[:64]
        for line in content.pop(SUMS).decode("utf-8", errors="replace").splitlines()
    }
    if set(sums) != set(content):
        raise _refused(folder, f"{SUMS} lists other files than there are")
    for name, part in content.items():
        if sha256_of_bytes(part) != sums[name]:
            raise _refused(folder, f"{name} does not have the SHA-256 that was recorded")
    return content


def _parse(folder: Path, files: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the document and the model texts, after checking that they belong together."""
    try:
        document: dict[str, Any] = json.loads(files[DOCUMENT])
        parts = document["models"]
        known_format = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(folder, f"{DOCUMENT} cannot be read") from error
    if known_format not in READABLE_FORMATS:
        known = " and ".join(map(str, READABLE_FORMATS))
        raise _refused(folder, f"{DOCUMENT} has format {known_format}, this keepline reads {known}")
    if version_of(document) != folder.name:
        raise _refused(folder, f"its content is that of {version_of(document)}")
    if {group + TEXT_SUFFIX for group in parts} != set(files) - {DOCUMENT, CARD}:
        raise _refused(folder, f"the model texts are not those that {DOCUMENT} lists")
    texts = {}
    for group, part in parts.items():
        content = files[group + TEXT_SUFFIX]
        if sha256_of_bytes(content) != part["text_sha256"]:
            raise _refused(folder, f"{group + TEXT_SUFFIX} is not the text that was trained")
        texts[group] = content.decode("utf-8")
    return document, texts


def _try_in_child(folder: Path, document: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    """Score the probe rows in a child process and compare with the recorded scores."""
    if not texts:
        return
    parts = document["models"]
    asked = {
        group: {
            "text": text,
            "features": parts[group]["features"],
            "rows": parts[group]["probe"]["rows"],
        }
        for group, text in texts.items()
    }
    try:
        child = subprocess.run(
            [sys.executable, "-m", "models_ml.churn.probe"],
            input=json.dumps(asked).encode(),
            capture_output=True,
            cwd=Path(__file__).resolve().parents[2],
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _refused(folder, f"its probe did not end within {PROBE_SECONDS} s") from error
    if child.returncode != 0:
        said = child.stderr.decode(errors="replace").strip().splitlines()
        raise _refused(
            folder,
            f"LightGBM could not read it (exit {child.returncode}{': ' + said[-1] if said else ''})",
        )
    try:
        scores = json.loads(child.stdout)
    except ValueError as error:
        raise _refused(folder, "its probe printed no scores") from error
    for group in texts:
        recorded = parts[group]["probe"]["scores"]
        found = scores.get(group, [])
        if len(found) != len(recorded) or any(
            not abs(a - b) <= PROBE_TOLERANCE for a, b in zip(found, recorded, strict=True)
        ):
            raise _refused(folder, f"the {group} model scores the probe rows unlike at training")


def _require_version(version: str, place: Path) -> None:
    if not _VERSION.fullmatch(version):
        raise ModelVerificationError(
            f"{place} names no model version: expected churn- and 16 hex digits; train again, or "
            "write the version to use into the champion file"
        )


def _refused(folder: Path, why: str) -> ModelVerificationError:
    return ModelVerificationError(
        f"model {folder.name} is refused: {why}. It was not used; restore the folder from a backup, "
        f"train again, or write another version into {folder.parent / CHAMPION}"
    )
