"""Compute engines: where raw data is loaded, dbt builds and scores are joined."""

from keepline.compute.base import Compute
from keepline.compute.duckdb import DuckDBCompute
from keepline.settings import Settings

__all__ = ["Compute", "compute_for"]


def compute_for(settings: Settings) -> Compute:
    """Return the engine that the settings name."""
    return DuckDBCompute(settings)
