"""The journal when things break: killed at any moment, a full disk, a disk that cannot be written."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ingest.journal import Journal, JournalUnwritable, dead_letters, read
from ingest.readings import DeadLetter, Round
from registry.clock import HOUR, MINUTE
from tests.test_ingest_journal import FOREVER, files, letter, offsets
from tests.test_ingest_pack import messages, same

MIB = 1 << 20


def at(offset: int, points: int = 50) -> Round:
    """The round that belongs at an offset; an hour holds seven of them."""
    return replace(
        messages(1, points, seed=offset), time=offset * 9 * MINUTE, digests=offset.to_bytes(8, "big")
    )


def batch(first: int) -> tuple[list[Round], list[DeadLetter]]:
    """The append that belongs after offset ``first - 1``."""
    return [at(offset) for offset in range(first, first + 1 + first % 5)], [letter(first)] * (first % 3)


def whole(folder: Path, journal: Journal) -> None:
    """The journal holds whole appends, in order, without gaps, each round what it was."""
    end = dead = 0
    while end < journal.last_offset:
        rounds, letters = batch(end + 1)
        end, dead = end + len(rounds), dead + len(letters)
    assert end == journal.last_offset, "half an append"
    newest = [id_ for id_, _ in dead_letters(folder, limit=1)]
    assert newest == [dead] or not newest, "none where retention has dropped their files"
    assert journal.missing == ()
    kept = list(read(folder, 0))
    assert [offset for offset, _ in kept] == list(range(journal.first_offset, journal.last_offset + 1))
    assert all(same(round_, at(offset)) for offset, round_ in kept)


# -- killed --------------------------------------------------------------------------------------------


def keep_writing(folder: Path) -> None:
    """Append as fast as it goes; print each offset once append has returned."""
    with Journal(folder, reserve=MIB) as journal:
        while True:
            last = journal.append(*batch(journal.last_offset + 1))
            print(last, flush=True)
            absorbed = max(0, last - 200)
            journal.retain(absorbed=absorbed, history=None, max_age=FOREVER, max_bytes=1, now=last)


def survives_kills(folder: Path, times: int) -> None:
    dice = random.Random(times)
    acknowledged = 0
    program = (
        "import sys, pathlib, test_ingest_journal_faults as t; t.keep_writing(pathlib.Path(sys.argv[1]))"
    )
    for _ in range(times):
        writer = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(dice.randint(1, 40))]
        for _ in range(dice.randint(0, 50_000)):
            pass  # so that it strikes anywhere, not only just after a line
        writer.kill()
        lines += writer.communicate()[0].splitlines(keepends=True)
        assert lines[0], "it never wrote"
        acknowledged = max([acknowledged, *(int(line) for line in lines if line.endswith("\n"))])
        with Journal(folder, reserve=MIB) as journal:
            assert journal.last_offset >= acknowledged
            whole(folder, journal)


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    survives_kills(tmp_path, 10)


@pytest.mark.long
def test_kill_9_a_hundred_times(tmp_path: Path) -> None:
    survives_kills(tmp_path, 100)


def in_child(work: Callable[[], None], kill_at_line: int) -> int:
    """Do work in a forked process that kills itself at the n-th line it executes of the journal's code.

    Returns: the lines executed where it lived, else 0.
    """
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        lines = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal lines
            if "journal" not in Path(frame.f_code.co_filename).stem or "test" in frame.f_code.co_filename:
                return None
            if event == "line":
                lines += 1
                if lines == kill_at_line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(None)
            os.write(into, str(lines).encode())
            os._exit(0)
    os.close(into)
    with open(out) as answer:
        lived = answer.read()
    os.waitpid(child, 0)
    return int(lived or 0)


@pytest.fixture
def hours(tmp_path: Path) -> Path:
    """A journal of two files, its writer killed: the newest has its write-ahead log."""
    folder = tmp_path / "before"

    def work() -> None:
        journal = Journal(folder, reserve=0)
        while journal.last_offset < 9:
            journal.append(*batch(journal.last_offset + 1))
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work, 0) == 0
    return folder


def test_killed_at_any_line_of_opening_rotation_or_retention_it_opens(tmp_path: Path, hours: Path) -> None:
    def work() -> None:
        journal = Journal(folder, reserve=0)
        while journal.last_offset < 20:
            journal.append(*batch(journal.last_offset + 1))
        journal.retain(absorbed=16, history=2, max_age=0, max_bytes=1, now=FOREVER)
        journal.close()

    folder = tmp_path / "counted"
    shutil.copytree(hours, folder)
    lines = in_child(work, 0)
    assert lines > 200
    assert files(folder) == [f"{first:020}.sqlite" for first in (17, 20)], "it rotated and retained"
    for line in range(1, lines, max(1, lines // 100)):
        folder = tmp_path / str(line)
        shutil.copytree(hours, folder)
        assert in_child(work, line) == 0, "it was to be killed"
        with Journal(folder, reserve=0) as journal:
            assert journal.last_offset >= 9
            whole(folder, journal)
            journal.append(*batch(journal.last_offset + 1))
            whole(folder, journal)
        assert not list(folder.glob("*.new*"))
        shutil.rmtree(folder)


# -- the disk ------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def big(offset: int) -> Round:
    """A round of some 6 kB; all of one time, so that they stay in one file."""
    return replace(at(offset, 4000), time=HOUR)


def fill(journal: Journal) -> JournalUnwritable:
    """Append until the disk does not take it any more."""
    while True:
        try:
            journal.append([big(journal.last_offset + 1)], [letter(1)])
        except JournalUnwritable as error:
            return error


def leave_no_room(disk: Path) -> Path:
    """Take what is free, but for the odd block that belongs to a folder."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        room = os.statvfs(disk)
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
    return ballast


