"""The disk that journal and desk share: its reserve is let go when either cannot write, and taken back later."""

from ingest.journal import Journal


class Disk:
    """Derives what is wrong from what is true now: the last append, the last desk round, the reserve.

    While the reserve is let go, half of it belongs to the desk: the journal stops before it has eaten that,
    so that the alert of the full disk, and every other, can still be stored and sent.
    """

    def __init__(self, journal: Journal, reserve: int) -> None:
        self._journal = journal
        self._reserve = reserve
        self._held = journal.reserve_held
        self.journal_failed = ""  # why the last append failed; "" if it did not
        self.desk_failed = ""  # why the last desk round could not be written

    def journal_may_write(self) -> bool:
        """Whether there is room for readings beside what belongs to the desk."""
        if self._held or not self._reserve:
            return True
        if self._journal.free() > self._reserve // 2:
            return True
        self.journal_failed = "the disk is full but for what alerts need"
        return False

    def look(self) -> str:
        """Let the reserve go or take it back; why the disk is not well, "" if it is."""
        failed = self.journal_failed or self.desk_failed
        if failed:
            self._journal.release_reserve()
            self._held = self._journal.reserve_held
            return failed
        if not self._held and self._journal.free() > 2 * self._reserve:
            self._held = self._journal.restore_reserve()
        if self._held or not self._reserve:
            return ""
        return "the disk is nearly full: the reserve that keeps alerts alive is in use"
