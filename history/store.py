"""The embedded home of history: Parquet files by enterprise and hour, with roll-ups by month. Its writer; there is one.

What arrives waits in memory until it is many readings or some seconds old, and becomes a piece for each enterprise and
hour; the journal still has it, for ``position`` goes on only with the pieces. Pieces are joined when they are many.
Once the hour is over they are finished: one file, and what it adds to the roll-ups. A finished file is not touched
again: what comes late becomes another one, and whoever reads takes them together.
"""

import errno
import shutil
import sqlite3
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray
from pyarrow import ArrowInvalid

from history import parquet_file
from history.block import Block, RollUp, block, combined, merged, rolled_up
from history.catalogue import BY_HOUR, BY_MINUTE, FINISHED, JOINED, PIECE, READINGS, Catalogue, File
from history.chunk import Chunk
from history.home import HomeAway
from ingest.readings import Readings, Times
from registry.clock import DAY, HOUR, MINUTE, SECOND, stopwatch
from registry.model import Registry

MOST = 4_000_000
"""Readings that wait in memory at most (120 MB)."""

AGE = 15 * SECOND
"""How long they wait at most, in arrival time: so late is what is asked of history, µs."""

SETTLE = 10 * MINUTE
"""How long after its end an hour is finished, µs: by then most of what comes late is there."""

MANY = 16
"""Pieces, or joined files, of a span that are joined."""

LARGE = 8_000_000
"""Rows that are joined at a time, but for one file that has more: a plant of ten thousand points fits into memory."""

GRACE = 600.0
"""Seconds of real time for which a file that counts no more stays for those who are reading it."""

STEPS = {BY_MINUTE: MINUTE, BY_HOUR: HOUR}
"""Of the roll-ups, µs."""

Span = tuple[str, str, int]
"""Kind, enterprise, and when it begins."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Keep:
    """Days for which each kind is kept; 0 is for ever."""

    readings: int = 400
    minute: int = 1_100
    hour: int = 0


@dataclass(slots=True)
class _Waiting:
    """What arrived of one enterprise and is in no file yet, under one registry after another."""

    parts: list[tuple[Registry, Readings, Times]] = field(default_factory=list)

    def block(self) -> Block:
        ids: dict[str, int] = {}
        codes = []
        for registry, readings, _ in self.parts:
            used, code = np.unique(readings.row, return_inverse=True)
            own = [ids.setdefault(registry.points.id[row], len(ids)) for row in used.tolist()]
            codes.append(np.array(own, np.int32)[code])
        whole = Readings.joined([readings for _, readings, _ in self.parts])
        arrival = np.concatenate([arrival for _, _, arrival in self.parts])
        return block(list(ids), np.concatenate(codes), whole.time, whole.value, whole.quality, arrival)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file is to hold."""

    kind: str
    enterprise: str
    span: int
    level: int
    what: Block | RollUp

    def write(self, folder: Path, id: int) -> File:
        what = self.what
        times = int(what.time.min()), int(what.time.max())
        file = File(id, self.kind, self.enterprise, self.span, self.level, *times, len(what), 0)
        path = file.path(folder)
        if isinstance(what, Block):
            return replace(file, bytes=parquet_file.write_block(path, what))
        return replace(file, bytes=parquet_file.write_roll_up(path, what))