def test_a_full_disk_is_said_and_nothing_is_half_done(small_disk: Path) -> None:
    folder = small_disk / "journal"
    with Journal(folder, reserve=MIB) as journal:
        assert journal.reserve.restore()
        assert (folder / "reserve").stat().st_blocks * 512 >= MIB
        error = fill(journal)
        assert error.reason == "disk_full"
        full_at = journal.last_offset
        assert full_at > 10
        assert offsets(folder) == list(range(1, full_at + 1))
        assert dead_letters(folder, limit=1)[0][0] == full_at
        with pytest.raises(JournalUnwritable):
            journal.append([big(full_at + 1)])

        assert journal.reserve.release()
        assert not journal.reserve.release()
        assert journal.append([big(full_at + 1)], [letter(2)]) == full_at + 1
        assert not journal.reserve.restore(), "there is no room for it again"
        assert fill(journal).reason == "disk_full"

        end = journal.last_offset
        assert [dead[0] for dead in dead_letters(folder, limit=1)] == [end]
        assert all(same(round_, big(offset)) for offset, round_ in read(folder, 0))
    shutil.rmtree(folder)
    with Journal(folder, reserve=MIB) as journal:
        assert journal.reserve.restore()


def test_a_full_disk_at_a_rotation_leaves_the_journal_as_it_was(small_disk: Path) -> None:
    folder = small_disk / "journal"
    with Journal(folder, reserve=0) as journal:
        journal.append(*batch(1))
        before = files(folder)
        ballast = leave_no_room(small_disk)
        later = replace(at(3), time=9 * HOUR)
        for _ in range(2):
            with pytest.raises(JournalUnwritable) as caught:
                journal.append([later])
            assert caught.value.reason == "disk_full"
        assert journal.last_offset == 2
        ballast.unlink()
        assert journal.append([later]) == 3
        assert files(folder) == [*before, f"{3:020}.sqlite"]
        assert offsets(folder) == [1, 2, 3]


def test_it_opens_on_a_full_disk_by_giving_up_the_reserve(small_disk: Path) -> None:
    folder = small_disk / "journal"
    with Journal(folder, reserve=MIB) as journal:
        journal.append(*batch(1))
        assert journal.reserve.held
    ballast = leave_no_room(small_disk)
    with Journal(folder, reserve=MIB) as journal:
        assert journal.last_offset == 2
        journal.reserve.release()
        assert not journal.reserve.held
        assert MIB // 2 < journal.reserve.free() <= MIB
        assert journal.append(*batch(3)) == 6
        assert not journal.reserve.restore()
    for path in folder.glob("*.sqlite*"):
        path.rename(small_disk / path.name)
    with (folder / "reserve").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, MIB)
    with ballast.open("ab", buffering=0) as more:
        while os.statvfs(small_disk).f_bavail:
            more.write(bytes(4096))
    with Journal(folder, reserve=MIB, after=6) as journal:
        assert not journal.reserve.held, "without giving it up there was no room for a first file"
        assert journal.append(*batch(7)) == 9


