"""Puts the morning report together and writes it: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs

from keepline import store
from keepline.report import movement, sections, tiers, trust, worth
from keepline.report.quality import Quality, read_quality, read_sentences
from keepline.report.reading import (
    Marts,
    Release,
    RunBook,
    read_marts,
    read_outcomes,
    read_release,
    read_run_book,
)
from keepline.report.rows import Outcome
from keepline.report.style import FONT
from keepline.settings import Settings

TEMPLATE = "page.html.j2"
# The one operator whose customers never existed.
SIMULATED_OPERATOR = "demo"


@dataclass(frozen=True)
class Contents:
    """All that a page is made of.

    Attributes:
        operator: name of the operator.
        release: what the page is about.
        marts: what readers see.
        book: what the run book says.
        qualities: the models that scored the release.
        sentences: what the scoring said.
        outcomes: what came of published scores that are old enough.
    """

    operator: str
    release: Release
    marts: Marts
    book: RunBook
    qualities: Sequence[Quality] = ()
    sentences: Sequence[str] = ()
    outcomes: Sequence[Outcome] = ()


def write_report(settings: Settings, release_id: int) -> Path:
    """Write the morning report of the published release.

    The same release gives the same bytes: nothing in the page depends on when it was made.

    Args:
        settings: where the store, the models and the reports are.
        release_id: the release that readers see now.

    Returns:
        path of the page, `<reports>/<release_id>/index.html`; `<reports>/latest.html` leads to it.

    Raises:
        UsageError: there is no such release, or readers see another one.
        BadDataError: a model that scored the release has no document that can be read.
        SourceUnavailableError: the store cannot be reached.
    """
    with store.connect(settings) as connection:
        release = read_release(connection, release_id)
    marts = read_marts(settings, release)
    qualities = read_quality(settings, marts.scorings)
    contents = Contents(
        operator=settings.operator,
        release=release,
        marts=marts,
        book=read_run_book(settings, release),
        qualities=qualities,
        sentences=read_sentences(settings, marts.scorings),
        # What a score says is the horizon of the model that scores today.
        outcomes=(
            read_outcomes(
                settings,
                release,
                gap_days=qualities[-1].gap_days,
                window_days=qualities[-1].window_days,
            )
            if qualities
            else ()
        ),
    )
    path = report_path(settings, release_id)
    _write(path, render(contents))
    _point_latest(settings.reports_dir, path)
    return path


def report_path(settings: Settings, release_id: int) -> Path:
    """Return where the report of a release is, or would be."""
    return settings.reports_dir / str(release_id) / "index.html"


def render(contents: Contents) -> str:
    """Return the page as HTML."""
    release, marts, book = contents.release, contents.marts, contents.book
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(TEMPLATE).render(
        operator=contents.operator,
        release_id=release.release_id,
        business_date=release.business_date,
        tiles=sections.headline(release, marts, book),
        sections=[
            tiers.urgent(marts),
            tiers.tiers(marts),
            movement.base(marts, release),
            sections.places(marts),
            worth.rfm(marts),
            worth.pareto(marts),
            trust.model_quality(
                contents.qualities,
                contents.sentences,
                contents.outcomes,
                book,
                simulated=contents.operator == SIMULATED_OPERATOR,
            ),
            trust.gates(book),
            trust.quarantine(book, release),
            trust.coverage(marts),
            trust.how_to_read(release, marts),
        ],
        plotly=get_plotlyjs(),
        font=FONT,
    )


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all: a reader never opens half a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False
    ) as draft:
        draft.write(text)
    Path(draft.name).replace(path)


def _point_latest(folder: Path, path: Path) -> None:
    """Make `latest.html` lead to a page: a relative link, so that the folder can be moved."""
    draft = folder / f".latest.{os.getpid()}"
    draft.unlink(missing_ok=True)
    draft.symlink_to(path.relative_to(folder))
    draft.replace(folder / "latest.html")
