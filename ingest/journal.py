"""The journal: what has arrived, written once and durably before the broker is told, and read by offset.

A folder of SQLite files, one for each hour of arrival time, named after their first offset. Raw sqlite3
rather than SQLAlchemy: fixed statements on the hottest path of the house.

Every step of a rotation leaves a journal that opens: the next file is made complete under another name
and then renamed; an empty newest file is right. Its meta row carries over where the one before it ended.
"""

import errno
import fcntl
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from ingest.pack import PackError, digests, pack, unpack
from ingest.readings import DeadLetter, Round
from registry.clock import HOUR

RESERVE = 64 << 20
FORMAT = 1

T = TypeVar("T")

_SUFFIX = ".sqlite"
_APPLICATION_ID = 0x46454E47
_CHUNK = 100  # rounds that a reader takes at a time: between chunks it holds up no checkpoint
_RECENT = 4  # files over which usage() measures the growth
_SCHEMA = f"""
BEGIN;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE meta (offset INTEGER NOT NULL, time INTEGER NOT NULL, dead INTEGER NOT NULL);
CREATE TABLE round (
    offset INTEGER PRIMARY KEY, time INTEGER NOT NULL, messages INTEGER NOT NULL, blob BLOB NOT NULL);
CREATE TABLE version (offset INTEGER PRIMARY KEY, version TEXT NOT NULL);
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY, time INTEGER NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL,
    detail TEXT NOT NULL, head BLOB NOT NULL);
"""
_MOVE_AWAY = (
    "Stop Fenghuo and restore the file from a backup, or move it out of the folder: "
    "what is in it is then lost, and the gap is reported"
)
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


class JournalDamaged(Exception):
    """A file in the folder is not, or no longer, a readable part of the journal; says what to do."""

    def __init__(self, path: Path, why: str, mend: str = _MOVE_AWAY) -> None:
        super().__init__(f"{path}: {why}. {mend}.")
        self.path = path


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
    budget_hours: float | None  # hours of readings that the budget holds
    disk_hours: float | None  # hours until the disk is full, if nothing were dropped


