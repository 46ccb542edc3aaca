"""What the deployment files may name: commands, options, endpoints and variables that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer

from keepline.cli import app
from keepline.settings import PREFIX, PROJECT_DIR, Settings


def airflow_command_problem(words: list[str]) -> str:
    """Return why Airflow's parser refuses a command, or nothing."""
    from airflow.cli.cli_parser import get_parser

    try:
        get_parser().parse_args(words)
    except SystemExit:
        return f"`airflow {shlex.join(words)}` is no command of Airflow"
    return ""


def airflow_options() -> dict[str, list[str]]:
    from airflow.configuration import conf

    sections = conf.configuration_description
    return {name: list(section["options"]) for name, section in sections.items()}


def airflow_endpoints() -> dict[str, set[str]]:
    """Return port (in words or digits) to the paths that answer there."""
    import inspect

    import airflow
    from airflow.configuration import conf
    from airflow.utils import scheduler_health

    specification = (
        Path(airflow.__file__).parent / "api_fastapi/core_api/openapi/v2-rest-api-generated.yaml"
    )
    paths = re.findall(r"^  (/\S+):$", specification.read_text(), re.MULTILINE)
    health = re.findall(r'self\.path == "(/\w+)"', inspect.getsource(scheduler_health))
    port = conf.get("scheduler", "scheduler_health_check_server_port")
    return {"api-server": {*paths, "/execution/"}, port: set(health)}


def keepline_command_problem(words: list[str]) -> str:
    verbs = typer.main.get_command(app).commands
    verb, *rest = words
    if verb not in verbs:
        return f"`keepline {verb}` is no command"
    try:
        verbs[verb].make_context(verb, rest)
    except Exception as error:
        return f"`keepline {shlex.join(words)}`: {error}"
    return ""


def operator_variables() -> set[str]:
    """Return what the operator files and the demo's own code read from the environment."""
    files = list((PROJECT_DIR / "operators").glob("*.yml"))
    named = re.findall(r"\w+_env:\s*(\w+)", "\n".join(path.read_text() for path in files))
    demo = (PROJECT_DIR / "keepline/commands/demo.py").read_text()
    return {*named, *re.findall(r'"(KEEPLINE_DEMO_\w+)"', demo)}


def keepline_variables() -> set[str]:
    return {PREFIX + name.upper() for name in Settings.model_fields} | operator_variables()
