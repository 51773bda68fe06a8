"""What is asked of the embedded history: readings of points, their course at a chosen width, the newest; by DuckDB.

Any process may ask while the writer goes on: a file that was joined with others meanwhile stays for some minutes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray
from pyarrow import parquet

from history import catalogue
from history.catalogue import BY_HOUR, BY_MINUTE, FINISHED, READINGS, File
from ingest.readings import Qualities, Times, Values
from registry.clock import HOUR, MINUTE

THREADS = 2
"""Of a query: a chart is not to take all of a small machine."""

MEMORY = "512MB"

SETTINGS = (
    "TimeZone = 'UTC'",
    "autoinstall_known_extensions = false",
    "python_enable_replacements = false",  # no variable of ours is ever a table
    "temp_directory = ''",
)

UNITS = {READINGS: 1, BY_MINUTE: MINUTE, BY_HOUR: HOUR}
"""How long a stretch each kind of file tells of, µs."""

log = structlog.get_logger()


class CannotAnswer(Exception):
    """What was asked for needs more than there is; says what."""


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """How a point went, in stretches of equal length; those without readings are left out. n stretches.

    time: µs UTC of the first reading of a stretch (of its beginning, where roll-ups are read). least, greatest, mean,
    last: of the known values, NaN if there is none; so no peak disappears. count: of known values; bad: of readings
    without one. quality: the worst.
    """

    time: Times
    least: Values
    greatest: Values
    mean: Values
    last: Values
    count: NDArray[np.int64]
    bad: NDArray[np.int64]
    quality: Qualities

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, slots=True)
class Courses:
    """Of several points. kind: of the files that were read; step: length of a stretch, µs."""

    kind: str
    begin: int
    end: int
    step: int
    points: dict[str, Course]


NOTHING = Course(*(np.empty(0, of) for of in (np.int64, *[np.float64] * 4, np.int64, np.int64, np.uint8)))
"""Of a point without readings."""

SCHEMA = pa.schema(
    [
        ("point", pa.string()),
        ("time", pa.int64()),
        ("value", pa.float64()),
        ("quality", pa.uint8()),
        ("arrival", pa.int64()),
    ]
)
"""Of readings that were asked for."""


class Reader:
    """Threads may share it. Close it after use.

    Args:
        folder: of a ParquetHome; FileNotFoundError is raised by what is asked while there is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bad: set[str] = set()  # files that could not be read
        self._db = duckdb.connect(":memory:", config={"threads": THREADS, "memory_limit": MEMORY})
        for setting in SETTINGS:
            self._db.execute(f"SET {setting}")

    def close(self) -> None:
        self._db.close()

    def courses(self, enterprise: str, points: Sequence[str], begin: int, end: int, width: int) -> Courses:
        """How these points went from begin to before end, µs, in at most ``width`` stretches (and one for the rest).

        Of long times roll-ups are read, and begin and end are those of whole minutes or hours; what an hour that is not
        over, or came late, adds to them is reckoned on the way. Every point is in the answer. Raises CannotAnswer.
        """
        step = max(1, -((begin - end) // width))
        kind = BY_HOUR if step >= HOUR else BY_MINUTE if step >= MINUTE else READINGS
        unit = UNITS[kind]
        begin, end, step = begin // unit * unit, -(-end // unit) * unit, -(-step // unit) * unit
        rows = self._course_rows(enterprise, points, begin, end, kind, step)
        found = dict.fromkeys(points, NOTHING)
        if rows is not None:
            names = rows.column("point").to_numpy()
            cuts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
            for first, last in pairwise(cuts):
                if first < last:
                    found[names[first]] = _course(rows.slice(first, last - first))
        return Courses(kind, begin, end, step, found)

    def readings(self, enterprise: str, points: Sequence[str], begin: int, end: int) -> pa.Table:
        """All readings of these points from begin to before end, µs, by point and time: point, time (µs), value (NaN
        if bad), quality, arrival (µs, to the ms). Raises CannotAnswer."""
        files = self._files(enterprise, begin, end, READINGS)
        given: dict[str, object] = {
            "begin": begin,
            "end": end,
            "points": list(points),
            "raw": self._paths(files),
        }
        rows = self._run(_READINGS, given) if files else None
        return rows if rows is not None else SCHEMA.empty_table()

    def hours(self, enterprise: str, begin: int, end: int) -> list[int]:
        """When the hours begin, µs, of which there are readings from begin to before end."""
        return sorted({file.span for file in self._files(enterprise, begin, end, READINGS)})

    # -- questions ---------------------------------------------------------------------------------

    def _course_rows(
        self, enterprise: str, points: Sequence[str], begin: int, end: int, kind: str, step: int
    ) -> pa.Table | None:
        given: dict[str, object] = {"begin": begin, "end": end, "step": step, "points": list(points)}
        files = self._files(enterprise, begin, end, READINGS, kind)
        raw = [file for file in files if file.kind == READINGS]
        sources = []
        if kind != READINGS:
            raw = [file for file in raw if file.level < FINISHED]  # of the others all is in the roll-ups
            if rolled := [file for file in files if file.kind == kind]:
                given["rolled"] = self._paths(rolled)
                sources.append(_ROLLED)
        if raw:
            given["raw"] = self._paths(raw)
            sources.append(_RAW)
        if not sources:
            return None
        return self._run(_COURSE.format(source=" UNION ALL ".join(sources)), given)

    def _run(self, statement: str, given: dict[str, object]) -> pa.Table | None:
        """Raises CannotAnswer. None: none of the files that it needs can be read."""
        while True:
            try:
                with self._db.cursor() as cursor:
                    return cursor.sql(statement, params=given).to_arrow_table()
            except duckdb.Error as error:
                named = {
                    name: paths for name in ("raw", "rolled") if isinstance(paths := given.get(name), list)
                }
                bad = {path for paths in named.values() for path in paths if not _is_readable(path)}
                if not bad:
                    raise CannotAnswer(str(error).splitlines()[0]) from error
                log.error("history_files_damaged", paths=sorted(bad))
                self._bad |= bad
                given |= {name: [path for path in paths if path not in bad] for name, paths in named.items()}
                if not all(given[name] for name in named):
                    return None

    def _files(self, enterprise: str, begin: int, end: int, *kinds: str) -> list[File]:
        """Those that can be read: one that somebody has removed, or that is damaged, takes no other along."""
        before: list[File] = []
        while True:
            files = catalogue.listed(self._folder, enterprise, begin, end - 1, *kinds)
            there = [file for file in files if file.path(self._folder).exists()]
            if len(there) == len(files):
                break
            if files == before:  # it still counts, and is not there
                log.error("history_files_missing", enterprise=enterprise, count=len(files) - len(there))
                break
            before = files  # others may have taken the place of what went
        return [file for file in there if str(file.path(self._folder)) not in self._bad]

    def _paths(self, files: Iterable[File]) -> list[str]:
        return [str(file.path(self._folder)) for file in files]


def _is_readable(path: str) -> bool:
    try:
        parquet.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException):
        return False
    return True


_RAW = """
SELECT point, epoch_us(time) AS t, value AS low, low AS high, low AS middle, low AS last, (t, delay) AS last_time,
    (low IS NOT NULL)::BIGINT AS known, (low IS NULL)::BIGINT AS unknown, quality
FROM read_parquet($raw)
WHERE point IN (SELECT unnest($points)) AND time >= make_timestamptz($begin) AND time < make_timestamptz($end)"""

_ROLLED = """
SELECT point, epoch_us(time) AS t, min AS low, max AS high, mean AS middle, "last" AS last,
    (epoch_us(last_time), 0) AS last_time, count AS known, bad AS unknown, quality
FROM read_parquet($rolled)
WHERE point IN (SELECT unnest($points)) AND time >= make_timestamptz($begin) AND time < make_timestamptz($end)"""

_COURSE = """
SELECT point, min(t) AS time, min(low) AS least, max(high) AS greatest, sum(middle * known) / sum(known) AS mean,
    arg_max(last, last_time) AS last, sum(known)::BIGINT AS count, sum(unknown)::BIGINT AS bad, max(quality) AS quality
FROM ({source}) GROUP BY point, (t - $begin) // $step ORDER BY point, time"""
"""arg_max passes over rows whose value is not known."""

_READINGS = """
SELECT point, epoch_us(time) AS time, coalesce(value, 'NaN') AS value, quality, epoch_us(time) + delay * 1000 AS arrival
FROM read_parquet($raw)
WHERE point IN (SELECT unnest($points)) AND time >= make_timestamptz($begin) AND time < make_timestamptz($end)
ORDER BY point, time, arrival"""


def _course(rows: pa.Table) -> Course:
    least, greatest, mean, last = (
        rows.column(name).to_numpy().astype(np.float64) for name in ("least", "greatest", "mean", "last")
    )
    time, count, bad = (rows.column(name).to_numpy() for name in ("time", "count", "bad"))
    return Course(time, least, greatest, mean, last, count, bad, rows.column("quality").to_numpy())
