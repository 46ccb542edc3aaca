"""Files that are written once: hashed, atomic, and equal bytes for equal content."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from glob import escape
from pathlib import Path
from typing import Any

from keepline.failpoint import reach


def sha256_of_bytes(content: bytes) -> str:
    """Return the SHA-256 of the content as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(document: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """Return the one JSON text of a document: sorted keys, indented, ends with a line feed.

    Raises:
        ValueError: a number is not finite; JSON has no word for it.
    """
    return (
        json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, meets the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # What a killed writer left behind.
    for old in path.parent.glob(f".{escape(path.name)}.*"):
        old.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        put_in_place(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def put_in_place(draft: Path, path: Path) -> None:
    """Bring a finished draft to the disk and give it its name, in one step.

    Args:
        draft: a file on the same file system.
        path: its name, which may be taken.
    """
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    reach("immutable.drafted")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.replace(path)
