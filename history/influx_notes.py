"""What the InfluxDB home must not forget: how far it is, what was refused, which hours are to be rolled up again."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import structlog

KEPT = 10_000
"""Refusals that are kept, the newest; all are counted."""

LATE = 10_000
"""Hours that wait to be rolled up again, at most: a device with a mad clock must not fill the disk."""

HEAD = 1024
"""Bytes that are kept of a refused line."""

_FORMAT = 1
_SCHEMA = """
BEGIN;
CREATE TABLE position (place TEXT NOT NULL, offset INTEGER NOT NULL, refused INTEGER NOT NULL);
CREATE TABLE refusal (
    id INTEGER PRIMARY KEY, time INTEGER NOT NULL, bucket TEXT NOT NULL, line BLOB NOT NULL, reason TEXT NOT NULL,
    fields INTEGER NOT NULL, UNIQUE (bucket, line));
CREATE TABLE late (cell TEXT NOT NULL, hour INTEGER NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (cell, hour));
INSERT INTO position VALUES ('', 0, 0);
PRAGMA user_version = {format};
COMMIT;
"""
"""One row of ``position``; ``refused`` counts fields, those that are no longer kept too."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the server did not take, and its reason.

    time: when, µs UTC; line: its beginning; fields: how many readings and qualities were in it.
    """

    time: int
    bucket: str
    line: bytes
    reason: str
    fields: int


@dataclass(frozen=True, slots=True)
class Late:
    """An hour of a cell in which something was written after it had been rolled up.

    hour: when it begins; since: when the first of it was written; µs UTC.
    """

    cell: str
    hour: int
    since: int


class Notes:
    """A SQLite file with one writer. Each change is durable and whole, or is not made.

    A file that is damaged is put aside: what the journal has is then written once more, which doubles nothing.

    Args:
        place: where readings go; for another one than it was, all begins anew.

    Raises sqlite3.OperationalError, here and wherever it writes: the disk is full or fails, nothing is changed.
    """

    def __init__(self, path: Path, place: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = _open(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            log.error("influx_notes_damaged", path=str(path), why=str(error))
            path.replace(path.with_suffix(".damaged"))
            for rest in ("-wal", "-shm"):
                path.with_name(path.name + rest).unlink(missing_ok=True)
            self._db = _open(path)
        with self._db:
            self._db.execute(
                "DELETE FROM late WHERE EXISTS (SELECT 1 FROM position WHERE place <> ?)", (place,)
            )
            change = "UPDATE position SET place = ?, offset = 0 WHERE place <> ?"
            self._db.execute(change, (place, place))

    @property
    def position(self) -> int:
        [(offset,)] = self._db.execute("SELECT offset FROM position")
        return int(offset)

    @property
    def refused(self) -> int:
        """Readings and qualities that were refused, ever."""
        [(count,)] = self._db.execute("SELECT refused FROM position")
        return int(count)

    def late(self) -> list[Late]:
        """The one that waits longest first."""
        return [
            Late(*row)
            for row in self._db.execute("SELECT cell, hour, since FROM late ORDER BY since, hour, cell")
        ]

    def put(self, position: int, refusals: Sequence[Refusal] = (), late: Iterable[Late] = ()) -> None:
        """All up to this position is stored, but for what was refused; of these hours the roll-ups are not right."""
        with self._db:
            for one in refusals:
                row = (one.time, one.bucket, one.line[:HEAD], one.reason, one.fields)
                # after a crash the same is refused again
                made = self._db.execute("INSERT OR IGNORE INTO refusal VALUES (NULL, ?, ?, ?, ?, ?)", row)
                if made.rowcount:
                    self._db.execute("UPDATE position SET refused = refused + ?", (one.fields,))
            if refusals:
                self._db.execute("DELETE FROM refusal WHERE id <= (SELECT max(id) - ? FROM refusal)", (KEPT,))
            self._db.executemany(
                "INSERT OR IGNORE INTO late SELECT ?, ?, ? WHERE (SELECT count(*) FROM late) < ?",
                ((one.cell, one.hour, one.since, LATE) for one in late),
            )
            self._db.execute("UPDATE position SET offset = max(offset, ?)", (position,))

    def rolled_up(self, late: Late) -> None:
        """It is right again."""
        with self._db:
            self._db.execute("DELETE FROM late WHERE (cell, hour) = (?, ?)", (late.cell, late.hour))

    def wait(self, late: Late, since: int) -> None:
        """It could not be made right; it waits as if it had been noted then."""
        with self._db:
            change = "UPDATE late SET since = ? WHERE (cell, hour) = (?, ?)"
            self._db.execute(change, (since, late.cell, late.hour))

    def close(self) -> None:
        self._db.close()


def refusals(path: Path, most: int = 100) -> list[Refusal]:
    """The newest that a server refused, for whoever looks at them; none where nothing was ever written.

    Raises sqlite3.Error.
    """
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as db:
        select = "SELECT time, bucket, line, reason, fields FROM refusal ORDER BY id DESC LIMIT ?"
        return [Refusal(*row) for row in db.execute(select, (most,))]


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        [(known,)] = db.execute("PRAGMA user_version")
        if known == 0:
            db.executescript(_SCHEMA.format(format=_FORMAT))
        elif known != _FORMAT:
            raise sqlite3.OperationalError(f"{path} was made by a newer Fenghuo")
        [(found,)] = db.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    except sqlite3.Error:
        db.close()
        raise
    return db
