"""A process of its own for tests that import Airflow, which sets up logging and settings on import.

`with airflow_process(home) as airflow: airflow.submit(function, ...).result()` runs a function of a
test module there; the imports are paid once per module.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def airflow_process(home: Path, **variables: str) -> Iterator[ProcessPoolExecutor]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment = own | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        **variables,
    }
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _become, (environment,)) as airflow:
        yield airflow


def _become(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
