"""The contract as others read it: an Open Data Contract Standard file, and DDL for PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import yaml

from keepline.contract import MONEY, SEEDS, Column, Contract, Table

# Of https://bitol-io.github.io/open-data-contract-standard.
ODCS_VERSION = "v3.2.0"
LOGICAL = {
    "text": "string",
    "integer": "integer",
    "bigint": "integer",
    MONEY: "number",
    "date": "date",
    "timestamp": "timestamp",
    "boolean": "boolean",
}
# An instant that an operator delivers carries its offset; what lands is in UTC.
POSTGRES = {MONEY: "numeric(18,2)", "timestamp": "timestamp with time zone"}


def odcs(contract: Contract, locked: str) -> str:
    """Return the contract as a file of the Open Data Contract Standard, in YAML.

    Its version counts the versions that were raised of any table.

    Args:
        contract: tables of the contract.
        locked: text of the lock, which knows their versions.
    """
    lock = yaml.load(locked, Loader=yaml.CSafeLoader)
    versions = {name: int(lock.get(name, {}).get("version", 1)) for name in contract}
    document = {
        "apiVersion": ODCS_VERSION,
        "kind": "DataContract",
        "id": "keepline-source-contract",
        "name": "keepline source contract",
        "version": str(1 + sum(versions.values()) - len(versions)),
        "status": "active",
        "description": {
            "purpose": "What each table of a telecom operator must deliver to keepline."
        },
        "schema": [_object(table, versions[table.name]) for table in contract.values()],
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def ddl(contract: Contract) -> str:
    """Return DDL for PostgreSQL: a schema for each system, its tables with keys, and comments."""
    statements: list[str] = []
    for system, tables in groupby(contract.values(), key=lambda table: table.system):
        statements.append(f"create schema {_name(system)};")
        for table in tables:
            statements += _create(table)
    return "\n\n".join(statements) + "\n"


# -- Open Data Contract Standard -----------------------------------------------------------------


def _object(table: Table, version: int) -> dict[str, Any]:
    words = {
        "system": table.system,
        "version": version,
        "loadCursor": table.load_cursor,
        "eventCursor": table.event_cursor,
        "volume": table.volume,
    }
    return {
        "name": table.name,
        "physicalName": f"{table.system}.{table.name}",
        "physicalType": "table",
        "logicalType": "object",
        "description": table.description,
        "customProperties": _custom(words),
        "properties": [_property(table, column) for column in table.columns],
    }


def _property(table: Table, column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": column.name,
        "logicalType": LOGICAL[column.data_type],
        "physicalType": column.data_type,
        "description": column.description,
        "required": not column.nullable,
    }
    if column.name in table.key:
        found |= {"primaryKey": True, "primaryKeyPosition": 1 + table.key.index(column.name)}
    if column.pii:
        found |= {"classification": "restricted", "customProperties": _custom({"pii": column.pii})}
    limits = {"minimum": column.minimum, "maximum": column.maximum}
    if column.min_unless is not None:
        # The standard knows no minimum that holds for some of the rows.
        del limits["minimum"]
    if options := {name: limit for name, limit in limits.items() if limit is not None}:
        found["logicalTypeOptions"] = options
    if column.codes:
        found["enum"] = [{"value": code} for code in column.codes]
    if column.references is not None and column.references.system != SEEDS:
        target = f"{column.references.table}.{column.references.column}"
        found["relationships"] = [{"type": "foreignKey", "to": target}]
    return found


def _custom(words: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"property": name, "value": value} for name, value in words.items()]


# -- DDL -----------------------------------------------------------------------------------------


def _create(table: Table) -> Iterator[str]:
    name = f"{_name(table.system)}.{_name(table.name)}"
    lines = [
        f"    {_name(column.name)} {POSTGRES.get(column.data_type, column.data_type)}"
        + ("" if column.nullable else " not null")
        for column in table.columns
    ]
    lines.append(f"    primary key ({', '.join(map(_name, table.key))})")
    body = ",\n".join(lines)
    yield f"create table {name} (\n{body}\n);"
    comments = [f"comment on table {name} is {_text(table.description)};"]
    for column in table.columns:
        said = column.description
        if column.codes:
            said += f" One of: {', '.join(column.codes)}."
        if column.pii:
            said += f" Personal: {column.pii}."
        comments.append(f"comment on column {name}.{_name(column.name)} is {_text(said)};")
    yield "\n".join(comments)


def _name(name: str) -> str:
    quoted = name.replace('"', '""')
    return f'"{quoted}"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