@dataclass(frozen=True, slots=True)
class _State:
    """Where the journal ends."""

    offset: int = 0
    time: int = 0
    dead: int = 0  # id of the last dead letter
    version: str | None = None


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    first: int  # its first offset
    time: int  # of the last round before it


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
        self._reserve = reserve
        self._reserved = folder / "reserve"
        self._writer: sqlite3.Connection | None = None
        self._files: list[_File] = []
        self._state = _State()
        self._hour: int | None = None  # of the newest file's first round
        self.missing: tuple[Lost, ...] = ()
        """Gaps between files, found at open: somebody moved or damaged files."""
        with _unwritable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder)
        try:
            try:
                self._open(after)
            except JournalUnwritable as error:
                if error.reason != "disk_full" or not self.release_reserve():
                    raise
                self._open(after)
            else:
                self.restore_reserve()
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
        if self._writer is not None:
            self._writer.close()
            self._writer = None
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
        state = self._state
        if not rounds and not dead:
            return state.offset
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
            (n, d.time, _text(d.topic), _text(d.reason), _text(d.detail), d.head)
            for n, d in enumerate(dead, state.dead + 1)
        ]
        state = replace(state, dead=state.dead + len(letters))
        hour = rounds[0].time // HOUR if rounds else None
        with _unwritable(self._folder):
            if hour is not None and self._hour is not None and hour > self._hour:
                self._rotate(self._state)
            self._commit(rows, versions, letters)
        self._state = state
        if self._hour is None:
            self._hour = hour
        return state.offset

    def read(self, after: int) -> Iterator[tuple[int, Round]]:
        """The rounds after an offset; see the function of this name."""
        return read(self._folder, after)

    def recent_digests(self, count: int) -> set[bytes]:
        """The 8-byte digests of the newest ``count`` messages, or of a few more: whole rounds."""
        found: set[bytes] = set()
        for file in reversed(self._files):
            with _reading(file.path) as db:
                newest_first = db.execute(
                    "SELECT offset, blob FROM round WHERE messages > 0 ORDER BY offset DESC"
                )
                for offset, blob in newest_first:
                    if len(found) >= count:
                        return found
                    packed = _unpacked(digests, file.path, offset, blob)
                    found.update(packed[n : n + 8] for n in range(0, len(packed), 8))
        return found

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
            JournalUnwritable: a file could not be removed, and none was.
        """
        for file in self._files[:-1]:
            if _wal(file.path).exists():
                _seal(file.path)
        lost: Lost | None = None
        total = sum(_size(file.path) for file in self._files)
        while len(self._files) > 1:
            oldest, following = self._files[:2]
            last = following.first - 1
            wanted = history is not None and last > history
            too_old = following.time < now - max_age and not wanted
            if last > absorbed or not (too_old or total > max_bytes):
                break
            size = _size(oldest.path)
            first = max(oldest.first, history + 1) if history is not None else oldest.first
            first_time = _time_of(oldest, first) if wanted and lost is None else 0
            try:
                with _unwritable(self._folder):
                    _remove(oldest.path)
            except JournalUnwritable:
                if lost is None:
                    raise
                return lost  # what is lost is said first; the next call raises again
            self._files.pop(0)
            total -= size
            if wanted:
                lost = (
                    Lost(first_time, following.time, first, last)
                    if lost is None
                    else replace(lost, last_time=following.time, last_offset=last)
                )
        return lost

    def release_reserve(self) -> bool:
        """Give the reserve back to a full disk. Returns: whether there was one to give."""
        with _unwritable(self._folder):
            if not self._reserved.exists():
                return False
            self._reserved.unlink()
        return True

    def restore_reserve(self) -> bool:
        """Take the reserve again once twice as much is free. Returns: whether it is held now."""
        if not self._reserve:
            return True
        try:
            if self._reserved.exists():
                held = self._reserved.stat()
                if held.st_size == self._reserve and held.st_blocks * 512 >= self._reserve:
                    return True
                self._reserved.unlink()
            if _free(self._folder) < 2 * self._reserve:
                return False
            with self._reserved.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._reserve)
        except OSError:  # no room after all, or a disk that fails: the answer says that it is not held
            with suppress(OSError):
                self._reserved.unlink(missing_ok=True)
            return False
        return True

    def usage(self, max_bytes: int | None = None) -> Usage:
        """What the journal takes of the disk; see the function of this name."""
        return usage(self._folder, max_bytes)

    def _open(self, after: int) -> None:
        _tidy(self._folder)
        paths = _paths(self._folder)
        with _unwritable(self._folder):
            if not paths:
                paths = [_create(self._folder, _State(offset=after))]
            for path in paths[:-1]:
                _seal(path)
            ends = [_end(path) for path in paths]
        self._files = [file for file, _, _ in ends]
        _, self._state, self._hour = ends[-1]
        self.missing = tuple(
            Lost(state.time, file.time, state.offset + 1, file.first - 1)
            for (_, state, _), (file, _, _) in pairwise(ends)
            if state.offset + 1 < file.first
        )
        if self._state.offset < after:
            with _unwritable(self._folder):
                self._rotate(replace(self._state, offset=after))

    def _rotate(self, state: _State) -> None:
        """Go on in a new file. Killed between any two steps, the journal ends in an empty file or none."""
        path = _create(self._folder, state)
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        _seal(self._files[-1].path)
        self._files.append(_File(path, state.offset + 1, state.time))
        self._state = state
        self._hour = None

    def _commit(
        self,
        rows: list[tuple[int, int, int, bytes]],
        versions: list[tuple[int, str]],
        letters: list[tuple[int, int, str, str, str, bytes]],
    ) -> None:
        db = self._writer
        if db is None:
            db = self._writer = _connect(self._files[-1].path)
            db.execute("PRAGMA synchronous = FULL")
        try:
            if db.in_transaction:  # an earlier rollback failed, too
                db.execute("ROLLBACK")
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO round VALUES (?, ?, ?, ?)", rows)
            if versions:
                db.executemany("INSERT INTO version VALUES (?, ?)", versions)
            if letters:
                db.executemany("INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?, ?)", letters)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def read(folder: Path, after: int) -> Iterator[tuple[int, Round]]:
    """The committed rounds after an offset, in order, across files, up to the newest; in any process.

    Offsets go up by one; a larger step is a span that is no longer there (dropped, or a file moved away).

    Raises:
        JournalDamaged: a file or a round in it cannot be read.
    """
    while paths := _paths(folder):
        index = max(0, sum(_first(path) <= after + 1 for path in paths) - 1)
        path = paths[index]
        try:
            with _reading(path) as db:
                while chunk := db.execute(
                    "SELECT offset, blob FROM round WHERE offset > ? ORDER BY offset LIMIT ?", (after, _CHUNK)
                ).fetchall():
                    for offset, blob in chunk:
                        yield offset, _unpacked(unpack, path, offset, blob)
                    after = chunk[-1][0]
        except FileNotFoundError:
            continue  # retention has dropped it since it was listed
        if index + 1 < len(paths):  # it had a successor before it was read, so nothing was added since
            after = max(after, _first(paths[index + 1]) - 1)
        elif _paths(folder) == paths:
            return


def version_at(folder: Path, offset: int) -> str | None:
    """The registry version in force at an offset; None before the first, or where it is dropped."""
    for path in reversed(_paths(folder)):
        if _first(path) <= offset:
            with _reading(path) as db:
                row = db.execute(
                    "SELECT version FROM version WHERE offset <= ? ORDER BY offset DESC LIMIT 1", (offset,)
                ).fetchone()
            return row[0] if row else None
    return None


def versions_used(folder: Path) -> set[str]:
    """Every registry version that a replay of what is left of the journal can need."""
    return {
        version
        for path in _paths(folder)
        for (version,) in _present(path, "SELECT DISTINCT version FROM version")
    }


def dead_letters(
    folder: Path, *, limit: int, before: int | None = None, topic_prefixes: Sequence[str] | None = None
) -> list[tuple[int, DeadLetter]]:
    """Dead letters with their ids, newest first; in any process.

    Args:
        before: only ids below this one: the last id of the page before.
        topic_prefixes: only topics that start with one of these; None for all.
    """
    which, values = _topics(topic_prefixes)
    found: list[tuple[int, DeadLetter]] = []
    for path in reversed(_paths(folder)):
        if len(found) >= limit:
            break
        rows = _present(
            path,
            "SELECT id, time, topic, reason, detail, head FROM dead_letter"  # noqa: S608
            f" WHERE id < ? AND {which} ORDER BY id DESC LIMIT ?",
            (before if before is not None else 1 << 62, *values, limit - len(found)),
        )
        found += [(row[0], DeadLetter(*row[1:])) for row in rows]
    return found


def dead_letter_counts(folder: Path, *, topic_prefixes: Sequence[str] | None = None) -> dict[str, int]:
    """How many dead letters there are by reason, the most frequent first."""
    which, values = _topics(topic_prefixes)
    counts: Counter[str] = Counter()
    for path in _paths(folder):
        query = f"SELECT reason, count(*) FROM dead_letter WHERE {which} GROUP BY reason"  # noqa: S608
        counts.update(dict(_present(path, query, values)))
    return dict(counts.most_common())


def usage(folder: Path, max_bytes: int | None = None) -> Usage:
    """What the journal takes of the disk, and for how many hours a budget and the disk suffice."""
    paths = _paths(folder)
    total = sum(map(_size, paths))
    free = _free(folder)
    recent = paths[-_RECENT:]
    times = [
        time
        for path in recent
        for order in ("ASC", "DESC")
        for (time,) in _present(path, f"SELECT time FROM round ORDER BY offset {order} LIMIT 1")  # noqa: S608
    ]
    span = (times[-1] - times[0]) / HOUR if times else 0.0
    rate = sum(map(_size, recent)) / span if span >= 1 / 60 else None
    return Usage(
        bytes=total,
        bytes_per_hour=rate,
        free=free,
        budget_hours=max_bytes / rate if rate and max_bytes is not None else None,
        disk_hours=free / rate if rate else None,
    )


def _paths(folder: Path) -> list[Path]:
    """The journal's files, oldest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names) if name.endswith(_SUFFIX)]


