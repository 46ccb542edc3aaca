"""Releases: write them where nobody looks, audit them, then show them all at once.

`stage` copies the candidate tables into the store under a new release, `expectations` audits it,
`publish` moves the one row that says which release readers see, and `rollback` moves it back.
"""

from keepline.release.migration import MigrationReport, migrate
from keepline.release.publishing import (
    ReleaseInfo,
    current_release,
    history,
    mark_audited,
    publish,
    rollback,
    staged_release,
)
from keepline.release.retention import clean
from keepline.release.staging import StageReport, TableReport, stage

__all__ = [
    "MigrationReport",
    "ReleaseInfo",
    "StageReport",
    "TableReport",
    "clean",
    "current_release",
    "history",
    "mark_audited",
    "migrate",
    "publish",
    "rollback",
    "stage",
    "staged_release",
]
