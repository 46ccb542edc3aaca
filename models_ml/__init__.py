"""Models that keepline trains and applies: pure functions from Parquet to Parquet."""
