"""A reserve: a file that keeps a part of a disk free, to be given back when the disk is full."""

import os
from pathlib import Path

LEAST = 16
"""A reserve is never more than this part of its disk."""


def room(folder: Path) -> tuple[int, int]:
    """Bytes of a folder's disk: free for us, and in all. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def share(wanted: int, folder: Path) -> int:
    """Bytes for each of the two reserves, the journal's and the desk's, on the disk of an existing folder."""
    try:
        _, size = room(folder)
    except OSError:
        return wanted // 2
    return min(wanted // 2, size // LEAST)


class Reserve:
    """``size`` bytes of the disk at ``path``, preallocated; 0 for none. No method raises."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size

    @property
    def held(self) -> bool:
        """Whether all of it is on the disk; True where none is wanted."""
        if not self.size:
            return True
        try:
            file = self.path.stat()
        except OSError:
            return False
        return file.st_size == self.size and file.st_blocks * 512 >= self.size

    def free(self) -> int:
        """Bytes that the disk still has for us, the reserve apart; 0 where it does not answer."""
        try:
            free, _ = room(self.path.parent)
        except OSError:
            return 0
        return free

    def release(self) -> bool:
        """Give it back to a full disk. Returns: whether there was one to give."""
        try:
            self.path.unlink()
        except OSError:  # there is none, or a disk that can only be read: the answer says so
            return False
        return True

    def restore(self, *, times: int = 2) -> bool:
        """Take it again once so many times as much is free. Returns: whether it is held now."""
        if self.held:
            return True
        self.release()
        if self.free() < times * self.size:
            return False
        try:
            with self.path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.size)
        except OSError:  # no room after all, or a failing disk: the answer says that it is not held
            self.release()
            return False
        return True
