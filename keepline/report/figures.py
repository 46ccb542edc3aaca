"""Rows in, Plotly figures out: no SQL, no files, no clock.

Every figure can be read without colour: bars and cells carry their number, series carry a pattern.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from keepline.report.formats import TIERS, count, month, ratio, share, short_yuan, title
from keepline.report.rows import Movement, ParetoMonth, RfmCell, Segment, Tenth, TierDay, Trend
from keepline.report.style import (
    AMBER,
    BLUE,
    BLUES,
    GREEN,
    GRID,
    INK,
    PALE,
    QUIET,
    RED,
    REDS,
    TIER_COLOURS,
    TIER_PATTERNS,
    TREND_STYLES,
    Scale,
    fill,
    finish,
    month_axis,
)

# More provinces than this leave no room for numbers in the cells of a map.
MOST_LABELLED = 12
# More score dates than this are easier to read as upright bars.
MOST_LYING = 14


def base_by_month(movement: Sequence[Movement]) -> go.Figure:
    """Return the base at the end of each month above what came in and went out in it.

    Args:
        movement: the months, oldest first; those whose losses are not all known are shaded.
    """
    months = [month(row.month_start) for row in movement]
    figure = make_subplots(
        rows=2, shared_xaxes=True, row_heights=[0.42, 0.58], vertical_spacing=0.06
    )
    figure.add_scatter(
        x=months,
        y=[row.closing for row in movement],
        name="base at month end",
        mode="lines+markers",
        line={"color": INK, "width": 2},
        hovertemplate="%{x}: base %{y:,}<extra></extra>",
        row=1,
        col=1,
    )
    for name, sign, values, colour, pattern in (
        ("new", 1, [row.gross_adds for row in movement], GREEN, ""),
        ("won back", 1, [row.won_back for row in movement], BLUE, "."),
        ("left", -1, [row.churned for row in movement], RED, "/"),
    ):
        if name == "won back" and not any(values):
            continue
        figure.add_bar(
            x=months,
            y=[sign * value for value in values],
            name=name,
            marker=fill(colour, pattern),
            customdata=values,
            hovertemplate="%{x}: %{customdata:,} " + name + "<extra></extra>",
            row=2,
            col=1,
        )
    open_months = sum(not row.is_settled for row in movement)
    if open_months:
        figure.add_vrect(
            x0=len(movement) - open_months - 0.5,
            x1=len(movement) - 0.5,
            fillcolor=GRID,
            opacity=0.6,
            line_width=0,
            layer="below",
            row="all",
            col=1,
        )
    figure.update_layout(barmode="relative")
    figure.update_yaxes(tickformat=",d", nticks=4)
    figure.update_yaxes(rangemode="tozero", title="base", row=1, col=1)
    figure.update_yaxes(title="came and left", row=2, col=1)
    finish(figure, height=440)
    month_axis(figure, [row.month_start for row in movement])
    return figure


def base_waterfall(row: Movement) -> go.Figure:
    """Return one month's way from the opening to the closing base."""
    steps = [("before", row.opening, "absolute"), ("new", row.gross_adds, "relative")]
    if row.won_back:
        steps += [("won back", row.won_back, "relative")]
    # Moves between brands and provinces cancel out over the whole base.
    if row.moved:
        steps += [("moved", row.moved, "relative")]
    steps += [("left", -row.churned, "relative"), ("after", row.closing, "total")]
    levels = [row.opening]
    for _, change, _ in steps[1:-1]:
        levels.append(levels[-1] + change)
    levels.append(row.closing)
    low, high = min(levels), max(levels)
    room = max(1, (high - low) * 0.35)
    figure = go.Figure(
        go.Waterfall(
            x=[name for name, _, _ in steps],
            y=[value for _, value, _ in steps],
            measure=[kind for _, _, kind in steps],
            text=[
                f"{value:+,}" if kind == "relative" else f"{value:,}" for _, value, kind in steps
            ],
            textposition="outside",
            cliponaxis=False,
            increasing={"marker": {"color": GREEN}},
            decreasing={"marker": {"color": RED}},
            totals={"marker": {"color": BLUE}},
            connector={"line": {"color": PALE}},
            hovertemplate="%{x}: %{text}<extra></extra>",
        )
    )
    # The steps are small beside the base, so the scale starts near it; the caption says so.
    figure.update_yaxes(range=[max(0, low - room), high + room], tickformat=",d", title="lines")
    figure.update_xaxes(showgrid=False)
    return finish(figure, height=440)


@dataclass(frozen=True)
class MapCell:
    """A cell of a map of brands and provinces: a share from 0 to 1, and what stands below it."""

    brand: str
    province: str
    rate: float | None
    words: str


