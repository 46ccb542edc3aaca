"""The morning report: one self-contained HTML page per release."""

from keepline.report.page import report_path, write_report

__all__ = ["report_path", "write_report"]
