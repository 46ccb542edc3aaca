"""The operator's files before they are read: found, compared with their manifest, and counted.

The count is not the loader's: it streams the bytes itself, so that a record that the loader loses is
missed. Blank lines are no records and a last line needs no line end.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from keepline.errors import SourceUnavailableError
from keepline.extract.operator import FileSet, Operator
from keepline.extract.verdict import Finding

CHUNK = 1 << 18
UNPACKED_CHUNK = 1 << 20
# A file that unpacks to more than this many times its size, and this many bytes, is no usage file.
TOO_BIG_RATIO, TOO_BIG_BYTES = 100, 1 << 30
RESERVED = {"load_date", "source_file", "line_no"}


@dataclass(frozen=True)
class SourceFile:
    """A file that passed its checks.

    Attributes:
        path: where it is.
        name: path below the folder of its set; what manifests and quarantine show.
        load_date: its business day, or None when its rows carry their own dates.
        header: names of its columns, in its own order.
        records: records counted without DuckDB, the header not among them.
        size: bytes on disk.
        sha256: of the bytes on disk.
        nul_bytes: it holds a NUL byte.
        sums: totals that its manifest gives, by contract column in the smallest unit.
    """

    path: Path
    name: str
    load_date: date | None
    header: tuple[str, ...]
    records: int
    size: int
    sha256: str
    nul_bytes: bool
    sums: Mapping[str, int] = field(default_factory=dict)


class BadFileError(Exception):
    """A file cannot be used; carries a code of `HOLD_REASONS` and a detail without values."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(code)


def find_files(
    operator: Operator, table: str, days: Sequence[date], threads: int
) -> tuple[list[SourceFile], list[Finding]]:
    """Check and count the files that a table reads, one per day or one in all.

    Args:
        operator: the operator file.
        table: contract table whose source has `file`.
        days: load dates wanted, in order.
        threads: files that are read at once.

    Raises:
        SourceUnavailableError: the folder itself is not there.
    """
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
            entry = _manifest_entry(files, folder, name, day) if files.manifest and day else None
            return _checked_file(folder, name, day, entry)
        except BadFileError as error:
            return Finding(error.code, name, error.detail)
        except OSError as error:
            raise SourceUnavailableError(
                f"{folder / name} cannot be read: {error.strerror}"
            ) from None

    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(pool.map(check, wanted))
    return (
        [outcome for outcome in outcomes if isinstance(outcome, SourceFile)],
        [outcome for outcome in outcomes if isinstance(outcome, Finding)],
    )


# -- manifest ------------------------------------------------------------------------------------


def _manifest_entry(files: FileSet, folder: Path, name: str, day: date) -> dict[str, Any]:
    """Return what a date's manifest says of a file."""
    manifest_name = files.manifest_name(day)
    path = _inside(folder, manifest_name)
    if not path.parent.is_dir():
        raise BadFileError("MISSING_FILE", _ask(day))
    if not path.is_file():
        raise BadFileError("BAD_MANIFEST", f"{manifest_name} is not there. {_ask(day)}")
    try:
        manifest = json.loads(path.read_bytes())
        entries = {str(entry["name"]): entry for entry in manifest["files"]}
        stated = str(manifest["date"])
    except (ValueError, KeyError, TypeError):
        raise BadFileError("BAD_MANIFEST", f"{manifest_name} cannot be read. {_ask(day)}") from None
    if stated != str(day):
        raise BadFileError("BAD_MANIFEST", f"{manifest_name} says it is of {stated}. {_ask(day)}")
    strangers = sorted(
        other.name
        for other in path.parent.iterdir()
        if other.name not in entries and other != path and not other.name.startswith(".")
    )
    if strangers:
        raise BadFileError(
            "UNKNOWN_FILE", f"beside it: {', '.join(strangers[:5])}. Take it away or list it."
        )
    entry = entries.get(Path(name).name)
    if entry is None:
        raise BadFileError("MISSING_FILE", f"{manifest_name} does not list it. {_ask(day)}")
    if not {"rows", "bytes", "sha256"} <= entry.keys():
        raise BadFileError(
            "BAD_MANIFEST", f"{manifest_name} lacks rows, bytes or sha256. {_ask(day)}"
        )
    return dict(entry)


def _ask(day: date | None) -> str:
    which = f" of {day}" if day else ""
    return f"Ask for the delivery{which} again, then extract the day again."


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_symlink() or not path.resolve().is_relative_to(folder):
        raise BadFileError("BAD_PATH", "Only plain files below the folder are read.")
    return path


# -- bytes ---------------------------------------------------------------------------------------


def _checked_file(
    folder: Path, name: str, day: date | None, entry: dict[str, Any] | None
) -> SourceFile:
    path = _inside(folder, name)
    if not path.is_file():
        raise BadFileError("MISSING_FILE", _ask(day))
    if path.stat().st_size == 0:
        raise BadFileError("EMPTY_FILE", _ask(day))
    scan = _Scan(path)
    scan.run()
    if entry is not None and scan.records != entry["rows"]:
        found = f"It holds {scan.records} of {entry['rows']}."
        raise BadFileError("SHORT_FILE", f"{found} {_ask(day)}")
    if entry is not None and (scan.size, scan.sha256) != (entry["bytes"], entry["sha256"]):
        found = f"{scan.size} bytes of {entry['bytes']}, or another checksum."
        raise BadFileError("BAD_MANIFEST", f"{found} {_ask(day)}")
    return SourceFile(
        path=path,
        name=name,
        load_date=day,
        header=scan.header,
        records=scan.records,
        size=scan.size,
        sha256=scan.sha256,
        nul_bytes=scan.nul_bytes,
        sums={str(k): int(v) for k, v in ((entry or {}).get("sums") or {}).items()},
    )


