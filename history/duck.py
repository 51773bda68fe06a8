"""How DuckDB is opened: in memory, with a limit, and without reach to anything that it was not given."""

import duckdb

THREADS = 2
"""Of a query: a chart is not to take all of a small machine."""

MEMORY = "512MB"

SETTINGS = (
    "TimeZone = 'UTC'",
    "autoinstall_known_extensions = false",
    "python_enable_replacements = false",  # no variable of ours is ever a table
    "temp_directory = ''",
)


def opened() -> duckdb.DuckDBPyConnection:
    """A database of its own; threads that share it take a cursor each."""
    database = duckdb.connect(":memory:", config={"threads": THREADS, "memory_limit": MEMORY})
    for setting in SETTINGS:
        database.execute(f"SET {setting}")
    return database
