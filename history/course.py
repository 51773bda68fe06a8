"""What any home of history answers: how points went, in stretches of equal length, and their readings; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from history.catalogue import BY_HOUR, BY_MINUTE, READINGS
from ingest.readings import Qualities, Times, Values
from registry.clock import HOUR, MINUTE

UNITS = {READINGS: 1, BY_MINUTE: MINUTE, BY_HOUR: HOUR}
"""How long a stretch each kind of what is kept tells of, µs."""


class CannotAnswer(Exception):
    """What was asked for needs more than there is; says what."""


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """How a point went, in stretches of equal length; those without readings are left out. n stretches.

    time: µs UTC of the first reading of a stretch (of its beginning, where roll-ups are read, and in InfluxDB).
    least, greatest, mean, last: of the known values, NaN if there is none; so no peak disappears. count: of known
    values; bad: of readings without one. quality: the worst.
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
    """Of several points. kind: of what was read; step: length of a stretch, µs; lost: files that should have been read,
    and cannot be."""

    kind: str
    begin: int
    end: int
    step: int
    points: dict[str, Course]
    lost: int = 0


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


class HistoryReader(Protocol):
    """A home that can be asked; threads may share it. All raise CannotAnswer, HomeAway, and FileNotFoundError while
    there is no history at all."""

    def courses(self, enterprise: str, points: Sequence[str], begin: int, end: int, width: int) -> Courses:
        """How these points went from begin to before end, µs, in at most ``width`` stretches (and one for the rest).

        Of long times roll-ups are read, and begin and end are those of whole minutes or hours. Every point is in the
        answer.
        """
        ...

    def readings(self, enterprise: str, points: Sequence[str], begin: int, end: int) -> pa.Table:
        """All readings of these points from begin to before end, µs, by point and time: see SCHEMA; time in µs, value
        NaN if bad, arrival in µs, null where it is not kept."""
        ...

    def hours(self, enterprise: str, begin: int, end: int) -> list[int]:
        """When the hours begin, µs, of which there are readings from begin to before end."""
        ...

    def lost(self, enterprise: str, begin: int, end: int) -> int:
        """How many files of readings from begin to before end are known to be missing or damaged."""
        ...

    def close(self) -> None: ...


class Stretches(NamedTuple):
    """What a question is answered by: see Courses."""

    kind: str
    begin: int
    end: int
    step: int


def stretches(begin: int, end: int, width: int) -> Stretches:
    """For a time from begin to before end, µs, in at most ``width`` stretches, and one for the rest."""
    step = max(1, -((begin - end) // width))
    kind = BY_HOUR if step >= HOUR else BY_MINUTE if step >= MINUTE else READINGS
    unit = UNITS[kind]
    return Stretches(kind, begin // unit * unit, -(-end // unit) * unit, -(-step // unit) * unit)


def by_point(rows: pa.Table, points: Sequence[str]) -> dict[str, Course]:
    """Courses of all points.

    Args:
        rows: sorted by point; columns point and those of Course.
    """
    found = dict.fromkeys(points, NOTHING)
    names = rows.column("point").to_numpy()
    cuts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    for first, last in pairwise(cuts):
        if first < last:
            found[names[first]] = _course(rows.slice(first, last - first))
    return found


def _course(rows: pa.Table) -> Course:
    least, greatest, mean, last = (
        rows.column(name).to_numpy().astype(np.float64) for name in ("least", "greatest", "mean", "last")
    )
    time, count, bad = (rows.column(name).to_numpy() for name in ("time", "count", "bad"))
    return Course(time, least, greatest, mean, last, count, bad, rows.column("quality").to_numpy())
