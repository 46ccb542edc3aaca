"""What can be wrong with a delivery, and what follows from it: one catalogue of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import TYPE_CHECKING

from keepline.errors import BadDataError, KeeplineError, SourceUnavailableError

if TYPE_CHECKING:
    from keepline.extract.result import TableResult


class Verdict(Enum):
    """What happens to what was delivered, from mild to hard.

    LOAD: it lands. ROW: that row goes to quarantine. HOLD: the load date of the table waits, or all of
    the window when no day can be told, and landing keeps what it had. BLOCK: nothing is published. STOP:
    the task ends; a plain rerun is safe. Extraction itself gives the first three and STOP; BLOCK is for
    the gates behind it.
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
    "HIDDEN_CHARACTER": "an id or code holds a character that nobody sees, or a full-width one",
    "BAD_NUMBER": "not a plain number",
    "SCALE_LOST": "more decimals than the type keeps",
    "OVERFLOW": "the number does not fit the type",
    "BAD_DATE": "not a day or instant of the calendar",
    "BAD_BOOLEAN": "neither true nor false",
    "NEGATIVE_AMOUNT": "an amount below the minimum",
    "OUT_OF_RANGE": "a number outside the limits",
    "UNKNOWN_CODE": "a code that is not in the list",
    "BAD_MSISDN": "not a phone number: 7 to 15 digits and nothing else",
    "BAD_ID": "not the number of a resident identity card: its digits, day of birth or check digit",
    "FUTURE_DATE": "it happened after it became known",
    "TOO_OLD": "it happened before the operator's records begin",
    "DUP_KEY": "an equal row of the same load date landed",
    "KEY_CONFLICT": "another row of the same load date has the same key and says something else",
    "AMBIGUOUS_CHANGE": "another version of the same instant says something else",
    "REPEATED_HEADER": "the header again, among the records",
    "COLUMN_COUNT": "the line has too few or too many columns",
    "BAD_QUOTE": "a quote is not closed, or text follows it",
    "BAD_ENCODING": "the line is not in the encoding that was agreed",
    "LINE_TOO_LONG": "the line is too long to be a record",
    "BAD_LINE": "the line cannot be read",
}

# Codes of whole files or tables: each one is a HOLD, but for NOT_READY, which is a STOP.
HOLD_REASONS: dict[str, str] = {
    "NOT_READY": "the delivery is not complete yet",
    "MISSING_FILE": "the file was not delivered",
    "DUP_FILE": "the same bytes came before, as another file",
    "FILE_CHANGED": "the file landed before with other bytes",
    "EMPTY_FILE": "the file has no byte, not even a header",
    "SHORT_FILE": "the file holds another number of records than its manifest says",
    "BAD_GZIP": "the file is damaged",
    "BAD_PARQUET": "the Parquet file is damaged",
    "BAD_FILE": "something in the file stops the reading",
    "BAD_MANIFEST": "the manifest is missing, unreadable or does not describe the file",
    "BAD_PATH": "the file is a link or an archive, or lies outside its folder",
    "TOO_BIG": "the file unpacks to far more than such files hold",
    "NO_MEMORY": "the file does not fit into the memory that the run has",
    "UNKNOWN_FILE": "a file that the manifest does not list",
    "EMPTY_DAY": "the file holds no record, and no day of this table is without",
    "WRONG_ENCODING": "the file is not in the encoding that was agreed",
    "MIXED_LINE_ENDS": "some lines end in CR LF and some in LF",
    "HEADER_MISMATCH": "the header is not one that can be read",
    "BREAKING_SCHEMA": "a column that is needed is not there, or is of another kind",
    "WRONG_DAY": "most records belong to another day",
    "SUM_MISMATCH": "the amounts do not add up to what the source says",
    "UNBALANCED": "the records counted at the source are not those that arrived",
    "QUARANTINE_LIMIT": "too many rows break the contract",
}

# Codes of what the owner is told although it lands.
NOTES: dict[str, str] = {
    "NEW_COLUMN": "the header has a column that the operator file does not know",
    "NEW_CODE": "many rows hold a code that the contract does not know",
    "STRAY_FILE": "a file beside it that no table reads",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a file or a table, or worth telling.

    Attributes:
        code: a key of `HOLD_REASONS`, or of `NOTES`.
        place: file or table, never a personal value.
        detail: figures, and what to do.
        load_date: the day that it is about, or None when it is about more than one.
    """

    code: str
    place: str
    detail: str
    load_date: date | None = None

    @property
    def verdict(self) -> Verdict:
        """What follows from it."""
        if self.code in NOTES:
            return Verdict.LOAD
        return Verdict.STOP if self.code == "NOT_READY" else Verdict.HOLD

    def __str__(self) -> str:
        return f"{self.code} {self.place}: {(HOLD_REASONS | NOTES)[self.code]}. {self.detail}"


class BadFileError(Exception):
    """A file cannot be used; carries a code of `HOLD_REASONS` and a detail without values."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(code)


class IncompleteError(KeeplineError):
    """Some load dates did not land and are as they were before; all the others have landed.

    Attributes:
        findings: everything that is wrong, in the order of the tables.
        results: the outcome of every table, held ones among them, for the run book.
    """

    SHOWN = 20

    def __init__(self, findings: Sequence[Finding], results: Sequence[TableResult]) -> None:
        self.findings = tuple(findings)
        self.results = tuple(results)
        held = [_held(result) for result in results if result.findings]
        lines = [str(finding) for finding in self.findings[: self.SHOWN]]
        if len(self.findings) > self.SHOWN:
            lines.append(f"... and {len(self.findings) - self.SHOWN} more")
        super().__init__(
            f"{len(self.findings)} finding(s), held: {', '.join(held)}\n  " + "\n  ".join(lines)
        )


class HeldError(IncompleteError, BadDataError):
    """At least one load date of a table is held: a person must look."""


class NotReadyError(IncompleteError, SourceUnavailableError):
    """Nothing is wrong, but some deliveries are not complete: the same command later finds them."""


def incomplete(findings: Sequence[Finding], results: Sequence[TableResult]) -> IncompleteError:
    """Return the error of findings: try again only when that may be enough."""
    waiting = all(finding.verdict is Verdict.STOP for finding in findings)
    return (NotReadyError if waiting else HeldError)(findings, results)


def _held(result: TableResult) -> str:
    days = result.held_days
    shown = ", ".join(str(day) for day in days[:3])
    more = f" and {len(days) - 3} more days" if len(days) > 3 else ""
    return f"{result.table_name} ({shown}{more})"
