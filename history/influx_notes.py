"""What the InfluxDB home must not forget: how far it is, what was refused, which hours are to be rolled up again."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import structlog

KEPT = 10_000
"""Refusals that are kept, the newest; all are counted."""

LATE = 100_000
"""Hours that wait to be rolled up again, at most: a device with a mad clock must not fill the disk. Those of ten cells
and a year are 87,600."""

HEAD, TAIL = 1024, 64
"""Bytes that are kept of a refused line: its first, and the last, where its time is."""

_FORMAT = 2
_SCHEMA = """
BEGIN;
CREATE TABLE position (
    place TEXT NOT NULL, offset INTEGER NOT NULL, looked INTEGER NOT NULL, refused INTEGER NOT NULL);
CREATE TABLE refusal (
    id INTEGER PRIMARY KEY, time INTEGER NOT NULL, bucket TEXT NOT NULL, line BLOB NOT NULL, reason TEXT NOT NULL,
    fields INTEGER NOT NULL, digest BLOB NOT NULL, UNIQUE (bucket, digest));
CREATE TABLE late (cell TEXT NOT NULL, hour INTEGER NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (cell, hour));
CREATE INDEX late_by_turn ON late (since, hour, cell);
INSERT INTO position VALUES ('', 0, 0, 0);
PRAGMA user_version = {format};
COMMIT;
"""
"""One row of ``position``; ``looked``: see ``Notes.looked``; ``refused`` counts fields, those of refusals that are no
longer kept too. ``digest``: of the whole line."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the server did not take, and its reason.

    time: when, µs UTC; line: of a long one, as it was noted, its beginning and its end; fields: how many readings and
    qualities were in it.
    """

    time: int
    bucket: str
    line: bytes
    reason: str
    fields: int


@dataclass(frozen=True, slots=True)
class Refused:
    """kept: refusals that are in the notes; fields: readings and qualities that were refused, ever."""

    kept: int
    fields: int
    newest: Refusal


@dataclass(frozen=True, slots=True)
class Late:
    """An hour of a cell in which something was written after it had been rolled up, or that was not rolled up.

    hour: when it begins; since: when that was noted; µs UTC.
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
        try:
            self._begin(place)
        except sqlite3.Error:
            self._db.close()
            raise

    def _begin(self, place: str) -> None:
        with self._db:
            self._db.execute(
                "DELETE FROM late WHERE EXISTS (SELECT 1 FROM position WHERE place <> ?)", (place,)
            )
            change = "UPDATE position SET place = ?, offset = 0, looked = 0 WHERE place <> ?"
            self._db.execute(change, (place, place))

    @property
    def position(self) -> int:
        [(offset,)] = self._db.execute("SELECT offset FROM position")
        return int(offset)

    @property
    def looked(self) -> int:
        """Of the hours before it is known whether the tasks have rolled them up, µs UTC; 0 at first."""
        [(hour,)] = self._db.execute("SELECT looked FROM position")
        return int(hour)

    def late(self) -> Late | None:
        """The one that waits longest."""
        select = "SELECT cell, hour, since FROM late ORDER BY since, hour, cell LIMIT 1"
        row = self._db.execute(select).fetchone()
        return Late(*row) if row else None

    def put(self, position: int, refusals: Sequence[Refusal] = (), late: Iterable[Late] = ()) -> int:
        """All up to this position is stored, but for what was refused; of these hours the roll-ups are not right.

        How many of the hours could not be noted: there are LATE of them.
        """
        with self._db:
            for one in refusals:
                line = one.line if len(one.line) <= HEAD + TAIL else one.line[:HEAD] + one.line[-TAIL:]
                digest = blake2b(one.line, digest_size=16).digest()
                row = (one.time, one.bucket, line, one.reason, one.fields, digest)
                # after a crash the same is refused again
                made = self._db.execute("INSERT OR IGNORE INTO refusal VALUES (NULL, ?, ?, ?, ?, ?, ?)", row)
                if made.rowcount:
                    self._db.execute("UPDATE position SET refused = refused + ?", (one.fields,))
            if refusals:
                self._db.execute("DELETE FROM refusal WHERE id <= (SELECT max(id) - ? FROM refusal)", (KEPT,))
            self._db.execute("UPDATE position SET offset = max(offset, ?)", (position,))
            return self._wait_their_turn(late)

    def look(self, looked: int, late: Iterable[Late] = ()) -> int:
        """Of the hours before ``looked`` it is known: these were not rolled up. How many could not be noted."""
        with self._db:
            self._db.execute("UPDATE position SET looked = ?", (looked,))
            return self._wait_their_turn(late)

    def _wait_their_turn(self, late: Iterable[Late]) -> int:
        hours = list(late)
        if not hours:
            return 0
        [(room,)] = self._db.execute("SELECT ? - count(*) FROM late", (LATE,))
        left_out = 0
        for one in hours:
            row = (one.cell, one.hour, one.since)
            if room > 0:
                room -= self._db.execute("INSERT OR IGNORE INTO late VALUES (?, ?, ?)", row).rowcount
            elif not self._db.execute("SELECT 1 FROM late WHERE (cell, hour) = (?, ?)", row[:2]).fetchone():
                left_out += 1
        return left_out

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


def refused(path: Path) -> Refused | None:
    """What a server refused, for whoever looks at it; None if it was nothing.

    Raises sqlite3.Error.
    """
    newest = refusals(path, 1)
    if not newest:
        return None
    with closing(_reading(path)) as db:
        [(kept, fields)] = db.execute("SELECT (SELECT count(*) FROM refusal), refused FROM position")
    return Refused(kept, fields, newest[0])


def refusals(path: Path, most: int = 100) -> list[Refusal]:
    """The newest of them; none where nothing was ever written.

    Raises sqlite3.Error.
    """
    if not path.exists():
        return []
    with closing(_reading(path)) as db:
        select = "SELECT time, bucket, line, reason, fields FROM refusal ORDER BY id DESC LIMIT ?"
        return [Refusal(*row) for row in db.execute(select, (most,))]


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        [(known,)] = db.execute("PRAGMA user_version")
        if known == 0:
            db.executescript(_SCHEMA.format(format=_FORMAT))
        elif known != _FORMAT:
            raise sqlite3.OperationalError(
                f"{path} was made by another version of Fenghuo: move it away, and the journal is written again"
            )
        [(found,)] = db.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    except sqlite3.Error:
        db.close()
        raise
    return db
