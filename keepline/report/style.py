"""How every figure looks: colours, patterns, fonts, axes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import plotly.graph_objects as go

from keepline.report.formats import MONTHS, month

INK = "#1f2933"
QUIET = "#52606d"
GRID = "#e4e7eb"
BLUE = "#1b6ca8"
GREEN = "#2a7f62"
RED = "#b3391e"
AMBER = "#d98e04"
PALE = "#b8c4ce"
TIER_COLOURS = {
    "HIGH": RED,
    "MEDIUM": AMBER,
    "LOW": "#7fa8c9",
    "SILENT": "#8a94a0",
    "NEW": PALE,
    "NODATA": "#edf0f2",
}
# Told apart in black and white, too.
TIER_PATTERNS = {"HIGH": "", "MEDIUM": "/", "LOW": "", "SILENT": "x", "NEW": ".", "NODATA": ""}
TREND_STYLES = {
    "rising": (GREEN, ""),
    "stable": (PALE, ""),
    "falling": (RED, "/"),
    "no trend": ("#edf0f2", ""),
}
Scale = list[tuple[float, str]]
# Light enough for dark numbers on the darkest cell.
BLUES: Scale = [(0.0, "#f5f8fb"), (0.5, "#b9d3e8"), (1.0, "#74abd6")]
REDS: Scale = [(0.0, "#fdf6f2"), (0.5, "#f4c3a9"), (1.0, "#e88f68")]
FONT = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "PingFang SC", "Microsoft YaHei", '
    '"Noto Sans CJK SC", sans-serif'
)


def fill(colour: str, pattern: str) -> dict[str, object]:
    """Return a marker whose pattern tells it apart without its colour."""
    return {
        "color": colour,
        "line": {"color": QUIET, "width": 0.5},
        "pattern": {
            "shape": pattern,
            "fillmode": "overlay",
            "fgcolor": "white",
            "fgopacity": 0.45,
            "size": 8,
            "solidity": 0.2,
        },
    }


def month_axis(figure: go.Figure, months: Sequence[date]) -> None:
    """Write months short, and the year only where it begins: thirteen fit side by side."""
    labels = [
        f"{MONTHS[day.month - 1]}<br>{day.year}"
        if number == 0 or day.month == 1
        else MONTHS[day.month - 1]
        for number, day in enumerate(months)
    ]
    figure.update_xaxes(
        type="category",
        tickmode="array",
        tickvals=[month(day) for day in months],
        ticktext=labels,
        tickangle=0,
        showgrid=False,
    )


def finish(figure: go.Figure, height: int) -> go.Figure:
    """Give a figure the look of the page.

    Args:
        figure: traces and axes as they are.
        height: in CSS pixels; the width is that of the place.
    """
    has_legend = sum(trace.showlegend is not False for trace in figure.data) > 1
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        margin={"l": 56, "r": 16, "t": 40 if has_legend else 16, "b": 44},
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        showlegend=has_legend,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"bgcolor": "white", "font": {"color": INK}},
        dragmode=False,
    )
    figure.update_xaxes(automargin=True, linecolor=PALE, gridcolor=GRID, zeroline=False, ticks="")
    # Ticks that nobody sees keep the labels off the bars.
    figure.update_yaxes(
        automargin=True,
        gridcolor=GRID,
        zerolinecolor=PALE,
        ticks="outside",
        ticklen=6,
        tickcolor="white",
    )
    figure.update_xaxes(title_font_size=13, title_standoff=8)
    figure.update_yaxes(title_font_size=13, title_standoff=8)
    return figure
