"""How the report and the closing screen write money, counts, shares and names."""

from __future__ import annotations

from datetime import date

TIERS = ("HIGH", "MEDIUM", "LOW", "SILENT", "NEW", "NODATA")
# Nobody told a risk of the lines of these tiers.
WITHOUT_RISK = ("SILENT", "NEW", "NODATA")
# Not from the calendar module: its names follow the locale of the machine.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TITLES = {"CANT_LOSE": "Can't lose"}
RISK_EDGE = 0.01
TIER_MEANINGS = {
    "HIGH": "a personal retention offer is worth more than it costs",
    "MEDIUM": "a cheap gesture of care is worth more than it costs",
    "LOW": "contacting costs more than it saves, or the lists are full: not the same as safe",
    "SILENT": "silent for too long, beyond the reach of a contact: no risk is told, and it is not safe",
    "NEW": "less than three full months on net: too early to say",
    "NODATA": "nothing known of the line, or no model to judge it by",
}

# Why a line may not be contacted.
REASONS = {
    "MINOR": "under age",
    "SUSPECT_REUSE": "number had another holder",
    "SUSPENDED": "suspended",
    "NOT_ACTIVE": "not active",
    "SILENT": "silent for too long",
    "NEW": "too new",
    "NODATA": "nothing known",
}


def yuan(fen: int | float | None, *, digits: int = 0) -> str:
    """Return fen as yuan with thousands separators: 123456 -> ¥1,235."""
    if fen is None:
        return "-"
    amount = round(fen / 100, digits) + 0.0
    sign = "-" if amount < 0 else ""
    return f"{sign}¥{abs(amount):,.{digits}f}"


def short_yuan(fen: int | float) -> str:
    """Return fen as yuan in at most six characters, for the cells of a map: ¥12.3k."""
    amount = abs(fen) / 100
    sign = "-" if fen < 0 else ""
    for size, letter in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        # 999,950 would be written 1000.0k: it belongs to the next unit.
        if amount >= size * 0.9995:
            scaled = amount / size
            return (
                f"{sign}¥{scaled:.0f}{letter}"
                if scaled >= 99.95
                else f"{sign}¥{scaled:.1f}{letter}"
            )
    return f"{sign}¥{amount:.0f}"


def count(number: int | float | None) -> str:
    """Return a count with thousands separators."""
    return "-" if number is None else f"{round(number):,}"


def signed(number: int) -> str:
    """Return a change: +12, -1,204, 0."""
    return f"{number:+,}" if number else "0"


def share(part: float | None, *, digits: int = 1) -> str:
    """Return a share of one as a percentage; None, which is nothing to divide by, as a dash."""
    return "-" if part is None else f"{part * 100:.{digits}f} %"


def risk(probability: float | None) -> str:
    """Return a risk in whole percent; none is quite certain."""
    if probability is None:
        return "-"
    if probability < RISK_EDGE:
        return "< 1 %"
    return "> 99 %" if probability > 1 - RISK_EDGE else share(probability, digits=0)


def title(code: str) -> str:
    """Return a code as words: ABOUT_TO_SLEEP -> About to sleep."""
    return TITLES.get(code) or code.replace("_", " ").capitalize()


def ratio(part: int | float, whole: int | float) -> float | None:
    """Return part / whole, or None when there is no whole."""
    return part / whole if whole else None


def seconds(value: float) -> str:
    """Return a duration: 0.4 s, 12 s, 3 min 05 s."""
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def month(day: date) -> str:
    """Return a month as Jun 2026."""
    return f"{MONTHS[day.month - 1]} {day.year}"


def days(least: int, most: int) -> str:
    """Return a span of days: 1 day, 8 to 14 days."""
    return plural(least, "day") if least == most else f"{least} to {plural(most, 'day')}"


def reason(code: str) -> str:
    """Return why a line may not be contacted, in words."""
    return REASONS.get(code) or code.replace("_", " ").lower()


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: 1 row, 2 rows."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def at_risk(lines: int) -> str:
    """Return the lines that shares of risk are of, in words: the 12 lines that have a risk."""
    return f"the {plural(lines, 'line that has', 'lines that have')} a risk"


def sentence(text: str) -> str:
    """Return a text with a capital letter, unless it begins with a name, and a full stop."""
    first = text[:1] if "_" in text.split(" ", 1)[0] else text[:1].upper()
    return f"{first}{text[1:].rstrip('.')}."
