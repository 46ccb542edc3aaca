"""docker-compose.yml, Dockerfile and .env.example name only what the project and Airflow really have.

No container engine is needed: commands are parsed by the programs' own parsers, variables looked up
in their own settings. The second half breaks the file on purpose and looks whether that is noticed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml
from airflow_process import airflow_process
from compose_facts import (
    airflow_command_problem,
    airflow_endpoints,
    airflow_options,
    keepline_command_problem,
    keepline_variables,
    operator_variables,
)

from keepline.build import LOCK_FILES
from keepline.settings import PREFIX, PROJECT_DIR, Settings

COMPOSE = (PROJECT_DIR / "docker-compose.yml").read_text()
DOCKERFILE = (PROJECT_DIR / "Dockerfile").read_text()
EXAMPLE = (PROJECT_DIR / ".env.example").read_text()
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\}")
EXAMPLE_LINE = re.compile(r"^(?P<off>#?)(?P<name>[A-Z][A-Z_]+)=(?P<value>.*)$", re.MULTILINE)
POSTGRES_VARIABLES = {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"}


@dataclass
class Airflow:
    command_problem: Callable[[list[str]], str]
    options: dict[str, list[str]]
    endpoints: dict[str, set[str]]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("airflow")
    with airflow_process(home, AIRFLOW__CORE__AUTH_MANAGER=FAB) as process:
        yield Airflow(
            lambda words: process.submit(airflow_command_problem, words).result(),
            process.submit(airflow_options).result(),
            process.submit(airflow_endpoints).result(),
        )


# -- what the file says ----------------------------------------------------------------------------


def example_values() -> dict[str, str]:
    return {found["name"]: found["value"] for found in EXAMPLE_LINE.finditer(EXAMPLE)}


def filled(text: str) -> str:
    """Put values where Compose would: the example's, else the default, else a word."""
    values = example_values()
    return VARIABLE.sub(
        lambda found: (
            values.get(found["name"])
            or (found["word"] if found["kind"] == "-" else f"value_of_{found['name']}")
        ),
        text,
    )


def variable_problems(environment: dict[str, str], script: str, airflow: Airflow) -> Iterator[str]:
    for name in environment:
        if name.startswith("AIRFLOW__"):
            _, section, option = (part.lower() for part in name.split("__"))
            if option not in airflow.options.get(section, ()):
                yield f"{name} is no option of Airflow"
        elif name.startswith(PREFIX):
            if name not in keepline_variables():
                yield f"{name} is no setting of keepline"
        elif name not in POSTGRES_VARIABLES and f"$${name}" not in script:
            yield f"{name} is read by nobody"


def command_problems(script: str, airflow: Airflow) -> Iterator[str]:
    for line in script.splitlines():
        program, *words = shlex.split(line)
        if program == "airflow":
            yield airflow.command_problem(words)
        elif program == "keepline":
            yield keepline_command_problem(words)
        else:
            yield f"`{program}` is neither airflow nor keepline"


def script_of(service: dict[str, Any]) -> str:
    command = service.get("command", [])
    return command[2] if command[:2] == ["sh", "-ec"] else shlex.join(command)


def listens_on(service: dict[str, Any]) -> dict[str, str]:
    """Return the ports a service answers on, each with the name of what answers."""
    words = shlex.split(script_of(service))
    if service.get("image", "").startswith("postgres:"):
        return {"5432": "postgres"}
    if words[:2] == ["airflow", "api-server"]:
        return {words[words.index("--port") + 1]: "api-server"}
    if words[:2] == ["airflow", "scheduler"]:
        return {"8974": "8974"}
    return {}


def health_problems(name: str, service: dict[str, Any], airflow: Airflow) -> Iterator[str]:
    kind, *words = service["healthcheck"]["test"]
    if kind == "CMD" and words[0] == "airflow":
        yield airflow.command_problem(words[1:])
    if kind == "CMD" and words[0] == "keepline":
        yield keepline_command_problem(words[1:])
    for port, path in re.findall(r"http://127\.0\.0\.1:(\d+)(/[^']*)'", " ".join(words)):
        place = listens_on(service).get(port)
        if place is None:
            yield f"{name}: its health check asks port {port}, where nothing listens"
        elif path not in airflow.endpoints.get(place, ()):
            yield f"{name}: its health check asks {path}, which does not exist there"
    if kind == "CMD-SHELL" and not (
        service["image"].startswith("postgres:") and words[0].startswith("pg_isready ")
    ):
        yield f"{name}: {words[0]!r} is no command of its image"


