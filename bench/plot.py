"""The plot of all measurements: each figure by its aim, as an SVG that needs no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from .row import Row

LABEL_W, BAR_W, FIGURE_W, LINE_H, TOP = 330, 380, 90, 22, 46
MET, MISSED, RIVAL = "#2a7f62", "#b8442e", "#9aa0a6"
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write a bar per row: left of the line the aim is met. Rivals are measured with the aim of their row."""
    aims = {row.name: row.aim for row in reversed(rows) if row.aim is not None}
    bars = [
        (row, share)
        for row in rows
        if row.ratio and (share := _share(row, aims.get(row.name))) is not None
    ]
    if not bars:
        return
    shares = [share for _, share in bars]
    low = max(tick for tick in TICKS if tick <= max(min(*shares, 1) / 1.2, TICKS[0]))
    high = min((tick for tick in TICKS if tick >= max(shares) * 1.05), default=TICKS[-1])
    high = max(high, 2)

    def x(share: float) -> float:
        bounded = min(max(share, low), high)
        return LABEL_W + BAR_W * math.log(bounded / low) / math.log(high / low)

    width, height = LABEL_W + BAR_W + FIGURE_W, TOP + LINE_H * len(bars) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        f' font-size="12"><rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LABEL_W}" y="16">figure / aim (logarithmic): left of the line the aim is met</text>',
    ]
    parts += [
        f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP - 8}" y2="{height - 10}"'
        f' stroke="{"black" if tick == 1 else "#dddddd"}"/>'
        f'<text x="{x(tick):.1f}" y="{TOP - 12}" text-anchor="middle" fill="#555555">{tick:g}</text>'
        for tick in TICKS
        if low <= tick <= high
    ]
    for number, (row, share) in enumerate(bars):
        y = TOP + LINE_H * number
        color = RIVAL if row.is_met is None else MET if row.is_met else MISSED
        start, end = sorted((x(1), x(share)))
        label = escape(f"{row.name}: {row.measured}")
        figure = f"{row.ratio:,.3g}{'' if row.unit == 'x' else ' ' + row.unit}"
        parts.append(
            f'<text x="{LABEL_W - 8}" y="{y + 13}" text-anchor="end">{label}</text>'
            f'<rect x="{start:.1f}" y="{y + 3}" width="{max(end - start, 2):.1f}" height="13"'
            f' fill="{color}"/>'
            f'<text x="{LABEL_W + BAR_W + 8}" y="{y + 13}">{figure}</text>'
        )
    path.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")


def _share(row: Row, aim: float | None) -> float | None:
    if not aim or row.ratio is None:
        return None
    return aim / row.ratio if row.at_least else row.ratio / aim
