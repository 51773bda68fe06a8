"""What is asked of history where InfluxDB keeps it: in Flux that its storage works out, answered by the column.

An enterprise is looked for in the bucket of the cell that it lies in today.
"""

import io
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import structlog
from pyarrow import csv

from history import duck
from history.catalogue import BY_HOUR, BY_MINUTE
from history.course import NOTHING, SCHEMA, Courses, by_point, stretches
from history.home import HomeAway
from history.influx_access import FAILURES, Access
from history.influx_rollup import BY, RollUp, joined, moment, text
from history.lines import LATEST, QUALITY, READINGS, jurisdiction
from ingest.readings import BAD
from registry.clock import MINUTE, Clock
from registry.model import Registry

PATIENCE = 60.0
"""Seconds for an answer."""

RUNS = 2 * MINUTE
"""A task's run may take so long, µs; what it rolls up is read as readings until then."""

ROLL_UPS = dict(zip((BY_MINUTE, BY_HOUR), BY, strict=True))

_OF_READINGS = {"least": "min", "greatest": "max", "sum": "sum", "count": "count", "last": "last"}
"""What a stretch of readings is told by, and the function of Flux that makes it."""

_OF_ROLL_UPS = {
    "least": ("min", "min"),
    "greatest": ("max", "max"),
    "sum": ("sum", "sum"),
    "count": ("count", "sum"),
    "last": ("last", "last"),
}
"""Likewise of roll-ups: of which tag ``stat``, and by which function."""

_ROWS = {
    "_field": pa.string(),
    "_time": pa.timestamp("ns", "UTC"),
    "_value": pa.float64(),
    "what": pa.string(),
}

log = structlog.get_logger()


class InfluxReader:
    """A HistoryReader. Threads may share it.

    Args:
        registry: the version in force.
        clock: says up to when roll-ups have been made.
    """

    def __init__(self, access: Access, registry: Callable[[], Registry], clock: Clock) -> None:
        self._access, self._registry, self._clock = access, registry, clock
        self._db = duck.opened()

    def close(self) -> None:
        self._db.close()

    def courses(self, enterprise: str, points: Sequence[str], begin: int, end: int, width: int) -> Courses:
        """See HistoryReader. Of the newest time, which has no roll-ups yet, readings are read; what came late is in
        roll-ups when its hour has been rolled up again; how good readings were is known while these are kept."""
        kind, begin, end, step = stretches(begin, end, width)
        roll_up = ROLL_UPS.get(kind)
        edge = begin if roll_up is None else min(max(begin, roll_up.too_late(self._clock.now() - RUNS)), end)
        bucket, series = self._bucket(enterprise), _series(enterprise, points)
        window = f"every: {step}us, offset: {begin % step}us"
        passes = [  # without a roll-up there is no time before the edge
            *_rolled(self._bucket(enterprise, roll_up), series, _range(begin, edge), window),
            *_read(bucket, series, _range(edge, end), window),
            *_doubted(bucket, series, _range(begin, end), window),
        ]
        rows = self._ask(passes)
        if not len(rows):
            return Courses(kind, begin, end, step, dict.fromkeys(points, NOTHING))
        found = self._run(_COURSE, rows, {"begin": begin, "step": step})
        return Courses(kind, begin, end, step, by_point(found, points))

    def readings(self, enterprise: str, points: Sequence[str], begin: int, end: int) -> pa.Table:
        """See HistoryReader; InfluxDB keeps no arrivals."""
        bucket, series, stretch = self._bucket(enterprise), _series(enterprise, points), _range(begin, end)
        passes = [
            f"{_from(bucket, stretch, measurement, series)} {_said(measurement)}"
            for measurement in (READINGS, QUALITY)
            if stretch
        ]
        rows = self._ask(passes)
        return self._run(_READINGS, rows, {"bad": BAD}).cast(SCHEMA) if len(rows) else SCHEMA.empty_table()

    def hours(self, enterprise: str, begin: int, end: int) -> list[int]:
        """See HistoryReader."""
        stretch = _range(begin, end)
        passes = [
            f"{_from(self._bucket(enterprise), stretch, measurement, _series(enterprise))}"
            f' {_window("every: 1h", "count")} |> group() |> unique(column: "_time")'
            f' |> set(key: "_field", value: "") {_said("count")}'
            for measurement in (READINGS, QUALITY)
            if stretch
        ]
        times = self._ask(passes).column("_time").cast(pa.int64())
        return sorted(set(times.to_pylist()))

    def lost(self, enterprise: str, begin: int, end: int) -> int:
        """See HistoryReader: InfluxDB answers all or not at all."""
        return 0

    # -- asking ------------------------------------------------------------------------------------

    def _bucket(self, enterprise: str, roll_up: RollUp | None = None) -> str:
        cell = jurisdiction(self._registry(), enterprise, self._access.level)
        return self._access.bucket(cell, roll_up.of if roll_up else "")

    def _ask(self, passes: Sequence[str]) -> pa.Table:
        """What all of these streams say: columns of _ROWS. Raises HomeAway."""
        if not passes:
            return _NO_ROWS
        flux = "union(tables: [\n" + ",\n".join(passes) + "\n])"
        dialect = {"header": True, "annotations": [], "delimiter": ","}
        try:
            with self._access.client(PATIENCE) as client:
                answer: bytes = client.query_api().query_raw(flux, dialect=dialect).data
        except FAILURES as error:
            why = self._access.why(error)
            log.error("history_away", why=why)
            raise HomeAway(why) from error
        if not answer.strip():
            return _NO_ROWS
        if "error" in answer.partition(b"\n")[0].decode().strip().split(
            ","
        ):  # it began well, and then failed
            why = answer.decode("utf-8", "replace").splitlines()[1]
            log.error("history_away", why=why)
            raise HomeAway(why)
        columns = csv.ConvertOptions(
            column_types=_ROWS, include_columns=list(_ROWS), strings_can_be_null=False
        )
        return csv.read_csv(io.BytesIO(answer), convert_options=columns).cast(_EXACT, safe=False)

    def _run(self, statement: str, rows: pa.Table, given: dict[str, int]) -> pa.Table:
        with self._db.cursor() as cursor:
            cursor.register("rows", rows)
            return cursor.sql(statement, params=given).to_arrow_table()


