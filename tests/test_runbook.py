"""The runbook has a section per code, each complete, and every command in it is one that parses."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from keepline.cli import INTERRUPTED, app
from keepline.commands.set_aside import CORE_REASONS
from keepline.errors import EXIT_CODES
from keepline.extract.verdict import HOLD_REASONS, NOTES, ROW_REASONS
from keepline.settings import PROJECT_DIR

PAGE = (PROJECT_DIR / "docs" / "runbook.md").read_text()
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
CODES = [*ROW_REASONS, *CORE_REASONS, *HOLD_REASONS, *NOTES]
WORDS = ("You see", "It means", "Readers have", "Look at", "Type")
COMMANDS = sorted(set(re.findall(r"`(keepline [^`]+)`", PAGE)))


@pytest.mark.parametrize("code", sorted(set(CODES)))
def test_every_code_has_a_section(code):
    assert f"`{code}`" in SECTIONS


@pytest.mark.parametrize(
    "code", [code for code in EXIT_CODES if code not in (0, 5)] + [INTERRUPTED]
)
def test_every_exit_code_has_a_section(code):
    assert f"Exit code {code}" in SECTIONS


def test_every_section_says_all_that_a_person_needs():
    assert len(SECTIONS) > 50
    for name, text in SECTIONS.items():
        for word in WORDS:
            assert f"- **{word}**: " in text, f"{name} does not say: {word}"
        assert "`keepline " in text.split("**Type**")[1], f"{name} says nothing to type"


def test_no_section_is_about_a_code_that_is_gone():
    gates = {"VOLUME", "EMPTY", "COVERAGE", "SHIFT", "CONSTANT", "MASS_DELETE", "UNKNOWN_SHARE"}
    known = {*CODES, *gates, "BROKEN_MART"}

    assert {name.strip("`") for name in SECTIONS if name.startswith("`")} == known


def test_every_suite_of_the_gates_is_named():
    for path in (PROJECT_DIR / "expectations" / "suites").glob("*.json"):
        assert f"`{path.stem}`" in PAGE, path.stem


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_it_parses(line):
    program, *words = shlex.split(line)
    command = typer.main.get_command(app)
    if words == ["--help"]:
        return
    # Not by its class: Typer brings a click of its own.
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands.get(name) or pytest.fail(f"no verb {name}: {line}")

    assert program == "keepline"
    if words:  # else the page only speaks of the verb
        command.make_context(name, words)


def test_a_verb_that_is_not_there_is_found():
    with pytest.raises(pytest.fail.Exception, match="no verb publihs"):
        test_every_command_in_it_parses("keepline publihs --date 2026-06-30")
