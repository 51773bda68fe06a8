"""The disk that journal and desk share: each has a reserve, let go when it cannot write and taken back later."""

from ingest.reserve import Reserve


class Disk:
    """Derives what is wrong from what is true now: the last append, the last desk round, the reserves.

    The desk's reserve is let go only when the desk itself cannot write, even with the journal's let go, so that the
    alert of the full disk, and every other, can still be stored and sent; while it is let go, the journal stops, not to
    eat it.
    """

    def __init__(self, journal: Reserve, desk: Reserve) -> None:
        self._journal, self._desk = journal, desk
        self._held = desk.restore(times=1) and journal.held
        self.journal_failed = ""  # why the last append failed; "" if it did not
        self.desk_failed = ""  # why the last desk round could not be written
        self._desk_tries = False  # with the journal's reserve let go

    def journal_may_write(self) -> bool:
        """Whether there is room for readings beside what belongs to the desk."""
        if self._held or self._desk.restore():
            return True
        self.journal_failed = "the disk is full but for what alerts need"
        return False

    def spare(self) -> int:
        """Bytes that are free beyond what the reserves need to be taken again; below 0 where they are missing."""
        return self._desk.free() - 2 * (self._desk.size + self._journal.size)

    def desk_fails(self, why: str) -> None:
        """A desk round could not be written: reserves go at once, so that the next try may succeed."""
        self.desk_failed, self._desk_tries = why, False
        self.look()

    def look(self) -> str:
        """Let reserves go or take them back; why the disk is not well, "" if it is."""
        failed = self.journal_failed or self.desk_failed
        if failed:
            if self._journal.release():
                self._desk_tries = True  # that may be enough for it
            elif self.desk_failed and not self._desk_tries:
                self._desk.release()
            self._held = self._journal.held and self._desk.held
            return failed
        if not self._held:
            self._held = self._desk.restore() and self._journal.restore()
        return "" if self._held else "the disk is nearly full: the reserve that keeps alerts alive is in use"