class _Scan:
    """One pass over a file's bytes; counts at the speed of C whatever the text holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.nul_bytes = False
        self.header: tuple[str, ...] = ()
        self._digest = hashlib.sha256()
        self._in_quotes = False
        self._line_ends = 0
        self._blank_lines = 0
        self._lone_cr = 0
        self._crlf = 0
        self._last = b""
        self._held = b""

    @property
    def sha256(self) -> str:
        """Checksum of the bytes on disk."""
        return self._digest.hexdigest()

    @property
    def records(self) -> int:
        """Records without the header."""
        unfinished = 0 if self._last == b"\n" else 1
        return self._line_ends + unfinished - self._blank_lines - 1

    def run(self) -> None:
        """Read the file.

        Raises:
            BadFileError: it is damaged, or not text that keepline reads.
        """
        head = b""
        decoder = codecs.getincrementaldecoder("utf-8")()
        valid = True
        for chunk in self._unpacked():
            if b"\n" not in head:
                head = (head + chunk)[: 1 << 20]
            if valid and not (chunk.isascii() and not decoder.getstate()[0]):
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    valid = False
            self.nul_bytes = self.nul_bytes or b"\0" in chunk
            self._count(chunk)
        self._lone_cr += len(self._held)
        self.header = _header(head)
        if not valid or decoder.getstate()[0]:
            self._refuse_foreign_encoding()
        if self._in_quotes:
            raise BadFileError("UNBALANCED", "Its quotes do not pair: one is never closed.")
        if self._lone_cr or self._crlf not in (0, self._line_ends):
            raise BadFileError("MIXED_LINE_ENDS", "Ask for one kind of line end.")

    def _count(self, chunk: bytes) -> None:
        # A carriage return at the end waits for what follows it.
        chunk = self._held + chunk
        self._held = b"\r" if chunk.endswith(b"\r") else b""
        text = chunk[:-1] if self._held else chunk
        if self._in_quotes or b'"' in text:
            parts = text.split(b'"')
            outside = parts[1::2] if self._in_quotes else parts[0::2]
            self._in_quotes ^= len(parts) % 2 == 0
            # What stands between quotes counts as one character of its line.
            text = b"q".join(outside) + (b"q" if self._in_quotes else b"")
        if not text:
            return
        if b"\r" in text:
            crlf = text.count(b"\r\n")
            self._crlf += crlf
            self._lone_cr += text.count(b"\r") - crlf
            text = text.replace(b"\r\n", b"\n")
        self._line_ends += text.count(b"\n")
        self._blank_lines += _blank_lines(self._last + text)
        self._last = text[-1:]

    def _unpacked(self) -> Iterator[bytes]:
        """Yield the text's bytes, hashing those on disk; several gzip members are one text."""
        packed = self.path.suffix == ".gz"
        unpacker = zlib.decompressobj(31)
        unpacked = 0
        with self.path.open("rb") as file:
            while block := file.read(CHUNK):
                self._digest.update(block)
                self.size += len(block)
                if not packed:
                    yield block
                    continue
                try:
                    while block:
                        if unpacker.eof:
                            unpacker = zlib.decompressobj(31)
                        text = unpacker.decompress(block, UNPACKED_CHUNK)
                        block = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                        unpacked += len(text)
                        if unpacked > max(TOO_BIG_BYTES, TOO_BIG_RATIO * self.size):
                            raise BadFileError("TOO_BIG", f"{unpacked} bytes and no end.")
                        if text:
                            yield text
                except zlib.error:
                    raise BadFileError("BAD_GZIP", "Ask for it again.") from None
        if packed and not unpacker.eof:
            raise BadFileError("BAD_GZIP", "It ends too early. Ask for it again.")

    def _refuse_foreign_encoding(self) -> None:
        """Tell a file in another encoding from a UTF-8 file with a few damaged lines."""
        good = bad = 0
        rest = b""
        for chunk in itertools.chain(_Scan(self.path)._unpacked(), [b"\n"]):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not line.isascii():
                    try:
                        line.decode()
                        good += 1
                    except UnicodeDecodeError:
                        bad += 1
        if bad > max(1, good):
            raise BadFileError("WRONG_ENCODING", f"{bad} lines are not UTF-8. Ask for UTF-8.")


def _blank_lines(text: bytes) -> int:
    """Count the line ends that follow a line end."""
    blank = 0
    while pairs := text.count(b"\n\n"):
        blank += pairs
        text = text.replace(b"\n\n", b"\n")
    return blank


def _header(head: bytes) -> tuple[str, ...]:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadFileError("WRONG_ENCODING", "It is UTF-16. Ask for UTF-8.")
    line = head.removeprefix(codecs.BOM_UTF8).split(b"\n")[0].removesuffix(b"\r")
    try:
        names = next(csv.reader(io.StringIO(line.decode())), [])
    except (UnicodeDecodeError, csv.Error):
        raise BadFileError("WRONG_ENCODING", "Its header is not UTF-8 text.") from None
    if not all(names) or not names or len(set(names)) < len(names):
        raise BadFileError("HEADER_MISMATCH", "A column has no name, or two have the same.")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise BadFileError("HEADER_MISMATCH", "Its columns are not separated by commas.")
    if RESERVED & set(names):
        taken = ", ".join(sorted(RESERVED & set(names)))
        raise BadFileError("HEADER_MISMATCH", f"keepline itself adds {taken}: rename the column.")
    return tuple(names)
