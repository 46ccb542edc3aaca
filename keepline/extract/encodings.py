"""Text in GBK and GB18030 as UTF-8, in memory.

DuckDB's own extension for encodings loses what GB18030 writes in four bytes, so Python decodes. Personal
text must not touch a disk in clear: the result is a file without a place.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

import duckdb

from keepline.extract.scan import CsvScan

# No UTF-8: DuckDB sets a line that holds it aside.
BAD_BYTE = "\udcff"
ERRORS = "keepline_bad_byte"
# Of one file; DuckDB's own memory comes on top.
MOST_BYTES = 1 << 30


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Mark one byte only: an error of several bytes would take a comma or a line end along."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return BAD_BYTE, error.start + 1


codecs.register_error(ERRORS, _mark)


def decoded(path: Path, encoding: str) -> int:
    """Return the descriptor of a file in memory that holds a file's text in UTF-8, unpacked.

    A byte that is not in the encoding becomes the byte 0xFF. The caller closes the descriptor.

    Raises:
        duckdb.OutOfMemoryException: it takes more than a file in memory may.
    """
    descriptor = os.memfd_create("keepline", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as memory:
            for text in _texts(path, encoding):
                memory.write(text)
                if memory.tell() > MOST_BYTES:
                    raise duckdb.OutOfMemoryException("a text in memory is too long")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _texts(path: Path, encoding: str) -> Iterator[bytes]:
    """Yield the text in UTF-8; what is UTF-8 stays as it is."""
    unpacked = CsvScan(path).unpacked()
    if encoding == "utf-8":
        yield from unpacked
        return
    decoder = codecs.getincrementaldecoder(encoding)(ERRORS)
    for chunk in unpacked:
        yield decoder.decode(chunk).encode("utf-8", "surrogateescape")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")
