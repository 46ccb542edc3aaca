"""The zone of the machine and the versions of dbt: the same marts, or a refusal to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import psycopg
import pytest
import yaml
from pydantic import SecretStr

from keepline import build
from keepline.compute import compute_for
from keepline.errors import UsageError
from keepline.settings import PROJECT_DIR

# In a process of its own, whose zone is set before anything is imported.
BUILD = """
import sys
from datetime import date
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from warehouse import Warehouse
from warehouse_rows import AS_OF, small_operator
warehouse = Warehouse(Path(sys.argv[2]))
warehouse.add_all(small_operator())
for layer in ("core", "features", "marts"):
    warehouse.build(
        layer, date(2026, 3, 1), AS_OF, as_of_dates=[str(AS_OF)], known_on=str(AS_OF)
    )
"""


def built(home: Path, zone: str) -> dict[str, list[tuple]]:
    """Return every table that a machine of that zone builds."""
    environment = {**os.environ, "TZ": zone, "PGTZ": zone}
    command = [sys.executable, "-c", BUILD, str(PROJECT_DIR / "tests"), str(home)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    with duckdb.connect(str(home / "demo" / "compute.duckdb"), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        return {
            name: connection.execute(f"select * from {name} order by all").fetchall()
            for (name,) in connection.execute(
                "select schema_name || '.' || table_name from duckdb_tables()"
                " where schema_name in ('core', 'features', 'marts')"
            ).fetchall()
        }


@pytest.mark.deep
@pytest.mark.case(95)
def test_the_zone_of_the_machine_changes_no_mart(tmp_path, tally):
    tables = built(tmp_path / "utc", "UTC")

    for zone in ("Asia/Shanghai", "America/St_Johns"):
        same = built(tmp_path / zone.split("/")[1], zone) == tables
        tally("faults", int(same), 1)
        assert same
    assert len(tables["core.fct_usage_daily"]) > 0
    assert sum(name.startswith("marts.") for name in tables) > 3


@pytest.mark.case(95)
def test_sessions_of_duckdb_are_in_utc_wherever_they_run():
    profiles = yaml.safe_load((PROJECT_DIR / "dbt_project" / "profiles.yml").read_text())

    assert profiles["keepline"]["outputs"]["duckdb"]["settings"]["TimeZone"] == "UTC"


@pytest.mark.case(95)
def test_sessions_of_postgres_are_in_utc_wherever_they_run(settings, postgres):
    there = settings.model_copy(
        update={"compute": "postgres", "compute_dsn": SecretStr(postgres.dsn("postgres"))}
    )

    told = compute_for(there).dbt_environment()["PGOPTIONS"]

    with psycopg.connect(postgres.dsn("postgres"), options=told) as connection:
        assert connection.execute("show timezone").fetchone() == ("UTC",)


@pytest.mark.case(95)
@pytest.mark.parametrize("name", build.LOCKED)
def test_another_version_than_the_locked_one_is_refused_before_anything_is_built(
    settings, monkeypatch, name
):
    own = build.version
    monkeypatch.setattr(build, "version", lambda asked: "9.9.9" if asked == name else own(asked))

    with pytest.raises(UsageError, match=rf"{name} 9\.9\.9 is installed") as told:
        build.parse(settings)

    assert told.value.exit_code == 64
    assert not settings.compute_path.exists()
