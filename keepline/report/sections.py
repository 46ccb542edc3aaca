"""The sections of the morning report about who may leave and how the base moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date

from keepline.report import figures
from keepline.report.blocks import Block, Note, Plot, Section, Table, Tile
from keepline.report.formats import (
    TIER_MEANINGS,
    TIERS,
    count,
    month,
    plural,
    ratio,
    risk,
    share,
    signed,
    yuan,
)
from keepline.report.reading import Marts, Release, RunBook
from keepline.report.rows import Movement, PlaceChurn, PlaceRisk

MONTHS_SHOWN = 13
NO_MODEL = {"NEW", "NODATA"}


def headline(release: Release, marts: Marts, book: RunBook) -> list[Tile]:
    """Return the figures at the top of the page."""
    tiers = {tier.tier: tier for tier in marts.tiers}
    scored = sum(tier.lines for tier in marts.tiers)
    passed = sum(check.success for check in book.checks)
    tiles = [_base_tile(marts, scored), _churn_tile(marts)]
    if "HIGH" in tiers:
        high = tiers["HIGH"]
        tiles += [
            Tile(
                "High risk",
                count(high.lines),
                f"{share(ratio(high.lines, scored))} of the lines scored",
                "warn",
            ),
            Tile(
                "Worth at risk",
                yuan(high.worth_fen),
                f"12-month worth of tier HIGH; {yuan(high.at_risk_fen)} of it is the loss to expect",
                "warn",
            ),
        ]
    else:
        tiles.append(Tile("High risk", "0", why_no_high(marts)))
    tiles.append(
        Tile(
            "Checks passed",
            f"{passed} of {len(book.checks)}",
            f"{plural(book.arrivals.quarantined, 'row')} set aside for {release.window}",
            _tone(book),
        )
    )
    return tiles


def _tone(book: RunBook) -> str:
    failed = {check.severity for check in book.checks if not check.success}
    if "critical" in failed or not book.checks:
        return "bad"
    return "warn" if failed else ""


def _base_tile(marts: Marts, scored: int) -> Tile:
    row = _of_month(marts.movement, marts.full_month)
    if row is None:
        return Tile("Base", count(scored), "lines scored; no month has ended yet")
    change = signed(row.closing - row.opening)
    return Tile(
        "Base", count(row.closing), f"lines at the end of {month(row.month_start)}, {change}"
    )


def _churn_tile(marts: Marts) -> Tile:
    row = _of_month(marts.movement, marts.full_month)
    if row is None:
        return Tile("Churn last month", "-", "no month has ended yet")
    detail = f"{count(row.churned)} lines lost in {month(row.month_start)}"
    if marts.settled_month != marts.full_month:
        settled = _of_month(marts.movement, marts.settled_month)
        detail += (
            ", so far"
            if settled is None
            else (
                f", so far; {share(settled.churn_rate)} in {month(settled.month_start)}, the last month "
                "that is complete"
            )
        )
    return Tile("Churn last month", share(row.churn_rate), detail)


def why_no_high(marts: Marts) -> str:
    """Return the reason for which nobody is in tier HIGH."""
    if not marts.tiers:
        return "nobody was scored"
    if {tier.tier for tier in marts.tiers} <= NO_MODEL:
        return "there is no model, see below"
    return "no line is worth a dear offer today"


def urgent(marts: Marts) -> Section:
    """Return the lines to call first, masked, with their reasons."""
    title = "Call first"
    if not marts.urgent:
        return Section("urgent", title, [Note(f"Nobody: {why_no_high(marts)}.", "empty")])
    table = Table(
        "The lines whose call should pay most, tier HIGH first",
        ("Number", "Line", "Tier", "Risk #", "12-month worth #", "Call brings #", "Why"),
        [
            (
                row.msisdn_masked or "-",
                f"{row.brand}\n{row.province}\n{row.payment_type}",
                row.tier,
                risk(row.probability),
                yuan(row.worth_fen),
                yuan(row.profit_fen),
                "\n".join(row.reasons) or "-",
            )
            for row in marts.urgent
        ],
    )
    return Section("urgent", title, [table])


def tiers(marts: Marts) -> Section:
    """Return the tiers today and over time."""
    title = "Risk tiers"
    if not marts.tiers:
        why = "Nobody was scored in this release." + marts.why_empty("mart_churn_risk_daily")
        return Section("tiers", title, [Note(why, "empty")])
    found = {tier.tier: tier for tier in marts.tiers}
    whole = sum(tier.lines for tier in marts.tiers)
    table = []
    for name in TIERS:
        tier = found.get(name)
        judged = tier is not None and name not in NO_MODEL
        table.append(
            (
                name,
                TIER_MEANINGS[name],
                count(tier.lines if tier else 0),
                share(ratio(tier.lines if tier else 0, whole)),
                yuan(tier.worth_fen) if tier and judged else "-",
                yuan(tier.at_risk_fen) if tier and judged else "-",
                yuan(tier.profit_fen) if tier and name in ("HIGH", "MEDIUM") else "-",
            )
        )
    days = len({row.score_date for row in marts.tier_days})
    return Section(
        "tiers",
        title,
        [
            Table(
                "Tiers today",
                (
                    "Tier",
                    "Meaning",
                    "Lines #",
                    "Share #",
                    "12-month worth #",
                    "Loss to expect #",
                    "Calling all brings #",
                ),
                table,
            ),
            Plot(
                "plot-tiers",
                figures.tiers_over_time(marts.tier_days),
                f"Lines by tier on each score date so far ({plural(days, 'day')}).",
                "Stacked bars of the tiers by score date. Today: "
                + ", ".join(f"{row[0]} {row[2]}" for row in table)
                + ".",
                wide=True,
            ),
        ],
    )


def base(marts: Marts, release: Release) -> Section:
    """Return how the base moved."""
    title = "Base movement"
    movement = marts.movement[-MONTHS_SHOWN:]
    if not movement:
        why = "No movement: the mart subscriber_movement holds no month yet."
        why += marts.why_empty("mart_subscriber_movement")
        return Section("base", title, [Note(why, "empty")])
    off = [month(row.month_start) for row in movement if not row.is_balanced]
    blocks: list[Block] = []
    if off:
        blocks.append(
            Note(
                f"Before + new + moved - left is not after in {', '.join(off)}: do not use these "
                "months.",
                "bad",
            )
        )
    last = _of_month(movement, marts.full_month)
    blocks.append(
        Plot(
            "plot-base-months",
            figures.base_by_month(movement, marts.settled_month),
            "Lines that joined (up) and left (down), and the base that remained."
            + (
                ""
                if marts.settled_month and movement[-1].month_start <= marts.settled_month
                else " In shaded months prepaid losses are still coming in."
            ),
            f"Bars of joined and left lines for {plural(len(movement), 'month')}; the base ends at "
            f"{count(movement[-1].closing)}.",
            wide=last is None,
            numbers=_months_table(movement, marts),
        )
    )
    if last is not None:
        name = month(last.month_start)
        blocks.append(
            Plot(
                "plot-base-last",
                figures.base_waterfall(last),
                f"From the first to the last day of {name}. The scale does not begin at zero.",
                f"In {name} the base went from {count(last.opening)} to {count(last.closing)}.",
            )
        )
    lead = "" if off else "Every month adds up: before + new + moved - left = after."
    if movement[-1].month_start != marts.full_month:
        lead += f" {month(movement[-1].month_start)} is counted up to {release.business_date}."
    return Section("base", title, blocks, lead.strip())


def _months_table(movement: Sequence[Movement], marts: Marts) -> Table:
    def kind(month_start: date) -> str:
        if marts.full_month is None or month_start > marts.full_month:
            return " (not ended)"
        if marts.settled_month is None or month_start > marts.settled_month:
            return " (losses so far)"
        return ""

    return Table(
        "The numbers, month by month",
        ("Month", "Before #", "New #", "Moved #", "Left #", "After #", "Churn #"),
        [
            (
                month(row.month_start) + kind(row.month_start),
                count(row.opening),
                signed(row.gross_adds),
                signed(row.moved_in - row.moved_out),
                signed(-row.churned),
                count(row.closing),
                share(row.churn_rate),
            )
            for row in reversed(movement)
        ],
        folded=True,
    )


def places(marts: Marts) -> Section:
    """Return churn and risk by brand and province."""
    churn, risk = marts.churn_by_place, marts.risk_by_place
    churn_month = marts.settled_month or marts.full_month
    blocks: list[Block] = []
    if churn or risk:
        blocks.append(_brand_table(churn, risk, churn_month))
    if not churn or churn_month is None:
        blocks.append(Note("No churn by place: no month has ended yet.", "empty"))
    else:
        newest = "" if marts.settled_month else " so far"
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
                "Risk today: lines in tier HIGH, of the lines scored.",
                [(row.brand, row.province, row.high, row.scored) for row in risk],
            )
        )
    lead = ""
    if marts.settled_month:
        lead = f"Churn is that of {month(marts.settled_month)}, the last month whose losses are all known."
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
        for name in ("scored", "high", "medium", "high_worth_fen"):
            today[line.brand, name] += getattr(line, name)
    brands = sorted({row.brand for row in churn} | {row.brand for row in risk})
    when = f" in {month(churn_month)}" if churn_month else ""
    return Table(
        "By brand",
        (
            "Brand",
            f"Lost{when} #",
            "Churn #",
            "Scored #",
            "HIGH #",
            "Share HIGH #",
            "MEDIUM #",
            "Worth of HIGH #",
        ),
        [
            (
                brand,
                count(lost[brand]) if churn else "-",
                share(ratio(lost[brand], today[brand, "opening"])),
                count(today[brand, "scored"]),
                count(today[brand, "high"]),
                share(ratio(today[brand, "high"], today[brand, "scored"])),
                count(today[brand, "medium"]),
                yuan(today[brand, "high_worth_fen"]),
            )
            for brand in brands
        ],
    )


def _of_month(movement: Sequence[Movement], month_start: date | None) -> Movement | None:
    return next((row for row in movement if row.month_start == month_start), None)
