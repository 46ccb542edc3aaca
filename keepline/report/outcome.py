"""What the risks said against what came: whether a tier's promise can be relied on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from keepline.report.blocks import Block, Note, Table
from keepline.report.formats import TIERS, count
from keepline.report.quality import Quality
from keepline.report.rows import Outcome

# Between these shares of what was said, what came counts as said.
LEAST_AS_SAID, MOST_AS_SAID = 0.85, 1.15
# A difference is told from chance when so little of it comes about by chance, on each side.
CHANCE = 0.025
AS_SAID = "as said"
MAY_BE_CHANCE = "may be chance"
MORE, FEWER = "▲ more left than said", "▼ fewer left than said"
ALL_TIERS = "all tiers"
OWN_TEST = "the model's test"


def verdict(said: float, came: int) -> str:
    """Return in words whether what came is what was said; beyond the limits a flag.

    Leavers are counted against a Poisson count with the mean that was said: losses are rare and
    independent enough, and a count of few varies so much that it proves nothing.

    Args:
        said: leavers expected, the sum of the risks.
        came: lines that left.
    """
    if came == said or (said and LEAST_AS_SAID <= came / said <= MOST_AS_SAID):
        return AS_SAID
    at_most = _at_most(came, said)
    at_least = 1.0 - _at_most(came - 1, said)
    flag = MORE if came > said else FEWER
    return f"{flag}, {MAY_BE_CHANCE}" if min(at_most, at_least) >= CHANCE else flag


def _at_most(number: int, mean: float) -> float:
    """Return the chance that a Poisson count with a mean is at most a number."""
    if number < 0:
        return 0.0
    if mean <= 0:
        return 1.0
    # By logarithms: the terms of a mean of some hundreds are too small to multiply.
    terms = (k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(number + 1))
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def said_and_came(seen: Sequence[Outcome], qualities: Sequence[Quality]) -> list[Block]:
    """Return the table of said against came by payment type and tier.

    Args:
        seen: what came of published scores; a payment type that has none yet is told by the
            model's own test.
        qualities: the models that scored the release.
    """
    known = {row.payment_type for row in seen}
    tested = [
        row for quality in qualities for row in quality.outcomes if row.payment_type not in known
    ]
    blocks: list[Block] = []
    if not seen:
        blocks.append(Note(_why_not_seen(qualities, has_test=bool(tested))))
    rows = [*seen, *tested]
    if not rows:
        return blocks
    kinds = sorted({row.payment_type for row in rows})
    table: list[tuple[str, ...]] = []
    tones: list[str] = []
    for kind in kinds:
        of_kind = sorted((row for row in rows if row.payment_type == kind), key=_place)
        whole = Outcome(
            payment_type=kind,
            tier=ALL_TIERS,
            score_date=of_kind[0].score_date,
            lines=sum(row.lines for row in of_kind),
            said=math.fsum(row.said for row in of_kind),
            came=sum(row.came for row in of_kind),
        )
        for row in [*of_kind, whole]:
            judged = verdict(row.said, row.came)
            table.append(
                (
                    row.payment_type,
                    row.tier,
                    judged,
                    f"{row.said:,.1f}",
                    count(row.came),
                    f"{row.came / row.said:.2f}" if row.said else "-",
                    count(row.lines),
                    f"scores of {row.score_date}" if row.score_date else OWN_TEST,
                )
            )
            tones.append("warn" if judged in (MORE, FEWER) else "")
    blocks.append(
        Table(
            "Said against came: lines that the risks said would leave, and lines that left",
            (
                "Payment",
                "Tier",
                "So",
                "Said #",
                "Came #",
                "Came per said #",
                "Of lines #",
                "Judged by",
            ),
            table,
            tones=tones,
        )
    )
    blocks.append(
        Note(
            f"Came per said from {LEAST_AS_SAID} to {MOST_AS_SAID} is {AS_SAID}. Outside of it a row is "
            f"marked; where so few lines leave that the difference {MAY_BE_CHANCE} (it would come about by "
            "itself more often than once in forty times), the mark says so."
        )
    )
    return blocks


def _why_not_seen(qualities: Sequence[Quality], *, has_test: bool) -> str:
    span = max(quality.gap_days + quality.window_days for quality in qualities)
    why = (
        f"No published score is old enough to be compared with what came: its {span} days have to be "
        "over, and the month in which they end has to be settled."
    )
    if has_test:
        return (
            f"{why} Until then the model's own test is told: later days that training had not seen."
        )
    return (
        f"{why} Nor does the document of the model say it by tier: the measures above are those of all "
        "tiers together."
    )


def _place(row: Outcome) -> int:
    return TIERS.index(row.tier) if row.tier in TIERS else len(TIERS)
