"""What keepline's own DuckDB may take of this machine: the same beside every engine."""

from __future__ import annotations

from keepline.settings import Settings

Limits = dict[str, str | bool | int | float | list[str]]


def duckdb_limits(settings: Settings) -> Limits:
    """Return DuckDB's configuration: its memory and threads, and where it spills to; it downloads nothing."""
    return {
        "memory_limit": settings.compute_memory_limit,
        "threads": settings.compute_threads,
        "temp_directory": str(settings.operator_home / "compute.tmp"),
        "autoinstall_known_extensions": False,
    }
