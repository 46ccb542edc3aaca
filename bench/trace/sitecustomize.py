"""Notes of a Python process what it imports for how long and what it starts; see bench/overhead.py.

Python runs this by itself when the folder is on PYTHONPATH. Without BENCH_TRACE_DIR it does nothing.
"""

import atexit
import builtins
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

# Each import counts for the tool whose import led to it.
TOOLS = (
    "airflow",
    "dbt",
    "great_expectations",
    "lightgbm",
    "sklearn",
    "pandas",
    "pyarrow",
    "duckdb",
)


def _age_s() -> float:
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _watch(folder: str) -> None:
    began = time.time() - _age_s()
    seconds = dict.fromkeys(TOOLS, 0.0)
    started = []
    owners = []
    plain = builtins.__import__

    def timed(name: str, *how: Any, **named: Any) -> Any:  # noqa: ANN401
        tool = name.partition(".")[0]
        if tool not in seconds or name in sys.modules or owners:
            return plain(name, *how, **named)
        owners.append(tool)
        since = time.perf_counter()
        try:
            return plain(name, *how, **named)
        finally:
            owners.pop()
            seconds[tool] += time.perf_counter() - since

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            started.append(Path(str(arguments[0])).name)
        elif event in ("os.fork", "os.forkpty"):
            started.append("fork of " + Path(sys.argv[0]).name)

    def tell() -> None:
        said = {
            "argv": sys.argv,
            "began": began,
            "ended": time.time(),
            "imports": seconds,
            "started": started,
        }
        Path(folder, str(os.getpid()) + ".json").write_text(json.dumps(said))

    builtins.__import__ = timed
    sys.addaudithook(hear)
    # Now, too: a process that is killed says nothing at its end.
    atexit.register(tell)
    sys.argv = getattr(sys, "argv", [""])
    tell()


if os.environ.get("BENCH_TRACE_DIR"):
    _watch(os.environ["BENCH_TRACE_DIR"])
