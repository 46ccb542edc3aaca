"""Errors that a person can act on, each with the exit code that tells Airflow what to do.

A message names the value, the place and the next step. It never carries a personal value, a
password or a connection string.
"""

from __future__ import annotations


class KeeplineError(Exception):
    """Something went wrong that a retry alone will not mend; the base of all keepline errors."""

    exit_code = 1


class UsageError(KeeplineError):
    """A command, a setting or an operator file asks for something that cannot be done."""

    exit_code = 64


class BadDataError(KeeplineError):
    """What arrived, or what was built from it, breaks a rule: a person must look. No retry."""

    exit_code = 2


class SourceUnavailableError(KeeplineError):
    """A database or a file system could not be reached: try again later."""

    exit_code = 3


class FencedError(SourceUnavailableError):
    """Another run took over from this one, which may write no more; trying again is safe."""


class CheckCrashedError(KeeplineError):
    """A check could not be evaluated, which is not the same as a check that failed."""

    exit_code = 4


class GateFailedError(KeeplineError):
    """A gate said no: the release is not published and readers keep the one they have."""

    exit_code = 5


class OutOfRoomError(KeeplineError):
    """A disk or the memory is full: make room, then run again; nothing half done is left."""

    exit_code = 6


EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "unexpected error: read the message, then the log",
    2: "bad data: a person must look; running again gives the same answer",
    3: "a source or the store could not be reached: run again (Airflow does)",
    4: "a check crashed: it says nothing about the data",
    5: "a gate failed: nothing was published, readers keep the last release",
    6: "a disk or the memory is full: make room, then run again",
    64: "the command or a setting is wrong: see --help",
}
