"""SQL text from values and names."""

from __future__ import annotations

from keepline.landed_files import exact

# What the names of keepline's own columns and relations beside those of a file begin with. A header that
# holds this character is refused, so that no file can reach them.
OWN = "\x01"
PATH, LINE = f"{OWN}path", f"{OWN}line"


def literal(text: object) -> str:
    """Return an SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def path_literal(path: object) -> str:
    """Return an SQL string literal of a path that means this one file, whatever its folders are called."""
    return literal(exact(path))
