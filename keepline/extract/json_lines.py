"""JSON-lines: one object a line, each value as the text that stands there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from keepline.extract.sql import LINE

# A batch is what comes first: lines, cells or bytes.
BATCH_LINES, BATCH_CELLS, BATCH_BYTES = 10_000, 500_000, 16 << 20
# As DuckDB's limit for a line of CSV.
LONGEST_LINE = 2_000_000


def parsed(line: bytes, encoding: str) -> dict[str, Any]:
    """Return the object of a line; numbers stay the text that they are, so that no digit is lost.

    Raises:
        UnicodeDecodeError: the line is not in the encoding.
        ValueError: it is not one JSON object, or says a name twice.
    """
    text = line.decode(encoding).removeprefix("\ufeff")
    try:
        found = json.loads(
            text,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


class Records:
    """The records of one file, batch by batch; lines that are none are kept apart.

    Attributes:
        bad: number of each unreadable line, from 1, and its reason.
    """

    def __init__(self, lines: Iterable[bytes], encoding: str, header: Sequence[str]) -> None:
        self.bad: list[tuple[int, str]] = []
        self.schema = pa.schema([*((name, pa.string()) for name in header), (LINE, pa.int64())])
        self._lines = lines
        self._encoding = encoding
        self._header = header

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the records as columns of text, with the number of their line."""
        rows: list[tuple[int, dict[str, Any]]] = []
        most, size = min(BATCH_LINES, 1 + BATCH_CELLS // (len(self._header) + 1)), 0
        for number, line in enumerate(self._lines, 1):
            if not line.strip():
                continue
            if len(line) > LONGEST_LINE:
                self.bad.append((number, "LINE_TOO_LONG"))
                continue
            try:
                found = {name: _text(value) for name, value in parsed(line, self._encoding).items()}
            except UnicodeError:
                self.bad.append((number, "BAD_ENCODING"))
            except ValueError:
                self.bad.append((number, "BAD_LINE"))
            else:
                rows.append((number, found))
                size += len(line)
            if len(rows) >= most or size > BATCH_BYTES:
                yield self._batch(rows)
                rows, size = [], 0
        yield self._batch(rows)

    def _batch(self, rows: list[tuple[int, dict[str, Any]]]) -> pa.RecordBatch:
        columns: list[Any] = [[row.get(name) for _, row in rows] for name in self._header]
        columns.append([number for number, _ in rows])
        arrays = [pa.array(c, f.type) for c, f in zip(columns, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _text(value: object) -> str | None:
    """The value as text; raises UnicodeError when it holds half a character."""
    if value is None or isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = _json(value)
    if text is not None and not text.isascii():
        text.encode()
    return text


def _json(value: object) -> str:
    """Return what was read as JSON again, its numbers as they were written."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return value if isinstance(value, _Number) else json.dumps(value, ensure_ascii=False)
