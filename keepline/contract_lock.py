"""What others rely on in the contract, kept in a file with a version per table: a change is a decision.

    python -m keepline.contract_lock                    writes dbt_project/contract.lock.yml
    python -m keepline.contract_lock --raise bill       ... and raises the version of the table `bill`

A column that is new and nullable breaks nobody; everything else needs a new version, so that those who
deliver the table and those who read it can be told. A test compares the file with the contract.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from keepline.contract import Contract, Table, load_contract
from keepline.errors import UsageError
from keepline.settings import PROJECT_DIR

LOCK = "contract.lock.yml"
HEAD = "# Written by `python -m keepline.contract_lock`: what others rely on, and its versions.\n"


def breaches(contract: Contract, locked: str) -> list[str]:
    """Return a sentence for every breaking change against the lock.

    Args:
        contract: as it is now.
        locked: text of the lock file.
    """
    before = yaml.safe_load(locked) or {}
    return [
        f"table {name}: {change}. Raise its version, tell who delivers and who reads it, and commit the "
        f"lock: python -m keepline.contract_lock --raise {name}"
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


def main() -> int:
    """Write the lock, unless a table breaks a promise without a new version."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--raise", dest="raised", action="append", default=[], metavar="TABLE")
    raised = parser.parse_args().raised
    dbt_dir = PROJECT_DIR / "dbt_project"
    path = dbt_dir / LOCK
    locked = path.read_text(encoding="utf-8") if path.exists() else ""
    contract = load_contract(dbt_dir)
    unknown = sorted(set(raised) - set(contract))
    if unknown:
        raise UsageError(f"the contract has no table {', '.join(unknown)}")
    kept = {
        name: table for name, table in (yaml.safe_load(locked) or {}).items() if name not in raised
    }
    wrong = breaches(contract, yaml.safe_dump(kept))
    if wrong:
        sys.stderr.write("\n".join(wrong) + "\n")
        return UsageError.exit_code
    path.write_text(written(contract, locked, raised), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
