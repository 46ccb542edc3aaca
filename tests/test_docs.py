"""What the pages name is there: links, verbs, make targets and paths."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import typer

from keepline.cli import app
from keepline.release.tables import LATEST_VIEWS
from keepline.settings import PROJECT_DIR

PAGES = [
    *(PROJECT_DIR / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    PROJECT_DIR / "tests" / "README.md",
    *sorted((PROJECT_DIR / "docs").rglob("*.md")),
]
# It tells of the past: what it names may be gone. Its links may not.
HISTORY = PROJECT_DIR / "CHANGELOG.md"
# What a run writes below the home, or an operator delivers: no file of this tree.
WRITTEN = (
    *(
        ".keepline",
        "landing",
        "quarantine",
        "exchange",
        "secrets",
        "spark",
        "models",
        "dist",
        "drops",
    ),
    *("_manifest.json", "manifest.json", "identity.json", "catalog.json", "model.json"),
    *("megaline_users.csv", "SPARK_CONF_DIR", "pg_hba.conf", "<home>"),
)
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SUFFIX = re.compile(r"\.(py|md|yml|yaml|sql|csv|json|lock|in|toml|sh|example|ini|conf)$")


def _tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT_DIR, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.splitlines() if (PROJECT_DIR / name).exists()]


FILES = _tracked()
PLACES = {*FILES, *(str(folder) for name in FILES for folder in PurePosixPath(name).parents)}
NAMES = {PurePosixPath(name).name for name in FILES}


def _name(page: Path) -> str:
    return str(page.relative_to(PROJECT_DIR))


def _prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def _commands(page: Path) -> Iterator[str]:
    """Yield each piece of code of a page, inline or a line of a block."""
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        yield from block[0].splitlines()
    yield from CODE.findall(_prose(page))


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.+?) *$", _prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", LINK.sub("", heading).lower()).replace(" ", "-")
        found[slug] = found.get(slug, 0) + 1
    return {
        slug if number == 0 else f"{slug}-{number}"
        for slug, times in found.items()
        for number in range(times)
    }


def _broken(page: Path) -> Iterator[str]:
    for target in LINK.findall(CODE.sub("", _prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists():
            yield f"{_name(page)}: {target} is not there"
        elif anchor and anchor not in _anchors(linked):
            yield f"{_name(page)}: {target}: no such heading"


def test_every_link_leads_somewhere():
    assert [line for page in PAGES for line in _broken(page)] == []


def test_every_verb_exists():
    root = typer.main.get_command(app)
    # Not by its class: Typer brings a click of its own.
    verbs = {
        (name, below)
        for name, command in root.commands.items()
        for below in ["", *getattr(command, "commands", ())]
    }
    named = [
        (_name(page), *words)
        for page in PAGES
        if page != HISTORY
        for code in _commands(page)
        for words in re.findall(r"(?:^|[\s/(&|])keepline ([a-z]+)(?: ([a-z]+))?", code)
    ]
    groups = {name for name, below in verbs if below}

    assert len(named) > 100
    assert [
        (page, verb, below)
        for page, verb, below in named
        if (verb, below if verb in groups else "") not in verbs
    ] == []


def test_every_make_target_exists():
    makefile = (PROJECT_DIR / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    named = [
        (_name(page), target)
        for page in PAGES
        if page != HISTORY
        for code in _commands(page)
        for target in re.findall(r"(?:^|[\s&|])make ([a-z][a-z-]*)", code)
    ]

    assert len(named) > 10
    assert [(page, target) for page, target in named if target not in targets] == []


def _is_path(code: str) -> bool:
    if not re.fullmatch(r"[\w.*<>{},-]+(/[\w.*<>{},-]+)*/?", code, re.ASCII):
        return False
    if code.split("/")[0] in WRITTEN or "=" in code or "{" in code:
        return False
    # A folder is written with the slash behind it, or by a path through a folder of this tree.
    return bool(SUFFIX.search(code)) or ("/" in code and ("." not in code or code[0] != "."))


def _exists(code: str, page: Path) -> bool:
    code = code.rstrip("/")
    if "*" in code or "<" in code:
        pattern = re.sub(r"<\w+>", "*", code)
        return any(PurePosixPath(place).match(pattern) for place in PLACES)
    beside = str(PurePosixPath(_name(page)).parent / code)
    return code in PLACES or beside in PLACES or ("/" not in code and code in NAMES)


def test_every_path_exists():
    named = {
        (_name(page), code): page
        for page in PAGES
        if page != HISTORY
        for code in CODE.findall(_prose(page))
        if _is_path(code)
    }

    assert len(named) > 60
    assert [at for at, page in named.items() if not _exists(at[1], page)] == []


def test_every_table_exists():
    dictionary = (PROJECT_DIR / "docs" / "dictionary.md").read_text(encoding="utf-8")
    read = set(re.findall(r"^### ((?:mart|star)\.\w+)$", dictionary, re.MULTILINE))
    read |= {f"mart.{view}" for view in LATEST_VIEWS.values()}
    models = {
        PurePosixPath(name).parts[2:] for name in FILES if name.startswith("dbt_project/models/")
    }
    built = {f"{parts[0]}.{parts[-1].removesuffix('.sql')}" for parts in models}
    named = {
        (_name(page), table)
        for page in PAGES
        if page != HISTORY
        for code in CODE.findall(_prose(page))
        for table in re.findall(r"(?<![\w.])(?:mart|star|core|features)\.[a-z]\w+(?![\w*])", code)
    }

    assert len(named) > 30
    assert sorted(at for at in named if at[1] not in read | built) == []


def test_every_room_of_the_package_is_on_the_map():
    architecture = (PROJECT_DIR / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {
        "/".join(PurePosixPath(name).parts[:2]) + ("/" if name.count("/") > 1 else "")
        for name in FILES
        if name.startswith("keepline/") and not name.startswith("keepline/__")
    }
    assert sorted(room for room in rooms if f"`{room}`" not in architecture) == []
