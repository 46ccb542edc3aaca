"""One pass over a file's bytes: its checksum, its header, and a count of its records.

The count is not the loader's, so that a record that the loader loses is missed. It works on bytes, in any
of the declared encodings: quote, comma and line ends are never a part of another character in them.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from keepline.extract import json_lines
from keepline.extract.operator import FileSet
from keepline.extract.parquet_pages import unpacked_pages
from keepline.extract.sql import OWN
from keepline.extract.verdict import BadFileError

CHUNK = 1 << 18
UNPACKED_CHUNK = 1 << 20
# Call records shrink to a tenth. A file that unpacks to more than this many times its size, and this
# many bytes, is none; deflate itself cannot pass 1032 times.
TOO_BIG_RATIO, TOO_BIG_BYTES = 200, 64 << 20
RESERVED = {"load_date", "source_file", "line_no"}
# No table has more columns; a header of more is no header.
MOST_COLUMNS = 2_000
# More of them, and most of a file, are no damage: the file is of another kind.
MOST_BAD_LINES = 100_000
# The first bytes of a gzip member, of which the last one says what more its header has; DuckDB knows a name
# and extra fields, but no comment, checksum or word that it is text.
GZIP_HEAD, GZIP_KNOWN = 4, 0x08 | 0x04
# Everything but control characters; bytes of other encodings count as visible here.
VISIBLE = bytes(set(range(32, 256)) - {127})
HEAD_BYTES = 1 << 20


class Scan:
    """A file, looked at once by `run`; what it found stands in its attributes.

    Attributes:
        path: the file.
        size: bytes on disk.
        header: names of its columns, in its own order.
        records: records, a header not among them.
        nul_bytes: a text may hold a NUL byte.
        unseen: it may hold more than visible ASCII characters.
        repeated_header: a record may equal the header.
        odd_lines: a record may take several lines, or a line be blank.
        odd_gzip: only Python unpacks it: DuckDB refuses words of a gzip header that the standard has.
        types: types of its columns, where it has any but text.
    """

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        self.path = path
        self.size = 0
        self.header: tuple[str, ...] = ()
        self.records = 0
        self.nul_bytes = False
        self.unseen = False
        self.repeated_header = False
        self.odd_lines = False
        self.odd_gzip = False
        self.types: tuple[str, ...] = ()
        self._encoding = encoding
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Checksum of the bytes on disk."""
        return self._digest.hexdigest()

    def run(self) -> None:
        """Read the file.

        Raises:
            BadFileError: it is damaged, or not what keepline reads.
        """
        raise NotImplementedError

    def unpacked(self) -> Iterator[bytes]:
        """Yield the text's bytes, hashing those on disk; several gzip members are one text."""
        packed = self.path.suffix == ".gz"
        members = _Members()
        unpacked = 0
        with self.path.open("rb") as file:
            while block := file.read(CHUNK):
                self._digest.update(block)
                self.size += len(block)
                if not packed:
                    yield block
                    continue
                try:
                    for text in members.unpack(block):
                        unpacked += len(text)
                        if unpacked > most_bytes(self.size):
                            raise BadFileError("TOO_BIG", f"{unpacked} bytes and no end.")
                        yield text
                except zlib.error:
                    raise BadFileError("BAD_GZIP", "Ask for it again.") from None
        self.odd_gzip = members.odd
        if packed and not members.ended:
            raise BadFileError("BAD_GZIP", "It ends too early. Ask for it again.")

    def lines(self) -> Iterator[bytes]:
        """Yield the text line by line, without line ends; of a line that is too long only its beginning."""
        rest: list[bytes] = []
        length = 0
        for chunk in itertools.chain(self.unpacked(), [b"\n"]):
            first, *others = chunk.split(b"\n")
            if length <= json_lines.LONGEST_LINE:
                rest.append(first)
                length += len(first)
            if others:
                yield b"".join(rest)
                yield from others[:-1]
                rest, length = [others[-1]], len(others[-1])

    def _check_names(self, names: list[str]) -> None:
        if len(names) > MOST_COLUMNS:
            raise BadFileError("HEADER_MISMATCH", f"It has more than {MOST_COLUMNS} columns.")
        # Names in SQL do not differ by case alone.
        if not all(names) or not names or len({name.lower() for name in names}) < len(names):
            raise BadFileError("HEADER_MISMATCH", "A column has no name, or two have the same.")
        if any("\ud800" <= mark <= "\udfff" or mark in ("\0", OWN) for mark in "".join(names)):
            raise BadFileError("HEADER_MISMATCH", "A column's name is no text.")
        taken = ", ".join(sorted(RESERVED & {name.lower() for name in names}))
        if taken:
            raise BadFileError(
                "HEADER_MISMATCH", f"keepline itself adds {taken}: rename the column."
            )
        self.header = tuple(names)

    def _refuse_foreign(self, good: int, bad: int) -> None:
        """Tell a file in another encoding from one with a few damaged lines."""
        if bad > max(1, good):
            name = self._encoding.upper()
            raise BadFileError("WRONG_ENCODING", f"{bad} lines are not {name}. Ask for {name}.")


