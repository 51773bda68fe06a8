"""History over HTTP: how points went, for a chart of a given width, with their alerts; and readings to take away."""

import io
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Depends, Query, Response
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse
from pyarrow import csv, parquet
from pydantic import Field
from sqlalchemy import Engine

from alerting import store
from alerting.alert import Alert
from console import scope as scopes
from console.guard import Refused, not_found
from console.models import NO_NUL, QUALITY, AlertId, Model, TierName, Time, TimeOrNone
from history.course import CannotAnswer, Course, HistoryReader
from history.home import HomeAway
from ingest.readings import Values
from registry.clock import HOUR, MINUTE
from registry.database import reading
from registry.model import Registry

POINTS = 50
"""In a chart at most."""

MARKS = 1000
"""Alerts of an enterprise that are looked through for a chart, the newest first."""

OLDEST = 10**14
"""Seconds and milliseconds of our days are below it, µs above."""

STEP = 10 * MINUTE
"""How much of an export is in memory at a time, µs."""

LOST = "Fenghuo-Lost"
"""Header of an export that is not whole."""

PARQUET = "application/vnd.apache.parquet"

Code = Annotated[str, InPath(max_length=64)]
Moment = Annotated[int, Query(ge=0, le=1 << 60, description="µs since 1970-01-01 UTC")]
PointId = Annotated[str, Field(max_length=128, pattern=NO_NUL)]
Drawn = Annotated[list[PointId], Query(min_length=1, max_length=POINTS)]
Taken = Annotated[list[PointId], Query(min_length=1, max_length=500)]


Answer = TypeVar("Answer")


class Caller(Protocol):
    """Who asks."""

    @property
    def scope(self) -> store.Scope: ...


class MarkOut(Model):
    """An alert of the point, to be drawn into its chart."""

    id: AlertId
    rule: str
    level: str
    tier: TierName
    since: Time
    ended: TimeOrNone


class CourseOut(Model):
    """How a point went: lists of equal length, one place a stretch; stretches without readings are left out."""

    point: str
    unit: str = Field(description="engineering unit")
    time: list[Time] = Field(description="of the first reading of each stretch")
    min: list[float | None] = Field(description="null where no value is known")
    max: list[float | None]
    mean: list[float | None]
    last: list[float | None]
    count: list[int] = Field(description="of known values")
    bad: list[int] = Field(description="of readings without a known value")
    quality: list[str] = Field(description="the worst: good, uncertain or bad")
    alerts: list[MarkOut]


class CoursesOut(Model):
    """step: length of a stretch, µs. of: what was read: readings, or roll-ups by minute or hour; then begin and end are
    of whole ones."""

    begin: Time
    end: Time
    step: int
    of: str = Field(examples=["minute"])
    lost: int = Field(
        description="files of this time that are damaged or missing: the chart has holes, and the log says"
    )
    points: list[CourseOut]