def place_map(
    cells: Sequence[MapCell], colours: Scale = REDS, *, low: float = 0.0, digits: int = 1
) -> go.Figure:
    """Return a share by brand and province as a map of shaded cells.

    Args:
        cells: at most one per brand and province.
        colours: from the least to the most.
        low: the share that has the first colour.
        digits: decimals of the shares.
    """
    brands = sorted({cell.brand for cell in cells}, reverse=True)
    provinces = sorted({cell.province for cell in cells})
    found = {(cell.brand, cell.province): cell for cell in cells}
    grid = [[found.get((brand, province)) for province in provinces] for brand in brands]
    is_labelled = len(provinces) <= MOST_LABELLED
    figure = go.Figure(
        go.Heatmap(
            x=provinces,
            y=brands,
            z=[[cell.rate if cell else None for cell in line] for line in grid],
            text=[
                [
                    f"<b>{share(cell.rate, digits=digits)}</b><br>{cell.words}" if cell else ""
                    for cell in line
                ]
                for line in grid
            ],
            texttemplate="%{text}" if is_labelled else None,
            textfont={"color": INK, "size": 13},
            colorscale=colours,
            zmin=low,
            zmax=max(low + 0.01, *((cell.rate or 0.0) for cell in cells)),
            xgap=2,
            ygap=2,
            showscale=not is_labelled,
            colorbar={"tickformat": f".{digits}%", "thickness": 10, "outlinewidth": 0},
            hovertemplate="%{y}, %{x}<br>%{text}<extra></extra>",
        )
    )
    figure.update_xaxes(showgrid=False, type="category")
    figure.update_yaxes(showgrid=False, type="category")
    return finish(figure, height=60 + 64 * len(brands))


def rfm_map(cells: Sequence[RfmCell]) -> go.Figure:
    """Return the base on a grid of recency by frequency, shaded by revenue."""
    found = {(cell.r_score, cell.f_score): cell for cell in cells}
    scores = range(1, 6)
    grid = [[found.get((r, f)) for r in scores] for f in scores]
    names = [str(score) for score in scores]
    has_money = any(cell.revenue_fen for cell in cells)

    def told(cell: RfmCell | None) -> str:
        if cell is None:
            return "0"
        money = f"<br>{short_yuan(cell.revenue_fen)}" if has_money else ""
        return f"<b>{count(cell.lines)}</b>{money}"

    figure = go.Figure(
        go.Heatmap(
            x=names,
            y=names,
            z=[[cell.revenue_fen / 100 if cell else 0.0 for cell in line] for line in grid],
            text=[[told(cell) for cell in line] for line in grid],
            texttemplate="%{text}",
            textfont={"color": INK, "size": 13},
            colorscale=BLUES,
            zmin=0,
            xgap=2,
            ygap=2,
            showscale=False,
            hovertemplate="recency %{x}, frequency %{y}<br>%{text}<extra></extra>",
        )
    )
    figure.update_xaxes(
        title="recency: 1 long silent, 5 just active", showgrid=False, type="category"
    )
    figure.update_yaxes(title="frequency: 1 seldom, 5 most often", showgrid=False, type="category")
    return finish(figure, height=440)


def segment_bars(segments: Sequence[Segment]) -> go.Figure:
    """Return each segment's share of lines beside its share of revenue, if there is any.

    Args:
        segments: the one to stand on top first.
    """
    ordered = list(reversed(segments))
    figure = go.Figure()
    for name, values, colour, pattern in (
        ("of lines", [segment.lines for segment in ordered], PALE, "/"),
        ("of revenue", [segment.revenue_fen for segment in ordered], BLUE, ""),
    ):
        if not any(values):
            continue
        parts = [ratio(value, sum(values)) or 0.0 for value in values]
        figure.add_bar(
            y=[title(segment.segment) for segment in ordered],
            x=parts,
            name=name,
            orientation="h",
            text=[share(part, digits=0) for part in parts],
            textposition="outside",
            cliponaxis=False,
            marker=fill(colour, pattern),
            hovertemplate="%{y}: %{text} " + name + "<extra></extra>",
        )
    figure.update_layout(bargap=0.3)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(showgrid=False, type="category")
    return finish(figure, height=max(440, 120 + 34 * len(segments)))


def trend_bars(trends: Sequence[Trend]) -> go.Figure:
    """Return the share of lines that use more, the same or less than before, by brand."""
    totals: Counter[str] = Counter()
    lines: Counter[tuple[str, str]] = Counter()
    for row in trends:
        totals[row.brand] += row.lines
        lines[row.brand, row.trend] += row.lines
    brands = sorted(totals, reverse=True)
    words = [word for word in TREND_STYLES if any(row.trend == word for row in trends)]
    words += sorted({row.trend for row in trends} - set(TREND_STYLES))
    figure = go.Figure()
    for word in words:
        colour, pattern = TREND_STYLES.get(word, ("#edf0f2", ""))
        numbers = [lines[brand, word] for brand in brands]
        parts = [ratio(lines[brand, word], totals[brand]) or 0.0 for brand in brands]
        figure.add_bar(
            y=brands,
            x=parts,
            name=word,
            orientation="h",
            text=[share(part, digits=0) if part >= 0.04 else "" for part in parts],
            textposition="inside",
            insidetextanchor="middle",
            insidetextfont={"color": "white" if colour in (GREEN, RED) else INK},
            marker=fill(colour, pattern),
            customdata=numbers,
            hovertemplate="%{y}: %{customdata:,} " + word + " (%{x:.1%})<extra></extra>",
        )
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(tickformat=".0%", range=[0, 1], dtick=0.25, showgrid=False)
    figure.update_yaxes(showgrid=False, type="category")
    return finish(figure, height=120 + 48 * len(brands))


