"""Compute engines: where raw data is loaded, dbt builds and scores are joined."""
