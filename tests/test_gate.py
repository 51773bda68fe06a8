"""The gate fails for want of a server, and for no other reason that a test is skipped."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest
from tests.servers import needs_mosquitto

@pytest.mark.skipif(True, reason=needs_mosquitto.kwargs["reason"])
def test_server():
    pass

@pytest.mark.skipif(True, reason="a recording is not here")
@needs_mosquitto
def test_recording():
    pass

def test_mount():
    pytest.skip("nothing may be mounted here")
"""


def outcomes(folder: Path, **environment: str) -> str:
    """How pytest ends the tests above, e.g. "2 skipped, 1 error"."""
    (folder / "test_some.py").write_text(TESTS, "utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        ".",
    ]
    done = subprocess.run(
        [*command, "-o", "addopts=", "test_some.py"],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()[-1].strip("= ").partition(" in ")[0]


def test_only_a_missing_server_fails_the_gate(tmp_path: Path) -> None:
    assert outcomes(tmp_path, FENGHUO_REQUIRE_SERVERS="1") == "2 skipped, 1 error"
