"""The operator's files before they are read: found, compared with their manifest, and counted.

What is in them is counted by `scan`, not by the loader.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from keepline.contract import Table
from keepline.errors import SourceUnavailableError
from keepline.extract.arrival import (
    Entry,
    ask,
    await_delivery,
    inside,
    manifest_entry,
    shown_names,
    strangers,
)
from keepline.extract.operator import FileSet, Operator, TableSource
from keepline.extract.own_files import is_own_file
from keepline.extract.scan import scan
from keepline.extract.verdict import BadFileError, Finding

HEAD_BYTES = 4096
GZIP = b"\x1f\x8b"
# A tar has its mark further in.
ARCHIVES = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}


@dataclass(frozen=True)
class SourceFile:
    """A file that passed its checks.

    Attributes:
        path: where it is.
        file_set: name of its set in the operator file.
        name: path below the folder of its set; what manifests and quarantine show.
        load_date: its business day, or None when its rows carry their own dates.
        header: names of its columns, in its own order.
        records: records counted without DuckDB, the header not among them.
        size: bytes on disk.
        sha256: of the bytes on disk.
        nul_bytes: it may hold a NUL byte.
        unseen: it may hold more than visible ASCII characters.
        repeated_header: a record may equal the header.
        odd_lines: a record may take several lines, or a line be blank.
        odd_gzip: only Python unpacks it.
        types: types of its columns, of Parquet only.
        sums: totals that its manifest gives, by contract column in the smallest unit.
        stamp: what changes when somebody writes to it.
    """

    path: Path
    file_set: str
    name: str
    load_date: date | None
    header: tuple[str, ...]
    records: int
    size: int
    sha256: str
    nul_bytes: bool
    unseen: bool
    repeated_header: bool
    odd_lines: bool
    odd_gzip: bool
    types: tuple[str, ...]
    sums: Mapping[str, int] = field(default_factory=dict)
    stamp: tuple[int, int, int] = (0, 0, 0)

    def is_as_it_was(self) -> bool:
        """Whether nobody has written to it since its bytes were checked."""
        try:
            return _stamp(self.path) == self.stamp
        except OSError:
            return False


@dataclass(frozen=True)
class Found:
    """The files of a table's load dates: those that passed, and what is wrong or odd."""

    files: list[SourceFile]
    findings: list[Finding]
    notes: list[Finding]


def find_files(
    operator: Operator,
    contract: Table,
    days: Sequence[date],
    threads: int,
    own: Sequence[Path] = (),
) -> Found:
    """Check and count the files that a table reads, one per day or one in all.

    Args:
        operator: the operator file.
        contract: table whose source has `file`.
        days: load dates wanted, in order.
        threads: files that are read at once.
        own: folders that hold keepline's own files.

    Raises:
        SourceUnavailableError: the folder itself is not there.
    """
    table = contract.name
    source = operator.tables[table]
    set_name = operator.file_set(table)
    files, folder = operator.files[set_name], operator.folder(set_name)
    if not folder.is_dir():
        raise SourceUnavailableError(
            f"the folder {folder} of {operator.path.name} (from {files.path_env}) is not there: "
            "mount it and run again"
        )
    wanted: list[date | None] = [*days] if files.dated else [None]

    def check(day: date | None) -> SourceFile | Finding:
        name = files.file_name(str(source.file), day)
        try:
            await_delivery(files, folder, str(source.file), day)
            entry = manifest_entry(files, folder, name, day) if files.manifest and day else None
            file = _checked_file(files, folder, set_name, name, day, entry, own)
            _check_columns(source, file)
            return file
        except BadFileError as error:
            return Finding(error.code, name, error.detail, day)
        except MemoryError:
            return Finding("NO_MEMORY", name, "Looking through it takes all of it.", day)
        except OSError as error:
            raise SourceUnavailableError(
                f"{folder / name} cannot be read: {error.strerror}"
            ) from None

    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(pool.map(check, wanted))
    found = Found(
        [outcome for outcome in outcomes if isinstance(outcome, SourceFile)],
        [outcome for outcome in outcomes if isinstance(outcome, Finding)],
        [],
    )
    found.notes.extend(_new_columns(source, contract, found.files))
    if files.dated and files.manifest is None:
        found.notes.extend(_strays(operator, table, found.files))
    return found


def _check_columns(source: TableSource, file: SourceFile) -> None:
    """Compare a file with what the operator file says of it."""
    given = {name.lower() for name in file.header}
    missing = [name for name in source.columns or () if name.lower() not in given]
    if missing:
        told = header_told(file.header, source.columns or ())
        raise BadFileError(
            "BREAKING_SCHEMA", f"It lacks {', '.join(missing)}; {told} Agree on the change."
        )
    if file.load_date is not None and not file.records and not source.may_be_empty:
        raise BadFileError("EMPTY_DAY", ask(file.load_date))


