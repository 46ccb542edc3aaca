"""What others rely on in the contract, kept in a file with a version per table: a change is a decision.

    keepline generate                    writes dbt_project/contract.lock.yml
    keepline generate --raise bill       ... and raises the version of the table `bill`

A column that is new and nullable breaks nobody; everything else needs a new version, so that those who
deliver the table and those who read it can be told. A test compares the file with the contract.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from keepline.contract import Contract, Table
from keepline.errors import UsageError

LOCK = "contract.lock.yml"
HEAD = "# Written by `keepline generate`: what others rely on, and its versions.\n"


def breaches(contract: Contract, locked: str) -> list[str]:
    """Return a sentence for every breaking change against the lock.

    Args:
        contract: as it is now.
        locked: text of the lock file.
    """
    before = yaml.safe_load(locked) or {}
    return [
        f"table {name}: {change}. Raise its version, tell who delivers and who reads it, and commit the "
        f"lock: keepline generate --raise {name}"
        for name in before
        for change in _broken(before[name], contract.tables.get(name))
    ]


def written(contract: Contract, locked: str, raised: Collection[str] = ()) -> str:
    """Return the lock's new text.

    Args:
        contract: as it is now.
        locked: text of the lock file, or nothing.
        raised: tables that get a new version.
    """
    before = yaml.safe_load(locked) or {}
    tables = {}
    for name, table in contract.items():
        version = before.get(name, {}).get("version", 1) + (name in raised)
        tables[name] = {"version": version, **_promise(table)}
    return HEAD + yaml.safe_dump(tables, sort_keys=False, allow_unicode=True, width=120)


def renewed(contract: Contract, locked: str, raised: Collection[str] = ()) -> str:
    """Return the lock's new text, unless a table breaks a promise without a new version.

    Args:
        contract: as it is now.
        locked: text of the lock file, or nothing.
        raised: tables that get a new version; one that is gone leaves the lock.

    Raises:
        UsageError: a promise is broken, or a table to raise is not known.
    """
    before = yaml.safe_load(locked) or {}
    unknown = sorted(set(raised) - set(contract) - set(before))
    if unknown:
        raise UsageError(f"the contract has no table {', '.join(unknown)}")
    kept = {name: table for name, table in before.items() if name not in raised}
    if wrong := breaches(contract, yaml.safe_dump(kept)):
        raise UsageError("; ".join(wrong))
    return written(contract, locked, raised)


def _promise(table: Table) -> dict[str, Any]:
    return {
        "key": ", ".join(table.key),
        "load_cursor": table.load_cursor,
        "event_cursor": table.event_cursor,
        "columns": {
            column.name: " ".join(
                word
                for word in (column.data_type, column.pii, "nullable" if column.nullable else None)
                if word
            )
            for column in table.columns
        },
    }


def _broken(before: Mapping[str, Any], table: Table | None) -> Iterator[str]:
    if table is None:
        yield "it is gone"
        return
    now = _promise(table)
    for word in ("key", "load_cursor", "event_cursor"):
        if before[word] != now[word]:
            yield f"its {word} was {before[word]} and is {now[word]}"
    for name, was in before["columns"].items():
        if name not in now["columns"]:
            yield f"the column {name} is gone"
        elif now["columns"][name] != was:
            yield f"the column {name} was {was} and is {now['columns'][name]}"
    for name, words in now["columns"].items():
        if name not in before["columns"] and "nullable" not in words:
            yield f"the column {name} is new and must have a value"
