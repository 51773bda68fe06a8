"""The disk's reserves: who gives way to whom when it is full, and when all goes on."""

import os
from pathlib import Path

from fenghuo.disk import Disk
from ingest.reserve import Reserve
from tests.test_faults import small_disk

MIB = 1 << 20


def leave(disk: Path, free: int) -> None:
    """Fill the disk but for so many bytes."""
    hog = disk / "hog"
    hog.unlink(missing_ok=True)
    room = os.statvfs(disk)
    with hog.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - free)


def test_the_desk_keeps_its_part_until_it_needs_it_and_all_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "16m") as folder:
        journal, desk = Reserve(folder / "journal", MIB), Reserve(folder / "desk", MIB)
        assert journal.restore()
        disk = Disk(journal, desk)
        assert desk.held
        leave(folder, 0)
        disk.journal_failed = "full"
        disk.desk_fails("full")
        assert disk.look() == "full"
        assert (journal.held, desk.held) == (False, True)
        assert disk.journal_may_write(), "what it was given back"
        leave(folder, 0)
        disk.desk_fails("full")
        assert not desk.held
        disk.desk_failed = ""
        assert not disk.journal_may_write(), "what is free now is the desk's"
        assert "what alerts need" in disk.look()
        leave(folder, 2 * MIB + 65_536)
        assert disk.journal_may_write()
        disk.journal_failed = ""
        assert "nearly full" in disk.look()
        leave(folder, 8 * MIB)
        assert disk.look() == ""
        assert journal.held
        assert desk.held
