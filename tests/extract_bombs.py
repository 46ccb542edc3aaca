"""Extracts in a process of its own that may not take more memory than it was given.

Called as `python extract_bombs.py <room in MiB> <first day> <days>`, with the settings as JSON on its input;
says as JSON which codes held what, and which days landed.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import date, timedelta
from pathlib import Path

import duckdb

from keepline import room
from keepline.extract import IncompleteError, extract_window
from keepline.settings import Settings
from keepline.window import Window


def main() -> None:
    more, first, days = int(sys.argv[1]) << 20, date.fromisoformat(sys.argv[2]), int(sys.argv[3])
    told = json.load(sys.stdin)
    operator_file = Path(told.pop("operator_file"))
    Settings.operator_file = property(lambda _: operator_file)  # type: ignore[assignment,method-assign]
    settings = Settings(**told)
    with duckdb.connect(config={"threads": 2}) as warm:
        warm.execute("select sum(range) from range(100000)").fetchall()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    codes = []
    try:
        extract_window(settings, Window(first, first + timedelta(days)))
    except IncompleteError as error:
        codes = [[finding.code, str(finding.load_date)] for finding in error.findings]
    landed = sorted(
        path.parent.name[-10:] for path in settings.landing_dir.glob("*/*/part-0.parquet")
    )
    print(json.dumps({"codes": codes, "landed": landed}))  # noqa: T201
    room.leave(0)


if __name__ == "__main__":
    main()
