"""The one Spark session of a process, and the tables that it knows.

Spark's own catalogue is in memory: what the warehouse's file names is registered when a session is
needed, what dbt has made is read back when it has run. dbt-spark (method `session`) takes the session
that is there.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepline.compute.spark_warehouse import Catalog, StoredTable, Warehouse
from keepline.errors import SourceUnavailableError, UsageError
from keepline.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# So many periods are made known by one statement.
PERIODS_AT_ONCE = 500
# A few threads over small tables: a shuffle into 200 parts is all overhead.
LOCAL_SHUFFLE_PARTS = 2
# A process on one machine lives for minutes and compiles thousands of small plans: the quick compiler
# alone. What it has compiled must have room: Java gives that compiler 48 MB, which a build fills, and
# goes on interpreted.
LOCAL_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=512m"

# What the session of this process has registered, with absolute paths.
_registered: dict[str, tuple[Path, StoredTable]] = {}
_views: dict[str, str] = {}
# The scratch folder of the session, and that of the JVM, which keeps its first one.
_scratch: Path | None = None
_java_scratch: Path | None = None


def session(settings: Settings) -> SparkSession:
    """Return the session of this process, made when there is none.

    Raises:
        UsageError: PySpark or Java is not installed.
        SourceUnavailableError: the cluster cannot be reached.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise UsageError("PySpark is not installed: make setup-spark") from None
    # Between the two only Arrow passes; what it was tried with is pinned.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    global _scratch, _java_scratch
    scratch = Warehouse(settings.operator_home).scratch
    active = SparkSession.getActiveSession()
    # One that is not ours (Databricks) serves every home; ours writes into its own.
    if active is not None and _scratch in (None, scratch):
        return active
    if active is not None:
        stop()
    _scratch, _java_scratch = scratch, _java_scratch or scratch
    for folder in (scratch, _java_scratch):
        folder.mkdir(parents=True, exist_ok=True)
    # Workers run the Python that runs here.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("keepline").master(settings.spark_master)
    for key, value in _configuration(settings, scratch).items():
        builder = builder.config(key, value)
    try:
        with _quietly(scratch.parent.parent / "java.log"):
            made = builder.getOrCreate()
    except Exception as error:
        if "JAVA" in str(error).upper():
            raise UsageError("Spark needs Java 17: make setup-spark") from error
        raise SourceUnavailableError(
            f"no Spark at {settings.spark_master}: {str(error).splitlines()[0]}"
        ) from error
    made.sparkContext.setLogLevel("OFF")
    return made


@contextmanager
def _quietly(log: Path) -> Iterator[None]:
    """Let what a JVM that starts here says on its standard error go to a file."""
    kept = os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _configuration(settings: Settings, scratch: Path) -> dict[str, str]:
    quiet = Path(__file__).with_name("spark-log4j2.properties")
    java = f"-Dlog4j2.configurationFile={quiet} -Duser.timezone=UTC -Djava.io.tmpdir={scratch}"
    is_local = settings.spark_master.startswith("local")
    configuration = {
        "spark.driver.extraJavaOptions": f"{java} {LOCAL_JAVA}" if is_local else java,
        "spark.driver.memory": settings.compute_memory_limit.upper().removesuffix("B").lower(),
        "spark.local.dir": str(scratch),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.session.timeZone": "UTC",
        # Instants are UTC without a zone, in landing and everywhere else.
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.parquet.compression.codec": "zstd",
        # Files are listed by the driver: the jobs that would do it cost more than the listing.
        "spark.sql.sources.parallelPartitionDiscovery.threshold": "100000",
    }
    if is_local:
        configuration |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": str(LOCAL_SHUFFLE_PARTS),
            "spark.sql.codegen.wholeStage": "false",
        }
    return configuration


def stop() -> None:
    """End the session of this process, if there is one."""
    from pyspark.sql import SparkSession

    global _scratch
    active = SparkSession.getActiveSession()
    if active is not None:
        active.stop()
    _scratch = None
    _registered.clear()
    _views.clear()