class _Members:
    """The members of a gzip file, one after the other, and zeros behind the last one.

    Attributes:
        odd: a header says more than DuckDB reads, or something stands behind the last member.
        ended: the last member is complete.
    """

    def __init__(self) -> None:
        self.odd = False
        self.ended = False
        self._padding = False
        self._head = b""
        self._unpacker = zlib.decompressobj(31)

    def unpack(self, block: bytes) -> Iterator[bytes]:
        """Yield the text of the next bytes, in pieces of a bounded size."""
        while block:
            if self.ended or self._padding:
                self.ended = True
                if not block.strip(b"\0"):
                    # As gzip itself does: a tape is filled up with zeros.
                    self._padding = self.odd = True
                    return
                if self._padding:
                    raise zlib.error("a member behind zeros")
                self._unpacker, self.ended, self._head = zlib.decompressobj(31), False, b""
            if len(self._head) < GZIP_HEAD:
                self._head += block[: GZIP_HEAD - len(self._head)]
                if len(self._head) == GZIP_HEAD and self._head[-1] & ~GZIP_KNOWN:
                    self.odd = True
            text = self._unpacker.decompress(block, UNPACKED_CHUNK)
            self.ended = self._unpacker.eof
            block = self._unpacker.unused_data if self.ended else self._unpacker.unconsumed_tail
            if text:
                yield text


class CsvScan(Scan):
    """CSV; counts at the speed of C whatever the text holds. Blank lines are no records."""

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        super().__init__(path, encoding)
        self._in_quotes = False
        self._line_ends = 0
        self._physical_ends = 0
        self._blank_lines = 0
        self._lone_cr = 0
        self._crlf = 0
        self._controls = 0
        self._last = b""
        self._held = b""
        self._needle = b""
        self._tail = b""

    def run(self) -> None:
        """Read the file.

        Raises:
            BadFileError: it is damaged, or not text that keepline reads.
        """
        head = b""
        decoder = codecs.getincrementaldecoder(self._encoding)()
        valid = True
        for chunk in self.unpacked():
            if not self._needle:
                head = (head + chunk)[:HEAD_BYTES]
                first, end, rest = head.partition(b"\n")
                # The header once more, at the start of a line.
                self._needle = end and end + first.removesuffix(b"\r")
                self._look_for_header(end + rest)
            else:
                self._look_for_header(chunk)
            self._look_at(chunk)
            if valid and not (chunk.isascii() and not decoder.getstate()[0]):
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    valid = False
            self._count(chunk)
        self._lone_cr += len(self._held)
        # A last line needs no line end.
        unfinished = 0 if self._last == b"\n" else 1
        self.records = self._line_ends + unfinished - self._blank_lines - 1
        self.odd_lines = bool(self._blank_lines) or self._physical_ends > self._line_ends
        self.unseen |= self._controls > self._line_ends + self._crlf
        self._check_names(self._names(head))
        if not valid or decoder.getstate()[0]:
            self._refuse_foreign(*self._decodable())
        if self._in_quotes:
            raise BadFileError("UNBALANCED", "Its quotes do not pair: one is never closed.")
        if self._lone_cr or self._crlf not in (0, self._line_ends):
            raise BadFileError("MIXED_LINE_ENDS", "Ask for one kind of line end.")

    def _look_at(self, chunk: bytes) -> None:
        self.nul_bytes = self.nul_bytes or b"\0" in chunk
        self.unseen = self.unseen or not chunk.isascii()
        if not self.unseen:
            self._controls += len(chunk.translate(None, VISIBLE))

    def _look_for_header(self, chunk: bytes) -> None:
        if self._needle and not self.repeated_header:
            # A header that is cut in two stands at the seam.
            seam = self._tail + chunk[: len(self._needle)]
            self.repeated_header = self._needle in seam or self._needle in chunk
            self._tail = (self._tail + chunk[-len(self._needle) :])[-len(self._needle) :]

    def _count(self, chunk: bytes) -> None:
        self._physical_ends += chunk.count(b"\n")
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

    def _decodable(self) -> tuple[int, int]:
        """Count the lines beyond ASCII that are in the encoding, and those that are not."""
        good = bad = 0
        for line in CsvScan(self.path).lines():
            if not line.isascii():
                try:
                    line.decode(self._encoding)
                    good += 1
                except UnicodeDecodeError:
                    bad += 1
        return good, bad

    def _names(self, head: bytes) -> list[str]:
        encoding = self._encoding.upper()
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise BadFileError("WRONG_ENCODING", f"It is UTF-16. Ask for {encoding}.")
        if head.startswith(codecs.BOM_UTF8) and self._encoding != "utf-8":
            raise BadFileError("WRONG_ENCODING", f"It bears the mark of UTF-8. Ask for {encoding}.")
        line = head.split(b"\n")[0].removesuffix(b"\r")
        try:
            text = line.decode(self._encoding).removeprefix("\ufeff")
            names = next(csv.reader(io.StringIO(text)), [])
        except (UnicodeDecodeError, csv.Error):
            raise BadFileError("WRONG_ENCODING", f"Its header is not {encoding} text.") from None
        if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
            raise BadFileError("HEADER_MISMATCH", "Its columns are not separated by commas.")
        return names


