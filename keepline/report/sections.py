"""The head of the morning report, and churn and risk by place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date

from keepline.report import figures
from keepline.report.blocks import Block, Note, Plot, Section, Table, Tile
from keepline.report.formats import count, month, plural, ratio, share, yuan
from keepline.report.movement import base_tile, churn_tile, waiting
from keepline.report.reading import Marts, Release, RunBook
from keepline.report.rows import PlaceChurn, PlaceRisk
from keepline.report.tiers import high_tile, loss_tile, why_no_high


def headline(release: Release, marts: Marts, book: RunBook) -> list[Tile]:
    """Return the figures at the top of the page."""
    passed = sum(check.success for check in book.checks)
    return [
        base_tile(marts),
        churn_tile(marts),
        high_tile(marts),
        loss_tile(marts),
        Tile(
            "Checks passed",
            f"{passed} of {len(book.checks)}",
            f"{plural(book.arrivals.quarantined, 'row')} set aside for {release.window}",
            _tone(book),
        ),
    ]


def _tone(book: RunBook) -> str:
    failed = {check.severity for check in book.checks if not check.success}
    if "critical" in failed or not book.checks:
        return "bad"
    return "warn" if failed else ""


def places(marts: Marts) -> Section:
    """Return churn and risk by brand and province."""
    churn, risk = marts.churn_by_place, marts.risk_by_place
    told = marts.told
    churn_month = told.month_start if told else None
    blocks: list[Block] = []
    if churn or risk:
        blocks.append(_brand_table(churn, risk, churn_month))
    if not churn or churn_month is None:
        blocks.append(Note("No churn by place: no whole month has ended yet.", "empty"))
    else:
        newest = "" if marts.settled else ", provisional"
        blocks.append(
            _place_plot(
                "plot-churn-places",
                f"Churn in {month(churn_month)}{newest}: lines lost, of the base before.",
                [(row.brand, row.province, row.churned, row.opening) for row in churn],
            )
        )
    if not any(row.high for row in risk):
        blocks.append(Note(f"No risk by place: {why_no_high(marts)}.", "empty"))
    else:
        blocks.append(
            _place_plot(
                "plot-risk-places",
                "Risk today: lines in tier HIGH that may be contacted, of the lines that have a risk.",
                [(row.brand, row.province, row.high, row.judged) for row in risk],
            )
        )
    lead = ""
    if told and told.is_settled:
        lead = f"Churn is that of {month(told.month_start)}, the last month of which all losses are known."
    elif told:
        lead = f"Churn is that of {month(told.month_start)} and provisional: {waiting(told)}."
    return Section("places", "Churn and risk by brand and province", blocks, lead)


def _place_plot(name: str, caption: str, found: Sequence[tuple[str, str, int, int]]) -> Plot:
    cells = [
        figures.MapCell(brand, province, ratio(part, whole), f"{count(part)} of {count(whole)}")
        for brand, province, part, whole in found
    ]
    worst = max(cells, key=lambda cell: cell.rate or 0.0)
    return Plot(
        name,
        figures.place_map(cells),
        caption,
        f"Shaded map, brand by province. {caption} Highest: {worst.brand} in {worst.province}, "
        f"{share(worst.rate)}.",
        wide=True,
        numbers=Table(
            "The numbers",
            ("Brand", "Province", "Lines #", "Of #", "Share #"),
            [
                (brand, province, count(part), count(whole), share(ratio(part, whole)))
                for brand, province, part, whole in found
            ],
            folded=True,
        ),
    )


def _brand_table(
    churn: Sequence[PlaceChurn], risk: Sequence[PlaceRisk], churn_month: date | None
) -> Table:
    lost: Counter[str] = Counter()
    today: Counter[tuple[str, str]] = Counter()
    for row in churn:
        lost[row.brand] += row.churned
        today[row.brand, "opening"] += row.opening
    for line in risk:
        for name in ("judged", "high", "medium", "high_revenue_fen", "at_risk_fen"):
            today[line.brand, name] += getattr(line, name)
    brands = sorted({row.brand for row in churn} | {row.brand for row in risk})
    when = f" in {month(churn_month)}" if churn_month else ""
    return Table(
        "By brand",
        (
            "Brand",
            f"Lost{when} #",
            "Churn #",
            "With a risk #",
            "Expected loss #",
            "HIGH to call #",
            "Of those with a risk #",
            "MEDIUM to contact #",
            "12-month revenue of HIGH #",
        ),
        [
            (
                brand,
                count(lost[brand]) if churn else "-",
                share(ratio(lost[brand], today[brand, "opening"])),
                count(today[brand, "judged"]),
                yuan(today[brand, "at_risk_fen"]),
                count(today[brand, "high"]),
                share(ratio(today[brand, "high"], today[brand, "judged"])),
                count(today[brand, "medium"]),
                yuan(today[brand, "high_revenue_fen"]),
            )
            for brand in brands
        ],
    )
