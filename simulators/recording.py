"""A recording as a plant: reads a CSV file by a map, and gives its rows at the times they stand for.

The map is YAML:

    enterprise: 91370200MA0001XX0A    # credit code
    gateway: gw1
    time: {column: second, unit: s, start: 2026-01-05T00:00:00+08:00}
    points:                           # column of the file: point id
      MM116_methane_pct: MM116

``unit`` (s, ms or us; s if left out) counts from ``start``; without ``start`` the column holds ISO 8601 times
with a zone. Columns that the map does not name are left out; an empty field is a value that could not be
measured.
"""

import csv
import decimal
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Batch = tuple[int, dict[str, float | None]]
"""Time in µs UTC, and the value of each point then."""


class RecordingError(ValueError):
    """The map or the file cannot be used; the text says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Map:
    """Which column is which point of which gateway.

    unit: µs a unit of the time column; start: µs UTC, None where the column holds ISO 8601 times.
    points: (column, point id) in the map's order.
    """

    enterprise: str
    gateway: str
    time_column: str
    unit: int
    start: int | None
    points: tuple[tuple[str, str], ...]


def read_map(path: Path) -> Map:
    """Read a map.

    Raises:
        RecordingError: it is not such a map. OSError: it cannot be read.
    """
    try:
        data = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: not YAML: {error}") from None
    top = _keys(path, "the map", data, {"enterprise", "gateway", "time", "points"}, set())
    time = _keys(path, "time", top["time"], {"column"}, {"unit", "start"})
    points = top["points"]
    if not isinstance(points, dict) or not all(isinstance(point, str) and point for point in points.values()):
        raise RecordingError(f"{path}: points: expected a list of COLUMN: POINT")
    unit = time.get("unit", "s")
    if unit not in MICROSECONDS:
        raise RecordingError(f"{path}: time.unit: {unit!r}; expected one of {', '.join(MICROSECONDS)}")
    start = time.get("start")
    return Map(
        enterprise=str(top["enterprise"]),
        gateway=str(top["gateway"]),
        time_column=str(time["column"]),
        unit=MICROSECONDS[unit],
        start=None if start is None else _moment(start, f"{path}: time.start"),
        points=tuple(points.items()),
    )


def read(path: Path, columns: Map) -> Iterator[Batch]:
    """The rows of the file one by one, in its order.

    Raises:
        RecordingError: a column is missing, a field is neither empty nor a number, with its line, or it is
            no CSV file in UTF-8.
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file, strict=True)
        wanted = [columns.time_column, *(column for column, _ in columns.points)]
        try:
            missing = [column for column in wanted if column not in (table.fieldnames or ())]
            if missing:
                raise RecordingError(f"{path}:1: no column {', '.join(missing)}")
            for row in table:
                where = f"{path}:{table.line_num}"
                yield (
                    _time(row[columns.time_column], columns, where),
                    {point: _number(row[column], f"{where}: {column}") for column, point in columns.points},
                )
        except csv.Error as error:
            raise RecordingError(f"{path}:{table.line_num}: not CSV: {error}") from None
        except UnicodeDecodeError:
            raise RecordingError(f"{path}: not UTF-8 (in Excel or WPS: save as “CSV UTF-8”)") from None


def count(path: Path) -> int:
    """How many rows the file has, for a progress bar; lines without quotes are counted as they stand."""
    with path.open("rb") as file:
        lines = sum(1 for line in file if line.strip())
    return max(0, lines - 1)


def _keys(path: Path, what: str, data: Any, required: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise RecordingError(f"{path}: {what}: expected {', '.join(sorted(required))}")
    missing, unknown = required - data.keys(), data.keys() - required - optional
    if missing or unknown:
        parts = [f"{key} is missing" for key in sorted(missing)]
        parts += [f"{key} is unknown" for key in sorted(unknown)]
        raise RecordingError(f"{path}: {what}: {'; '.join(parts)}")
    return data


def _time(text: str | None, columns: Map, where: str) -> int:
    if columns.start is None:
        return _moment(text or "", f"{where}: {columns.time_column}")
    try:
        return _in_calendar(columns.start + int(Decimal(_plain(text)) * columns.unit))
    except (InvalidOperation, ValueError):
        raise RecordingError(f"{where}: {columns.time_column}: {text!r} is not a number") from None
    except (OverflowError, decimal.Overflow):
        raise RecordingError(f"{where}: {columns.time_column}: {text!r} is beyond the calendar") from None


def _number(text: str | None, where: str) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        number = float(_plain(text))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RecordingError(f"{where}: {text!r} is not a number")
    return number


def _plain(text: str | None) -> str:
    """Python would read 1_000 as a thousand. Raises ValueError."""
    if text is None or "_" in text:
        raise ValueError
    return text


def _moment(text: str, where: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RecordingError(f"{where}: {text!r} is not an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise RecordingError(f"{where}: {text!r} has no time zone; expected e.g. 2026-01-05T00:00:00+08:00")
    try:
        return _in_calendar((moment - EPOCH) // timedelta(microseconds=1))
    except OverflowError:
        raise RecordingError(f"{where}: {text!r} is beyond the calendar") from None


def _in_calendar(time: int) -> int:
    """The same time, µs UTC. Raises OverflowError where no date can be written for it."""
    _ = EPOCH + timedelta(microseconds=time)
    return time