_EXACT = pa.schema({**_ROWS, "_time": pa.timestamp("us", "UTC")})
"""A reading that somebody else wrote to the ns loses what is below the µs."""

_NO_ROWS = _EXACT.empty_table()


def _range(begin: int, end: int) -> str:
    """Of Flux, times that it can hold; "" if there are none."""
    begin, end = (min(max(time, 0), LATEST) for time in (begin, end))
    return f"start: {moment(begin)}, stop: {moment(end)}" if begin < end else ""


def _series(enterprise: str, points: Sequence[str] = ()) -> str:
    """What they are known by. A set of names would be quicker to write, and is not looked for in the index."""
    whose = f"r.enterprise == {text(enterprise)}"
    if not points:
        return whose
    return f"{whose} and {joined('or', [f'r._field == {text(point)}' for point in points])}"


def _from(bucket: str, stretch: str, measurement: str, series: str) -> str:
    return (
        f"from(bucket: {text(bucket)}) |> range({stretch})"
        f' |> filter(fn: (r) => r._measurement == "{measurement}" and {series})'
    )


def _window(window: str, function: str) -> str:
    return f'|> aggregateWindow({window}, fn: {function}, createEmpty: false, timeSrc: "_start")'


def _said(what: str) -> str:
    """The columns of _ROWS, and no others: a table for each series costs more than all else."""
    return (
        f'|> toFloat() |> set(key: "what", value: "{what}")'
        ' |> keep(columns: ["_field", "_time", "_value", "what"]) |> group()'
    )


def _read(bucket: str, series: str, stretch: str, window: str) -> Iterator[str]:
    for what, function in _OF_READINGS.items() if stretch else ():
        yield f"{_from(bucket, stretch, READINGS, series)} {_window(window, function)} {_said(what)}"


def _rolled(bucket: str, series: str, stretch: str, window: str) -> Iterator[str]:
    for what, (stat, function) in _OF_ROLL_UPS.items() if stretch else ():
        some = f'{series} and r.stat == "{stat}"'
        yield f"{_from(bucket, stretch, READINGS, some)} {_window(window, function)} {_said(what)}"


def _doubted(bucket: str, series: str, stretch: str, window: str) -> Iterator[str]:
    """How many were bad, and the worst quality."""
    if stretch:
        said = _from(bucket, stretch, QUALITY, series)
        yield f"{said} |> filter(fn: (r) => r._value == {BAD}) {_window(window, 'count')} {_said('bad')}"
        yield f"{said} {_window(window, 'max')} {_said('quality')}"


_COURSE = """
SELECT _field AS point, $begin + (epoch_us(_time) - $begin) // $step * $step AS time,
    min(_value) FILTER (what = 'least') AS least,
    max(_value) FILTER (what = 'greatest') AS greatest,
    sum(_value) FILTER (what = 'sum') / sum(_value) FILTER (what = 'count') AS mean,
    arg_max(_value, _time) FILTER (what = 'last') AS last,
    coalesce(sum(_value) FILTER (what = 'count'), 0)::BIGINT AS count,
    coalesce(sum(_value) FILTER (what = 'bad'), 0)::BIGINT AS bad,
    coalesce(max(_value) FILTER (what = 'quality'), 0)::UTINYINT AS quality
FROM rows GROUP BY ALL ORDER BY ALL"""

_READINGS = """
SELECT _field AS point, epoch_us(_time) AS time,
    CASE WHEN max(_value) FILTER (what = 'quality') = $bad THEN 'NaN'
         ELSE coalesce(any_value(_value) FILTER (what = 'readings'), 'NaN') END AS value,
    coalesce(max(_value) FILTER (what = 'quality'), 0)::UTINYINT AS quality,
    NULL::BIGINT AS arrival
FROM rows GROUP BY point, time ORDER BY point, time"""
