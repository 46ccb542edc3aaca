"""What follows from the contract and from the models' YAML, written into files: `keepline generate`.

A source table is declared once, in its contract. Its staging model is written from there, and so are the
contract's lock and the data dictionary. The files are committed, so that dbt and people read plain text;
a test compares them with what would be written now, and so refuses one that was changed by hand.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from keepline import contract_lock
from keepline.contract import LOAD_DATE, Column, Contract, Table, load_contract
from keepline.dictionary import dictionary

MADE_BY = "Written by `keepline generate`"
WIDTH = 97


def rendered(project_dir: Path, raised: Collection[str] = ()) -> dict[Path, str]:
    """Return every generated file of a project with the text that it should have.

    Args:
        project_dir: folder that holds `dbt_project` and `docs`.
        raised: tables whose contract gets a new version.

    Raises:
        UsageError: the contract cannot be read, or breaks a promise without a new version.
    """
    dbt_dir = project_dir / "dbt_project"
    contract = load_contract(dbt_dir)
    lock = dbt_dir / contract_lock.LOCK
    locked = lock.read_text(encoding="utf-8") if lock.exists() else ""
    return {
        **_staging(dbt_dir, contract),
        lock: contract_lock.renewed(contract, locked, raised),
        project_dir / "docs" / "dictionary.md": dictionary(dbt_dir),
    }


def differences(project_dir: Path, files: dict[Path, str]) -> dict[Path, str]:
    """Return what is wrong with each generated file that is not as it should be.

    Args:
        project_dir: see `rendered`.
        files: see `rendered`.
    """
    wrong = {}
    for path, text in files.items():
        if not path.exists():
            wrong[path] = "is missing"
        elif path.read_bytes() != text.encode():
            wrong[path] = "was changed by hand, or what it is written from has changed"
    for path in _generated_before(project_dir):
        if path not in files:
            wrong[path] = "belongs to no contract any more"
    return wrong


def write(project_dir: Path, raised: Collection[str] = ()) -> list[str]:
    """Write what is not as it should be, and return a sentence for each such file.

    Args:
        project_dir: see `rendered`.
        raised: see `rendered`.
    """
    files = rendered(project_dir, raised)
    said = []
    for path in differences(project_dir, files):
        name = path.relative_to(project_dir)
        if path in files:
            path.write_bytes(files[path].encode())
            said.append(f"wrote {name}")
        else:
            path.unlink()
            said.append(f"removed {name}")
    return said


# -- staging -------------------------------------------------------------------------------------


def _staging(dbt_dir: Path, contract: Contract) -> dict[Path, str]:
    """Return the staging models and their YAML."""
    files = {}
    for system, tables in groupby(contract.values(), key=lambda table: table.system):
        folder, of_system = dbt_dir / "models" / "staging" / system, list(tables)
        for table in of_system:
            files[folder / f"{table.staging_model}.sql"] = _model_sql(table)
        files[folder / f"_{system}__models.yml"] = _models_yaml(of_system)
    return files


def _generated_before(project_dir: Path) -> Iterator[Path]:
    """Find the staging files that say that they were generated."""
    staging = project_dir / "dbt_project" / "models" / "staging"
    for pattern in ("*/stg_*.sql", "*/_*__models.yml"):
        for path in sorted(staging.glob(pattern)):
            if MADE_BY.encode() in path.read_bytes().partition(b"\n")[0]:
                yield path


MODEL_SQL = """\
-- {made_by} from {table}.yml: do not edit.
{about}

with

source as (

    select * from {{{{ source('{system}', '{table}') }}}}

)

select
{columns}
    {load_date}

from source
"""


def _model_sql(table: Table) -> str:
    return MODEL_SQL.format(
        made_by=MADE_BY,
        table=table.name,
        system=table.system,
        about="\n".join(f"-- {line}" for line in textwrap.wrap(table.description, WIDTH)),
        columns="\n".join(f"    {_selected(column)}," for column in table.landed_columns),
        load_date=LOAD_DATE,
    )


def _selected(column: Column) -> str:
    if column.is_money:
        return f"{{{{ to_fen('{column.name}') }}}} as {column.staged_name}"
    return column.name


def _models_yaml(tables: Iterable[Table]) -> str:
    models = "\n".join(_model_yaml(table) for table in tables)
    return (
        f"# {MADE_BY} from the contracts beside it: do not edit.\nversion: 2\n\nmodels:\n{models}"
    )


def _model_yaml(table: Table) -> str:
    has_money = any(column.is_money for column in table.landed_columns)
    units = "Money in fen, times in UTC." if has_money else "Times in UTC."
    said = {
        column.staged_name: column.description.replace("yuan", "fen")
        for column in table.landed_columns
    }
    said["event_date"] = "Local business day on which it happened."
    said[LOAD_DATE] = "Local business day in whose batch the row became known."
    columns = "".join(
        f"      - name: {name}\n        description: {_quoted(text)}\n"
        for name, text in said.items()
    )
    about = _quoted(f"{table.description} {units}")
    return f"  - name: {table.staging_model}\n    description: {about}\n    columns:\n{columns}"


def _quoted(text: str) -> str:
    """Return a text as YAML writes it between double quotes, which is as JSON does."""
    return json.dumps(text, ensure_ascii=False)
