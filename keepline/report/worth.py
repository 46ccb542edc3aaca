"""The sections of the morning report about what the base is worth: RFM and Pareto."""

from __future__ import annotations

from collections import Counter

from keepline.report import figures
from keepline.report.blocks import Block, Note, Plot, Section, Table
from keepline.report.formats import count, month, ratio, share, short_yuan, title, yuan
from keepline.report.reading import Marts
from keepline.report.style import BLUES

MONTHS_SHOWN = 12
FAMOUS_SHARE = 0.8
# What the top fifth brings when all lines are alike.
FAIR_SHARE = 0.2


def rfm(marts: Marts) -> Section:
    """Return the RFM map, the segments, and who uses more or less than before."""
    heading = "Recency, frequency, money"
    if marts.rfm_month is None:
        why = "No map: the mart rfm_month holds no month yet; the first one comes when a month has ended."
        why += marts.why_empty("mart_rfm_month")
        return Section("rfm", heading, [Note(why, "empty")])
    lines = sum(segment.lines for segment in marts.segments)
    revenue = sum(segment.revenue_fen for segment in marts.segments)
    trends: Counter[str] = Counter()
    for row in marts.trends:
        trends[row.trend] += row.lines
    blocks: list[Block] = []
    if not revenue:
        why = "No line brought revenue: the segments rest on recency and frequency alone."
        blocks.append(Note(why + marts.why_no_money("mart_rfm_month"), "empty"))
    blocks += [
        Plot(
            "plot-rfm",
            figures.rfm_map(marts.rfm_cells),
            (
                "Lines in each cell (bold) and what they brought in three months; darker is more money. "
                if revenue
                else "Lines in each cell. "
            )
            + "Top right is the heart of the base, the left edge has gone silent.",
            f"Grid of recency by frequency scores for {count(lines)} lines.",
        ),
        Plot(
            "plot-segments",
            figures.segment_bars(marts.segments),
            "Each segment's share of the lines and of the revenue: where the bars part, a line is "
            "worth more or less than the average one."
            if revenue
            else "Each segment's share of the lines.",
            "Bars of each segment's share of lines and of revenue.",
            numbers=Table(
                "The numbers",
                ("Segment", "Lines #", "Share #", "Revenue, 3 months #", "Share of revenue #"),
                [
                    (
                        title(segment.segment),
                        count(segment.lines),
                        share(ratio(segment.lines, lines)),
                        yuan(segment.revenue_fen),
                        share(ratio(segment.revenue_fen, revenue)),
                    )
                    for segment in marts.segments
                ],
                folded=True,
            ),
        ),
        Plot(
            "plot-trends",
            figures.trend_bars(marts.trends),
            "Active days of the month against the two months before: who uses the line more, the "
            "same or less. Lines without three months behind them are too new to tell.",
            "Stacked bars by brand. In all: "
            + ", ".join(f"{word} {count(number)}" for word, number in sorted(trends.items()))
            + ".",
            wide=True,
        ),
    ]
    return Section(
        "rfm",
        heading,
        blocks,
        f"Lines are scored 1 to 5 within their brand and payment type, at the end of "
        f"{month(marts.rfm_month)}.",
    )


def pareto(marts: Marts) -> Section:
    """Return whether a fifth of the lines makes four fifths of the revenue."""
    heading = "Does 20 % make 80 %?"
    months = marts.pareto[-MONTHS_SHOWN:]
    if not months:
        why = "Not measured: the mart pareto_month holds no month yet."
        why += marts.why_empty("mart_pareto_month")
        return Section("pareto", heading, [Note(why, "empty")])
    last = months[-1]
    if last.top_share is None:
        why = f"Not measured: no line brought revenue in {month(last.month_start)}."
        why += marts.why_no_money("mart_pareto_month")
        return Section("pareto", heading, [Note(why, "empty")])
    verdict = "Yes" if last.top_share >= FAMOUS_SHARE else "No"
    lead = (
        f"{verdict}: in {month(last.month_start)} the top fifth of {count(last.lines)} lines brought "
        f"{share(last.top_share)} of {yuan(last.revenue_fen)}; it takes {share(last.makers_share)} of "
        "the lines to make 80 %."
    )
    blocks: list[Block] = [
        Plot(
            "plot-pareto-months",
            figures.pareto_by_month(months),
            "Share of the revenue that the top fifth of all lines brings, month by month.",
            f"Line of the share by month, {share(last.top_share)} at the end.",
            wide=True,
        )
    ]
    cells = [
        figures.MapCell(
            row.brand,
            row.province,
            row.top_share,
            f"{count(row.lines)} lines<br>{short_yuan(row.revenue_fen)}",
        )
        for row in marts.pareto_places
    ]
    if cells:
        blocks.append(
            Plot(
                "plot-pareto-places",
                figures.place_map(cells, BLUES, low=FAIR_SHARE, digits=0),
                f"The same by brand and province in {month(last.month_start)}: darker is more uneven.",
                "Shaded map of the top fifth's share of revenue, brand by province.",
                wide=True,
                numbers=Table(
                    "The numbers",
                    (
                        "Brand",
                        "Province",
                        "Lines #",
                        "Revenue #",
                        "Top fifth brings #",
                        "Lines that make 80 % #",
                    ),
                    [
                        (
                            row.brand,
                            row.province,
                            count(row.lines),
                            yuan(row.revenue_fen),
                            share(row.top_share),
                            share(row.makers_share),
                        )
                        for row in marts.pareto_places
                    ],
                    folded=True,
                ),
            )
        )
    return Section("pareto", heading, blocks, lead)
