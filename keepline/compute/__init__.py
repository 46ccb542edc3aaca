"""Compute engines: where raw data is loaded, dbt builds and scores are joined."""

from keepline.compute.base import Compute
from keepline.errors import UsageError
from keepline.settings import Settings

__all__ = ["Compute", "compute_for"]


def compute_for(settings: Settings) -> Compute:
    """Return the engine that the settings name; only its own packages are imported.

    Raises:
        UsageError: there is no such engine.
    """
    match settings.compute:
        case "duckdb":
            from keepline.compute.duckdb import DuckDBCompute

            return DuckDBCompute(settings)
        case "postgres":
            from keepline.compute.postgres import PostgresCompute

            return PostgresCompute(settings)
        case "spark":
            from keepline.compute.spark import SparkCompute

            return SparkCompute(settings)
        case other:
            raise UsageError(f"KEEPLINE_COMPUTE={other}: there is no such engine here")
