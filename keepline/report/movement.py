"""What the morning report says of the base: how it moved, and which months are settled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from keepline.report import figures
from keepline.report.blocks import Block, Note, Plot, Section, Table, Tile
from keepline.report.formats import count, month, plural, share, signed
from keepline.report.reading import Marts, Release
from keepline.report.rows import Movement

# Whole months in the chart; the table has one more, which may be running.
MONTHS_SHOWN = 13


def base_tile(marts: Marts) -> Tile:
    """Return the base of the last settled month, and the newest one as provisional."""
    row = marts.told
    if row is None:
        lines = sum(tier.lines for tier in marts.tiers)
        return Tile("Base", count(lines), "lines in service; no whole month has ended yet")
    change = signed(row.closing - row.opening)
    detail = f"lines at the end of {month(row.month_start)}, {change} in the month"
    if not row.is_settled:
        return Tile("Base, provisional", count(row.closing), f"{detail}; {waiting(row)}")
    last = marts.whole[-1]
    if last.month_start != row.month_start:
        detail += f". Provisional: {count(last.closing)} at the end of {month(last.month_start)}"
    return Tile("Base", count(row.closing), detail)


def churn_tile(marts: Marts) -> Tile:
    """Return the churn of the last settled month, and the newest one as provisional."""
    row, whole = marts.settled, marts.whole
    if not whole:
        return Tile("Churn", "not known", "no whole month has ended yet")
    last = whole[-1]
    provisional = (
        f"Provisional: {share(last.churn_rate)} ({plural(last.churned, 'line')}) in "
        f"{month(last.month_start)}; {waiting(last)}"
    )
    if row is None:
        return Tile("Churn", "not known", f"no whole month is settled yet. {provisional}")
    detail = (
        f"{plural(row.churned, 'line')} lost in {month(row.month_start)}, the last month of which all "
        "losses are known"
    )
    if last.month_start != row.month_start:
        detail += f". {provisional}"
    return Tile("Churn", share(row.churn_rate), detail)


def waiting(row: Movement) -> str:
    """Return which losses of a month can still become known."""
    return f"{' and '.join(row.waiting_for)} losses are still coming in"


def base(marts: Marts, release: Release) -> Section:
    """Return how the base moved."""
    title = "Base movement"
    if not marts.movement:
        why = "No movement: the mart subscriber_movement holds no month yet."
        why += marts.why_empty("mart_subscriber_movement")
        return Section("base", title, [Note(why, "empty")])
    movement = marts.movement[-MONTHS_SHOWN - 1 :]
    whole = [row for row in movement if row.is_whole][-MONTHS_SHOWN:]
    off = [month(row.month_start) for row in movement if not row.is_balanced]
    blocks: list[Block] = []
    if off:
        blocks.append(
            Note(
                f"Before + new + won back + moved - left is not after in {', '.join(off)}: do not use "
                "these months.",
                "bad",
            )
        )
    corrected = _corrected(movement)
    if corrected:
        blocks.append(Note(corrected))
    numbers = _months_table(movement)
    told = marts.told
    if told is None:
        blocks.append(Note("No chart: no whole month has ended yet.", "empty"))
    else:
        blocks += [
            Plot(
                "plot-base-months",
                figures.base_by_month(whole),
                "Lines that came (up) and left (down) in each whole month, and the base that remained."
                + _shaded(whole),
                f"Bars of lines that came and left for {plural(len(whole), 'whole month')}; the base "
                f"ends at {count(whole[-1].closing)}.",
            ),
            Plot(
                "plot-base-last",
                figures.base_waterfall(told),
                f"From the first to the last day of {month(told.month_start)}"
                + (
                    ", the last month of which all losses are known."
                    if told.is_settled
                    else f", provisional: {waiting(told)}."
                )
                + " The scale does not begin at zero.",
                f"In {month(told.month_start)} the base went from {count(told.opening)} to "
                f"{count(told.closing)}.",
            ),
        ]
    # Too many columns for half of a page, so not below the chart.
    blocks.append(numbers)
    lead = [] if off else ["Every month adds up: before + new + won back + moved - left = after."]
    lead += [
        f"{month(row.month_start)} is no whole month ({_why_not_whole(row, release)}): it is in no "
        "chart and has no churn rate."
        for row in movement
        if not row.is_whole
    ]
    return Section("base", title, blocks, " ".join(lead))


def _shaded(whole: Sequence[Movement]) -> str:
    waiting = sorted({kind for row in whole for kind in row.waiting_for})
    if not waiting:
        return ""
    return f" Shaded months are provisional: {' and '.join(waiting)} losses are still coming in."


def _corrected(movement: Sequence[Movement]) -> str:
    """Return how many losses were told and turned out to be none, or nothing."""
    months = [row for row in movement if row.corrected]
    if not months:
        return ""
    whole = sum(row.corrected for row in months)
    each = ", ".join(
        f"{count(row.corrected)} of {count(row.first_told)} in {month(row.month_start)}"
        for row in months
    )
    return (
        f"Corrected: {plural(whole, 'loss', 'losses')} that had been told turned out to be none "
        f"({each}). Churn is as known now."
    )


def _why_not_whole(row: Movement, release: Release) -> str:
    next_day = release.business_date + timedelta(days=1)
    if row.month_start == next_day.replace(day=1):
        return f"counted up to {release.business_date}"
    return "the record begins within it"


def _months_table(movement: Sequence[Movement]) -> Table:
    def state(row: Movement) -> str:
        if not row.is_whole:
            return "not whole"
        return "settled" if row.is_settled else "provisional"

    return Table(
        "The numbers, month by month",
        (
            "Month",
            "Before #",
            "New #",
            "Won back #",
            "Moved #",
            "Left #",
            "After #",
            "Churn #",
            "Left, as first told #",
            "State",
        ),
        [
            (
                month(row.month_start),
                count(row.opening),
                signed(row.gross_adds),
                signed(row.won_back),
                signed(row.moved),
                signed(-row.churned),
                count(row.closing),
                share(row.churn_rate),
                signed(-row.first_told),
                state(row),
            )
            for row in reversed(movement)
        ],
        folded=True,
    )
