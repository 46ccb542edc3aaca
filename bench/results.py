"""The file that measurements are written to."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).with_name("README.md")


def write_section(name: str, text: str) -> None:
    """Put a text between the two marks of a section of bench/README.md.

    Raises:
        ValueError: the file has no such marks.
    """
    page = README.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{README} has no marks `{begin.strip()}` and `{end}`")
    README.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")
