"""What is published: the models that say so in their dbt contract (`meta.publish`).

Columns marked `meta.pii` stay behind, for readers see nothing personal; a masked value is not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from keepline.errors import UsageError
from keepline.ops import Connection

STATE, DAY, MONTH = "state", "day", "month"
KINDS = (STATE, DAY, MONTH)
MART, STAR = "mart", "star"
STORE_TYPES = {
    "varchar": "text",
    "bigint": "bigint",
    "integer": "integer",
    "date": "date",
    "timestamp": "timestamp without time zone",
    "boolean": "boolean",
    "double": "double precision",
}
DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")
# Columns of the store's own: a model cannot bear them.
OWN_COLUMNS = ("part_id", "release_id", "release_business_date", "release_age_days")
MASKED = "masked"


@dataclass(frozen=True)
class PublishedColumn:
    """A column that readers see; `store_type` is PostgreSQL's own word for its type."""

    name: str
    store_type: str
    description: str


@dataclass(frozen=True)
class PublishedTable:
    """A model that readers see.

    Attributes:
        name: name in `store` and in the readers' schema.
        model: name of the dbt model.
        relation: `schema.name` in the compute engine.
        reader_schema: `mart` or `star`.
        kind: `state` (one whole copy per release), `day` or `month` (one part per period).
        period: date column that says which period a row belongs to; None for kind state.
        description: what a row is, for people.
        columns: those that readers see, in the order of the contract.
        withheld: names of the personal columns, which stay in the compute engine.
    """

    name: str
    model: str
    relation: str
    reader_schema: str
    kind: str
    period: str | None
    description: str
    columns: tuple[PublishedColumn, ...]
    withheld: tuple[str, ...] = ()

    @property
    def column_names(self) -> list[str]:
        """Names of the columns that readers see, in the order of the contract."""
        return [column.name for column in self.columns]

    @cached_property
    def shape(self) -> str:
        """Fingerprint of names and types: parts of another shape cannot be shown as they are."""
        text = ",".join(f"{column.name} {column.store_type}" for column in self.columns)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def from_manifest(manifest_path: Path) -> list[PublishedTable]:
    """Read the published models from dbt's manifest, in the order of their names.

    Raises:
        UsageError: there is no manifest, or a model cannot be published as its YAML says.
    """
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"there is no dbt manifest {manifest_path}: run `keepline build`"
        ) from None
    tables = [
        _table(node)
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and _publish(node)
    ]
    if not tables:
        raise UsageError(
            f"no model in {manifest_path} has meta.publish: there is nothing to publish"
        )
    names = [table.name for table in tables]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two models would be published as {name}: rename one of them")
    return sorted(tables, key=lambda table: table.name)


def from_store(connection: Connection, *, with_withdrawn: bool = False) -> list[PublishedTable]:
    """Read the published models as the last migration recorded them.

    Args:
        connection: of the store.
        with_withdrawn: also those that no model publishes any more but a kept release still has.

    Raises:
        UsageError: the store was never migrated.
    """
    found = connection.execute("select to_regclass('ctl.published_table')").fetchone()
    rows = []
    if found is not None and found[0] is not None:
        rows = connection.execute(
            "select table_name, model, relation, reader_schema, kind, period_column, columns"
            " from ctl.published_table where %s or not is_withdrawn order by table_name",
            [with_withdrawn],
        ).fetchall()
    if not rows:
        raise UsageError("the store has no published tables yet: run `keepline migrate`")
    return [
        PublishedTable(
            *(name, model, relation, reader_schema, kind, period, ""),
            tuple(PublishedColumn(column, store_type, "") for column, store_type in columns),
        )
        for name, model, relation, reader_schema, kind, period, columns in rows
    ]


def is_personal(column: Mapping[str, Any]) -> bool:
    """Say whether a column of a model's YAML or of dbt's manifest must be kept from readers.

    Any `meta.pii` but `masked` does that, a misspelt one too.
    """
    return _meta(column).get("pii") not in (None, MASKED)


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return node.get("config", {}).get("meta") or node.get("meta") or {}


def _publish(node: Mapping[str, Any]) -> object:
    return _meta(node).get("publish")


def _table(node: Mapping[str, Any]) -> PublishedTable:
    publish, where = _publish(node), f"model {node['name']}"
    if not isinstance(publish, Mapping) or publish.get("kind") not in KINDS:
        raise UsageError(
            f"{where}: meta.publish is {publish!r}; write {{kind: state}} or "
            "{kind: day, period: <date column>} or {kind: month, period: <date column>}"
        )
    withheld = tuple(raw["name"] for raw in node["columns"].values() if is_personal(raw))
    columns = tuple(
        _column(raw, where) for raw in node["columns"].values() if raw["name"] not in withheld
    )
    kind, period = publish["kind"], publish.get("period")
    dates = [column.name for column in columns if column.store_type == "date"]
    if kind == STATE:
        period = None
    elif period not in dates:
        raise UsageError(
            f"{where}: meta.publish.period is {period!r}, which is no date column of its contract"
        )
    if not columns:
        raise UsageError(f"{where}: a published model needs a contract with its columns")
    is_mart = "/marts/" in node["original_file_path"].replace("\\", "/")
    return PublishedTable(
        name=node["name"].removeprefix("mart_") if is_mart else node["name"],
        model=node["name"],
        relation=f"{node['schema']}.{node['alias']}",
        reader_schema=MART if is_mart else STAR,
        kind=kind,
        period=period,
        description=" ".join(node["description"].split()),
        columns=columns,
        withheld=withheld,
    )


def _column(raw: Mapping[str, Any], where: str) -> PublishedColumn:
    name, data_type = raw["name"], (raw.get("data_type") or "").lower()
    if name in OWN_COLUMNS:
        raise UsageError(f"{where}: {name} is a column of the store's own; rename it in the model")
    decimal = DECIMAL.fullmatch(data_type)
    store_type = (
        f"numeric({decimal[1]},{decimal[2]})" if decimal else STORE_TYPES.get(data_type, "")
    )
    if not store_type:
        raise UsageError(
            f"{where}, column {name}: data_type {data_type!r} cannot be published; choose one of "
            f"{', '.join(STORE_TYPES)}, decimal(p,s)"
        )
    return PublishedColumn(name, store_type, " ".join((raw.get("description") or "").split()))
