"""Great Expectations, asked for counts alone: no value of a row reaches a result or the Data Docs."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy.engine import URL

from expectations.gates import Expectation, Suite
from keepline.errors import CheckCrashedError

if TYPE_CHECKING:
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.data_context import EphemeralDataContext

# Counts of what was unexpected, and none of it.
RESULT_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 0}


@dataclass(frozen=True)
class Evaluation:
    """What became of one expectation.

    Attributes:
        expectation: as written in the suite.
        success: it was met.
        result: counts and aggregates that Great Expectations found.
    """

    expectation: Expectation
    success: bool
    result: dict[str, Any]


class Engine:
    """One context of Great Expectations for one gate; it lives in memory and writes nothing but docs."""

    def __init__(self) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "false"
        # Its import takes seconds, so that only who checks something pays for it.
        with _without_spark_connect():
            import great_expectations as gx

        # What goes wrong is raised below; its own log adds long tracebacks and nothing else.
        logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
        self._gx = gx
        self._context: EphemeralDataContext = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False}
        self._frames = self._context.data_sources.add_pandas("profiles")
        self._store: Any = None

    def connect(self, url: URL) -> None:
        """Let `check_query` ask this database."""
        self._store = self._context.data_sources.add_postgres(
            "store",
            connection_string=url.render_as_string(hide_password=False),
            create_temp_table=False,
        )

    def check_frame(self, name: str, suite: Suite, frame: pd.DataFrame) -> list[Evaluation]:
        """Evaluate a suite on a small frame."""
        asset = self._frames.add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe(name)
        return self._evaluate(name, suite, batch, {"dataframe": frame})

    def check_query(self, name: str, suite: Suite, query: str) -> list[Evaluation]:
        """Evaluate a suite on the rows of a query, inside the database."""
        asset = self._store.add_query_asset(name, query=query)
        batch = asset.add_batch_definition_whole_table(name)
        return self._evaluate(name, suite, batch, None)

    def write_docs(self, folder: Path) -> Path:
        """Write what was evaluated as static HTML in place of what the folder held."""
        shutil.rmtree(folder, ignore_errors=True)
        for site in self._context.get_site_names():
            self._context.delete_data_docs_site(site)
        self._context.add_data_docs_site(
            "keepline",
            {
                "class_name": "SiteBuilder",
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(folder),
                },
            },
        )
        self._context.build_data_docs()
        return folder / "index.html"

    def _evaluate(
        self,
        name: str,
        suite: Suite,
        batch: BatchDefinition[Any],
        parameters: dict[str, Any] | None,
    ) -> list[Evaluation]:
        try:
            gx_suite = self._context.suites.add(
                self._gx.ExpectationSuite(
                    name=f"{suite.name} ({name})",
                    expectations=[
                        {
                            "type": expectation.type,
                            "kwargs": dict(expectation.kwargs),
                            "severity": expectation.severity,
                            "meta": {"position": position},
                        }
                        for position, expectation in enumerate(suite.expectations)
                    ],
                )
            )
            definition = self._context.validation_definitions.add(
                self._gx.ValidationDefinition(name=name, data=batch, suite=gx_suite)
            )
            outcome = definition.run(batch_parameters=parameters, result_format=RESULT_FORMAT)
        except Exception as error:
            raise CheckCrashedError(
                f"the check {name} could not be evaluated: {type(error).__name__}: {_brief(error)}"
            ) from None
        return _read(name, suite, outcome.results)


@contextmanager
def _without_spark_connect() -> Iterator[None]:
    """Keep the import off Spark Connect, which it tries wherever PySpark is installed.

    PySpark ends the whole process there if gRPC is missing and Python was started with `-c` or by
    another program; where gRPC is found, it warns about pandas.
    """
    name = "pyspark.sql.connect"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # documented: such an import fails
    try:
        yield
    finally:
        del sys.modules[name]


def _read(name: str, suite: Suite, results: Sequence[Any]) -> list[Evaluation]:
    found: dict[int, Evaluation] = {}
    for result in results:
        position = result.expectation_config.meta["position"]
        expectation = suite.expectations[position]
        crash = _crash(result.exception_info)
        if crash:
            raise CheckCrashedError(
                f"the check {name} could not evaluate {expectation.type} on "
                f"{expectation.column or 'its rows'}, which says nothing about the data: {crash}"
            )
        found[position] = Evaluation(expectation, bool(result.success), dict(result.result))
    if len(found) != len(suite.expectations):
        raise CheckCrashedError(
            f"the check {name} evaluated {len(found)} of {len(suite.expectations)} expectations: "
            "a check that was not made is no check that passed"
        )
    return [found[position] for position in sorted(found)]


def _crash(info: dict[str, Any]) -> str:
    """Return why an expectation crashed, or ''; a crash of a metric hides one level deeper."""
    causes = [info, *(value for value in info.values() if isinstance(value, dict))]
    for cause in causes:
        # Great Expectations writes True in one place and 'True' in the other.
        if str(cause.get("raised_exception", False)) == "True":
            return _brief(cause.get("exception_message") or "no message")
    return ""


def _brief(error: object) -> str:
    """The first line alone: the rest may quote statements and rows."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"
