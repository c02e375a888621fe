"""The prediction log: spool segments become Parquet files, which DuckDB reads."""