def _first(path: Path) -> int:
    """The first offset of a file, from its name."""
    if not (path.stem.isascii() and path.stem.isdigit()):
        raise JournalDamaged(path, "not a file of a journal", "Move it out of the journal's folder")
    return int(path.stem)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _shm(path: Path) -> Path:
    return path.with_name(path.name + "-shm")


def _size(path: Path) -> int:
    size = 0
    for part in (path, _wal(path), _shm(path)):
        with suppress(FileNotFoundError):
            size += part.stat().st_size
    return size


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _lock(folder: Path) -> IO[str]:
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise JournalLocked(f"{folder} is being written by process {holder}; stop that one first") from None
    except OSError:
        file.close()
        raise
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _tidy(folder: Path) -> None:
    """Remove what a killed rotation or retention may have left: half-made files, parts of dropped ones."""
    with _unwritable(folder):
        for path in folder.iterdir():
            half_made = f"{_SUFFIX}.new" in path.name
            orphan = path.name.endswith(("-wal", "-shm")) and not path.with_name(path.name[:-4]).exists()
            if half_made or (orphan and _SUFFIX in path.name):
                path.unlink()


def _create(folder: Path, state: _State) -> Path:
    """Make the file that begins after ``state``, complete and durable before it has its name."""
    path = folder / f"{state.offset + 1:020}{_SUFFIX}"
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.executescript(_SCHEMA)
        db.execute("INSERT INTO meta VALUES (?, ?, ?)", (state.offset, state.time, state.dead))
        if state.version is not None:
            db.execute("INSERT INTO version VALUES (?, ?)", (state.offset, state.version))
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")
    new.rename(path)
    _sync(folder)
    return path


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """The file first: without it its other parts are orphans, and no later file takes its name."""
    for part in (path, _wal(path), _shm(path)):
        part.unlink(missing_ok=True)
    _sync(path.parent)


