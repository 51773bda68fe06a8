"""When special equipment must be inspected again: the intervals, by kind, grade and sort of inspection.

The intervals are data (``tables/inspection_intervals.csv``), each with its clause and source; rows that nobody has
checked against the text of the regulation say so. A registry's own rows (intervals.csv) go before them.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Days = NDArray[np.datetime64]
"""Calendar days, datetime64[D]; NaT where there is none."""

PERIODIC = "periodic"
"""The sort of inspection that is meant where none is named."""

OTHER = "other"
"""A kind of equipment that no interval speaks of: its inspections must say when the next is."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FILE = Path(__file__).parent / "tables" / "inspection_intervals.csv"


@dataclass(frozen=True, slots=True)
class Interval:
    """How long one sort of inspection of one kind and grade of equipment holds. Months by the calendar.

    first_months: from being put into service to the first one; None where it is followed only from the first that
    is recorded. years: the years of service in which one is due, where the regulation counts so; after the last of
    them every year. Without the day it was put into service, ``months`` holds instead.
    """

    kind: str
    grade: str  # "" for equipment whose grade is not given
    inspection: str
    first_months: int | None
    months: int
    years: tuple[int, ...] = ()
    clause: str = ""
    source: str = ""
    unsure: bool = False


class Intervals:
    """All intervals that are in force. A later row for the same kind, grade and inspection replaces the earlier."""

    def __init__(self, rows: Iterable[Interval]) -> None:
        self._rows = {(row.kind, row.grade, row.inspection): row for row in rows}
        self.kinds = frozenset(kind for kind, _, _ in self._rows)

    def find(self, kind: str, grade: str, inspection: str) -> Interval | None:
        """The interval; where the grade has none of its own, that of the kind. None if the table has neither."""
        return self._rows.get((kind, grade, inspection)) or self._rows.get((kind, "", inspection))

    def inspections(self, kind: str, grade: str) -> tuple[str, ...]:
        """The sorts of inspection that equipment of this kind and grade has."""
        found = (inspection for k, g, inspection in self._rows if k == kind and g in ("", grade))
        return tuple(dict.fromkeys(found))

    def grades(self, kind: str) -> tuple[str, ...]:
        """The grades that make a difference for this kind."""
        return tuple(dict.fromkeys(grade for k, grade, _ in self._rows if k == kind and grade))


@cache
def shipped() -> tuple[Interval, ...]:
    """The intervals that come with Fenghuo."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return tuple(
            Interval(
                row["kind"],
                row["grade"],
                row["inspection"],
                int(row["first_months"]) if row["first_months"] else None,
                int(row["months"]),
                tuple(map(int, row["years"].split())),
                row["clause"],
                row["source"],
                row["unsure"] == "yes",
            )
            for row in csv.DictReader(file)
        )


def in_force(own: Mapping[str, Sequence[Any]]) -> Intervals:
    """The shipped intervals under a registry's own: the columns of intervals.csv, {} if it has none."""
    names = ("kind", "grade", "inspection", "first_months", "months", "years", "clause", "source", "unsure")
    rows = zip(*(own[name] for name in names), strict=True) if own else ()
    mine = (dict(zip(names, row, strict=True)) for row in rows)
    return Intervals([*shipped(), *(Interval(**row | {"unsure": row["unsure"] == "yes"}) for row in mine)])


def add_months(days: Days, months: int | NDArray[np.int64]) -> Days:
    """The same day so many months later, by the calendar; the month's last day where it has no such day."""
    month = days.astype("M8[M]")
    in_month = days - month.astype("M8[D]")
    begins = month + np.asarray(months, "m8[M]")
    last = (begins + np.timedelta64(1, "M")).astype("M8[D]") - np.timedelta64(1, "D")
    same: Days = np.minimum(begins.astype("M8[D]") + in_month, last)
    return same


def due(days: Days, in_service: Days, intervals: Sequence[Interval | None], which: NDArray[np.int64]) -> Days:
    """The last day for which an inspection of that day holds.

    Args:
        days, in_service: [n] when the inspection was, and when the equipment was put into service (or NaT).
        intervals: the distinct intervals, None for what the table does not have. which: [n] index into them.

    Returns:
        [n] NaT where the table does not say.
    """
    result = np.full(len(days), np.datetime64("NaT"), "M8[D]")
    for index, interval in enumerate(intervals):
        if interval is None:
            continue
        rows = np.flatnonzero(which == index)
        result[rows] = add_months(days[rows], interval.months)
        if interval.years:
            rows = rows[~np.isnat(in_service[rows])]
            age = np.rint((days[rows] - in_service[rows]) / np.timedelta64(1, "D") / 365.2425).astype(
                np.int64
            )
            years = np.array(interval.years)
            after = np.searchsorted(years, age, "right")
            year = np.where(after < len(years), years[np.minimum(after, len(years) - 1)], age + 1)
            result[rows] = add_months(in_service[rows], 12 * year)
    return result


def midnight(day: date, zone: ZoneInfo) -> int:
    """When this day begins there, µs UTC."""
    return instant(datetime(day.year, day.month, day.day), zone)


def instant(when: datetime, zone: ZoneInfo) -> int:
    """This time in µs UTC; one without a zone is of this zone."""
    aware = when if when.tzinfo else when.replace(tzinfo=zone)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def midnights(days: Days, zone: ZoneInfo) -> NDArray[np.int64]:
    """When each of these days begins there, µs UTC. None may be NaT."""
    distinct, which = np.unique(days, return_inverse=True)
    return np.array([midnight(day, zone) for day in distinct.tolist()], np.int64)[which]