def header_told(header: Sequence[str], known: Collection[str]) -> str:
    """Return what a header is like, in counts: a first record could stand where the names should be."""
    words = {word.lower() for word in known}
    found = sum(name.lower() in words for name in header)
    if not found:
        return f"it has {len(header)} columns, none of them is known: is the header missing?"
    return f"it has {len(header)} columns, {found} of them known."


def _new_columns(
    source: TableSource, contract: Table, files: Sequence[SourceFile]
) -> Iterator[Finding]:
    """Tell once of each column that nobody reads yet; its name only when the contract has the word."""
    known = {name.lower() for name in source.columns or ()}
    words = {column.name for column in contract.columns}
    for file in files if source.columns is not None else []:
        new = {n: name for n, name in enumerate(file.header, 1) if name.lower() not in known}
        if new:
            known.update(name.lower() for name in new.values())
            places = ", ".join(
                f"{number} ({name})" if name in words else str(number)
                for number, name in new.items()
            )
            told = (
                f"column {places} of {len(file.header)}: left out until the operator file reads it."
            )
            yield Finding("NEW_COLUMN", file.name, told, file.load_date)


def _strays(operator: Operator, table: str, found: Sequence[SourceFile]) -> Iterator[Finding]:
    """Tell of files that no table reads: without a manifest nobody says whether they belong to it."""
    set_name = operator.file_set(table)
    files = operator.files[set_name]
    readers = [
        (name, str(source.file))
        for name, source in operator.tables.items()
        if source.file is not None and operator.file_set(name) == set_name
    ]
    if table != readers[0][0]:
        return
    for file in found:
        day = file.load_date
        if day is None:
            continue
        known = [Path(files.file_name(name, day)).name for _, name in readers]
        others = strangers(files, file.path, day, known)
        if others:
            yield Finding("STRAY_FILE", file.name, f"{shown_names(others)}.", day)


# -- bytes ---------------------------------------------------------------------------------------


def _checked_file(
    files: FileSet,
    folder: Path,
    set_name: str,
    name: str,
    day: date | None,
    entry: Entry | None,
    own: Sequence[Path],
) -> SourceFile:
    path = inside(folder, name)
    if is_own_file(path, own):
        raise BadFileError("BAD_PATH", "It is a file of keepline's own.")
    if not path.is_file():
        raise BadFileError("MISSING_FILE", ask(day))
    stamp = _stamp(path)
    if path.stat().st_size == 0:
        raise BadFileError("EMPTY_FILE", ask(day))
    _refuse_archive(path)
    read = scan(path, files)
    if entry is not None and (read.records != entry.rows or read.size < entry.bytes):
        found = f"It holds {read.records} of {entry.rows}, in {read.size} of {entry.bytes} bytes."
        raise BadFileError("SHORT_FILE", f"{found} {ask(day)}")
    if entry is not None and (read.size, read.sha256) != (entry.bytes, entry.sha256):
        found = f"{read.size} bytes of {entry.bytes}, or another checksum."
        raise BadFileError("BAD_MANIFEST", f"{found} {ask(day)}")
    return SourceFile(
        path=path,
        file_set=set_name,
        name=name,
        load_date=day,
        header=read.header,
        records=read.records,
        size=read.size,
        sha256=read.sha256,
        nul_bytes=read.nul_bytes,
        unseen=read.unseen,
        repeated_header=read.repeated_header,
        odd_lines=read.odd_lines,
        odd_gzip=read.odd_gzip,
        types=read.types,
        sums=(entry.sums if entry else None) or {},
        stamp=stamp,
    )


def _refuse_archive(path: Path) -> None:
    """Archives are not opened at all: what is in them may name any path."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    packed = head.startswith(GZIP)
    if packed:
        with contextlib.suppress(zlib.error):
            head = zlib.decompressobj(31).decompress(head, HEAD_BYTES)
    kind = next((kind for mark, kind in ARCHIVES.items() if head.startswith(mark)), "")
    if head[257:262] == b"ustar":
        kind = "tar"
    if kind:
        raise BadFileError("BAD_PATH", f"It is a {kind} archive. Ask for the plain file in it.")
    if not packed and path.suffix == ".gz":
        raise BadFileError("BAD_GZIP", "It is not gzip at all, but its name ends in .gz.")
    if packed and path.suffix != ".gz":
        raise BadFileError("BAD_GZIP", "It is gzip, but its name does not end in .gz.")


def _stamp(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns
