"""What the morning report says of those who may leave: whom to call, and what is at stake."""

from __future__ import annotations

from collections.abc import Sequence

from keepline.report import figures
from keepline.report.blocks import Note, Plot, Section, Table, Tile
from keepline.report.formats import (
    TIER_MEANINGS,
    TIERS,
    WITHOUT_RISK,
    at_risk,
    count,
    plural,
    ratio,
    reason,
    risk,
    share,
    yuan,
)
from keepline.report.reading import Marts
from keepline.report.rows import NotToCall, Tier

NO_MODEL = {"NEW", "NODATA"}
CONTACTED = ("HIGH", "MEDIUM")


def high_tile(marts: Marts) -> Tile:
    """Return how many lines of tier HIGH there are to call."""
    tier = next((tier for tier in marts.tiers if tier.tier == "HIGH"), None)
    judged = sum(tier.judged for tier in marts.tiers)
    if tier is None:
        return Tile("Lines to call", "0", why_no_high(marts))
    detail = f"tier HIGH, {share(ratio(tier.callable, judged))} of {at_risk(judged)}"
    left_out = not_to_call(marts.not_to_call, "HIGH")
    if left_out:
        detail += f". {left_out}"
    return Tile("Lines to call", count(tier.callable), detail, "warn")


def loss_tile(marts: Marts) -> Tile:
    """Return the loss to expect from all lines that have a risk."""
    judged = sum(tier.judged for tier in marts.tiers)
    if not judged:
        return Tile("Expected loss", "not known", why_no_high(marts))
    loss = sum(tier.at_risk_fen for tier in marts.tiers)
    parts = [
        f"{tier.tier} {yuan(tier.at_risk_fen)}"
        for tier in sorted(marts.tiers, key=lambda tier: TIERS.index(tier.tier))
        if tier.judged
    ]
    return Tile(
        "Expected loss",
        yuan(loss),
        f"risk times 12-month revenue of {at_risk(judged)}: {', '.join(parts)}",
        "warn",
    )


def not_to_call(rows: Sequence[NotToCall], tier: str) -> str:
    """Return how many lines of a tier may not be contacted, and why, or nothing."""
    found = [row for row in rows if row.tier == tier]
    if not found:
        return ""
    lines = sum(row.lines for row in found)
    reasons = ", ".join(f"{count(row.lines)} {reason(row.reason)}" for row in found)
    return f"{count(lines)} more may not be contacted ({reasons})"


def beyond_reach(tiers: Sequence[Tier]) -> str:
    """Return how many lines have no risk because no contact reaches them, or nothing."""
    lines = sum(tier.lines for tier in tiers if tier.tier == "SILENT")
    if not lines:
        return ""
    return (
        f"SILENT: {plural(lines, 'line')} beyond reach, silent for too long. No risk is told for them "
        "and they are in no sum of money; they are not safe."
    )


def why_no_high(marts: Marts) -> str:
    """Return the reason for which nobody is in tier HIGH."""
    if not marts.tiers:
        return "nobody was scored"
    tiers = {tier.tier for tier in marts.tiers}
    if tiers <= NO_MODEL:
        return "there is no model, see below"
    if "HIGH" in tiers:
        return "of the lines in tier HIGH none may be contacted"
    return "no line is worth a dear offer today"


def urgent(marts: Marts) -> Section:
    """Return the lines to call first, masked, with their reasons."""
    title = "Call first"
    if not marts.urgent:
        return Section("urgent", title, [Note(f"Nobody: {why_no_high(marts)}.", "empty")])
    table = Table(
        "The lines whose call should pay most, of those that may be contacted; tier HIGH first",
        ("Number", "Line", "Tier", "Risk #", "12-month revenue #", "Call brings #", "Why"),
        [
            (
                row.msisdn_masked or "-",
                f"{row.brand}\n{row.province}\n{row.payment_type}",
                row.tier,
                risk(row.probability),
                yuan(row.revenue_fen),
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
    loss = sum(tier.at_risk_fen for tier in marts.tiers)
    table: list[tuple[str, ...]] = []
    for name in TIERS:
        tier = found.get(name)
        judged = tier is not None and name not in WITHOUT_RISK
        table.append(
            (
                name,
                TIER_MEANINGS[name],
                count(tier.lines if tier else 0),
                share(ratio(tier.lines if tier else 0, whole)),
                yuan(tier.revenue_fen) if tier and judged else "-",
                yuan(tier.at_risk_fen) if tier and judged else "-",
                share(ratio(tier.at_risk_fen, loss)) if tier and judged else "-",
                count(tier.callable) if tier and name in CONTACTED else "-",
                yuan(tier.profit_fen) if tier and name in CONTACTED else "-",
            )
        )
    table.append(
        (
            "all",
            "",
            count(whole),
            share(ratio(whole, whole)),
            yuan(sum(tier.revenue_fen for tier in marts.tiers)),
            yuan(loss),
            share(ratio(loss, loss)),
            count(sum(tier.callable for tier in marts.tiers if tier.tier in CONTACTED)),
            yuan(sum(tier.profit_fen for tier in marts.tiers if tier.tier in CONTACTED)),
        )
    )
    days = len({row.score_date for row in marts.tier_days})
    left_out = [
        f"{name}: {words}." for name in CONTACTED if (words := not_to_call(marts.not_to_call, name))
    ]
    notes = [Note(" ".join(left_out))] if left_out else []
    silent = beyond_reach(marts.tiers)
    if silent:
        notes.append(Note(silent, "warn"))
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
                    "Of all lines #",
                    "12-month revenue #",
                    "Expected loss #",
                    "Of the loss #",
                    "To contact #",
                    "Contacting them brings #",
                ),
                table,
            ),
            *notes,
            Plot(
                "plot-tiers",
                figures.tiers_over_time(marts.tier_days),
                f"Lines by tier on each score date so far ({plural(days, 'day')}), whether or not they "
                "may be contacted.",
                "Stacked bars of the tiers by score date. Today: "
                + ", ".join(f"{row[0]} {row[2]}" for row in table)
                + ".",
                wide=True,
            ),
        ],
        "A tier says whether a contact pays, not how probable a loss is: lines that nobody contacts "
        "hold a part of the expected loss, too.",
    )
