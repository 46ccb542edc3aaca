"""What a section of the page is made of; the template knows how each kind looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class Table:
    """A table of ready-made texts.

    Attributes:
        caption: what the table holds.
        columns: titles; a title that ends in ` #` is a column of numbers, aligned right.
        rows: cells, one text per column; a cell with line breaks becomes a list.
        folded: shown only when the reader opens it.
        tones: one per row: "", "bad" or "warn"; none for a table without tones.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    tones: Sequence[str] = ()
    kind: str = "table"

    @property
    def titles(self) -> list[tuple[str, bool]]:
        """Titles, each with whether its column holds numbers."""
        return [(title.removesuffix(" #"), title.endswith(" #")) for title in self.columns]


@dataclass(frozen=True)
class Plot:
    """A figure with the words that stand in for it.

    Attributes:
        name: the element's id, the same for every release.
        figure: the Plotly figure.
        caption: what it shows and how to read it.
        alt: what it shows, in a sentence for those who do not see it.
        wide: takes the whole width of the page.
        numbers: the same as a table, folded.
    """

    name: str
    figure: go.Figure
    caption: str
    alt: str
    wide: bool = False
    numbers: Table | None = None
    kind: str = "plot"

    @property
    def json(self) -> str:
        """Data and layout as JSON that cannot end the script element that it stands in."""
        text = self.figure.to_json(remove_uids=True)
        # A name with a `<` in it, as one the operator gave a brand, must stay text.
        return str(text).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@dataclass(frozen=True)
class Note:
    """A sentence; tone is "" for plain, "empty" for why something is not there, "warn", "bad"."""

    text: str
    tone: str = ""
    kind: str = "note"


Block = Table | Plot | Note


@dataclass(frozen=True)
class Tile:
    """A figure of the headline."""

    title: str
    value: str
    detail: str
    tone: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own."""

    name: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""
