"""The files of landing, read only when they are what their manifest says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from keepline.errors import BadDataError

PART = "part-0.parquet"
MANIFEST = "_manifest.json"


def whole_parts(partition: Path) -> list[Path]:
    """Return the Parquet files of a partition after comparing them with its manifest.

    Hashing is faster than the loading that follows, and it is what tells a damaged disk, a file that
    somebody changed or removed, and an extraction that was killed, from a day as it was extracted.

    Args:
        partition: folder `landing/<table>/load_date=<day>`; one that is not there is a day without rows.

    Raises:
        BadDataError: file and manifest do not agree, or one of them is missing.
    """
    part, manifest = partition / PART, partition / MANIFEST
    if not part.exists() and not manifest.exists():
        return []
    try:
        stated = json.loads(manifest.read_bytes())["sha256"]
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        reason = "" if stated == found else "its file is not the one that its manifest names"
    except FileNotFoundError as error:
        reason = f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError):
        reason = "its manifest cannot be read"
    if reason:
        day = partition.name.partition("=")[2]
        raise BadDataError(
            f"landing of {partition.parent.name} {day} is damaged: {reason}. "
            f"Run: keepline extract --date {day} --table {partition.parent.name}"
        )
    return [part]
