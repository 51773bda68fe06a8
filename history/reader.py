"""What is asked of the embedded history: readings of points, their course at a chosen width, the newest; by DuckDB.

Any process may ask while the writer goes on: a file that was joined with others meanwhile stays for some minutes.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import structlog
from pyarrow import parquet

from history import catalogue, duck
from history.catalogue import FINISHED, READINGS, File
from history.course import NOTHING, SCHEMA, CannotAnswer, Courses, by_point, stretches

log = structlog.get_logger()


class _Damaged(Exception):
    """Files that cannot be read were among those asked for; they are known now."""


class Reader:
    """Threads may share it. Close it after use.

    Args:
        folder: of a ParquetHome; FileNotFoundError is raised by what is asked while there is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bad: set[str] = set()  # files that could not be read
        self._db = duck.opened()

    def close(self) -> None:
        self._db.close()

    def courses(self, enterprise: str, points: Sequence[str], begin: int, end: int, width: int) -> Courses:
        """See HistoryReader. What an hour that is not over, or came late, adds to roll-ups is reckoned on the way."""
        kind, begin, end, step = stretches(begin, end, width)
        rows = self._course_rows(enterprise, points, begin, end, kind, step)
        found = by_point(rows, points) if rows is not None else dict.fromkeys(points, NOTHING)
        lost = self._lost(enterprise, begin, end, *dict.fromkeys((READINGS, kind)))
        if kind != READINGS:
            lost = {file for file in lost if file.kind == kind or file.level < FINISHED}
        return Courses(kind, begin, end, step, found, len(lost))

    def readings(self, enterprise: str, points: Sequence[str], begin: int, end: int) -> pa.Table:
        """See HistoryReader; arrival to the ms."""
        while files := self._files(enterprise, begin, end, READINGS):
            given = {"begin": begin, "end": end, "points": list(points), "raw": self._paths(files)}
            with suppress(_Damaged):
                return self._run(_READINGS, given)
        return SCHEMA.empty_table()

    def hours(self, enterprise: str, begin: int, end: int) -> list[int]:
        return sorted({file.span for file in self._files(enterprise, begin, end, READINGS)})

    def lost(self, enterprise: str, begin: int, end: int) -> int:
        """See HistoryReader; damage is known once it was met."""
        return len(self._lost(enterprise, begin, end, READINGS))

    # -- questions ---------------------------------------------------------------------------------

    def _course_rows(
        self, enterprise: str, points: Sequence[str], begin: int, end: int, kind: str, step: int
    ) -> pa.Table | None:
        """None: there is nothing to be read."""
        while files := self._files(enterprise, begin, end, *dict.fromkeys((READINGS, kind))):
            given: dict[str, object] = {"begin": begin, "end": end, "step": step, "points": list(points)}
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
                break
            with suppress(_Damaged):
                return self._run(_COURSE.format(source=" UNION ALL ".join(sources)), given)
        return None

    def _run(self, statement: str, given: Mapping[str, object]) -> pa.Table:
        """Raises CannotAnswer; _Damaged: some of the files in ``given`` are not among _files any more."""
        try:
            with self._db.cursor() as cursor:
                return cursor.sql(statement, params=given).to_arrow_table()
        except duckdb.Error as error:
            named = [paths for name in ("raw", "rolled") if isinstance(paths := given.get(name), list)]
            bad = {path for paths in named for path in paths if not _is_readable(path)}
            if not bad:
                why = str(error).splitlines()[0]
                raise CannotAnswer(f"ask for fewer points or a shorter time: {why}") from error
            log.error("history_files_damaged", paths=sorted(bad))
            self._bad |= bad
            raise _Damaged from error

    def _files(self, enterprise: str, begin: int, end: int, *kinds: str) -> list[File]:
        """Those that can be read: one that somebody has removed, or that is damaged, takes no other along."""
        before: list[File] = []
        while True:
            files = catalogue.listed(self._folder, enterprise, begin, end - 1, *kinds)
            there = [file for file in files if file.path(self._folder).exists()]
            if len(there) == len(files):
                break
            if files == before:  # it still counts, and is not there
                log.error("history_files_missing", paths=self._paths(set(files) - set(there)))
                break
            before = files  # others may have taken the place of what went
        return [file for file in there if str(file.path(self._folder)) not in self._bad]

    def _lost(self, enterprise: str, begin: int, end: int, *kinds: str) -> set[File]:
        """Looked for twice: one whose place another has taken may go meanwhile."""

        def look() -> set[File]:
            files = catalogue.listed(self._folder, enterprise, begin, end - 1, *kinds)
            paths = ((file, file.path(self._folder)) for file in files)
            return {file for file, path in paths if str(path) in self._bad or not path.exists()}

        return look() and look()

    def _paths(self, files: Iterable[File]) -> list[str]:
        return sorted(str(file.path(self._folder)) for file in files)


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
