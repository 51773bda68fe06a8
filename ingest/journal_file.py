"""One file of the journal: its tables, how it is made, sealed, checked and removed, and read by anyone.

Raw sqlite3 rather than SQLAlchemy: a few fixed statements on the hottest path of the house.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ingest.pack import PackError

T = TypeVar("T")

FORMAT = 2
SUFFIX = ".sqlite"

_NEW = SUFFIX + ".new"
_APPLICATION_ID = 0x46454E47
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
    detail TEXT NOT NULL, head BLOB NOT NULL, count INTEGER NOT NULL);
"""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_FOREIGN = "Move it out of the journal's folder"
_RESTORE = (
    "Stop Fenghuo and restore the file from a backup, or move it out of the folder: "
    "what is in it is then lost, and the gap is reported"
)


class JournalDamaged(Exception):
    """A file in the folder is not, or no longer, a readable part of the journal; says what to do."""

    def __init__(self, path: Path, why: str, mend: str = _RESTORE) -> None:
        super().__init__(f"{path}: {why}. {mend}.")
        self.path = path


class JournalUnreadable(Exception):
    """A file cannot be read now, though nothing says that it is damaged: try again when the disk works."""


@dataclass(frozen=True, slots=True)
class State:
    """Where the journal ends: offset and arrival time of the last round, id of the last dead letter."""

    offset: int = 0
    time: int = 0
    dead: int = 0
    version: str | None = None  # of the registry, in force


@dataclass(slots=True)
class File:
    """What the writer remembers of a file."""

    path: Path
    before: State  # where the journal ended when it was made
    begun: int | None = None  # arrival time of its first round
    versions: set[str] = field(default_factory=set)  # of the registry, that a replay of it needs
    sealed: bool = False

    @property
    def first(self) -> int:
        """Its first offset."""
        return self.before.offset + 1


def paths(folder: Path) -> list[Path]:
    """The journal's files, oldest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names) if name.endswith(SUFFIX)]


def first_offset(path: Path) -> int:
    """The first offset of a file, from its name."""
    if not (path.stem.isascii() and path.stem.isdigit()):
        raise JournalDamaged(path, "not a file of a journal", _FOREIGN)
    return int(path.stem)


def size(path: Path) -> int:
    """Bytes on disk, with what SQLite keeps beside the file."""
    total = 0
    for part in _parts(path):
        with suppress(FileNotFoundError):
            total += part.stat().st_size
    return total


def create(folder: Path, state: State) -> Path:
    """Make the file that goes on after ``state``; complete and durable before it gets its name."""
    path = folder / f"{state.offset + 1:020}{SUFFIX}"
    new = path.with_suffix(_NEW)
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


def connect(path: Path) -> sqlite3.Connection:
    """Open a file for writing; never creates one."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=1, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        db.close()
        raise
    return db


def seal(path: Path) -> bool:
    """Make a finished file a plain one, so that readers need to write nothing beside it.

    Returns: whether it is one now. Not while a reader is in it, the disk is full, or the file is damaged:
    it is as readable without, and the next one who comes by tries again.
    """
    try:
        with closing(connect(path)) as db:
            db.execute("PRAGMA busy_timeout = 0")
            db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError:
        return False
    return True


def remove(path: Path) -> None:
    """The file first: without it the rest are orphans, which tidy() knows."""
    for part in _parts(path):
        part.unlink(missing_ok=True)
    _sync(path.parent)


def tidy(folder: Path) -> None:
    """Remove what a killed create() or remove() left: half-made files, and parts of files that are gone."""
    for path in folder.iterdir():
        owner, found, _ = path.name.rpartition(f"{SUFFIX}-")
        if _NEW in path.name or (found and not (folder / f"{owner}{SUFFIX}").exists()):
            path.unlink()


def inspect(path: Path) -> tuple[File, State]:
    """Recover a file: what the writer remembers of it, and where it ends.

    Raises:
        JournalDamaged: it is foreign, damaged, renamed, or of a newer format.
        sqlite3.OperationalError: it cannot be opened for writing.
    """
    try:
        with closing(connect(path)) as db:
            ((application,),) = db.execute("PRAGMA application_id")
            ((format_,),) = db.execute("PRAGMA user_version")
            ((mode,),) = db.execute("PRAGMA journal_mode")
            if application != _APPLICATION_ID:
                raise JournalDamaged(path, "not a file of a journal", _FOREIGN)
            if format_ != FORMAT:
                why = f"written in format {format_}, this version knows {FORMAT}"
                raise JournalDamaged(path, why, "Start the version of Fenghuo that wrote it")
            meta = db.execute("SELECT offset, time, dead FROM meta").fetchone()
            begun = db.execute("SELECT time FROM round ORDER BY offset LIMIT 1").fetchone()
            last = db.execute("SELECT offset, time FROM round ORDER BY offset DESC LIMIT 1").fetchone()
            dead = db.execute("SELECT max(id) FROM dead_letter").fetchone()
            versions = db.execute("SELECT offset, version FROM version ORDER BY offset").fetchall()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _DAMAGE:
            raise JournalDamaged(path, str(error)) from error
        raise
    if meta is None:
        raise JournalDamaged(path, "its first row is missing")
    before = State(*meta)
    if first_offset(path) != before.offset + 1:
        name = f"{before.offset + 1:020}{SUFFIX}"
        raise JournalDamaged(path, f"it begins with offset {before.offset + 1}", f"Rename it to {name}")
    file = File(path, before, begun and begun[0], {version for _, version in versions}, mode == "delete")
    offset, time = last or (before.offset, before.time)
    return file, State(offset, time, dead[0] or before.dead, versions[-1][1] if versions else None)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection; it sees only what is committed.

    Raises:
        FileNotFoundError: the file is gone (retention has dropped it).
        JournalDamaged: what it holds cannot be read.
        JournalUnreadable: the disk does not let us read it: a bad one, or so full that SQLite cannot begin.
    """
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)) as db:
            yield db
    except sqlite3.DatabaseError as error:
        if not path.exists():
            raise FileNotFoundError(path) from error
        if error.sqlite_errorcode & 0xFF in _DAMAGE:
            raise JournalDamaged(path, str(error)) from error
        raise JournalUnreadable(f"{path}: {error}. Is the disk full, or failing? Then try again") from error


def query(path: Path, statement: str, values: Sequence[object] = ()) -> list[Any]:
    """The rows of one statement; none if the file is gone. Raises as reading() does."""
    try:
        with reading(path) as db:
            return db.execute(statement, values).fetchall()
    except FileNotFoundError:
        return []


def unpacked(how: Callable[[bytes], T], path: Path, offset: int, blob: bytes) -> T:
    """A round's blob, taken apart by ``how``. Raises JournalDamaged, which names the round."""
    try:
        return how(blob)
    except PackError as error:
        raise JournalDamaged(path, f"round {offset}: {error}") from error


def _parts(path: Path) -> tuple[Path, Path, Path]:
    """The file itself, its write-ahead log, and the index of that."""
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
