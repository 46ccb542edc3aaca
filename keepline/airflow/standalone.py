"""A small Airflow to look at: `airflow standalone` on 127.0.0.1."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path

from keepline.airflow.local import (
    AIRFLOW,
    METADATA,
    AirflowBrokenError,
    command,
    empty_metadata,
    end,
    environment,
    home_of,
    only_one,
    stoppable,
)
from keepline.errors import UsageError
from keepline.progress import out
from keepline.settings import Settings

# The same words as in docker-compose.yml; dags/keepline_command.py says what it is for.
POOL = ("keepline_compute", "1", "One writer of the compute engine at a time")
TRIGGER = 'dags trigger keepline_daily --conf \'{"business_date": "DAY"}\''
READY_WITHIN_S = 180


def standalone(settings: Settings, port: int) -> int:
    """Start `airflow standalone` and say where it is; Ctrl-C ends it.

    Nothing runs by the clock here: the calendar of a demo is not today's. A day runs when a person
    triggers it.

    Args:
        settings: the operator and its home.
        port: of the web page, on 127.0.0.1.

    Returns:
        0 when a person ended it, else Airflow's own exit code.

    Raises:
        UsageError: the port is taken, or another one runs in this home.
        AirflowBrokenError: Airflow did not come up; the message names its log.
    """
    airflow_home = home_of(settings) / "standalone"
    airflow_home.mkdir(parents=True, exist_ok=True)
    with only_one(home_of(settings) / "standalone.lock"), stoppable():
        if not _is_free(port):
            raise UsageError(f"port {port} is taken: keepline airflow --port {port + 1}")
        out.print("airflow   starting, which takes half a minute")
        if not (airflow_home / METADATA).exists():
            shutil.copyfile(empty_metadata(settings), airflow_home / METADATA)
        password_file = _password_file(airflow_home)
        variables = _environment(settings, airflow_home, port, password_file)
        wrapper = _wrapper(airflow_home, variables)
        # `airflow standalone` looks for `airflow` on the PATH to start its parts.
        variables["PATH"] = os.pathsep.join((str(wrapper.parent), variables["PATH"]))
        raw_log = airflow_home / "standalone.log"
        with raw_log.open("w", encoding="utf-8") as raw:
            command(["db", "migrate"], variables, raw)
            command(["pools", "set", *POOL], variables, raw)
            process = subprocess.Popen(  # noqa: S603
                [*AIRFLOW, "standalone"],
                env=variables,
                stdout=raw,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                _wait_until_healthy(process, port, raw_log)
                for line in (
                    f"          http://127.0.0.1:{port} as admin; the password is in {password_file}",
                    "          run a day there (keepline_daily, Trigger, business_date), or here:",
                    f"          {wrapper} {TRIGGER}",
                    f"          log: {raw_log}; Ctrl-C ends it",
                ):
                    out.print(line, markup=False)
                return process.wait()
            except KeyboardInterrupt:
                out.print("airflow   stopping")
                return 0
            finally:
                end(process, within_s=10)


def _environment(
    settings: Settings, airflow_home: Path, port: int, password_file: Path
) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}"
    return environment(settings, airflow_home) | {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(password_file),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    }


def _wrapper(airflow_home: Path, variables: dict[str, str]) -> Path:
    """Write an `airflow` command that means this Airflow, for its own parts and for people.

    Two of its parts would serve logs to the whole network; on one machine the page reads the files.
    """
    path = airflow_home / "bin" / "airflow"
    path.parent.mkdir(exist_ok=True)
    own = {name: value for name, value in variables.items() if name.startswith("AIRFLOW")}
    settings = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in own.items())
    path.write_text(
        f"""#!/bin/sh
# Written by `keepline airflow`: the Airflow of this folder.
{settings}
case "$1" in scheduler|triggerer) set -- "$@" --skip-serve-logs ;; esac
exec {shlex.join(AIRFLOW)} "$@"
""",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def _wait_until_healthy(process: subprocess.Popen[str], port: int, raw_log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        if _is_healthy(port):
            return
        time.sleep(1)
    raise AirflowBrokenError(f"Airflow did not come up within {READY_WITHIN_S} s: see {raw_log}")


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/v2/monitor/health")
        parts = json.load(connection.getresponse())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return all(
        parts[name]["status"] == "healthy"
        for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
    )


def _password_file(airflow_home: Path) -> Path:
    """Make the page's password before Airflow does, which would print it into the log."""
    path = airflow_home / "passwords.json"
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"admin": secrets.token_urlsafe(12)}, file)
    return path


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
