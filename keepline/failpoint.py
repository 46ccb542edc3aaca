"""Named places where a test kills the process, to prove that running again mends it.

They do nothing unless `KEEPLINE_FAILPOINT` names one: `stage.copied` kills at its first passing,
`stage.copied:3` at its third.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_passed: Counter[str] = Counter()


def reach(name: str) -> None:
    """Kill this process with SIGKILL if `KEEPLINE_FAILPOINT` names this place and passing."""
    wanted = os.environ.get("KEEPLINE_FAILPOINT")
    if not wanted:
        return
    place, _, nth = wanted.partition(":")
    if place != name:
        return
    _passed[name] += 1
    if _passed[name] == int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)
