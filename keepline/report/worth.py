"""The sections of the morning report about what the base is worth: RFM and Pareto."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from keepline.report import figures
from keepline.report.blocks import Block, Note, Plot, Section, Table
from keepline.report.formats import (
    count,
    days,
    month,
    plural,
    ratio,
    share,
    short_yuan,
    title,
    yuan,
)
from keepline.report.reading import Marts
from keepline.report.rows import RfmBand, RfmScored
from keepline.report.style import BLUES

MONTHS_SHOWN = 12
FAMOUS_SHARE = 0.8
# What the top fifth brings when all lines are alike.
FAIR_SHARE = 0.2
NO_TREND = "no trend"


def rfm(marts: Marts) -> Section:
    """Return the RFM map, the segments, and who uses more or less than before."""
    heading = "Recency, frequency, money"
    if marts.rfm_month is None:
        why = "No map: the mart rfm_month holds no whole month yet; the first comes when one has ended."
        why += marts.why_empty("mart_rfm_month")
        return Section("rfm", heading, [Note(why, "empty")])
    lines = sum(row.lines for row in marts.rfm_scored)
    used = sum(row.used for row in marts.rfm_scored)
    named = sum(row.named for row in marts.rfm_scored)
    revenue = sum(segment.revenue_fen for segment in marts.segments)
    trends: Counter[str] = Counter()
    for row in marts.trends:
        trends[row.trend] += row.lines
    blocks: list[Block] = []
    unscored = _unscored(marts.rfm_scored)
    if unscored:
        unscored += marts.why_lacking("mart_rfm_month")
        blocks.append(Note(unscored, "empty"))
    if used:
        caption = "Lines in each cell"
        if any(cell.revenue_fen for cell in marts.rfm_cells):
            caption += " (bold) and what they brought in three months; darker is more money"
        caption += ". Top right is the heart of the base, the left edge has gone silent."
        blocks.append(
            Plot(
                "plot-rfm",
                figures.rfm_map(marts.rfm_cells),
                f"{caption} {_bands(marts.rfm_bands)}",
                f"Grid of recency by frequency scores for {count(used)} lines.",
            )
        )
    if named:
        blocks.append(
            Plot(
                "plot-segments",
                figures.segment_bars(marts.segments),
                "Each segment's share of the lines and of the revenue: where the bars part, a line "
                "brings more or less than the average one."
                if revenue
                else "Each segment's share of the lines.",
                "Bars of each segment's share of lines and of revenue.",
                wide=not used,
                numbers=Table(
                    "The numbers",
                    ("Segment", "Lines #", "Share #", "Revenue, 3 months #", "Share of revenue #"),
                    [
                        (
                            title(segment.segment),
                            count(segment.lines),
                            share(ratio(segment.lines, named)),
                            yuan(segment.revenue_fen),
                            share(ratio(segment.revenue_fen, revenue)),
                        )
                        for segment in marts.segments
                    ],
                    folded=True,
                ),
            )
        )
    if set(trends) - {NO_TREND}:
        blocks.append(
            Plot(
                "plot-trends",
                figures.trend_bars(marts.trends),
                "Active days of the month against the two months before: who uses the line more, the "
                "same or less. Lines without three whole months, or not used in the two "
                "months before, have no trend.",
                "Stacked bars by brand. In all: "
                + ", ".join(f"{word} {count(number)}" for word, number in sorted(trends.items()))
                + ".",
                wide=True,
            )
        )
    else:
        blocks.append(
            Note("No trend: no line was used in three months that can be compared.", "empty")
        )
    return Section(
        "rfm",
        heading,
        blocks,
        f"{plural(lines, 'line')} at the end of {month(marts.rfm_month)}, scored 1 to 5: recency by the "
        "days since the last use, frequency and money by their place among the lines of the same "
        "brand and payment type.",
    )


def _unscored(scored: Sequence[RfmScored]) -> str:
    """Return for whom there is nothing to score, and why; nothing when all are scored."""
    told = []
    for row in scored:
        lines = f"{plural(row.lines, 'line')} of payment type {row.payment_type}"
        lacks = [
            (
                row.lines - row.used,
                "recency and frequency",
                "no use and no recharge in twelve months",
            ),
            (row.lines - row.paying, "money", "no revenue in three months"),
        ]
        for missing, scores, fact in lacks:
            if missing:
                of = lines if missing == row.lines else f"{count(missing)} of {lines}"
                told.append(f"{scores} of {of} (of this payment type {fact} is known)")
    if not told:
        return ""
    without = sum(row.lines - row.named for row in scored)
    segment = (
        f" Without all three scores there is no segment: {plural(without, 'line has', 'lines have')} none."
        if without
        else ""
    )
    return f"Nothing to score for the {'; the '.join(told)}.{segment}"


def _bands(bands: Sequence[RfmBand]) -> str:
    """Return how many days ago the lines of each recency score were last used.

    Payment types have bands of their own; those that read the same are told once.
    """
    of_types: dict[str, list[str]] = {}
    for band in bands:
        spans = []
        if band.least_days is not None and band.most_days is not None:
            spans.append(f"{days(band.least_days, band.most_days)} ago")
        if band.has_silent:
            spans.append("not in twelve months")
        told = of_types.setdefault(band.payment_type, [])
        told.append(f"{band.r_score}: {' or '.join(spans)}")
    texts = {kind: "; ".join(told) for kind, told in of_types.items()}
    if len(set(texts.values())) == 1:
        return f"Recency, by the last use: {next(iter(texts.values()))}."
    return "".join(
        f"Recency of {kind} lines, by the last use: {text}. " for kind, text in texts.items()
    ).strip()


def pareto(marts: Marts) -> Section:
    """Return whether a fifth of the lines makes four fifths of the revenue."""
    heading = "Does 20 % make 80 %?"
    months = marts.pareto[-MONTHS_SHOWN:]
    if not months:
        why = "Not measured: the mart pareto_month holds no whole month yet."
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
            "Share of the revenue that the top fifth of all lines brings, in whole months.",
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
