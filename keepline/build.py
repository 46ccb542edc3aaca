"""Run dbt for a window: one layer at a time, in this process, its data tests with it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepline import lease
from keepline.compute import Compute, compute_for
from keepline.errors import BadDataError, KeeplineError, UsageError
from keepline.failpoint import reach
from keepline.ops import ModelRun
from keepline.parts import landed_window, parts_that_fit
from keepline.progress import Update, err
from keepline.settings import PROJECT_DIR, Settings
from keepline.window import Window

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

# Seeds belong to the core build: a parameter that was changed counts from the next run on.
CORE_DIR = "models/core"
CORE = ("resource_type:seed", "path:models/staging", f"path:{CORE_DIR}")
# Of the models of the core one that is built after all that replace load dates.
MADE_LAST = "core.fct_subscription_month"
LAYERS: dict[str, tuple[str, ...]] = {
    "seeds": ("resource_type:seed",),
    "core": CORE,
    "features": ("path:models/features",),
    "marts": ("path:models/marts",),
    "all": (*CORE, "path:models/features", "path:models/marts"),
}
# Layers whose rows are many: they are built in parts of days.
IN_PARTS = ("core", "all")
# The engine that holds in memory what it joins and sorts; servers and clusters spill by themselves.
CUT = "duckdb"
# What `replace_window` calls the models whose load dates it replaces.
BY_LOAD_DATE = "by_load_date"
FAILED = ("error", "fail", "runtime error")
# Another version of these may build other rows from the same models.
LOCKED = ("dbt-core", "dbt-adapters", "duckdb")
ADAPTERS = {"duckdb": "dbt-duckdb", "postgres": "dbt-postgres", "spark": "dbt-spark"}
LOCK_FILES = (PROJECT_DIR / "requirements-spark.lock", PROJECT_DIR / "requirements.lock")

# Day by which an incremental model is replaced, if it is replaced by days.
DAY_COLUMNS = ("load_date", "as_of_date", "score_date")

# Parsing costs more than most builds; a process that builds several layers parses once.
# Errors whose text quotes the row.
QUOTING = ("Conversion Error", "Constraint Error", "Invalid Input", "invalid input")

_manifests: dict[tuple[Path, str, str | None], Manifest] = {}


class BuildFailedError(BadDataError):
    """A model could not be built or a data test found rows that break a rule.

    Attributes:
        results: what each model and test of the build came to, for the run book.
        columns_changed: a table has other columns than its model.
    """

    def __init__(
        self, message: str, results: list[ModelRun], *, columns_changed: bool = False
    ) -> None:
        super().__init__(message)
        self.results = results
        self.columns_changed = columns_changed


def build(
    settings: Settings,
    layer: str,
    window: Window,
    variables: Mapping[str, Any] | None = None,
    *,
    full_refresh: bool = False,
    progress: Update | None = None,
) -> list[ModelRun]:
    """Build the models of a layer for a window and run their data tests.

    Incremental models replace the window's load dates and nothing else; a model that does not exist
    yet is built from all that is loaded, and so is a whole layer in which one has other columns than
    when it was built. Running again changes nothing. A window whose rows DuckDB's
    memory does not hold is built in parts of days, with the same tables as in one.

    Args:
        settings: which engine, and where it is.
        layer: one of `LAYERS`.
        window: load dates to build.
        variables: dbt variables besides the window, such as `as_of_dates`.
        full_refresh: rebuild every model from all that is loaded, as after a change of columns.
        progress: called after each model and test.

    Returns:
        One result per model, seed and test; `rows` counts what it wrote (the window's rows, or the
        whole table where a model is rebuilt) and is None for views and tests.

    Raises:
        UsageError: there is no such layer.
        BuildFailedError: a model failed, or a data test found rows.
        SourceUnavailableError: the engine is in use by another process, or out of reach.
        KeeplineError: the dbt project itself cannot be read.
    """
    if layer not in LAYERS:
        raise UsageError(f"no layer {layer!r}: choose one of {', '.join(LAYERS)}")
    run = partial(_build_once, settings, layer, variables=variables, progress=progress)
    try:
        return _in_parts(settings, layer, window, run, full_refresh=full_refresh)
    except BuildFailedError as failed:
        if full_refresh or not failed.columns_changed:
            raise
    # A table of an older version of the project. All that it is made of is loaded.
    err.print(
        f"build     {layer}: columns changed since it was built, so that all of it is built anew"
    )
    return _in_parts(settings, layer, window, run, full_refresh=True)


def _in_parts(
    settings: Settings,
    layer: str,
    window: Window,
    run: Callable[..., list[ModelRun]],
    *,
    full_refresh: bool,
) -> list[ModelRun]:
    selected = list(LAYERS[layer])
    if layer not in IN_PARTS or settings.compute != CUT:
        return run(window, ["--select", *selected], full_refresh=full_refresh)
    whole = window
    from_nothing = full_refresh or _any_missing(settings)
    if from_nothing and (landed := landed_window(settings)) is not None:
        whole = Window(min(window.from_date, landed.from_date), max(window.to_date, landed.to_date))
    first, *others = parts_that_fit(settings, whole)
    if not others:
        return run(window, ["--select", *selected], full_refresh=full_refresh)
    if from_nothing:
        # While it is missing, a build that was killed between its parts begins anew.
        compute_for(settings).execute(f"drop table if exists {MADE_LAST}")
    # What replaces load dates goes part by part, with what it reads; what is made whole is made
    # once, when all of its facts are there.
    by_day = f"tag:{BY_LOAD_DATE},path:{CORE_DIR}"
    begun = ["--select", "resource_type:seed", "path:models/staging", f"+{by_day}"]
    results = run(first, begun, full_refresh=full_refresh, is_first=from_nothing)
    for part in others:
        results += run(part, ["--select", by_day])
    rest = ["--select", *selected, "--exclude", "resource_type:seed", by_day]
    return _together(results + run(window, rest, full_refresh=full_refresh))


def _build_once(
    settings: Settings,
    layer: str,
    window: Window,
    selection: Sequence[str],
    *,
    variables: Mapping[str, Any] | None,
    full_refresh: bool = False,
    is_first: bool = False,
    progress: Update | None = None,
) -> list[ModelRun]:
    """Run dbt once; `is_first`: a model that is built from nothing takes no day after the window."""
    manifest = _manifest(settings)
    compute = compute_for(settings)
    compute.make_tables(_written_elsewhere(manifest))
    command = [
        "build",
        *_common(settings),
        "--no-write-json",
        "--exclude-resource-type",
        "unit_test",
        # A test that also looks at a later layer waits for that layer.
        "--indirect-selection",
        "buildable",
        "--vars",
        json.dumps(
            {
                "timezone": settings.timezone,
                **(variables or {}),
                **({"built_to": window.to_date.isoformat()} if is_first else {}),
                "window_from": window.from_date.isoformat(),
                "window_to": window.to_date.isoformat(),
            }
        ),
    ]
    if full_refresh:
        command.append("--full-refresh")
    command += selection
    with lease.committing():
        compute.prepare()
        try:
            reach("build.starting")
            outcome = _invoke(settings, command, manifest, progress)
        finally:
            compute.release()
    if not outcome.results:
        # dbt gave up before the first model.
        raise _unreadable(compute, outcome.exception)
    results = _with_rows(compute, layer, window, outcome.results)
    failed = [result for result in outcome.results if str(result.status) in FAILED]
    for result in failed:
        if refused := compute.refusal(str(result.message)):
            raise refused
    if failed:
        raise BuildFailedError(
            _explain(layer, window, failed),
            results,
            columns_changed=any("out of sync" in str(result.message) for result in failed),
        )
    return results


def _any_missing(settings: Settings) -> bool:
    """Tell whether a model that replaces load dates was never built, or not to its end."""
    compute = compute_for(settings)
    if not compute.exists():
        return True
    found = {
        f"{schema}.{name}"
        for schema, name in compute.execute(
            "select table_schema, table_name from information_schema.tables"
        )
    }
    wanted = {
        f"{node.schema}.{node.name}"
        for node in _parsed(settings).nodes.values()
        if BY_LOAD_DATE in node.tags and node.original_file_path.startswith(CORE_DIR)
    }
    return not found >= wanted | {MADE_LAST}


def _together(results: Sequence[ModelRun]) -> list[ModelRun]:
    """Return one result per model and test of what was built in parts."""
    by_model: dict[str, list[ModelRun]] = {}
    for result in results:
        by_model.setdefault(result.model, []).append(result)
    return [
        replace(
            runs[-1],
            seconds=sum(run.seconds for run in runs),
            rows=None if runs[-1].rows is None else sum(run.rows or 0 for run in runs),
        )
        for runs in by_model.values()
    ]


def parse(settings: Settings) -> Path:
    """Read the dbt project and return the path of its `manifest.json`.

    Raises:
        KeeplineError: the project cannot be read; the message is dbt's.
    """
    path = _target_dir(settings) / "manifest.json"
    known = _project(settings) in _manifests
    manifest = _parsed(settings)
    if known:
        # Parsed for another home, perhaps: dbt wrote the file there.
        path.parent.mkdir(parents=True, exist_ok=True)
        manifest.write(str(path))
    return path


@dataclass(frozen=True)
class _Outcome:
    """What dbt came back with: a result per node, or the exception that stopped it before."""

    results: list[Any]
    exception: BaseException | None
    value: Any


def _parsed(settings: Settings) -> Manifest:
    """Return the parsed project, read once in a process; dbt reads again only files that changed."""
    # Asked each time: what was parsed before says nothing of what is installed.
    _check_versions(settings.compute)
    key = _project(settings)
    if key not in _manifests:
        # Without --vars: dbt parses everything again when they differ from those of the last time.
        outcome = _invoke(settings, ["parse", *_common(settings)])
        if outcome.exception is not None or outcome.value is None:
            raise _unreadable(compute_for(settings), outcome.exception)
        _manifests[key] = outcome.value
    return _manifests[key]


def _project(settings: Settings) -> tuple[Path, str, str | None]:
    """Return what a parsed project depends on: its folder, the engine, the database that names its tables.

    Not the home: a rebuild beside the tables that are there need not parse again.
    """
    database = compute_for(settings).dbt_environment().get("PGDATABASE")
    return settings.dbt_dir, settings.compute, database


def _manifest(settings: Settings) -> Manifest:
    """Return the parsed project, to be run.

    A copy: dbt writes into the manifest that it runs, and would build ephemeral models with the
    variables of the run before.
    """
    return _parsed(settings).deepcopy()


def _invoke(
    settings: Settings,
    command: list[str],
    manifest: Manifest | None = None,
    progress: Update | None = None,
) -> _Outcome:
    _check_versions(settings.compute)
    from dbt.cli.main import dbtRunner  # seconds to import, so only when dbt runs

    callbacks = [_follow(progress)] if progress else []
    with _profile_environment(settings):
        done = dbtRunner(manifest=manifest, callbacks=callbacks).invoke(command)
    return _Outcome(list(getattr(done.result, "results", ())), done.exception, done.result)


def _check_versions(engine: str) -> None:
    """Refuse to build with other versions than the locked ones.

    Raises:
        UsageError: another one is installed.
    """
    lock = "".join(path.read_text(encoding="utf-8") for path in LOCK_FILES)
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    for name in (*LOCKED, ADAPTERS[engine]):
        if version(name) != locked[name]:
            raise UsageError(
                f"{name} {version(name)} is installed, and this project is built with {locked[name]}: "
                "another version may give other marts. `make setup` installs what the locks say"
            )


def _follow(progress: Update) -> Callable[[Any], None]:
    """Return a dbt callback that reports each finished node."""

    def follow(event: Any) -> None:  # noqa: ANN401 - a protobuf message without types
        if event.info.name in ("LogModelResult", "LogTestResult", "LogSeedResult"):
            data = event.data
            total = data.num_models if event.info.name == "LogTestResult" else data.total
            progress(data.node_info.node_name, data.index, total)
            reach("build.node")

    return follow


def _target_dir(settings: Settings) -> Path:
    # Per operator: dbt parses everything again when the profile's path has changed.
    return settings.home / "dbt_target" / settings.operator


def _common(settings: Settings) -> list[str]:
    return [
        "--project-dir",
        str(settings.dbt_dir),
        "--profiles-dir",
        str(settings.dbt_dir),
        "--target",
        settings.compute,
        "--target-path",
        str(_target_dir(settings)),
        "--log-path",
        str(_target_dir(settings) / "logs"),
        "--log-level",
        "none",
        "--log-level-file",
        "info",
        "--no-use-colors",
        "--no-version-check",
        "--no-send-anonymous-usage-stats",
    ]


@contextmanager
def _profile_environment(settings: Settings) -> Iterator[None]:
    """Let profiles.yml see the settings, which need not have come from the environment."""
    settings.operator_home.mkdir(parents=True, exist_ok=True)
    wanted = {
        "KEEPLINE_HOME": str(settings.home),
        "KEEPLINE_OPERATOR": settings.operator,
        "KEEPLINE_COMPUTE_MEMORY_LIMIT": settings.compute_memory_limit,
        "KEEPLINE_COMPUTE_THREADS": str(settings.compute_threads),
        **compute_for(settings).dbt_environment(),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _written_elsewhere(manifest: Manifest) -> dict[str, dict[str, str]]:
    """Return columns by table of the sources that keepline itself writes, such as the scores.

    `raw` is made when it is loaded; what a model stage writes may not have been written yet.
    """
    return {
        f"{source.schema}.{source.name}": {
            column.name: str(column.data_type) for column in source.columns.values()
        }
        for source in manifest.sources.values()
        if source.schema != "raw"
    }


def _with_rows(compute: Compute, layer: str, window: Window, results: list[Any]) -> list[ModelRun]:
    """Count what each model wrote: the window's rows where it replaces days, else the whole table."""
    counted = []
    for result in results:
        node = result.node
        if str(result.status) != "success" or node.config.materialized == "view":
            continue
        day = next((column for column in DAY_COLUMNS if column in node.columns), None)
        only = ""
        if node.config.materialized == "incremental" and day is not None:
            only = f" where {day} >= date '{window.from_date}' and {day} < date '{window.to_date}'"
        counted.append(f"select '{node.name}', count(*) from {node.schema}.{node.name}{only}")  # noqa: S608
    counts = dict(compute.execute(" union all ".join(counted))) if counted else {}
    return [
        ModelRun(
            model=result.node.name,
            layer=layer,
            seconds=result.execution_time,
            status=str(result.status),
            rows=counts.get(result.node.name),
        )
        for result in results
    ]


def _explain(layer: str, window: Window, failed: list[Any]) -> str:
    lines = [f"layer {layer} of {window}: {len(failed)} of its models and tests failed"]
    for result in failed[:5]:
        message = _without_values(" ".join(str(result.message).split()))
        kind = str(result.node.resource_type)
        where = result.node.original_file_path
        lines.append(f"  {kind} {result.node.name} ({where}): {message[:500]}")
    if len(failed) > 5:
        lines.append(f"  and {len(failed) - 5} more")
    return "\n".join(lines)


def _without_values(message: str) -> str:
    """Take the values out of a database's words."""
    # PostgreSQL's own place for them.
    message = re.sub(r"\b(DETAIL|CONTEXT):.*", "", message)
    if any(kind in message for kind in QUOTING):
        message = re.sub(r"'[^']*'|\"[^\"]*\"", "<value>", message)
    return re.sub(r"\d{7,}", "<digits>", message)


def _unreadable(compute: Compute, exception: BaseException | None) -> KeeplineError:
    reason = str(exception).strip() if exception else "it selected nothing"
    return compute.refusal(reason) or KeeplineError(f"dbt stopped before the first model: {reason}")
