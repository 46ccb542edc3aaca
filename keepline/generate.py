"""What follows from the contract and from the models' YAML, written into files: `keepline generate`.

A source table is declared once, in its contract. Its staging model is written from there, and so are the
lists that the models read (which tables feed facts, what refers to what), the contract's lock and the
data dictionary. What a mart needs is said in the YAML beside it, and its seed is written from there. The
files are committed, so that dbt and people read plain text; a test compares them with what would be
written now, and so refuses one that was changed by hand.
"""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from keepline import contract_lock
from keepline.contract import EARLY_FACT, LOAD_DATE, SEEDS, Column, Contract, Table, load_contract
from keepline.dictionary import dictionary
from keepline.errors import UsageError

MADE_BY = "Written by `keepline generate`"
WIDTH, ENTRY_WIDTH = 97, 90
Literal = Any


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
        dbt_dir / "macros" / "core" / "contract_tables.sql": _contract_tables(contract),
        dbt_dir / "seeds" / "mart_need.csv": _mart_needs(dbt_dir, contract),
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


# -- lists ---------------------------------------------------------------------------------------

CONTRACT_TABLES = """\
{{# {made_by} from the contracts: do not edit. #}}


{{# The tables whose arrival is told by `mart_coverage`: system, contract table, staging model. #}}
{covered}


{{#
    The tables whose rows become rows of a fact: contract table, staging model, and the
    columns that say that two rows tell of the same thing.
#}}
{repeatable}


{{#
    The columns of contract tables that name something which a master or a reference table
    has to know: contract table, staging model, and (column, reference).
#}}
{naming}


{{# Who knows what: reference, model, its column, and whether the model is a dated feed. #}}
{knowing}


{{# The references whose unknown values are noted as EARLY_FACT: the master may yet arrive. #}}
{early}


{{# The masters that key lists are of: contract table, staging model, and its key. #}}
{listed}
"""


def _contract_tables(contract: Contract) -> str:
    """Return macros with the lists that the models read."""
    tables = list(contract.values())
    named = [column.references for table in tables for column in table.columns if column.references]
    references = sorted(set(named), key=str)
    masters = [contract[name] for name in contract.listed_masters]
    naming = [
        (table, [column for column in table.columns if column.references]) for table in tables
    ]
    return CONTRACT_TABLES.format(
        made_by=MADE_BY,
        covered=_macro(
            "covered_tables",
            [(t.system, t.name, t.staging_model) for t in tables if t.is_covered],
        ),
        repeatable=_macro(
            "repeatable_tables",
            [
                (t.name, t.staging_model, list(t.key))
                for t in tables
                if t.feeds is not None and t.feeds.is_fact
            ],
        ),
        naming=_macro(
            "naming_columns",
            [
                (t.name, t.staging_model, [(c.name, str(c.references)) for c in columns])
                for t, columns in naming
                if columns
            ],
        ),
        knowing=_macro(
            "knowing_models",
            [(str(r), r.model, r.column, r.system != SEEDS) for r in references],
        ),
        early=_macro(
            "early_fact_references",
            [
                str(r)
                for r in references
                if r.system != SEEDS and contract[r.table].when_unknown == EARLY_FACT
            ],
        ),
        listed=_macro(
            "listed_masters", [(t.name, t.staging_model, t.identity[0]) for t in masters]
        ),
    )


def _macro(name: str, entries: Iterable[Literal]) -> str:
    lines = "".join(f"        {line}\n" for entry in entries for line in _entry(entry))
    return f"{{% macro {name}() -%}}\n    {{{{ return([\n{lines}    ]) }}}}\n{{%- endmacro %}}"


def _entry(entry: Literal) -> Iterator[str]:
    """Return an entry of a list in Jinja, on one line or, when it is long, with a line for each pair."""
    whole = f"{_literal(entry)},"
    if len(whole) <= ENTRY_WIDTH or isinstance(entry, str):
        yield whole
        return
    *first, pairs = entry
    yield f"({', '.join(map(_literal, first))}, ["
    yield from (f"    {_literal(pair)}," for pair in pairs)
    yield "]),"


def _literal(value: Literal) -> str:
    """Return a value as Jinja writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}'"
    inner = ", ".join(_literal(one) for one in value)
    return f"[{inner}]" if isinstance(value, list) else f"({inner})"


# -- what marts need -----------------------------------------------------------------------------

NEED_COLUMNS = ("mart_name", "source_system", "contract_table", "is_required", "without_it")
REQUIRED, USEFUL = "required", "useful"
HOW_TO_NEED = (
    "write `<system>.<table>: {required: <sentence>}` or `{useful: <sentence>}`, which says what the "
    "mart cannot tell without it"
)


def _mart_needs(dbt_dir: Path, contract: Contract) -> str:
    """Return which contract tables each published mart reads, as CSV, from the YAML beside the models.

    Raises:
        UsageError: a published mart does not say it, or names a table that no contract has.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(NEED_COLUMNS)
    for path in sorted((dbt_dir / "models" / "marts").rglob("*__models.yml")):
        for model in yaml.safe_load(path.read_text(encoding="utf-8"))["models"]:
            meta = (model.get("config") or {}).get("meta") or {}
            # The mart that tells of the others rests on whatever arrives.
            if "publish" not in meta or model["name"] == "mart_coverage":
                continue
            where = f"{path.relative_to(dbt_dir)}, {model['name']}: meta.needs"
            needs = meta.get("needs") or {}
            if not needs:
                raise UsageError(f"{where} is not there: {HOW_TO_NEED}")
            for name, need in needs.items():
                system, _, table = name.partition(".")
                if table not in contract or contract[table].system != system:
                    raise UsageError(f"{where} names {name}, and no contract has that table")
                if not isinstance(need, dict) or {*need} not in ({REQUIRED}, {USEFUL}):
                    raise UsageError(f"{where}, {name}: {HOW_TO_NEED}")
                [(kind, without_it)] = need.items()
                is_required = str(kind == REQUIRED).lower()
                writer.writerow([model["name"], system, table, is_required, without_it])
    return text.getvalue()
