"""What a verb does when it finds compute damaged: it makes that anew from landing, and begins again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Concatenate, ParamSpec, TypeVar

from keepline.commands.rebuild import rebuild
from keepline.compute.base import ComputeDamagedError
from keepline.parts import landed_window
from keepline.progress import err
from keepline.settings import Settings

Given = ParamSpec("Given")
Result = TypeVar("Result")


def mending(
    settings: Settings,
    verb: str,
    work: Callable[[], Result],
    prepare: Callable[[], object] | None = None,
) -> Result:
    """Do a verb's work; when it finds compute damaged, make that anew and do the work once more.

    What compute holds is never the only copy, so that nobody need be called for it. A run that was killed
    while DuckDB folded its log into the file can leave a block half written.

    Args:
        settings: where compute is.
        verb: what to tell the person who looks on.
        work: what the verb does; it may be done again.
        prepare: what the work needs besides and a rebuild leaves out.

    Raises:
        KeeplineError: of the work; of the rebuild, when landing is not what is on record.
    """
    try:
        return work()
    except ComputeDamagedError as damaged:
        if landed_window(settings) is None:
            raise
        err.print(
            f"{verb:<9} {damaged.place} is damaged ({damaged.reason}). Nothing is lost: it is made anew "
            f"from landing, then `{verb}` begins again",
            markup=False,
        )
    rebuild(settings)
    if prepare is not None:
        prepare()
    return work()


def mends(
    work: Callable[Concatenate[Settings, Given], Result],
) -> Callable[Concatenate[Settings, Given], Result]:
    """Let a function that does a verb's work mend compute; see `mending`."""

    @wraps(work)
    def mended(settings: Settings, /, *args: Given.args, **named: Given.kwargs) -> Result:
        return mending(settings, work.__name__, partial(work, settings, *args, **named))

    return mended