def address_problems(
    name: str, environment: dict[str, str], services: dict[str, Any], airflow: Airflow
) -> Iterator[str]:
    """Check that every address leads to a service, its port, its database and its login."""
    for variable, value in environment.items():
        parts = dict(re.findall(r"(\w+)=(\S+)", value)) if "host=" in value else {}
        if found := re.match(r"postgresql\+\w+://(.+):(.+)@(.+):(\d+)/(\w+)$", value):
            parts = dict(
                zip(("user", "password", "host", "port", "dbname"), found.groups(), strict=True)
            )
        if found := re.match(r"http://([a-z-]+):(\d+)(/.*)$", value):
            parts = dict(zip(("host", "port", "path"), found.groups(), strict=True))
        if not parts:
            continue
        target = services.get(parts["host"])
        if target is None or parts["port"] not in listens_on(target):
            yield f"{name}: {variable} leads to {parts['host']}:{parts['port']}, where nothing is"
            continue
        own = target.get("environment", {})
        if "path" in parts:
            answers = airflow.endpoints[listens_on(target)[parts["port"]]]
            if parts["path"] not in answers:
                yield f"{name}: {variable} asks for {parts['path']}"
        elif parts["dbname"] != own.get("POSTGRES_DB"):
            yield f"{name}: {variable} names the database {parts['dbname']}"
        elif parts["user"] == own.get("POSTGRES_USER"):
            if parts["password"] != own.get("POSTGRES_PASSWORD"):
                yield f"{name}: {variable} has the wrong password"
        elif parts["user"] != "extractor":
            yield f"{name}: {variable} logs in as {parts['user']}"


