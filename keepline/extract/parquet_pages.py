"""What the pages of a Parquet file say that they unpack to, read before any of them is unpacked.

A library makes room for a page by what the page's own header says: some hundred bytes may ask for two
gigabytes. The headers are small structs of Thrift's compact protocol; only their sizes are looked at.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

# A page's header with its statistics; a longer one is none.
HEADER_BYTES = 1 << 20
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)
NESTED = 32
UNPACKED_FIELD, PACKED_FIELD = 2, 3


def unpacked_pages(path: Path, file: pq.ParquetFile) -> int:
    """Return the bytes that all pages of an open file unpack to, as their headers say.

    Args:
        path: where it is.
        file: the same file, for the places of its pages.

    Raises:
        ValueError, IndexError: a header is damaged.
    """
    total = 0
    with path.open("rb") as bytes_:
        for group in range(file.metadata.num_row_groups):
            for number in range(file.metadata.num_columns):
                chunk = file.metadata.row_group(group).column(number)
                at = chunk.data_page_offset
                if (
                    chunk.dictionary_page_offset is not None
                    and 0 < chunk.dictionary_page_offset < at
                ):
                    at = chunk.dictionary_page_offset
                end = at + chunk.total_compressed_size
                while at < end:
                    bytes_.seek(at)
                    header = _Header(bytes_.read(min(HEADER_BYTES, end - at)))
                    if header.packed < 0 or header.unpacked < 0:
                        raise ValueError("a page of less than nothing")
                    total += header.unpacked
                    at += header.length + header.packed
    return total


class _Header:
    """A page's header: the bytes that it takes, and those of its page, packed and unpacked."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0
        found = self._struct(0)
        self.unpacked = found.get(UNPACKED_FIELD, 0)
        self.packed = found.get(PACKED_FIELD, 0)
        self.length = self._at

    def _byte(self) -> int:
        value = self._text[self._at]
        self._at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number without an end")

    def _struct(self, depth: int) -> dict[int, int]:
        """Pass over a struct; returns its whole numbers by field."""
        if depth > NESTED:
            raise ValueError("too deep")
        found: dict[int, int] = {}
        field = 0
        while (byte := self._byte()) != STOP:
            kind, step = byte & 0x0F, byte >> 4
            field = field + step if step else self._zigzag()
            value = self._value(kind, depth)
            if value is not None:
                found[field] = value
        return found

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int, depth: int, *, in_list: bool = False) -> int | None:
        if kind in (TRUE, FALSE):
            self._at += in_list
        elif kind == BYTE:
            self._at += 1
        elif kind in (I16, I32, I64):
            return self._zigzag()
        elif kind == DOUBLE:
            self._at += 8
        elif kind == BINARY:
            length = self._varint()
            self._at += length
        elif kind in (LIST, SET):
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._varint()
            for _ in range(min(size, len(self._text) + 1)):
                self._value(head & 0x0F, depth + 1, in_list=True)
        elif kind == STRUCT:
            self._struct(depth + 1)
        else:
            raise ValueError("a type that no page has")
        return None