class ParquetHome:
    """A Home. One thread; nothing else writes into the folder.

    Args:
        folder: made if missing. spare: bytes that it leaves free on the disk: alerts and journal live there too.

    ``counts``: "readings", "files" and "bytes" written, "joins", "damaged" (files that could not be read again).
    Raises CatalogueDamaged, OSError, sqlite3.OperationalError.
    """

    name = "parquet"

    def __init__(self, folder: Path, keep: Keep | None = None, spare: int = 0) -> None:
        self.folder = folder
        self._spare = spare
        self.counts: Counter[str] = Counter()
        self._keep = keep or Keep()
        self._catalogue = Catalogue(folder)
        self._waiting: defaultdict[str, _Waiting] = defaultdict(_Waiting)
        self._count = 0
        self._since: int | None = None  # arrival time of the first of what is in no file yet
        self._gone: dict[int, float] = {}  # file: when it was first seen to count no more (stopwatch)
        self._taken, self._time = self._catalogue.position, self._catalogue.time
        self._owner: tuple[Registry, NDArray[np.int32]] | None = None
        self._passed, self._retained = -1, True
        self._due: deque[Span] = deque()
        self._pieces: Counter[tuple[Span, int]] = Counter()  # unfinished files, by level
        for kind in (READINGS, *STEPS):
            for enterprise, span, pieces, joined in self._catalogue.unfinished(kind):
                self._pieces[(kind, enterprise, span), PIECE] = pieces
                self._pieces[(kind, enterprise, span), JOINED] = joined
        self._crowded = {span for (span, _), count in self._pieces.items() if count >= MANY}

    @property
    def position(self) -> int:
        return self._catalogue.position

    @property
    def taken(self) -> int:
        """Journal offset up to which all is in files or waits in memory."""
        return self._taken

    def append(self, chunk: Chunk) -> None:
        """Take a chunk, which begins behind ``taken``. What waits becomes durable before, when it is time to.

        Raises HomeAway: then it has not taken it.
        """
        if self._count >= MOST or (self._since is not None and chunk.time - self._since >= AGE):
            self.flush()
        if self._since is None:
            self._since = int(chunk.arrival[0]) if len(chunk) else chunk.time
        if len(chunk):
            self._take(chunk)
        self._taken = chunk.last
        self._time = max(self._time, chunk.time)

    def flush(self) -> None:
        """All that was taken becomes durable. Raises HomeAway: it waits on."""
        if self._taken == self._catalogue.position:
            return
        contents = [
            _Content(READINGS, code, hour, PIECE, part)
            for code, waiting in sorted(self._waiting.items())
            for hour, part in _by_hour(waiting.block())
        ]
        self._put(contents, position=self._taken)
        self.counts["readings"] += self._count
        self._waiting.clear()
        self._count, self._since = 0, None

    def maintain(self) -> bool:
        """Do one thing of what keeps history small and quick; whether there was something. Raises HomeAway."""
        limit = (self._time - SETTLE) // HOUR * HOUR
        if limit != self._passed:
            self._passed, self._retained = limit, False
            self._due = deque(
                sorted(span for span in {span for span, _ in self._pieces} if _end(span) <= limit)
            )
            return True
        if self._due:
            self._finish(self._due[0])
            return True
        if self._crowded:
            self._join(self._crowded.pop())
            return True
        if not self._retained:  # after all is finished: what it goes into is kept for longer
            self._retain()
            self._retained = True
            return True
        return self._sweep()

    def relieve(self) -> None:
        """Free what may be freed; for a disk that is full. Raises HomeAway."""
        self._retain()
        self._sweep()

    def close(self) -> None:
        self._catalogue.close()

    # -- taking ------------------------------------------------------------------------------------

    def _take(self, chunk: Chunk) -> None:
        registry, readings = chunk.registry, chunk.readings
        if self._owner is None or self._owner[0] is not registry:
            place = {code: place for place, code in enumerate(registry.enterprises)}
            gateways = np.array([place[one.enterprise] for one in registry.gateways], np.int32)
            self._owner = registry, gateways[registry.points.gateway]
        owner = self._owner[1][readings.row]
        order = np.argsort(owner, kind="stable")
        cuts = np.flatnonzero(np.diff(owner[order])) + 1
        codes = tuple(registry.enterprises)
        for places in np.split(order, cuts):
            row, time = readings.row[places], readings.time[places]
            part = Readings(row, time, readings.value[places], readings.quality[places])
            self._waiting[codes[owner[places[0]]]].parts.append((registry, part, chunk.arrival[places]))
        self._count += len(chunk)

    # -- joining -----------------------------------------------------------------------------------

    def _join(self, span: Span) -> None:
        """Many pieces, or many joined files, into one."""
        level = PIECE if self._pieces[span, PIECE] >= MANY else JOINED
        files = [file for file in self._catalogue.of_span(*span) if file.level == level]
        files = [file for file in files if file.rows < LARGE // 2]  # larger ones wait until they are finished
        if len(files) >= MANY and (whole := self._whole(_first(files))):
            taken, what = whole
            self._put([_Content(*span, JOINED, what)], taken)

    def _finish(self, span: Span) -> None:
        """What is unfinished of a span that is over into one; of readings, also into the roll-ups."""
        files = [file for file in self._catalogue.of_span(*span) if file.level < FINISHED]
        if not files or (whole := self._whole(_first(files))) is None:
            self._due.popleft()
            return
        taken, what = whole
        contents = [_Content(*span, FINISHED, what)]
        if isinstance(what, Block):
            contents += [
                _Content(kind, span[1], month, PIECE, part)
                for kind, step in STEPS.items()
                for month, part in _by_month(rolled_up(what, step))
            ]
        self._put(contents, taken)
        if len(taken) == len(files):
            self._due.popleft()

    def _whole(self, files: Sequence[File]) -> tuple[list[File], Block | RollUp] | None:
        """Those of them that can be read, as one; None if none can."""
        blocks: list[Block] = []
        rolled: list[RollUp] = []
        read = []
        for file in files:
            path = file.path(self.folder)
            try:
                if file.kind == READINGS:
                    blocks.append(parquet_file.read_block(path))
                else:
                    rolled.append(parquet_file.read_roll_up(path))
            except (OSError, ArrowInvalid) as error:
                # Of content that it cannot read, pyarrow raises an OSError without a number.
                if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
                    raise HomeAway(f"{path}: {error}") from error
                log.error("history_file_lost", path=str(path), why=str(error), rows=file.rows)
                self.counts["damaged"] += 1
                self._drop([file])
            else:
                read.append(file)
        if not read:
            return None
        self.counts["joins"] += 1
        return read, merged(blocks) if blocks else combined(rolled)

    # -- files -------------------------------------------------------------------------------------

    def _put(
        self, contents: Sequence[_Content], instead_of: Sequence[File] = (), position: int | None = None
    ) -> None:
        """These become files that count, and those count no more. Raises HomeAway."""
        if (free := shutil.disk_usage(self.folder).free) < self._spare:
            raise HomeAway(
                f"{self.folder}: the disk is nearly full: {free >> 20} MiB are free, and it leaves {self._spare >> 20}"
            )
        try:
            ids = self._catalogue.begin((one.kind, one.enterprise, one.span, one.level) for one in contents)
            files = [one.write(self.folder, id) for id, one in zip(ids, contents, strict=True)]
            self._catalogue.put(files, instead_of, position=position, time=self._time)
        except (OSError, sqlite3.OperationalError) as error:
            raise HomeAway(f"{self.folder}: {error}") from error
        for file in files:
            self.counts["files"] += 1
            self.counts["bytes"] += file.bytes
            self._count_in(file, 1)
        for file in instead_of:
            self._count_in(file, -1)

    def _count_in(self, file: File, by: int) -> None:
        if file.level == FINISHED:
            return
        span = file.kind, file.enterprise, file.span
        self._pieces[span, file.level] += by
        if not self._pieces[span, file.level]:
            del self._pieces[span, file.level]
        elif self._pieces[span, file.level] >= MANY:
            self._crowded.add(span)

    def _drop(self, files: Sequence[File]) -> None:
        try:
            self._catalogue.drop(files)
        except sqlite3.OperationalError as error:
            raise HomeAway(f"{self.folder}: {error}") from error
        for file in files:
            self._count_in(file, -1)

    def _retain(self) -> None:
        """What is older than it is kept for counts no more."""
        keep = self._keep
        for kind, days in ((READINGS, keep.readings), (BY_MINUTE, keep.minute), (BY_HOUR, keep.hour)):
            if days and (files := self._catalogue.older(kind, self._time - days * DAY)):
                self._drop(files)

    def _sweep(self) -> bool:
        """Off the disk with what counts no more; whether there was something."""
        watch = stopwatch()
        going = self._catalogue.going()
        self._gone = {file.id: self._gone.get(file.id, watch) for file in going}
        files = [file for file in going if watch - self._gone[file.id] >= GRACE] + self._catalogue.begun()
        try:
            for file in files:
                path = file.path(self.folder)
                path.with_suffix(parquet_file.PART).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                for folder in path.parents[: 2 if file.kind == READINGS else 1]:
                    with suppress(OSError):  # there is more in it, or it was never made
                        folder.rmdir()
            if files:
                self._catalogue.forget(files)
        except (OSError, sqlite3.OperationalError) as error:
            raise HomeAway(f"{self.folder}: {error}") from error
        return bool(files)


def _first(files: Sequence[File]) -> list[File]:
    """The first of them, as many as are to be in memory at a time."""
    rows = 0
    taken: list[File] = []
    for file in files:
        rows += file.rows
        if taken and rows > LARGE:
            break
        taken.append(file)
    return taken


def _by_hour(of: Block) -> Iterator[tuple[int, Block]]:
    """It by the hours of its times."""
    yield from ((one * HOUR, of.part(places)) for one, places in _groups(of.time // HOUR))


def _by_month(of: RollUp) -> Iterator[tuple[int, RollUp]]:
    """It by the months, UTC, of its times."""
    month = of.time.astype("datetime64[us]").astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)
    yield from ((one, of.part(places)) for one, places in _groups(month))


def _groups(keys: Times) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each key, and its places in their order."""
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    for places in np.split(order, cuts):
        yield int(keys[places[0]]), places


def _end(span: Span) -> int:
    """When all that is to be in it has arrived, as a rule: a month's roll-ups come with its hours."""
    kind, _, begin = span
    if kind == READINGS:
        return begin + HOUR
    month = np.datetime64(begin, "us").astype("datetime64[M]") + 1
    return int(month.astype("datetime64[us]").astype(np.int64)) + DAY