def register(spark: SparkSession, warehouse: Warehouse, catalog: Catalog) -> None:
    """Let the session know what the catalogue names, and nothing else."""
    wanted = {name: (warehouse.home, table) for name, table in catalog.tables.items()}
    if _views != dict(catalog.views):
        for name in _views:
            spark.sql(f"drop view if exists {name}")
        _views.clear()
    for name in [name for name, known in _registered.items() if wanted.get(name) != known]:
        spark.sql(f"drop table if exists {name}")
        del _registered[name]
    for schema in sorted({name.split(".")[0] for name in (*wanted, *catalog.views)}):
        spark.sql(f"create schema if not exists {schema}")
    for name, (_, table) in wanted.items():
        if name not in _registered:
            _make(spark, warehouse, name, table)
            _registered[name] = wanted[name]
    if not _views:
        for name, text in catalog.views.items():
            spark.sql(f"create or replace view {name} as {text}")
        _views.update(catalog.views)


def _make(spark: SparkSession, warehouse: Warehouse, name: str, table: StoredTable) -> None:
    declared = ", ".join(f"{column} {kind}" for column, kind in table.columns.items())
    parts = f"partitioned by ({table.partition})" if table.partition else ""
    place = _text(str(warehouse.path(table.folder)))
    spark.sql(f"create table {name} ({declared}) using parquet {parts} location {place}")
    periods = list(table.periods.items())
    for start in range(0, len(periods), PERIODS_AT_ONCE):
        added = " ".join(
            f"partition ({table.partition} = '{period}') location {_text(str(warehouse.path(folder)))}"
            for period, folder in periods[start : start + PERIODS_AT_ONCE]
        )
        spark.sql(f"alter table {name} add {added}")


def read_back(spark: SparkSession, warehouse: Warehouse, catalog: Catalog) -> Catalog:
    """Return the catalogue with what the session holds now."""
    from pyspark.sql.types import StructType

    # One call of the JVM per table: PySpark's own catalogue asks for each column and period.
    inner = spark._jsparkSession.sessionState().catalog()
    tables: dict[str, StoredTable] = {}
    views: list[tuple[int, str, str]] = []
    for schema in _listed(inner.listDatabases()):
        for identifier in _listed(inner.listTables(schema)):
            name = f"{schema}.{identifier.table()}"
            if not identifier.database().isDefined():
                continue
            found = inner.getTableMetadata(identifier)
            if found.viewText().isDefined():
                views.append((found.createTime(), name, found.viewText().get()))
                continue
            kinds = StructType.fromJson(_json(found.schema().json()))
            names = _listed(found.partitionColumnNames())
            tables[name] = StoredTable(
                {each.name: each.dataType.simpleString() for each in kinds},
                warehouse.relative(found.location().toString()),
                names[0] if names else "",
                _periods(spark, inner, warehouse, identifier) if names else {},
            )
    _registered.clear()
    _registered.update({name: (warehouse.home, table) for name, table in tables.items()})
    known = list(catalog.views)
    # Views read views that were made before; one that is made again keeps its place.
    ordered = sorted(
        views, key=lambda view: known.index(view[1]) if view[1] in known else len(known) + view[0]
    )
    _views.clear()
    _views.update({name: text for _, name, text in ordered})
    return Catalog(catalog.generation, tables, dict(_views))


def _periods(
    spark: SparkSession,
    inner: Any,  # noqa: ANN401
    warehouse: Warehouse,
    identifier: Any,  # noqa: ANN401
) -> Mapping[str, str]:
    nothing = spark._jvm.scala.Option.empty()
    told = inner.listPartitions(identifier, nothing).mkString("\n")
    found = re.findall(r"Partition Values: \[[^=]+=([^\]]+)\]\s+Location: (\S+)", told)
    return {period: warehouse.relative(place) for period, place in sorted(found)}


def _listed(sequence: Any) -> list[Any]:  # noqa: ANN401 - a Scala sequence
    return [sequence.apply(position) for position in range(sequence.size())]


def _json(text: str) -> dict[str, Any]:
    import json

    return dict(json.loads(text))


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
