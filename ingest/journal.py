"""The journal: what has arrived, written once and durably before the broker is told.

A folder of SQLite files, one for each hour of arrival time, named after their first offset. Every step of
a rotation leaves a journal that opens: the next file is made complete under another name, carrying over
where the journal ended, and then renamed; an empty newest file is right.
"""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ingest import journal_file, journal_reader
from ingest.journal_file import File, JournalDamaged, JournalUnreadable, State
from ingest.journal_reader import dead_letters, read, version_at
from ingest.pack import digests, pack
from ingest.readings import DeadLetter, Round
from ingest.reserve import Reserve, room
from registry.clock import HOUR, MINUTE

__all__ = [
    "RESERVE",
    "Journal",
    "JournalDamaged",
    "JournalLocked",
    "JournalUnreadable",
    "JournalUnwritable",
    "Lost",
    "Usage",
    "dead_letters",
    "read",
    "usage",
    "version_at",
]

RESERVE = 64 << 20

_RECENT = 4  # files over which usage measures the growth
_SQLITE_REASONS = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}
_OS_REASONS = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EACCES: "read_only",
    errno.EPERM: "read_only",
}


class JournalUnwritable(Exception):
    """Nothing of this append is in the journal; the same append works again once the disk does.

    reason: "disk_full", "read_only", "locked", "damaged" or "io_error": a stable word to count by.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"the journal cannot be written ({reason}): {detail}")
        self.reason = reason
        self.detail = detail


class JournalLocked(Exception):
    """Another process, or another Journal, writes this folder."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Rounds that the journal no longer has. Offsets inclusive; times of arrival, µs, that enclose them."""

    first_time: int
    last_time: int
    first_offset: int
    last_offset: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How much disk the journal takes and how long that can go on; None where it is not yet known."""

    bytes: int
    bytes_per_hour: float | None  # of arrival time, over the newest few files
    free: int  # bytes that the disk still has
    hours: float | None  # hours of arrival time that the budget holds, or the disk if that holds less


class Journal:
    """The one writer of a journal folder; it holds a lock until it is closed. Not for several threads.

    Args:
        folder: made if it is missing.
        reserve: bytes of disk kept preallocated, to be let go when the disk is full; 0 for none.
        after: an offset known from elsewhere (what the desk has absorbed). Where the journal has less,
            because files were moved away, it goes on after it: no offset is ever used twice.

    Raises:
        JournalLocked: another one writes it.
        JournalDamaged: a foreign or damaged file is in the way.
        JournalUnwritable: the folder cannot be written; if the disk is full, even without the reserve.
    """

    def __init__(self, folder: Path, *, reserve: int = RESERVE, after: int = 0) -> None:
        self._folder = folder
        self.reserve = Reserve(folder / "reserve", reserve)
        self._writer: sqlite3.Connection | None = None
        self._files: list[File] = []
        self._state = State()
        self.missing: tuple[Lost, ...] = ()
        """Gaps, found at open: somebody moved or damaged files. Times are 0 where nothing is left to tell them."""
        with _unwritable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder)
        try:
            try:
                self._open(after)
            except JournalUnwritable as error:
                if error.reason != "disk_full" or not self.reserve.release():
                    raise
                self._open(after)
            else:
                self.reserve.restore()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and let the next writer in."""
        self._disconnect()
        self._lock.close()

    @property
    def last_offset(self) -> int:
        """Offset of the newest round; 0 where there has never been one."""
        return self._state.offset

    @property
    def last_time(self) -> int:
        """Arrival time of the newest round, µs; 0 where there has never been one."""
        return self._state.time

    @property
    def first_offset(self) -> int:
        """Offset of the oldest round that retention has left; last_offset + 1 if there is none."""
        return self._files[0].first

    @property
    def version(self) -> str | None:
        """The registry version in force after the newest round."""
        return self._state.version

    def append(self, rounds: Sequence[Round], dead: Sequence[DeadLetter] = ()) -> int:
        """Write rounds and dead letters in one transaction; durable on return.

        Returns: the offset of the newest round.

        Raises:
            ValueError: a round's time is before that of the round before it.
            JournalUnwritable: nothing was written. Keep the messages unacknowledged and try again.
        """
        if not rounds and not dead:
            return self.last_offset
        state = self._state
        rows = []
        versions = []
        for round_ in rounds:
            if round_.time < state.time:
                raise ValueError(f"round of {round_.time} after one of {state.time}: time went backwards")
            state = replace(state, offset=state.offset + 1, time=round_.time)
            rows.append((state.offset, state.time, len(round_.digests) // 8, pack(round_)))
            if round_.version is not None:
                state = replace(state, version=round_.version)
                versions.append((state.offset, round_.version))
        letters = [
            (
                id_,
                letter.time,
                _text(letter.topic),
                letter.reason,
                _text(letter.detail),
                letter.head,
                letter.count,
            )
            for id_, letter in enumerate(dead, state.dead + 1)
        ]
        state = replace(state, dead=state.dead + len(letters))
        with _unwritable(self._folder):
            begun = self._files[-1].begun
            if rounds and begun is not None and rounds[0].time // HOUR > begun // HOUR:
                self._rotate(self._state)
            self._commit(rows, versions, letters)
        self._state = state
        file = self._files[-1]
        file.versions.update(version for _, version in versions)
        if rounds and file.begun is None:
            file.begun = rounds[0].time
        return state.offset

    def read(self, after: int) -> Iterator[tuple[int, Round]]:
        """The rounds after an offset; see journal_reader.read."""
        return journal_reader.read(self._folder, after)

    def versions_used(self) -> set[str]:
        """Every registry version that a replay of what is left of the journal can need."""
        return set().union(*(file.versions for file in self._files))

    def recent_digests(self, count: int) -> list[bytes]:
        """The 8-byte digests of the newest ``count`` messages, or of a few more (whole rounds), oldest first."""
        found: list[bytes] = []
        for file in reversed(self._files):
            with journal_file.reading(file.path) as db:
                newest_first = db.execute(
                    "SELECT offset, blob FROM round WHERE messages > 0 ORDER BY offset DESC"
                )
                for offset, blob in newest_first:
                    if len(found) >= count:
                        return found[::-1]
                    packed = journal_file.unpacked(digests, file.path, offset, blob)
                    found += [packed[n : n + 8] for n in range(len(packed) - 8, -1, -8)]
        return found[::-1]

    def retain(
        self, *, absorbed: int, history: int | None, max_age: int, max_bytes: int, now: int
    ) -> Lost | None:
        """Drop the oldest whole files that are too old, or too much for the budget.

        A file with an offset beyond ``absorbed`` (engine and desk) is never dropped; one with an offset
        beyond ``history`` (None: nobody keeps a history) only for the budget.

        Args:
            max_age: µs of arrival time. max_bytes: of all journal files, the reserve apart. now: µs.

        Returns: the span that history now lacks, if any: it wants a finding that names it.

        Raises:
            JournalUnwritable: a file could not be removed, and no span was lost.
        """
        self._seal()
        lost: Lost | None = None
        total = sum(journal_file.size(file.path) for file in self._files)
        while len(self._files) > 1:
            oldest, following = self._files[0], self._files[1].before
            wanted = history is not None and following.offset > history
            too_old = following.time < now - max_age and not wanted
            if following.offset > absorbed or not (too_old or total > max_bytes):
                break
            gone = _unabsorbed(oldest, following, history or 0) if wanted else None
            total -= journal_file.size(oldest.path)
            try:
                with _unwritable(self._folder):
                    journal_file.remove(oldest.path)
            except JournalUnwritable:
                if lost is None:
                    raise
                break  # first things first: the loss is told; the next call fails alike
            del self._files[0]
            if gone is not None:
                lost = (
                    gone
                    if lost is None
                    else replace(gone, first_time=lost.first_time, first_offset=lost.first_offset)
                )
        return lost

    def usage(self, max_bytes: int | None = None) -> Usage:
        """What the journal takes of the disk; opens no file. See the function of this name."""
        recent = self._files[-_RECENT:]
        begun = next((file.begun for file in recent if file.begun is not None), self.last_time)
        return _usage(
            self._folder,
            [file.path for file in self._files],
            self.last_time - begun,
            max_bytes,
        )

    def _open(self, after: int) -> None:
        with _unwritable(self._folder):
            journal_file.tidy(self._folder)
            paths = journal_file.paths(self._folder)
            begun_anew = not paths
            if begun_anew:
                paths = [journal_file.create(self._folder, State(offset=after))]
            found = [journal_file.inspect(path) for path in paths]
            self._files = [file for file, _ in found]
            self._state = found[-1][1]
            self._seal()
            gaps = [(end, file.before) for (_, end), (file, _) in pairwise(found)]
            if begun_anew and after:
                gaps.append((State(), State(offset=after)))
            if self._state.offset < after:
                gaps.append((self._state, replace(self._state, offset=after)))
                self._rotate(replace(self._state, offset=after))
            self.missing = tuple(
                Lost(end.time, next_.time, end.offset + 1, next_.offset)
                for end, next_ in gaps
                if end.offset < next_.offset
            )

    def _rotate(self, state: State) -> None:
        """Go on in a new file. Killed between any two steps, the journal ends in an empty file or none."""
        path = journal_file.create(self._folder, state)
        self._disconnect()
        self._files.append(File(path, state, versions=set() if state.version is None else {state.version}))
        self._state = state
        self._seal()

    def _seal(self) -> None:
        for file in self._files[:-1]:
            file.sealed = file.sealed or journal_file.seal(file.path)

    def _commit(
        self,
        rows: list[tuple[int, int, int, bytes]],
        versions: list[tuple[int, str]],
        letters: list[tuple[int, int, str, str, str, bytes, int]],
    ) -> None:
        if self._writer is None:
            self._writer = journal_file.connect(self._files[-1].path)
        db = self._writer
        try:
            if db.in_transaction:  # an earlier rollback failed, too
                db.execute("ROLLBACK")
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO round VALUES (?, ?, ?, ?)", rows)
            if versions:
                db.executemany("INSERT INTO version VALUES (?, ?)", versions)
            if letters:
                db.executemany("INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?)", letters)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def usage(folder: Path, max_bytes: int | None = None) -> Usage:
    """What the journal takes of the disk, and for how many hours a budget and the disk suffice.

    Raises:
        JournalDamaged, JournalUnreadable: a file cannot be read.
    """
    paths = journal_file.paths(folder)
    times = [
        time
        for path in paths[-_RECENT:]
        for order in ("ASC", "DESC")
        for (time,) in journal_file.query(
            path,
            f"SELECT time FROM round ORDER BY offset {order} LIMIT 1",  # noqa: S608
        )
    ]
    return _usage(folder, paths, times[-1] - times[0] if times else 0, max_bytes)


def _usage(folder: Path, paths: list[Path], span: int, max_bytes: int | None) -> Usage:
    """``span``: µs of arrival time that the newest _RECENT files hold."""
    sizes = [journal_file.size(path) for path in paths]
    total, (free, _) = sum(sizes), room(folder)
    budget = total + free if max_bytes is None else max_bytes
    rate = sum(sizes[-_RECENT:]) / span * HOUR if span >= MINUTE else None
    return Usage(
        bytes=total,
        bytes_per_hour=rate,
        free=free,
        hours=min(budget, total + free) / rate if rate else None,
    )


def _unabsorbed(file: File, following: State, history: int) -> Lost:
    """What history lacks of a file that is about to go."""
    first = max(file.first, history + 1)
    first_time = file.before.time
    statement = "SELECT time FROM round WHERE offset >= ? ORDER BY offset LIMIT 1"
    with suppress(JournalDamaged, JournalUnreadable):  # then the time before the file encloses it
        first_time = next(
            (time for (time,) in journal_file.query(file.path, statement, (first,))), first_time
        )
    return Lost(first_time, following.time, first, following.offset)


def _lock(folder: Path) -> IO[bytes]:
    file = (folder / "lock").open("a+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            file.seek(0)
            holder = file.read().decode().strip() or "unknown"
        said = f"{folder} is in use (by process {holder}); stop the `fenghuo serve` that it belongs to first"
        raise JournalLocked(said) from None
    except OSError:
        file.close()
        raise
    with suppress(OSError):  # the number only serves the message above; the disk may be full
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
    return file


def _text(text: str) -> str:
    """Text that SQLite can hold: a lone surrogate from a broken payload is written as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _unwritable(folder: Path) -> Iterator[None]:
    """Say a failed write as JournalUnwritable."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.DataError):
        raise  # our own mistake, not the disk's
    except sqlite3.DatabaseError as error:
        reason = _SQLITE_REASONS.get(error.sqlite_errorcode & 0xFF) or _disk_reason(folder)
        raise JournalUnwritable(reason, f"{error} ({error.sqlite_errorname})") from error
    except OSError as error:
        raise JournalUnwritable(_OS_REASONS.get(error.errno or 0, "io_error"), str(error)) from error


def _disk_reason(folder: Path) -> str:
    """What is wrong with the disk, where SQLite says no more than that something is."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return "io_error"
    if disk.f_flag & os.ST_RDONLY:
        return "read_only"
    return "disk_full" if disk.f_bavail * disk.f_frsize < 1 << 20 else "io_error"
