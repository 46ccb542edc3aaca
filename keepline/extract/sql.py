"""SQL text from values and names."""

from __future__ import annotations


def literal(text: object) -> str:
    """Return an SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
