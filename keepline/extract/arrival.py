"""Whether a delivery of files is there: its done marker, its age, and the manifest that comes with it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keepline.extract.operator import FileSet
from keepline.extract.verdict import BadFileError

# A list of files, not a place for data.
MANIFEST_BYTES = 4 << 20
SHOWN_NAMES = 5
# Words of ASCII without a long run of digits, but for a date.
PLAIN_NAME = re.compile(r"(?=.{1,64}$)(?:[A-Za-z_./-]|(?<!\d)\d{1,6}(?!\d)|(?<!\d)20\d{6}(?!\d))+")


class Entry(BaseModel):
    """What a manifest says of one file.

    Attributes:
        name: its path below the manifest's folder.
        rows: records, the header not among them.
        bytes: size on disk.
        sha256: checksum of those bytes.
        sums: totals by contract column in the smallest unit.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    sums: dict[str, int] | None = None


def await_delivery(files: FileSet, folder: Path, file: str, day: date | None) -> None:
    """Check that a file is not being written any more.

    Args:
        files: the file set.
        folder: its folder.
        file: the table's `file`.
        day: load date, or None in a set without dates.

    Raises:
        BadFileError: its done marker is missing, or it is younger than the set's `settle_s`.
    """
    if files.done is not None:
        marker = files.done_name(file, day)
        if not inside(folder, marker).is_file():
            raise BadFileError("NOT_READY", f"Waiting for {marker}. Run the same command later.")
    names = [files.file_name(file, day)]
    if files.manifest is not None and day is not None:
        names.append(files.manifest_name(day))
    for name in names if files.settle_s else []:
        path = inside(folder, name)
        # The machine's clock decides when a file is read, never what is made of it.
        if path.is_file() and time.time() - path.stat().st_mtime < files.settle_s:
            wait = f"{name} is younger than {files.settle_s} s. Run the same command later."
            raise BadFileError("NOT_READY", wait)


def manifest_entry(files: FileSet, folder: Path, name: str, day: date) -> Entry:
    """Return what a date's manifest says of a file.

    Raises:
        BadFileError: there is no manifest, it cannot be used, or files and list do not agree.
    """
    manifest_name = files.manifest_name(day)
    path = inside(folder, manifest_name)
    if not path.parent.is_dir():
        raise BadFileError("MISSING_FILE", ask(day))
    if not path.is_file():
        raise BadFileError("BAD_MANIFEST", f"{manifest_name} is not there. {ask(day)}")
    entries, stated = _read(path, manifest_name, day)
    if stated != str(day):
        raise BadFileError("BAD_MANIFEST", f"{manifest_name} is of {_day_told(stated)}. {ask(day)}")
    for listed in entries:
        if not _is_plain(listed) or (path.parent / listed).is_symlink():
            raise BadFileError("BAD_PATH", f"{manifest_name} lists a path that leaves its folder.")
    others = strangers(files, path, day, [PurePosixPath(listed).parts[0] for listed in entries])
    if others:
        raise BadFileError(
            "UNKNOWN_FILE", f"beside it: {shown_names(others)}. Take it away or list it."
        )
    own = _below(folder / name, path.parent)
    if own not in entries:
        raise BadFileError("MISSING_FILE", f"{manifest_name} does not list it. {ask(day)}")
    try:
        entry = Entry.model_validate(entries[own])
    except ValidationError:
        raise BadFileError(
            "BAD_MANIFEST", f"{manifest_name} lacks its rows, bytes or sha256. {ask(day)}"
        ) from None
    twins = [
        listed
        for listed, said in entries.items()
        if listed != own and said.get("sha256") == entry.sha256 and entry.rows
    ]
    if twins:
        raise BadFileError(
            "DUP_FILE", f"{manifest_name} lists it as {shown_names(twins)}, too. {ask(day)}"
        )
    return entry


def strangers(files: FileSet, beside: Path, day: date, known: Collection[str]) -> list[str]:
    """Return the files of a date that are neither known nor a marker.

    Args:
        files: the file set.
        beside: a file of the date; its folder is looked through.
        day: load date. In a folder of many dates only names that show it are looked at.
        known: names in that folder that are expected.
    """
    own_folder = "{date}" in str(PurePosixPath(files.manifest or files.layout).parent)
    return sorted(
        other.name
        for other in beside.parent.iterdir()
        if other.name not in known
        and other != beside
        and not other.name.startswith(".")
        and (own_folder or str(day) in other.name)
        and not files.is_marker(other.name, day)
    )


def shown_names(names: Sequence[str]) -> str:
    """Return some names of files for a message; one that could tell of a person only by its length."""
    plain = [
        name if PLAIN_NAME.fullmatch(name) else f"a name of {len(name)} characters"
        for name in names[:SHOWN_NAMES]
    ]
    more = len(names) - len(plain)
    return ", ".join(plain) + (f" and {more} more" if more else "")


def _day_told(text: str) -> str:
    try:
        return str(date.fromisoformat(text))
    except ValueError:
        return "no day"


def inside(folder: Path, name: str) -> Path:
    """Return the path of a plain file below a folder.

    Raises:
        BadFileError: it is a link, or lies elsewhere.
    """
    path = folder / name
    if path.is_symlink() or not path.resolve().is_relative_to(folder):
        raise BadFileError("BAD_PATH", "Only plain files below the folder are read.")
    return path


def ask(day: date | None) -> str:
    """Return what to do about a delivery that cannot be used."""
    which = f" of {day}" if day else ""
    return f"Ask for the delivery{which} again, then extract the day again."


def _read(path: Path, name: str, day: date) -> tuple[Mapping[str, Mapping[str, Any]], str]:
    """Return a manifest's entries by name, and the date that it states."""
    try:
        if path.stat().st_size > MANIFEST_BYTES:
            raise ValueError("too long for a list")
        manifest = json.loads(path.read_bytes())
        listed = [(str(entry["name"]), dict(entry)) for entry in manifest["files"]]
        entries = dict(listed)
        if len(entries) < len(listed):
            raise ValueError("a name twice")
        return entries, str(manifest["date"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadFileError("BAD_MANIFEST", f"{name} cannot be read. {ask(day)}") from None


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    odd = {"..", "/"} & {*path.parts}
    return bool(path.parts) and not odd and not {"\\", "\0"} & {*name}
