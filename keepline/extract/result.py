"""What the extraction of a window says about each table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from keepline.extract.verdict import Finding, Verdict
from keepline.ops import Reconciliation


@dataclass(frozen=True)
class TableResult:
    """The outcome of one table.

    Attributes:
        table_name: contract table.
        provided: the operator file fills it; if not, nothing else is set.
        rows: rows that landed.
        seconds: time taken.
        reconciliations: one balance per day of the window, days without rows among them.
        findings: why load dates of the table were held; empty when all of the window landed.
        held_days: load dates that did not land and are as they were before.
        notes: what the owner should know although it landed.
    """

    table_name: str
    provided: bool
    rows: int = 0
    seconds: float = 0.0
    reconciliations: tuple[Reconciliation, ...] = ()
    findings: tuple[Finding, ...] = ()
    held_days: tuple[date, ...] = ()
    notes: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """LOAD when it landed, else the verdict of the findings."""
        return max((f.verdict for f in self.findings), key=lambda v: v.value, default=Verdict.LOAD)
