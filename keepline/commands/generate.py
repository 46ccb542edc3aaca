"""The verb that writes what follows from declarations: generate."""

from __future__ import annotations

from typing import Annotated

import typer

from keepline import generate
from keepline.errors import UsageError
from keepline.progress import out
from keepline.settings import PACKAGED, PROJECT_DIR


def generate_files(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when a file is not current.")
    ] = False,
    raised: Annotated[
        list[str] | None,
        typer.Option("--raise", metavar="TABLE", help="Give this table's contract a new version."),
    ] = None,
) -> None:
    """Write staging models, the contract's lock and the data dictionary from what they follow from.

    Example: keepline generate
    """
    if PACKAGED:
        raise UsageError(
            "generate writes into a checkout, and this keepline was installed by pip: type it there"
        )
    if not check:
        said = generate.write(PROJECT_DIR, raised or ())
        out.print("\n".join(said) or "every generated file is current", markup=False)
        return
    if raised:
        raise UsageError("--check writes nothing, so that it cannot raise a version; leave one out")
    wrong = generate.differences(PROJECT_DIR, generate.rendered(PROJECT_DIR))
    if wrong:
        found = "; ".join(f"{path.relative_to(PROJECT_DIR)} {why}" for path, why in wrong.items())
        raise UsageError(f"{found}. Change the contract, then type: keepline generate")
    out.print("every generated file is current", markup=False)


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("generate")(generate_files)
