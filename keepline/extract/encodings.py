"""Text in GBK and GB18030 as UTF-8, in memory.

DuckDB's own extension for encodings loses what GB18030 writes in four bytes, so Python decodes. Personal
text must not touch a disk in clear: the result is a file without a place.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from keepline.extract.scan import CsvScan

# No UTF-8: DuckDB sets a line that holds it aside.
BAD_BYTE = "\udcff"
ERRORS = "keepline_bad_byte"


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Mark one byte only: an error of several bytes would take a comma or a line end along."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return BAD_BYTE, error.start + 1


codecs.register_error(ERRORS, _mark)


def decoded(path: Path, encoding: str) -> int:
    """Return the descriptor of a file in memory that holds a file's text in UTF-8, unpacked.

    A byte that is not in the encoding becomes the byte 0xFF. The caller closes the descriptor.
    """
    descriptor = os.memfd_create("keepline", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as memory:
            for text in _whole_lines(path):
                memory.write(text.decode(encoding, ERRORS).encode("utf-8", "surrogateescape"))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the text in pieces that end with a line, so that no character is cut."""
    rest: list[bytes] = []
    for chunk in CsvScan(path).unpacked():
        head, end, tail = chunk.rpartition(b"\n")
        if end:
            yield b"".join([*rest, head, end])
            rest = []
        rest.append(tail)
    yield b"".join(rest)
