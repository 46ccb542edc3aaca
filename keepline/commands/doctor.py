"""`keepline doctor`: what could stop a run, looked at before it does."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version

from keepline import home, store, watchdog
from keepline.commands import demo
from keepline.compute import compute_for
from keepline.contract import load_contract
from keepline.errors import KeeplineError
from keepline.extract.operator import load_operator
from keepline.extract.session import Session
from keepline.progress import out
from keepline.settings import Settings

PACKAGES = ("apache-airflow", "dbt-core", "duckdb", "great-expectations", "lightgbm", "pandas")
INCIDENT_DAYS = 7
LEAST_FREE_BYTES = 5 * 1024**3


def examine(settings: Settings) -> int:
    """Print one line per check and return the exit code: 0 when nothing is wrong."""
    wrong = 0
    for name, check in CHECKS:
        try:
            said = list(check(settings))
            mark = "ok  "
        except KeeplineError as error:
            said, mark = [str(error)], "MEND"
            wrong += 1
        for line in said:
            out.print(f"{mark} {name:<10} {line}", markup=False)
    out.print(
        "all is well" if not wrong else f"{wrong} to mend, then: keepline doctor", markup=False
    )
    return 1 if wrong else 0


def _python(_: Settings) -> Iterator[str]:
    yield f"Python {sys.version.split()[0]}; " + ", ".join(
        f"{package} {version(package)}" for package in PACKAGES
    )


def _model_library(_: Settings) -> Iterator[str]:
    try:
        import lightgbm
    except OSError as error:
        raise KeeplineError(
            f"LightGBM cannot load ({error}): sudo apt-get install libgomp1"
        ) from None
    yield f"LightGBM {lightgbm.__version__} loads"


def _folder(settings: Settings) -> Iterator[str]:
    settings.home.mkdir(parents=True, exist_ok=True)
    if not os.access(settings.home, os.W_OK):
        raise KeeplineError(
            f"{settings.home} cannot be written: set KEEPLINE_HOME to a folder that can"
        )
    free = shutil.disk_usage(settings.home).free
    if free < LEAST_FREE_BYTES:
        raise KeeplineError(f"{settings.home} has {free / 1024**3:.1f} GiB free: 5 GiB are needed")
    yield f"{settings.home} ({free / 1024**3:.0f} GiB free)"


def _privacy(settings: Settings) -> Iterator[str]:
    if commands := home.openings(settings.home):
        raise KeeplineError(f"others can look into {settings.home}: {' && '.join(commands)}")
    if names := store.embedded(settings).inherited():
        raise KeeplineError(
            f"the embedded PostgreSQL was started with {', '.join(names)} in its environment: keepline stop"
        )
    yield "nobody else can look into the home, and its server was given no key"


def _secrets(settings: Settings) -> Iterator[str]:
    for name in home.KEYS:
        if not getattr(settings, name).get_secret_value():
            raise KeeplineError(f"KEEPLINE_{name.upper()} is lost. {home.way_out(name)}")
    folder = settings.home / "secrets"
    for path in sorted(folder.glob("*")):
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise KeeplineError(f"others can read {path}: chmod 600 {path}")
    yield f"keys of 32 bytes; files in {folder} are private"


def _contract(settings: Settings) -> Iterator[str]:
    contract = load_contract(settings.dbt_dir)
    yield f"{len(contract)} contract tables in {len({t.system for t in contract.values()})} systems"


def _operator(settings: Settings) -> Iterator[str]:
    if not settings.operator_file.exists():
        raise KeeplineError(f"{settings.operator_file} is not there: set KEEPLINE_OPERATOR")
    if settings.operator == "demo" and not demo.exists(settings):
        yield "demo: not created yet (make run does)"
        return
    demo.point_to(settings)
    operator = load_operator(settings.operator_file, load_contract(settings.dbt_dir))
    for files in operator.files:
        operator.folder(files)
    for connection in operator.connections.values():
        operator.environment(connection.dsn_env)
    yield f"{settings.operator}: {len(operator.tables)} tables described, every address is set"
    with Session(settings, operator) as session:
        for name in operator.connections:
            place = session.attach_database(name)
            yield f"{name}: {place} answers, read-only"


def _store(settings: Settings) -> Iterator[str]:
    with store.connect(settings) as connection:
        server = store.scalar(connection, "show server_version")
        place = connection.info
        yield f"PostgreSQL {server} at {place.host}:{place.port}, database {place.dbname}"


def _readers(settings: Settings) -> Iterator[str]:
    from keepline.release import rights

    with store.connect_to_logins(settings) as connection:
        if store.is_embedded(settings) and not watchdog.is_watched(connection):
            raise KeeplineError(
                "nothing watches the readers' logins: keepline stop, and the next command starts both"
            )
        found = watchdog.incidents(connection, INCIDENT_DAYS)
        is_watched = watchdog.is_watched(connection)
    if not is_watched:
        yield "`keepline watch` does not run: logins are put right only while a stage writes"
    yield f"{len(found)} changes by readers of their own logins in {INCIDENT_DAYS} days" + (
        f", the last one {found[0].noticed_at.astimezone(settings.zone):%Y-%m-%d %H:%M:%S}: {found[0]}"
        if found
        else ""
    )
    with store.connect(settings) as connection:
        if statement := rights.unrevoked(connection):
            raise KeeplineError(
                "the store's login may not take from everybody what lets a reader fill the lock table or the "
                f"disk of the server. Ask a DBA for, in this database: {statement}"
            )


def _compute(settings: Settings) -> Iterator[str]:
    compute = compute_for(settings)
    holds = "holds what was loaded" if compute.exists() else "nothing was loaded yet"
    yield f"{settings.compute}: {compute.place}, {holds}"


CHECKS: tuple[tuple[str, Callable[[Settings], Iterator[str]]], ...] = (
    ("packages", _python),
    ("lightgbm", _model_library),
    ("home", _folder),
    ("privacy", _privacy),
    ("secrets", _secrets),
    ("contract", _contract),
    ("operator", _operator),
    ("store", _store),
    ("readers", _readers),
    ("compute", _compute),
)
