"""Many of what a small demo has few of: partitions of landing, releases with their parts, calls on hubs.

    python -m bench.many                                      300 lines: a minute or two
    python -m bench.many --partitions 10000 --releases 1000 --parts 2000

Everything is simulated on one small operator: the same stage before and after, in turns where it can be.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, timedelta

import duckdb

from keepline import store

from .alone import Run
from .business_day import Operator, simulate, trained_models
from .row import Row, print_rows, workplace

LINES = 300
DAYS = 30
# Ten times as many may cost so much more, not ten times.
AIM = 1.2
HUBS = 50
HUB_SHARE = 10
"""One call in so many is on a hub."""
FIRST_FAKE = date(1990, 1, 1)


def measure(partitions: int, releases: int, parts: int, rounds: int) -> list[Row]:
    """Measure all three.

    Args:
        partitions: of landing, all tables together.
        releases: whose lists of parts are kept.
        parts: of each of them.
        rounds: repetitions of each stage.
    """
    with workplace("many") as (folder, server):
        models = trained_models(folder / "trained", server)
        operator = simulate(folder / "many", server, LINES, DAYS, 2 * rounds + 2)
        operator.bring_history(models)
        return [
            *partitions_of_landing(operator, partitions, rounds),
            *lists_of_releases(operator, releases, parts, rounds),
            *calls_on_hubs(operator, rounds),
        ]


# -- landing ---------------------------------------------------------------------------------------


def partitions_of_landing(operator: Operator, partitions: int, rounds: int) -> list[Row]:
    """Extract and load a day and ask for the status, before and after landing has so many partitions."""
    stages = ("extract", "load", "status")
    operator.run_day(0)
    few = _partitions(operator)
    before = _stages(operator, stages, range(1, rounds + 1))
    _fill_landing(operator, partitions)
    after = _stages(operator, stages, range(rounds + 1, 2 * rounds + 1))
    return [
        _row(
            f"landing: {verb}",
            f"{partitions:,} partitions",
            f"{few:,} partitions",
            before[verb],
            after[verb],
        )
        for verb in stages
    ]


def _partitions(operator: Operator) -> int:
    return sum(1 for _ in operator.settings.landing_dir.glob("*/load_date=*"))


def _fill_landing(operator: Operator, partitions: int) -> None:
    """Copy days of landing to days long before, and register a file for each."""
    landing = operator.settings.landing_dir
    tables = sorted(path for path in landing.iterdir() if any(path.glob("load_date=*")))
    each = (partitions - _partitions(operator)) // len(tables)
    with store.connect(operator.settings, autocommit=True) as connection:
        for table in tables:
            sample = next(table.glob("load_date=*"))
            for number in range(each):
                shutil.copytree(sample, table / f"load_date={FIRST_FAKE + timedelta(days=number)}")
            connection.execute(
                "insert into ops.source_file"
                " (table_name, load_date, file_set, name, sha256, bytes, rows, ticket)"
                " select %s, %s::date + n, 'drops', n::text, md5(n::text) || md5(%s || n), 1, 1, ''"
                " from generate_series(0, %s) as n",
                [table.name, FIRST_FAKE, table.name, each - 1],
            )


# -- releases --------------------------------------------------------------------------------------


def lists_of_releases(operator: Operator, releases: int, parts: int, rounds: int) -> list[Row]:
    """Stage, audit, publish, clean up and read, before and after that many lists are kept."""
    keeping = replace(
        operator,
        settings=operator.settings.model_copy(update={"releases_kept": releases + 10}),
        environment={**operator.environment, "KEEPLINE_RELEASES_KEPT": str(releases + 10)},
    )
    stages = ("stage", "audit again", "publish", "clean", "read")
    operator.run_day(0)
    # The same day once more has nothing to copy: what is measured is the lists.
    before = _stages(keeping, stages, [0] * rounds)
    _fill_releases(keeping, releases, parts)
    after = _stages(keeping, stages, [0] * rounds)
    return [
        _row(
            f"releases: {verb}",
            f"{releases:,} releases x {parts:,} parts",
            "1 release",
            before[verb],
            after[verb],
        )
        for verb in stages
    ]


def _fill_releases(operator: Operator, releases: int, parts: int) -> None:
    """Give the current release more parts, days of long before, and list them under many releases."""
    with store.connect(operator.settings, autocommit=True) as connection:
        connection.execute(
            "insert into ctl.part (table_name, period, leaf, rows, content, shape, is_audited)"
            " select p.table_name, %s::date + n, p.leaf, 0, md5(n::text), p.shape, true"
            " from (select * from ctl.part where table_name = 'churn_risk_daily' limit 1) as p"
            " cross join generate_series(1, %s) as n",
            [FIRST_FAKE, parts],
        )
        connection.execute(
            # Older than all that there are: a later one would be in the way of publishing.
            "insert into ctl.release"
            " (release_id, status, from_date, to_date, code_version, published_at)"
            " overriding system value"
            " select -n, 'published', %s::date + n, %s::date + n + 1, 'bench', now()"
            " from generate_series(1, %s) as n",
            [FIRST_FAKE, FIRST_FAKE, releases],
        )
        connection.execute(
            "insert into ctl.release_part (release_id, table_name, period, part_id)"
            " select r.release_id, p.table_name, p.period, p.part_id"
            " from ctl.release as r cross join ctl.part as p"
            " where p.content = md5((p.period - %s::date)::text) and (r.code_version = 'bench'"
            " or r.release_id = (select release_id from ctl.current_release))",
            [FIRST_FAKE],
        )
        connection.execute("analyze ctl.part, ctl.release, ctl.release_part")


# -- hubs ------------------------------------------------------------------------------------------


def calls_on_hubs(operator: Operator, rounds: int) -> list[Row]:
    """Build core and features from nothing, as the calls are and with a tenth of them on a few numbers."""
    path = operator.settings.compute_path
    plain, hubs = path.with_name("plain.duckdb"), path.with_name("hubs.duckdb")
    shutil.copy(path, plain)
    shutil.copy(path, hubs)
    with duckdb.connect(str(hubs)) as connection:
        for table in ("cdr_voice", "cdr_sms"):
            connection.execute(
                f"update raw.{table} set other_number_hash = sha256((hash(usage_id) // {HUB_SHARE}"
                f" % {HUBS})::varchar) where hash(usage_id) % {HUB_SHARE} = 0"
            )
    runs: dict[str, dict[str, list[Run]]] = {}
    for number in range(rounds):
        for kind, file in [("plain", plain), ("hubs", hubs)][:: 1 if number % 2 else -1]:
            shutil.copy(file, path)
            for verb in ("rebuild core", "build features"):
                run = operator.run(verb, operator.day(0))
                runs.setdefault(verb, {}).setdefault(kind, []).append(run)
    return [
        _row(
            f"hubs: {verb}",
            f"1 of {HUB_SHARE} calls on {HUBS} numbers",
            "no hubs",
            found["plain"],
            found["hubs"],
        )
        for verb, found in runs.items()
    ]


# -- what they share -------------------------------------------------------------------------------


def _stages(operator: Operator, verbs: Sequence[str], days: Iterable[int]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {verb: [] for verb in verbs}
    for number in days:
        for verb in verbs:
            found[verb].append(operator.run(verb, operator.day(number)))
    return found


def _row(name: str, size: str, against: str, before: list[Run], after: list[Run]) -> Row:
    usual, many = (statistics.median(run.seconds for run in runs) for runs in (before, after))
    return Row(
        name=name,
        size=size,
        measured="keepline",
        against=against,
        ratio=many / usual,
        aim=AIM,
        peak_mb=max(run.peak_mb for run in after),
        seconds=many,
        note=f"{usual:.2f} s and {max(run.peak_mb for run in before):,.0f} MB with {against}",
    )


if __name__ == "__main__":
    print_rows(__doc__, measure, partitions=2000, releases=100, parts=500)