def pareto_by_month(pareto: Sequence[ParetoMonth]) -> go.Figure:
    """Return which share of the revenue the top fifth brings each month, against the famous 80 %."""
    known = [row for row in pareto if row.top_share is not None]
    figure = go.Figure(
        go.Scatter(
            x=[month(row.month_start) for row in known],
            y=[row.top_share for row in known],
            mode="lines+markers+text",
            text=[share(row.top_share, digits=0) for row in known],
            textposition="top center",
            cliponaxis=False,
            line={"color": BLUE, "width": 2},
            hovertemplate="%{x}: the top fifth brings %{y:.1%}<extra></extra>",
        )
    )
    for at, words, colour, dash in (
        (0.2, "20 %: all lines alike", QUIET, "dot"),
        (0.8, "80 %: as the rule says", RED, "dash"),
    ):
        figure.add_hline(
            y=at,
            line={"color": colour, "dash": dash},
            annotation={"text": words, "font": {"color": colour}},
            annotation_position="top left",
        )
    figure.update_yaxes(tickformat=".0%", range=[0, 1])
    finish(figure, height=320)
    month_axis(figure, [row.month_start for row in known])
    return figure


def tiers_over_time(tier_days: Sequence[TierDay]) -> go.Figure:
    """Return the base by tier on each score date: lying bars while they are few, then upright ones."""
    days = sorted({row.score_date for row in tier_days})
    lines = {(row.score_date, row.tier): row.lines for row in tier_days}
    is_upright = len(days) > MOST_LYING
    names = [day.isoformat() for day in days]
    figure = go.Figure()
    for tier in TIERS:
        numbers = [lines.get((day, tier), 0) for day in days]
        if not any(numbers):
            continue
        figure.add_bar(
            x=names if is_upright else numbers,
            y=numbers if is_upright else names,
            orientation="v" if is_upright else "h",
            name=tier,
            text=[f"{number:,}" if number else "" for number in numbers],
            textposition="none" if is_upright else "inside",
            insidetextanchor="middle",
            textangle=0,
            insidetextfont={"color": "white" if tier == "HIGH" else INK},
            marker=fill(TIER_COLOURS[tier], TIER_PATTERNS[tier]),
            hovertemplate="%{label}: %{value:,} " + tier + "<extra></extra>",
        )
    figure.update_layout(
        barmode="stack",
        bargap=0.25,
        legend_traceorder="normal",
        uniformtext={"minsize": 10, "mode": "hide"},
    )
    day_axis = {"type": "category", "showgrid": False, "nticks": 14}
    line_axis = {"title": "lines", "tickformat": ",d"}
    figure.update_xaxes(**(day_axis if is_upright else line_axis))
    figure.update_yaxes(**(line_axis if is_upright else day_axis))
    return finish(figure, height=400 if is_upright else 130 + 34 * len(days))


def calibration_lines(tenths: Sequence[Tenth]) -> go.Figure:
    """Return the churn rate that came true against the one that the model said."""
    top = max(0.01, *(max(tenth.said, tenth.seen) for tenth in tenths)) * 1.08
    figure = go.Figure()
    figure.add_scatter(
        x=[0, top],
        y=[0, top],
        mode="lines",
        name="as said",
        line={"color": QUIET, "dash": "dot"},
        hoverinfo="skip",
    )
    styles = ((BLUE, "circle", "solid"), (AMBER, "diamond", "dash"), (GREEN, "square", "dashdot"))
    for number, kind in enumerate(sorted({tenth.payment_type for tenth in tenths})):
        colour, symbol, dash = styles[number % len(styles)]
        points = sorted(
            (tenth for tenth in tenths if tenth.payment_type == kind), key=lambda tenth: tenth.said
        )
        figure.add_scatter(
            x=[point.said for point in points],
            y=[point.seen for point in points],
            mode="lines+markers",
            name=kind,
            line={"color": colour, "dash": dash},
            marker={"symbol": symbol, "size": 8},
            customdata=[point.lines for point in points],
            hovertemplate="said %{x:.1%}, seen %{y:.1%} of %{customdata:,}<extra></extra>",
        )
    figure.update_xaxes(title="said by the model", tickformat=".0%", range=[0, top])
    figure.update_yaxes(title="came true", tickformat=".0%", range=[0, top])
    return finish(figure, height=400)