def test_a_read_only_disk_is_said(small_disk: Path) -> None:
    folder = small_disk / "journal"
    with Journal(folder, reserve=0) as journal:
        journal.append(*batch(1))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(JournalUnwritable) as caught:
        Journal(folder, reserve=0)
    assert caught.value.reason == "read_only"
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with Journal(folder, reserve=0) as journal:
        assert journal.append(*batch(3)) == 6


def test_a_disk_that_turns_read_only_keeps_its_reserve_and_stops_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path, reserve=MIB) as journal:
        command = ["mount", "--bind", str(tmp_path), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(tmp_path)], check=True)
            assert not journal.reserve.release()
            assert journal.reserve.held
            assert journal.reserve.restore()
        finally:
            subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
        assert journal.reserve.release()
        assert not journal.reserve.held
        shutil.rmtree(tmp_path)
        assert journal.reserve.free() == 0, "a disk that is gone has nothing free"
        assert not journal.reserve.restore()


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writes beyond it fail as they do on a failing disk: EFBIG, which SQLite reports as an I/O error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 5_000, 50_000, 200_000])
def test_a_failed_write_can_be_tried_again(tmp_path: Path, size: int) -> None:
    with Journal(tmp_path, reserve=0) as journal:
        journal.append(*batch(1))
        with files_no_larger_than(size):
            error = fill(journal)
            assert error.reason == "io_error"
            refused = journal.last_offset + 1
            with pytest.raises(JournalUnwritable):
                journal.append([big(refused), big(refused + 1)], [letter(1)])
        assert journal.last_offset == refused - 1
        dead = len(dead_letters(tmp_path, limit=1000))
        assert journal.append([big(refused)], [letter(1)]) == refused
        assert offsets(tmp_path) == list(range(1, refused + 1))
        assert len(dead_letters(tmp_path, limit=1000)) == dead + 1
    with Journal(tmp_path, reserve=0) as journal:
        assert journal.last_offset == refused


def test_files_made_immutable_under_a_running_writer_are_said(tmp_path: Path) -> None:
    with Journal(tmp_path, reserve=0) as journal:
        journal.append(*batch(1))
        parts = [str(path) for path in tmp_path.glob("*.sqlite*") if not path.name.endswith("-shm")]
        done = subprocess.run(["chattr", "+i", *parts], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"files cannot be made immutable here: {done.stderr.strip()}")
        try:
            with pytest.raises(JournalUnwritable):
                journal.append(*batch(3))
        finally:
            subprocess.run(["chattr", "-i", *parts], check=True)
        assert journal.append(*batch(3)) == 6
        assert offsets(tmp_path) == list(range(1, 7))


def test_an_old_file_that_is_damaged_while_we_run_does_not_stop_retention(tmp_path: Path) -> None:
    with Journal(tmp_path, reserve=0) as journal:
        journal.append([at(1)])
        with closing(sqlite3.connect(tmp_path / files(tmp_path)[0])) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM round").fetchone()  # so that it is not sealed
            journal.append([at(9)])
        for path in tmp_path.glob(f"{1:020}.sqlite*"):
            path.write_bytes(b"rubbish" * 1000)
        assert journal.retain(absorbed=0, history=None, max_age=FOREVER, max_bytes=1, now=FOREVER) is None
        assert journal.append([at(10)]) == 3


def test_without_a_reserve_there_is_none_to_release(tmp_path: Path) -> None:
    with Journal(tmp_path, reserve=0) as journal:
        assert journal.reserve.restore()
        assert not journal.reserve.release()


def test_a_reserve_of_another_size_is_made_anew(tmp_path: Path) -> None:
    Journal(tmp_path, reserve=MIB).close()
    Journal(tmp_path, reserve=2 * MIB).close()
    assert (tmp_path / "reserve").stat().st_size == 2 * MIB
