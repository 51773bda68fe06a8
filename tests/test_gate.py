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

TESTS_WITHOUT_JAVA = """
def test_kafka(kafka):
    pass

def test_kafka_too(kafka):
    pass
"""


def told(tests: str, folder: Path, **environment: str) -> list[str]:
    """What pytest says of these tests at the end, the last line e.g. "2 skipped, 1 error"."""
    (folder / "test_some.py").write_text(tests, "utf-8")
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
        [*command, "-o", "addopts=", "-rs", "test_some.py"],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    *_, summary = lines = done.stdout.splitlines()
    skipped = [line for line in lines if line.startswith("SKIPPED")]
    return [*skipped, summary.strip("= ").partition(" in ")[0]]


def test_only_a_missing_server_fails_the_gate(tmp_path: Path) -> None:
    assert told(TESTS, tmp_path, FENGHUO_REQUIRE_SERVERS="1")[-1] == "2 skipped, 1 error"


def test_what_is_missing_is_one_line_and_fails_the_gate(tmp_path: Path) -> None:
    empty = {"PATH": str(tmp_path), "JAVA_HOME": ""}
    skipped, summary = told(TESTS_WITHOUT_JAVA, tmp_path, **empty, FENGHUO_REQUIRE_SERVERS="")
    assert skipped.startswith("SKIPPED [2] ")
    assert skipped.endswith(
        ": Java 17 is missing for Kafka; to get it: apt-get install openjdk-17-jre-headless"
    )
    assert summary == "2 skipped"
    assert told(TESTS_WITHOUT_JAVA, tmp_path, **empty, FENGHUO_REQUIRE_SERVERS="1") == ["2 errors"]
