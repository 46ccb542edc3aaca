"""What can be wrong with a delivery, and what follows from it: one catalogue of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from keepline.errors import BadDataError

if TYPE_CHECKING:
    from keepline.extract.result import TableResult


class Verdict(Enum):
    """What happens to what was delivered, from mild to hard.

    LOAD: it lands. ROW: that row goes to quarantine. HOLD: the whole table of the window waits and
    landing keeps what it had. BLOCK: nothing is published. STOP: the task ends; a plain rerun is safe.
    Extraction itself gives the first three and STOP; BLOCK is for the gates behind it.
    """

    LOAD = 0
    ROW = 1
    HOLD = 2
    BLOCK = 3
    STOP = 4


# Codes of rows, in `reason_code` of the quarantine.
ROW_REASONS: dict[str, str] = {
    "MISSING_VALUE": "a value that must be there is not",
    "NUL_BYTE": "a text holds a NUL byte",
    "BAD_NUMBER": "not a plain number",
    "SCALE_LOST": "more decimals than the type keeps",
    "OVERFLOW": "the number does not fit the type",
    "BAD_DATE": "not a day or instant of the calendar",
    "BAD_BOOLEAN": "neither true nor false",
    "NEGATIVE_AMOUNT": "an amount below the minimum",
    "OUT_OF_RANGE": "a number outside the limits",
    "UNKNOWN_CODE": "a code that is not in the list",
    "BAD_MSISDN": "not a phone number: 7 to 15 digits and nothing else",
    "DUP_KEY": "another row of the same load date has the same key",
    "COLUMN_COUNT": "the line has too few or too many columns",
    "BAD_QUOTE": "a quote is not closed, or text follows it",
    "BAD_ENCODING": "the line is not UTF-8",
    "LINE_TOO_LONG": "the line is too long to be a record",
    "BAD_LINE": "the line cannot be read",
}

# Codes of whole files or tables: each one is a HOLD.
HOLD_REASONS: dict[str, str] = {
    "MISSING_FILE": "the file was not delivered",
    "EMPTY_FILE": "the file has no byte, not even a header",
    "SHORT_FILE": "the file holds another number of records than its manifest says",
    "BAD_GZIP": "the file is damaged",
    "BAD_MANIFEST": "the manifest is missing, unreadable or does not describe the file",
    "BAD_PATH": "the file is a link or lies outside its folder",
    "TOO_BIG": "the file unpacks to far more than such files hold",
    "UNKNOWN_FILE": "a file that the manifest does not list",
    "WRONG_ENCODING": "the file is not UTF-8",
    "MIXED_LINE_ENDS": "some lines end in CR LF and some in LF",
    "HEADER_MISMATCH": "the header is not one that can be read",
    "BREAKING_SCHEMA": "a column that is needed is not in the header",
    "WRONG_DAY": "most records belong to another day",
    "SUM_MISMATCH": "the amounts do not add up to what the source says",
    "UNBALANCED": "the records counted at the source are not those that arrived",
    "QUARANTINE_LIMIT": "too many rows break the contract",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a file or a table.

    Attributes:
        code: a key of `HOLD_REASONS`.
        place: file or table, never a personal value.
        detail: figures, and what to do.
    """

    code: str
    place: str
    detail: str

    @property
    def verdict(self) -> Verdict:
        """What follows from it."""
        return Verdict.HOLD

    def __str__(self) -> str:
        return f"{self.code} {self.place}: {HOLD_REASONS[self.code]}. {self.detail}"


class HeldError(BadDataError):
    """At least one table was held: its landing is as it was before. The other tables have landed.

    Attributes:
        findings: everything that is wrong, in the order of the tables.
        results: the outcome of every table, held ones among them, for the run book.
    """

    SHOWN = 20

    def __init__(self, findings: Sequence[Finding], results: Sequence[TableResult]) -> None:
        self.findings = tuple(findings)
        self.results = tuple(results)
        held = sorted({result.table_name for result in results if result.findings})
        lines = [str(finding) for finding in self.findings[: self.SHOWN]]
        if len(self.findings) > self.SHOWN:
            lines.append(f"... and {len(self.findings) - self.SHOWN} more")
        super().__init__(
            f"{len(self.findings)} finding(s), held: {', '.join(held)}\n  " + "\n  ".join(lines)
        )
