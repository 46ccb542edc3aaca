"""The gates as written: `gates.yml` and the suites that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from keepline.contract import VOLUMES, Table
from keepline.errors import CheckCrashedError

FOLDER = Path(__file__).parent
SEVERITIES = ("critical", "warning", "info")
# What `tables` may ask for: words of the contract, by the attribute of its tables.
WORDS = {"volume": "volume", "base": "is_base", "every_day": "is_every_day"}
ASKED = ({"base": True}, {"every_day": True}, *({"volume": volume} for volume in VOLUMES))


@dataclass(frozen=True)
class Expectation:
    """One expectation of a suite.

    Attributes:
        type: name of a class of Great Expectations, in snake case.
        kwargs: its arguments.
        severity: `critical` stops the gate, `warning` is shown, `info` is recorded.
        words: what is expected, for a person on call.
    """

    type: str
    kwargs: Mapping[str, Any]
    severity: str
    words: str

    @property
    def column(self) -> str:
        """The column or columns that it looks at, or ''."""
        columns = self.kwargs.get("column_list", ())
        pair = [self.kwargs[key] for key in ("column_A", "column_B") if key in self.kwargs]
        return str(self.kwargs.get("column", "")) or ", ".join([*columns, *pair])


@dataclass(frozen=True)
class Suite:
    """The expectations of one file of `suites/`."""

    name: str
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True)
class Check:
    """One suite of a gate and what it looks at.

    Attributes:
        name: unique within the gate.
        suite: what is expected.
        tables: contract tables (gate `landed`), which may be none, or the one published table (gate
            `leaving`).
        rows: for `leaving`: `new` looks at the parts that no audited release has shown, `all` at the
            whole release.
        query: for `leaving`: a profile, one row per thing to judge, instead of the table's rows.
        profile: for `landed`: `batches` (what landed of each table) or `key_lists` (what is gone).
    """

    name: str
    suite: Suite
    tables: tuple[str, ...]
    rows: str = "new"
    query: str = ""
    profile: str = "batches"


def load_gate(
    gate: str, folder: Path = FOLDER, contract: Mapping[str, Table] | None = None
) -> list[Check]:
    """Read the checks of a gate.

    Args:
        gate: `landed` or `leaving`.
        folder: where gates.yml and suites/ are.
        contract: tables of the contract, of which `landed` judges those that its checks ask for.

    Raises:
        CheckCrashedError: a file is missing or does not say what it must.
    """
    try:
        document = yaml.safe_load((folder / "gates.yml").read_text(encoding="utf-8"))
        checks = [
            Check(
                name=raw["check"],
                suite=load_suite(folder / "suites" / f"{raw['suite']}.json"),
                tables=_tables(raw, contract or {}),
                rows=raw.get("rows", "new"),
                query=raw.get("query", ""),
                profile=raw.get("profile", "batches"),
            )
            for raw in document[gate]
        ]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise CheckCrashedError(
            f"{folder / 'gates.yml'}: {gate} cannot be read: {error!r}"
        ) from error
    names = [check.name for check in checks]
    if len(names) != len(set(names)):
        raise CheckCrashedError(f"{folder / 'gates.yml'}: two checks of {gate} have the same name")
    return checks


def _tables(raw: Mapping[str, Any], contract: Mapping[str, Table]) -> tuple[str, ...]:
    """Return the published table of a check, or the contract tables that have its word."""
    if "table" in raw:
        return (raw["table"],)
    asked = raw["tables"]
    if asked not in ASKED:
        raise CheckCrashedError(
            f"gates.yml, {raw['check']}: there are no tables {asked}; there are those of "
            + ", ".join(str(one) for one in ASKED)
        )
    ((word, value),) = asked.items()
    attribute = WORDS[word]
    return tuple(name for name, table in contract.items() if getattr(table, attribute) == value)


def load_suite(path: Path) -> Suite:
    """Read a suite.

    Raises:
        CheckCrashedError: the file is missing or an expectation lacks something.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        suite = Suite(
            document["name"],
            tuple(
                Expectation(raw["type"], raw["kwargs"], raw["severity"], raw["meta"]["words"])
                for raw in document["expectations"]
            ),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckCrashedError(f"{path} cannot be read as a suite: {error!r}") from error
    if not suite.expectations or suite.name != path.stem:
        raise CheckCrashedError(f"{path}: a suite is named like its file and expects something")
    if any(expectation.severity not in SEVERITIES for expectation in suite.expectations):
        raise CheckCrashedError(f"{path}: a severity is one of {', '.join(SEVERITIES)}")
    return suite
