"""The catalogue of the files that history is in: what is not in it is not there, and how far the journal is in them.

A file is noted before it is begun, and counts once it is noted as whole, in one commit with the journal's offset. So
after a crash no half file counts, none is forgotten on the disk, and nothing is kept twice.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

NAME = "catalogue.sqlite"

READINGS, BY_MINUTE, BY_HOUR = "readings", "minute", "hour"
"""Kinds of files: readings, and their roll-ups."""

PIECE, JOINED, FINISHED = 0, 1, 2
"""How far a file is: as taken from the journal; of several pieces; of a span that is over, and in the roll-ups."""

_FORMAT = 1
_SCHEMA = """
BEGIN;
CREATE TABLE file (
    id INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT NOT NULL, kind TEXT NOT NULL, enterprise TEXT NOT NULL,
    span INTEGER NOT NULL, level INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    rows INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE INDEX file_of ON file (enterprise, kind, last);
CREATE INDEX file_unfinished ON file (kind, span, enterprise) WHERE state = 'whole' AND level < 2;
CREATE INDEX file_passing ON file (state) WHERE state <> 'whole';
CREATE INDEX file_age ON file (kind, last);
CREATE TABLE position (offset INTEGER NOT NULL, time INTEGER NOT NULL);
INSERT INTO position VALUES (0, 0);
PRAGMA user_version = 1;
COMMIT;
"""
"""A file's state is 'begun', 'whole' or, when others stand in for it or it is too old, 'going'."""

_FILE = "SELECT id, kind, enterprise, span, level, first, last, rows, bytes FROM file"


class CatalogueDamaged(Exception):
    """The catalogue is not, or no longer, one; says what to do."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of history.

    span: when its hour (of readings) or month (of roll-ups) begins, µs UTC; all its times are in it.
    first, last: the earliest and the latest time in it, µs.
    """

    id: int
    kind: str
    enterprise: str
    span: int
    level: int
    first: int
    last: int
    rows: int
    bytes: int

    def path(self, folder: Path) -> Path:
        begin = datetime.fromtimestamp(self.span / 1_000_000, UTC)
        when = begin.strftime("%Y-%m-%d/%H" if self.kind == READINGS else "%Y-%m")
        return folder / self.kind / self.enterprise / f"{when}-{self.id}.parquet"


class Catalogue:
    """The writer's side; there is one. Raises CatalogueDamaged, OSError; sqlite3.OperationalError where the disk is
    full or fails: then nothing is changed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._db = _open(folder / NAME)
        offset, time = self._db.execute("SELECT offset, time FROM position").fetchone()
        self.position, self.time = int(offset), int(time)

    def close(self) -> None:
        self._db.close()

    def begin(self, files: Iterable[tuple[str, str, int, int]]) -> list[int]:
        """Note files that are about to be written, each (kind, enterprise, span, level); their ids."""
        statement = "INSERT INTO file VALUES (NULL, 'begun', ?, ?, ?, ?, 0, 0, 0, 0)"
        with self._commit():
            return [int(self._db.execute(statement, file).lastrowid or 0) for file in files]

    def put(
        self,
        files: Sequence[File],
        instead_of: Sequence[File] = (),
        *,
        position: int | None = None,
        time: int = 0,
    ) -> None:
        """These, which were begun and are durable, count from now on, and in their stead those no more.

        Args:
            position: journal offset up to which all is in the files. time: arrival time that history has come to, µs.
        """
        reached = max(self.time, time)
        with self._commit():
            self._db.executemany(
                "UPDATE file SET state = 'whole', first = ?, last = ?, rows = ?, bytes = ? WHERE id = ?",
                [(one.first, one.last, one.rows, one.bytes, one.id) for one in files],
            )
            self._go(instead_of)
            if position is not None:
                self._db.execute("UPDATE position SET offset = ?, time = ?", (position, reached))
        if position is not None:
            self.position, self.time = position, reached

    def drop(self, files: Sequence[File]) -> None:
        """These count no more; they are removed once nobody can be reading them."""
        with self._commit():
            self._go(files)

    def _go(self, files: Sequence[File]) -> None:
        self._db.executemany("UPDATE file SET state = 'going' WHERE id = ?", [(one.id,) for one in files])

    def unfinished(self, kind: str) -> list[tuple[str, int, int, int]]:
        """(enterprise, span, number of pieces, number of joined files) of all of them."""
        statement = """
            SELECT enterprise, span, sum(level = 0), sum(level = 1) FROM file
            WHERE state = 'whole' AND level < 2 AND kind = ? GROUP BY enterprise, span ORDER BY span, enterprise"""
        return self._db.execute(statement, (kind,)).fetchall()

    def of_span(self, kind: str, enterprise: str, span: int) -> list[File]:
        """Its files, in the order in which they were written."""
        where = "WHERE enterprise = ? AND kind = ? AND last >= ? AND span = ? AND state = 'whole' ORDER BY id"
        return _files(self._db, where, enterprise, kind, span, span)

    def older(self, kind: str, than: int) -> list[File]:
        """The files whose last reading is of before then; of readings those that are in the roll-ups."""
        where = "WHERE kind = ? AND last < ? AND state = 'whole' AND (level = 2 OR kind <> ?)"
        return _files(self._db, where, kind, than, READINGS)

    def begun(self) -> list[File]:
        """What was begun and never became whole."""
        return _files(self._db, "WHERE state = 'begun'")

    def going(self) -> list[File]:
        """What counts no more."""
        return _files(self._db, "WHERE state = 'going'")

    def forget(self, files: Sequence[File]) -> None:
        """They are off the disk."""
        with self._commit():
            self._db.executemany("DELETE FROM file WHERE id = ?", [(one.id,) for one in files])

    @contextmanager
    def _commit(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def listed(folder: Path, enterprise: str, first: int, last: int, *kinds: str) -> list[File]:
    """A reader's look: the files of these kinds in which there may be times from first to last, both included.

    All at one moment: what is in roll-ups and what is not yet goes together.

    Raises FileNotFoundError: there is no history.
    """
    with _reading(folder) as db:
        where = (
            "WHERE enterprise = ? AND kind IN (SELECT value FROM json_each(?)) AND last >= ? AND first <= ? "
            "AND state = 'whole' ORDER BY id"
        )
        return _files(db, where, enterprise, json.dumps(kinds), first, last)


def size(folder: Path) -> tuple[int, int]:
    """Readings, and bytes of all files. Raises as ``listed``."""
    with _reading(folder) as db:
        statement = "SELECT total(rows * (kind = ?)), total(bytes) FROM file WHERE state = 'whole'"
        rows, held = db.execute(statement, (READINGS,)).fetchone()
        return int(rows), int(held)


def reached(folder: Path) -> tuple[int, int]:
    """Journal offset and arrival time (µs) that history has come to. Raises as ``listed``."""
    with _reading(folder) as db:
        offset, time = db.execute("SELECT offset, time FROM position").fetchone()
        return int(offset), int(time)


def _files(db: sqlite3.Connection, where: str, *values: object) -> list[File]:
    return [File(*row) for row in db.execute(f"{_FILE} {where}", values)]


@contextmanager
def _reading(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / NAME
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no history")
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
        yield db


_MEND = "Stop Fenghuo and restore its folder from a backup, or move it away: history then begins anew"


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists() and any((path.parent / kind).exists() for kind in (READINGS, BY_MINUTE, BY_HOUR)):
        raise CatalogueDamaged(
            f"{path}: it is missing, and nothing else says which of the files count. {_MEND}"
        )
    db = sqlite3.connect(path, timeout=5, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        [version] = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(_SCHEMA)
        elif version != _FORMAT:
            raise CatalogueDamaged(f"{path}: format {version}, expected {_FORMAT}: it is of another Fenghuo")
    except sqlite3.OperationalError:
        db.close()
        raise
    except sqlite3.DatabaseError as error:
        db.close()
        raise CatalogueDamaged(f"{path}: {error}. {_MEND}") from error
    return db