def _seal(path: Path) -> None:
    """Make a finished file a plain one, so that readers need to write nothing beside it.

    While a reader is in it this cannot be done, nor need it: retain() and the next start try again.
    """
    with closing(_connect(path)) as db:
        db.execute("PRAGMA busy_timeout = 0")
        try:
            db.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise


def _connect(path: Path) -> sqlite3.Connection:
    """Open a file for writing; never creates one."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=1, isolation_level=None)


def _end(path: Path) -> tuple[_File, _State, int | None]:
    """A file, the state after its last round, and the hour of its first one (None: it has none)."""
    try:
        with closing(_connect(path)) as db:
            ((application,),) = db.execute("PRAGMA application_id")
            ((format_,),) = db.execute("PRAGMA user_version")
            if application != _APPLICATION_ID:
                raise JournalDamaged(path, "not a file of a journal", "Move it out of the journal's folder")
            if format_ != FORMAT:
                raise JournalDamaged(
                    path,
                    f"format {format_}, this version reads {FORMAT}",
                    "Install the version that wrote it",
                )
            ((offset, time, dead),) = db.execute("SELECT offset, time, dead FROM meta").fetchall()
            first = _first(path)
            if first != offset + 1:
                raise JournalDamaged(
                    path, f"its first offset is {offset + 1}", f"Rename it to {offset + 1:020}{_SUFFIX}"
                )
            file = _File(path, first, time)
            hour = None
            for (first_time,) in db.execute("SELECT time FROM round ORDER BY offset LIMIT 1"):
                hour = first_time // HOUR
            for row in db.execute("SELECT offset, time FROM round ORDER BY offset DESC LIMIT 1"):
                offset, time = row
            for (last,) in db.execute("SELECT max(id) FROM dead_letter"):
                dead = last or dead
            version = None
            for row in db.execute("SELECT version FROM version ORDER BY offset DESC LIMIT 1"):
                (version,) = row
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_ERROR,
        ):
            raise JournalDamaged(path, str(error)) from error
        raise
    except ValueError as error:  # no meta row
        raise JournalDamaged(path, str(error)) from error
    return file, _State(offset, time, dead, version), hour


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection. Raises FileNotFoundError where the file is gone, else JournalDamaged."""
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)) as db:
            yield db
    except sqlite3.DatabaseError as error:
        if not path.exists():
            raise FileNotFoundError(path) from error
        raise JournalDamaged(path, str(error)) from error


def _present(path: Path, query: str, values: Sequence[object] = ()) -> list[Any]:
    """The rows of a query on one file; none if retention has dropped it meanwhile."""
    try:
        with _reading(path) as db:
            return db.execute(query, values).fetchall()
    except FileNotFoundError:
        return []


def _unpacked(how: Callable[[bytes], T], path: Path, offset: int, blob: bytes) -> T:
    try:
        return how(blob)
    except PackError as error:
        raise JournalDamaged(path, f"round {offset}: {error}") from error


def _time_of(file: _File, offset: int) -> int:
    """Arrival time of a round that is about to be dropped; of the file's beginning if that is unreadable."""
    try:
        rows = _present(file.path, "SELECT time FROM round WHERE offset >= ? LIMIT 1", (offset,))
    except JournalDamaged:  # then it is lost already, and this span encloses it
        rows = []
    return int(rows[0][0]) if rows else file.time


def _topics(prefixes: Sequence[str] | None) -> tuple[str, tuple[object, ...]]:
    """An SQL condition for topics with one of the prefixes, and its values."""
    if prefixes is None:
        return "true", ()
    tests = ["false", *["substr(topic, 1, length(?)) = ?"] * len(prefixes)]
    return f"({' OR '.join(tests)})", tuple(prefix for prefix in prefixes for _ in range(2))


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
