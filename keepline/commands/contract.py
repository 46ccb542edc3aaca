"""The verbs about the source contract: contract export."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from keepline import contract_export
from keepline.contract import load_contract
from keepline.contract_lock import LOCK
from keepline.errors import UsageError
from keepline.settings import PROJECT_DIR

FORMATS = ("odcs", "ddl")

app = typer.Typer(help="The source contract: export.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _contract() -> None:
    """Have `export` as a word of its own; a single verb would be taken for the group."""


@app.command("export")
def export(
    format_: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")
    ] = "odcs",
) -> None:
    """Print what each table must deliver: for data catalogues (odcs), or for a DBA (ddl, PostgreSQL).

    Example: keepline contract export --format ddl > contract.sql
    """
    dbt_dir = PROJECT_DIR / "dbt_project"
    contract = load_contract(dbt_dir)
    if format_ == "ddl":
        sys.stdout.write(contract_export.ddl(contract))
    elif format_ == "odcs":
        locked = (dbt_dir / LOCK).read_text(encoding="utf-8")
        sys.stdout.write(contract_export.odcs(contract, locked))
    else:
        raise UsageError(f"no format {format_!r}: choose one of {', '.join(FORMATS)}")


def register(parent: typer.Typer) -> None:
    """Add the verbs to the command."""
    parent.add_typer(app, name="contract")