class JsonScan(Scan):
    """JSON-lines: one object in each line that is not blank; the header is every name that occurs."""

    def run(self) -> None:
        """Read the file.

        Raises:
            BadFileError: it is damaged, in another encoding, or no line of it is an object.
        """
        names: dict[str, None] = {}
        good = bad = none = 0
        self.unseen = self.nul_bytes = True
        for line in self.lines():
            if not line.strip():
                continue
            self.records += 1
            try:
                if len(line) > json_lines.LONGEST_LINE:
                    raise ValueError("too long")
                names |= dict.fromkeys(json_lines.parsed(line, self._encoding))
                good += not line.isascii()
            except UnicodeDecodeError:
                bad += 1
            except ValueError:
                none += 1
            if len(names) > MOST_COLUMNS:
                break
            if none > MOST_BAD_LINES and none * 2 > self.records:
                raise BadFileError("HEADER_MISMATCH", "Most of its lines are no JSON object.")
        self._refuse_foreign(good, bad)
        if self.records and not names:
            raise BadFileError("HEADER_MISMATCH", "No line is a JSON object.")
        self._check_names(list(names))


class ParquetScan(Scan):
    """Parquet, read by its own library and page by page, so that damage shows before DuckDB reads it."""

    def run(self) -> None:
        """Read the file.

        Raises:
            BadFileError: it is damaged, or holds other rows than it says.
        """
        self.unseen = self.nul_bytes = True
        for _ in self.unpacked():
            pass
        bound = most_bytes(self.size)
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                self.records = file.metadata.num_rows
                names = file.schema_arrow.names
                self.types = tuple(str(kind) for kind in file.schema_arrow.types)
                if len(names) > MOST_COLUMNS:
                    self._check_names(names)
                if (
                    self.records * max(len(names), 1) > bound
                    or unpacked_pages(self.path, file) > bound
                ):
                    raise BadFileError("TOO_BIG", f"{self.records} rows in {self.size} bytes.")
            read = self._read_pages(bound)
        except (pa.ArrowException, OSError, ValueError, IndexError):
            raise BadFileError("BAD_PARQUET", "Ask for it again.") from None
        if read != self.records:
            raise BadFileError("BAD_PARQUET", f"It holds {read} of {self.records} rows.")
        self._check_names(names)

    def _read_pages(self, bound: int) -> int:
        """Read every page, texts by their dictionaries, and return the rows.

        A text that stands once may be meant a million times: what it takes in memory is summed, not made.
        """
        with pq.ParquetFile(self.path) as plain:
            texts = [
                field.name
                for field in plain.schema_arrow
                if pa.types.is_string(field.type) or pa.types.is_binary(field.type)
            ]
        rows = meant = 0
        options = {"page_checksum_verification": True, "read_dictionary": texts}
        with pq.ParquetFile(self.path, **options) as file:
            for batch in file.iter_batches():
                rows += batch.num_rows
                meant += sum(_text_bytes(column) for column in batch.columns)
                if meant > bound:
                    raise BadFileError("TOO_BIG", f"{rows} rows and no end.")
        return rows


def _text_bytes(column: pa.Array) -> int:
    """What the texts of a column take when each row has its own."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    if (pc.max(lengths).as_py() or 0) > json_lines.LONGEST_LINE:
        raise BadFileError("TOO_BIG", "A text in it is longer than a record may be.")
    return int(pc.sum(pc.take(lengths, column.indices)).as_py() or 0)


def most_bytes(size: int) -> int:
    """Return what a file of a size may unpack to."""
    return max(TOO_BIG_BYTES, TOO_BIG_RATIO * size)


def scan(path: Path, files: FileSet) -> Scan:
    """Read a file of a set, whatever its format.

    Raises:
        BadFileError: it is damaged, or not what the set says.
    """
    kinds = {"csv": CsvScan, "jsonl": JsonScan, "parquet": ParquetScan}
    found = kinds[files.format](path, files.encoding)
    found.run()
    return found


def _blank_lines(text: bytes) -> int:
    """Count the line ends that follow a line end."""
    blank = 0
    while pairs := text.count(b"\n\n"):
        blank += pairs
        text = text.replace(b"\n\n", b"\n")
    return blank
