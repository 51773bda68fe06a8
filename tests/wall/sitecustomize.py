"""Moves a process's wall clock by the seconds that stand in a file; Python imports it where PYTHONPATH says so."""

import os
import time
from pathlib import Path

_file = Path(os.environ["TEST_WALL_FILE"])
_true = time.time_ns


def _moved() -> int:
    return _true() + int(_file.read_text()) * 1_000_000_000


time.time_ns = _moved
