"""The compute engines that a test body runs on, each with a place of its own."""

from __future__ import annotations

import importlib.util
import shutil
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from dbt.cli.main import dbtRunner
from psycopg import conninfo, sql

from keepline.compute import compute_for, spark_session
from keepline.embedded import EmbeddedPostgres
from keepline.settings import Settings

# Another engine is one more name, with its marker if it needs one.
ENGINES = ["duckdb", "postgres"]
ON_SPARK = [
    pytest.mark.spark,
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
        reason="Spark needs PySpark and Java: make setup-spark",
    ),
]

# Settings of an engine, for `Settings(home=..., **engine)`.
Engine = dict[str, Any]


def engine_of(name: str, server: Callable[[], EmbeddedPostgres]) -> Engine:
    """Return the settings of an engine; the server is asked for only where it is needed."""
    if name == "postgres":
        return {"compute": name, "compute_dsn": server().dsn(f"compute_{uuid.uuid4().hex[:12]}")}
    return {"compute": name}


def forget(settings: Settings) -> None:
    """Drop all that compute holds; landing stays."""
    if settings.compute == "duckdb":
        settings.compute_path.unlink(missing_ok=True)
    elif settings.compute == "spark":
        # A session keeps its scratch files there.
        spark_session.stop()
        shutil.rmtree(compute_for(settings).place)
    else:
        _run(settings, "drop database if exists {own} with (force)")


def save(settings: Settings) -> None:
    """Keep a copy of all that compute holds, one per settings."""
    if settings.compute == "duckdb":
        shutil.copy(settings.compute_path, settings.compute_path.with_suffix(".kept"))
    else:
        _run(settings, "drop database if exists {kept} with (force)")
        _run(settings, "create database {kept} template {own}")


def restore(settings: Settings) -> None:
    """Go back to the copy."""
    if settings.compute == "duckdb":
        shutil.copy(settings.compute_path.with_suffix(".kept"), settings.compute_path)
    else:
        _run(settings, "drop database if exists {own} with (force)")
        _run(settings, "create database {own} template {kept}")


def _run(settings: Settings, statement: str) -> None:
    dsn = settings.compute_dsn.get_secret_value()
    own = str(conninfo.conninfo_to_dict(dsn)["dbname"])
    names = {"own": sql.Identifier(own), "kept": sql.Identifier(f"{own}_kept")}
    with psycopg.connect(conninfo.make_conninfo(dsn, dbname="postgres"), autocommit=True) as server:
        server.execute(sql.SQL(statement).format(**names))


def run_unit_tests(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, *layers: str
) -> tuple[int, list[str]]:
    """Run dbt's unit tests of some layers; returns how many passed and what the others said."""
    compute = compute_for(settings)
    monkeypatch.setenv("KEEPLINE_HOME", str(settings.home))
    for name, value in compute.dbt_environment().items():
        monkeypatch.setenv(name, value)
    parsed = str(settings.home / "dbt_target" / settings.operator)
    options = {
        "--project-dir": str(settings.dbt_dir),
        "--profiles-dir": str(settings.dbt_dir),
        "--target": settings.compute,
        "--target-path": parsed,
        "--log-path": parsed,
    }
    command = ["test", "--quiet", *(word for option in options.items() for word in option)]
    for layer in layers:
        command += ["--select", f"test_type:unit,path:models/{layer}"]
    done = dbtRunner().invoke(command)
    compute.release()
    if done.exception is not None:
        raise done.exception
    said = [f"{r.node.name}: {r.message}" for r in done.result if r.status != "pass"]
    return len(done.result) - len(said), said
