"""Extraction: an operator's databases and files, through the contract, into landing."""

from __future__ import annotations

from keepline.extract.result import TableResult
from keepline.extract.run import extract_window
from keepline.extract.verdict import Finding, HeldError, IncompleteError, NotReadyError, Verdict

__all__ = [
    "Finding",
    "HeldError",
    "IncompleteError",
    "NotReadyError",
    "TableResult",
    "Verdict",
    "extract_window",
]
