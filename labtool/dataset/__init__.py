"""Files of a run → Parquet tables, their schemas, and queries over them."""