def router(
    reader: HistoryReader | None,
    registry: Callable[[], Registry],
    database: Engine,
    caller: Callable[..., Caller],
    prefix: str,
    documented: Callable[..., dict[int | str, dict[str, Any]]],
) -> APIRouter:
    """The routes.

    Args:
        registry: the version in force. database: the desk's.
        caller: the dependency that gives who asks.
    """
    Asking = Annotated[Caller, Depends(caller)]
    api = APIRouter(prefix=prefix, tags=["history"], responses=documented(401, 404, 422))

    def admit(asking: Caller, code: str, points: list[str], begin: int, end: int) -> dict[str, int]:
        """The points' rows. Raises Refused."""
        if scopes.enterprise(registry(), asking.scope, code) is None:
            raise not_found()
        if begin >= end:
            raise Refused(422, "invalid", "begin: expected a time before `end`")
        if end < OLDEST:
            raise Refused(
                422, "invalid", "end: that is long before any reading; expected µs since 1970, of 16 digits"
            )
        rows = registry().rows[code]
        if unknown := [point for point in points if point not in rows]:
            raise Refused(422, "invalid", f"point: {code} has no {', '.join(unknown[:10])}")
        return rows

    def asked(question: Callable[[HistoryReader], Answer]) -> Answer:
        """What history answers. Raises Refused."""
        if reader is None:
            raise Refused(404, "no_history", "no history is kept here: see `history` in docs/settings.md")
        try:
            return question(reader)
        except FileNotFoundError as error:
            raise Refused(404, "no_history", "there is no history yet") from error
        except CannotAnswer as error:
            raise Refused(503, "too_much", str(error)) from error
        except HomeAway as error:  # its reason names our servers, and is in the log
            raise Refused(503, "history_away", "history cannot be read now") from error

    @api.get("/enterprises/{code}/history", operation_id="readHistory")
    def read_history(
        code: Code,
        asking: Asking,
        point: Drawn,
        begin: Moment,
        end: Moment,
        width: Annotated[int, Query(ge=1, le=4000, description="pixels of the chart")] = 1000,
    ) -> CoursesOut:
        """How points went from `begin` to before `end`, in about `width` stretches, each with the least and the
        greatest value in it, so that no peak disappears; and the alerts that were open in that time. History is some
        seconds behind: for now, ask for the values."""
        rows = admit(asking, code, point, begin, end)
        units = registry().points.engineering_unit
        with reading(database) as connection:
            alerts = store.alerts(connection, asking.scope, enterprise=code, raised_before=end, limit=MARKS)
        marks = [alert for alert in alerts if not alert.ended or alert.ended >= begin]
        found = asked(lambda reader: reader.courses(code, point, begin, end, width))
        return CoursesOut(
            begin=found.begin,
            end=found.end,
            step=found.step,
            of=found.kind,
            lost=found.lost,
            points=[
                _out(id, units[rows[id]], course, [one for one in marks if one.subject == f"point:{id}"])
                for id, course in found.points.items()
            ],
        )

    @api.get(
        "/enterprises/{code}/readings",
        operation_id="exportReadings",
        response_class=Response,
        responses={200: {"description": "the file", "content": {"text/csv": {}, PARQUET: {}}}},
    )
    def export_readings(
        code: Code,
        asking: Asking,
        point: Taken,
        begin: Moment,
        end: Moment,
        format: Literal["csv", "parquet"] = "csv",
    ) -> Response:
        """All readings of points from `begin` to before `end` as a file: enterprise, point, time and arrival (UTC),
        value, quality; sorted by point and time within each ten minutes. Where history is in InfluxDB it knows no
        arrivals. `Fenghuo-Lost` says how many files of that time are damaged or missing; where one is only found to be
        while it is read, the answer breaks off."""
        admit(asking, code, point, begin, end)
        history, lost, hours = asked(lambda it: (it, it.lost(code, begin, end), it.hours(code, begin, end)))
        spans = (
            (max(begin, start), min(end, start + STEP))
            for hour in hours
            for start in range(hour, hour + HOUR, STEP)
            if start < end and start + STEP > begin
        )

        def tables() -> Iterator[pa.Table]:
            for span in spans:
                yield _table(code, history.readings(code, point, *span))
            if history.lost(code, begin, end) > lost:  # what looks whole would not be
                raise CannotAnswer(
                    f"{code}: a file was found to be damaged while it was read; to be asked again"
                )

        write, kind = (_csv, "text/csv; charset=utf-8") if format == "csv" else (_parquet, PARQUET)
        named = {"Content-Disposition": f'attachment; filename="{code}-{begin}-{end}.{format}"'}
        if lost:
            named[LOST] = str(lost)
        return StreamingResponse(write(tables()), media_type=kind, headers=named)

    return api


SCHEMA = pa.schema(
    [
        ("enterprise", pa.string()),
        ("point", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("arrival", pa.timestamp("us", "UTC")),
        ("value", pa.float64()),
        ("quality", pa.string()),
    ]
)


def _table(code: str, rows: pa.Table) -> pa.Table:
    """Readings as they are taken away."""
    columns = [
        pa.repeat(code, rows.num_rows),
        rows.column("point"),
        rows.column("time").cast(SCHEMA.field("time").type),
        rows.column("arrival").cast(SCHEMA.field("arrival").type),
        pa.array(rows.column("value").to_numpy(), from_pandas=True),  # NaN: none
        pa.array(np.array(QUALITY, object)[rows.column("quality").to_numpy()], pa.string()),
    ]
    return pa.table(columns, schema=SCHEMA)


def _csv(tables: Iterator[pa.Table]) -> Iterator[bytes]:
    yield (",".join(SCHEMA.names) + "\n").encode()
    for table in tables:
        text = pa.BufferOutputStream()
        csv.write_csv(table, text, csv.WriteOptions(include_header=False))
        yield text.getvalue().to_pybytes()


class _Pipe(io.RawIOBase):
    """What is written, for whoever takes it from here."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _parquet(tables: Iterator[pa.Table]) -> Iterator[bytes]:
    pipe = _Pipe()
    with parquet.ParquetWriter(pa.PythonFile(pipe, "w"), SCHEMA, compression="zstd") as out:
        for table in tables:
            out.write_table(table)
            yield pipe.taken()
    yield pipe.taken()


def _out(id: str, unit: str, course: Course, marks: list[Alert]) -> CourseOut:
    return CourseOut(
        point=id,
        unit=unit,
        time=course.time.tolist(),
        min=_known(course.least),
        max=_known(course.greatest),
        mean=_known(course.mean),
        last=_known(course.last),
        count=course.count.tolist(),
        bad=course.bad.tolist(),
        quality=[QUALITY[one] for one in course.quality.tolist()],
        alerts=[MarkOut.model_validate(alert) for alert in marks],
    )


def _known(values: Values) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
