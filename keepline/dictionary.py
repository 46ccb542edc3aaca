"""The data dictionary: docs/dictionary.md, written from the YAML beside the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from keepline.release.published import is_personal

HEAD = """<!-- Written by `keepline generate` from the YAML beside the models: do not edit. -->
# Data dictionary

Readers find marts in the
schema `mart` and the star schema in `star`; every view ends with `release_id`, the release it shows,
`release_business_date`, the business day whose end that describes, and `release_age_days`, by how
many business days that is behind (0 is fresh; docs/definitions.md).
Columns that the YAML marks as personal (`meta.pii`, unless masked) are left out: readers do not have them.
"""


def dictionary(dbt_dir: Path) -> str:
    """Return the dictionary of all published models as Markdown, marts first.

    Args:
        dbt_dir: the dbt project.
    """
    sections = [HEAD]
    for title, schema, folder in (("Marts", "mart", "marts"), ("Star schema", "star", "core")):
        sections.append(f"\n## {title}\n")
        sections.extend(
            "\n".join(_section(schema, model)) for model in _published(dbt_dir / "models" / folder)
        )
    return "\n".join(sections)


def _published(folder: Path) -> Iterator[dict[str, Any]]:
    models = [
        model
        for path in sorted(folder.rglob("_*__models.yml"))
        for model in yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader).get("models", [])
        if "publish" in model.get("config", {}).get("meta", {})
    ]
    yield from sorted(models, key=lambda model: str(model["name"]))


def _section(schema: str, model: dict[str, Any]) -> Iterator[str]:
    publish = model["config"]["meta"]["publish"]
    kept = {
        "state": "the state of the day, whole in each release",
        "day": f"history by day of `{publish.get('period')}`",
        "month": f"history by month of `{publish.get('period')}`",
    }[publish["kind"]]
    yield f"### {schema}.{model['name'].removeprefix('mart_')}\n"
    yield f"{_line(model['description'])} Kept as {kept}.\n"
    yield "| column | type | meaning |\n|---|---|---|"
    for column in model["columns"]:
        if is_personal(column):
            continue
        meaning = _line(column["description"]).replace("|", "\\|")
        yield f"| `{column['name']}` | {column['data_type']} | {meaning} |"
    yield ""


def _line(text: str) -> str:
    return " ".join(text.split())
