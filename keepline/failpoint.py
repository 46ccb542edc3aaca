"""Named places where a test kills the process, to prove that running again mends it.

They do nothing unless `KEEPLINE_FAILPOINT` names one: `stage.copied` kills at its first passing,
`stage.copied:3` at its third, `stage.copied:1:stop` suspends instead. A name that is none of them does
nothing but count.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "KEEPLINE_FAILPOINT"

# Where dying hurts most, in the order of a day.
FAILPOINTS: dict[str, str] = {
    "extract.read": "a source was read, nothing is written",
    "extract.written": "new partitions lie beside their places",
    "extract.set_aside": "quarantine is replaced; landing and the vault are not",
    "extract.sealed": "the vault is committed, landing is not replaced",
    "landing.manifest": "the new partition is whole, beside its place",
    "landing.file": "one file of a day is in its place, the next one is not",
    "landing.day": "a day is in its place, the next one is not",
    "landing.emptying": "a day that became empty has lost one of its files",
    "extract.unregistered": "a table is in its place, the file registry does not know",
    "extract.landed": "a table is in its place, the next one was not looked at",
    "extract.unrecorded": "all landed, and the run book does not know",
    "load.deleted": "the window is deleted from a raw table, not committed",
    "load.inserted": "the window is inserted, not committed",
    "load.committed": "one raw table is loaded, the next one is not",
    "gate.judged": "a gate has judged, and the run book does not know",
    "build.starting": "dbt has not run",
    "build.node": "a model, seed or test of dbt has ended",
    "build.unrecorded": "dbt has ended, and the run book does not know",
    "rebuild.complete": "compute is made anew, beside the old one",
    "export.drafted": "rows left compute for a file that is not in its place",
    "immutable.drafted": "a snapshot, score file or manifest is on disk under a draft's name",
    "snapshot.unlisted": "a feature snapshot is written, its manifest does not list it",
    "scores.unlisted": "scores are written, their manifest does not list them",
    "scores.unloaded": "scores are whole on disk, and compute has those of before",
    "scores.deleted": "compute has lost the day's scores, not committed",
    "scores.loaded": "compute has the day's scores, and the run book does not know",
    "stage.copied": "a partition is copied to the store, not committed",
    "stage.registered": "a release is registered, not committed",
    "stage.committed": "a release is committed, and the run book does not know",
    "audit.unmarked": "what the audit found is recorded, the release is not marked",
    "publish.marked": "a release is marked as published; the pointer stands",
    "publish.flipped": "the pointer is moved, not committed",
    "publish.committed": "readers see the new release, nothing was cleaned up",
    "clean.retired": "old releases are retired, their rows are still there",
    "clean.dropping": "an old partition is dropped, not committed",
    "clean.dropped": "one old partition is gone, the next one is not",
}

_passed: Counter[str] = Counter()


def reach(name: str) -> None:
    """Kill (or suspend) this process if `KEEPLINE_FAILPOINT` names this place and passing."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    _passed[name] += 1
    place, nth, how = (*wanted.split(":"), "", "")[:3]
    if place == name and _passed[name] == int(nth or 1):
        os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)


def passings() -> dict[str, int]:
    """Return how often each place was passed, if they are counted."""
    return dict(_passed)
