"""Readings kept for years: the journal's readers that write Parquet and InfluxDB, and what is asked of these."""
