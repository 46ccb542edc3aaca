"""Forks keepline commands from a process that has imported everything and holds nothing.

Each command is a real process: it opens its own files and connections, and SIGKILL ends it like any
other. Only the imports, and dbt's reading of the project, are not done anew each time: 8 s of CPU.

Reads one order per line from standard input and answers with one line; see `fault_forks.Forks`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path


def main() -> None:
    # A pool of threads would not live in the forks.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    import duckdb
    import great_expectations
    import lightgbm
    from dbt.adapters import duckdb as _dbt_duckdb
    from dbt.cli.main import dbtRunner

    from expectations import runner
    from keepline import build, release
    from keepline.settings import Settings
    from models_ml.churn import batch

    imported = (
        duckdb,
        great_expectations,
        lightgbm,
        _dbt_duckdb,
        dbtRunner,
        runner,
        release,
        batch,
    )
    assert all(imported)
    build.parse(Settings.load())
    # Whatever the target folder, as of a rebuild: reading the project starts threads, which forks cannot.
    build._manifests = _Parsed(build._manifests)
    gc.freeze()
    _answer({"ready": os.getpid()})
    for line in sys.stdin:
        order = json.loads(line)
        _answer(_start(order) if order["do"] == "start" else _wait(order))


class _Parsed(dict):
    """The one project that was read, by any key."""

    def __contains__(self, _key: object) -> bool:
        return True

    def __missing__(self, _key: object) -> object:
        return next(iter(self.values()))


def _answer(answer: dict) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _start(order: dict) -> dict:
    pid = os.fork()
    if pid == 0:
        _become(order)
    return {"pid": pid}


def _wait(order: dict) -> dict:
    """Wait for a fork; one that does not end is killed and said to be hanging."""
    deadline = time.monotonic() + order["seconds"]
    hangs = False
    while True:
        pid, status, used = os.wait4(order["pid"], os.WNOHANG)
        if pid:
            break
        if not hangs and time.monotonic() > deadline:
            hangs = True
            os.kill(order["pid"], signal.SIGKILL)
        time.sleep(0.005)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "hangs": hangs,
        "cpu_s": used.ru_utime + used.ru_stime,
    }


def _become(order: dict) -> None:
    """Be the command, to the end; never returns."""
    code = 1
    try:
        os.environ.clear()
        os.environ.update(order["environment"])
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for ours, theirs in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(ours, theirs)
        sys.argv = ["keepline", *order["words"]]
        from keepline import cli, failpoint

        try:
            cli.main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
        Path(order["output"]).with_suffix(".passed").write_text(json.dumps(failpoint.passings()))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
