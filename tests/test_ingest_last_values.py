"""The table of last values: whole copies only, whatever the writer does, and a new file for a new version."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ingest.last_values import LastValues, NoLastValues
from tests.phones import ROOT, until

WRITER = """
import sys
import numpy as np
from pathlib import Path
from ingest.last_values import LastValues
rows = 5_000
table = LastValues.create(Path(sys.argv[1]), "v1", rows)
print("ready", flush=True)
n = 0
while True:
    n += 1
    table.write(np.full(rows, n), np.full(rows, float(n)), np.full(rows, n % 3, np.uint8))
"""


def test_what_is_written_is_read_and_before_it_nothing_was_heard(tmp_path: Path) -> None:
    path = tmp_path / "values"
    with LastValues.create(path, "v1", 3) as writer, LastValues.open(path) as reader:
        look = reader.read()
        assert look.newest.tolist() == [0, 0, 0]
        assert np.isnan(look.value).all()
        for n in (1, 2, 3):
            writer.write(np.array([n, 2, 3]), np.array([1.5, np.nan, n]), np.array([0, 2, 1], np.uint8))
            look = reader.read(1, 3)
            assert look.newest.tolist() == [2, 3]
            assert np.isnan(look.value[0])
            assert look.value[1] == n
            assert look.quality.tolist() == [2, 1]
        assert (reader.version, reader.rows) == ("v1", 3)


def test_a_new_version_replaces_the_table_and_the_old_one_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "values"
    with LastValues.create(path, "v1", 2), LastValues.open(path) as old:
        with LastValues.create(path, "v2", 0), LastValues.open(path) as new:
            assert (new.version, len(new.read().newest)) == ("v2", 0)
        assert old.read().newest.tolist() == [0, 0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["values"]


@pytest.mark.parametrize("content", [None, b"", b"short", b"x" * 200])
def test_what_is_no_table_is_said_to_be_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "values"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NoLastValues):
        LastValues.open(path)


def test_a_version_too_long_for_the_header_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="longer"):
        LastValues.create(tmp_path / "values", "v" * 41, 1)


def test_no_reader_ever_sees_half_a_write_even_of_a_writer_killed_in_it(tmp_path: Path) -> None:
    path = tmp_path / "values"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    seen: set[int] = set()

    def look() -> None:
        look = table.read()
        numbers = set(look.newest.tolist())
        assert len(numbers) == 1
        number = numbers.pop()
        if number:
            assert (look.value == number).all()
            assert (look.quality == number % 3).all()
        seen.add(number)

    def looked() -> bool:
        for _ in range(100):
            look()
        return len(seen) > 50

    with LastValues.open(path) as table:
        until(looked)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        look()
    process.stdout.close()