def wiring_problems(name: str, service: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    services = document["services"]
    image = service.get("image", "")
    if not re.search(r":\d+\.\d+", image):
        yield f"{name}: the image {image!r} is not pinned"
    for port in service.get("ports", ()):
        address, _, inner = port.rpartition(":")
        if not re.fullmatch(r"127\.0\.0\.1:\d+", address):
            yield f"{name}: {port} is open to the network, not on 127.0.0.1 alone"
        if inner not in listens_on(service):
            yield f"{name}: nothing listens on its port {inner}"
    for needed, how in service.get("depends_on", {}).items():
        target = services.get(needed, {})
        if how["condition"] == "service_healthy" and "healthcheck" not in target:
            yield f"{name}: waits for {needed}, which cannot tell that it is healthy"
        if how["condition"] == "service_completed_successfully" and target.get("restart") != "no":
            yield f"{name}: waits for the end of {needed}, which never ends"
    for volume in service.get("volumes", ()):
        source, target = volume.split(":")[:2]
        if source not in document["volumes"]:
            yield f"{name}: the volume {source} is not declared"
        if image.startswith("postgres:18") and target != "/var/lib/postgresql":
            yield f"{name}: PostgreSQL 18 keeps its data below /var/lib/postgresql"


def problems(text: str, airflow: Airflow) -> list[str]:
    """Return everything that the file names and that does not exist."""
    document = yaml.safe_load(filled(text))
    services = document["services"]
    found: list[str] = []
    for name, service in services.items():
        environment = {key: str(value) for key, value in service.get("environment", {}).items()}
        script = script_of(service)
        found += variable_problems(environment, script, airflow)
        found += command_problems(script, airflow)
        found += address_problems(name, environment, services, airflow)
        found += wiring_problems(name, service, document)
        if "healthcheck" in service:
            found += health_problems(name, service, airflow)
    used = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    found += [f"the volume {name} is used by nobody" for name in set(document["volumes"]) - used]
    known = {item["name"] for item in EXAMPLE_LINE.finditer(EXAMPLE) if not item["off"]}
    wanted = {item["name"] for item in VARIABLE.finditer(text)}
    found += [f"{name} is missing in .env.example" for name in wanted - known]
    return [problem for problem in found if problem]


# -- the files as they are -------------------------------------------------------------------------


def test_the_compose_file_names_only_what_exists(airflow):
    assert problems(COMPOSE, airflow) == []


def test_the_parts_of_airflow_and_both_databases_are_there():
    services = yaml.safe_load(filled(COMPOSE))["services"]

    assert {
        *("store", "operator-db", "airflow-db", "airflow-init", "airflow-apiserver"),
        *("airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"),
        "watch",
    } <= set(services)
    assert all("healthcheck" in service for service in services.values() if _stays_up(service))


def _stays_up(service: dict[str, Any]) -> bool:
    return service.get("restart") != "no"


def test_keys_of_the_warehouse_go_only_where_keepline_commands_run():
    services = yaml.safe_load(filled(COMPOSE))["services"]
    holders = {
        name
        for name, service in services.items()
        if any(
            key.startswith(PREFIX) for key in set(service["environment"]) - {"KEEPLINE_TIMEZONE"}
        )
    }

    assert holders == {"airflow-init", "airflow-scheduler", "demo", "watch"}
    # Who only watches the logins gets no key and no reader's password.
    assert {key for key in services["watch"]["environment"] if key.startswith(PREFIX)} == {
        *("KEEPLINE_HOME", "KEEPLINE_OPERATOR", "KEEPLINE_STORE_DSN", "KEEPLINE_TIMEZONE")
    }


def test_the_pool_that_the_dags_use_is_made_as_on_one_machine():
    from keepline.airflow.standalone import POOL

    assert f"airflow pools set {POOL[0]} {POOL[1]} {POOL[2]!r}".replace("'", '"') in COMPOSE


def test_every_variable_of_the_example_is_used_and_explained():
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    in_compose = {found["name"] for found in VARIABLE.finditer(COMPOSE)}
    in_example = set(example_values())

    assert in_example - in_compose - settings - operator_variables() == {"COMPOSE_PROFILES"}
    assert settings | operator_variables() <= in_example
    lines = EXAMPLE.splitlines()
    for number, line in enumerate(lines):
        if EXAMPLE_LINE.match(line):
            above = lines[number - 1]
            assert above.startswith("# ") or EXAMPLE_LINE.match(above), f"no word about {line}"


def test_the_example_holds_defaults_and_no_secret():
    values = example_values()
    secrets = {found["name"] for found in VARIABLE.finditer(COMPOSE) if found["kind"] == "?"}

    assert {name: values[name] for name in secrets} == dict.fromkeys(secrets, "")
    for name, field in Settings.model_fields.items():
        variable = PREFIX + name.upper()
        if variable not in secrets and not variable.endswith("_DSN"):
            default = str(field.default).removeprefix(f"{PROJECT_DIR}/")
            assert values[variable] == default, variable
    profiles = re.findall(r"profiles: \[(\w+)\]", COMPOSE)
    assert values["COMPOSE_PROFILES"] in profiles


def test_the_image_is_built_from_what_is_here():
    kept = (PROJECT_DIR / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (PROJECT_DIR / source).exists(), source
            assert f"!{source}" in kept, f"{source} is left out by .dockerignore"
    # A build compares what is installed with all of the locks.
    copied = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    assert {lock.name for lock in LOCK_FILES} <= set(" ".join(copied).split())
    assert "pip install --no-cache-dir --no-deps --require-hashes -r" in DOCKERFILE
    assert not re.search(r"https?://|index-url|trusted-host|:latest", DOCKERFILE)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {
        "python:3.11-slim-bookworm"
    }
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)[-1] == "keepline"


def test_the_image_sets_only_variables_that_exist(airflow):
    block = re.search(r"^ENV (.+?)\n\n", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert block is not None
    names = dict(pair.split("=", 1) for pair in block[1].replace("\\\n", " ").split())
    foreign = {
        *("PATH", "PYTHONUNBUFFERED", "AIRFLOW_HOME", "DO_NOT_TRACK", "SCARF_NO_ANALYTICS"),
        *("DBT_SEND_ANONYMOUS_USAGE_STATS", "GX_ANALYTICS_ENABLED"),
    }

    own = {name: value for name, value in names.items() if name not in foreign}
    assert list(variable_problems(own, "", airflow)) == []
    # Mounted where the image says that files go.
    assert f"keepline-home:{names['KEEPLINE_HOME']}" in COMPOSE
    assert f"airflow-logs:{names['AIRFLOW_HOME']}/logs" in COMPOSE


# -- the same checks on a file that is wrong -------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "wrong", "noticed"),
    [
        ("[airflow, api-server,", "[airflow, webserver,", "*`airflow webserver *"),
        ("[airflow, triggerer]", "[airflow, triggerer, --fast]", "*--fast` is no command*"),
        ("keepline migrate\n", "keepline upgrade\n", "`keepline upgrade` is no command"),
        ("[keepline, run]", "[keepline, run, --day, x]", "`keepline run --day x`: No such option*"),
        ("airflow pools set", "airflow pool set", "*`airflow pool set *"),
        ("AIRFLOW__CORE__FERNET_KEY:", "AIRFLOW__CORE__FERNETKEY:", "*FERNETKEY is no option*"),
        ("AIRFLOW__API_AUTH__JWT_ISSUER", "AIRFLOW__API__JWT_ISSUER", "*API__JWT_ISSUER is no*"),
        ("KEEPLINE_RELEASES_KEPT:", "KEEPLINE_RELEASES:", "KEEPLINE_RELEASES is no setting*"),
        ("KEEPLINE_DEMO_DROPS:", "KEEPLINE_DEMO_DROP:", "KEEPLINE_DEMO_DROP is no setting*"),
        ("POSTGRES_DB: airflow", "POSTGRES_NAME: airflow", "POSTGRES_NAME is read by nobody"),
        ("${KEEPLINE_VAULT_KEY:?", "${VAULT_KEY:?", "VAULT_KEY is missing in .env.example"),
        ('"127.0.0.1:${STORE_PORT', '"${STORE_PORT', "store: * is open to the network*"),
        ('5432}:5432"', '5432}:5433"', "store: nothing listens on its port 5433"),
        ("/api/v2/version", "/api/v1/health", "*asks /api/v1/health, which does not exist*"),
        ("127.0.0.1:8974/health", "127.0.0.1:8974/ready", "*asks /ready, which does not exist*"),
        ("127.0.0.1:8974/health", "127.0.0.1:8793/health", "*port 8793, where nothing listens"),
        ("--job-type, DagProcessorJob", "--job-type, DagJob", "*--job-type DagJob --local`*"),
        ("pg_isready", "pg_ready", "*is no command of its image"),
        ("host=store", "host=warehouse", "*leads to warehouse:5432, where nothing is"),
        ("airflow-apiserver:8080/exec", "airflow-apiserver:8793/exec", "*:8793, where nothing is"),
        (":8080/execution/", ":8080/executions/", "*asks for /executions/"),
        ("dbname=keepline user", "dbname=shop user", "*names the database shop"),
        ("user=operator", "user=oper", "*logs in as oper"),
        ("postgres:18.4-bookworm", "postgres:latest", "*'postgres:latest' is not pinned"),
        ("[store-data:/var/lib/postgresql]", "[shop:/var/lib/postgresql]", "*shop is not declared"),
        ("postgresql]", "postgresql/data]", "*PostgreSQL 18 keeps its data below*"),
        ('restart: "no"', "restart: always", "*airflow-init, which never ends"),
        (
            "airflow-apiserver: {condition: service_healthy}",
            "airflow-api: {condition: service_healthy}",
            "*airflow-api, which cannot tell*",
        ),
    ],
)
def test_a_wrong_word_in_the_compose_file_is_noticed(airflow, right, wrong, noticed):
    assert right in COMPOSE

    found = problems(COMPOSE.replace(right, wrong), airflow)

    assert any(fnmatchcase(problem, noticed) for problem in found), found
