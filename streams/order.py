"""Order: which readings are judged, and at which time.

A reading is judged at its device's time where that is later than the newest of its point and no more than
60 s ahead of its arrival. The same time and value again is a duplicate and counts for nothing. Anything
else is late; a point that is late for more than 10 s of arrival time without a reading in order between,
or that is more than 60 s ahead once, has a clock fault: from then on it is judged at arrival time, until a
reading is later than the newest and no more than 60 s ahead of its arrival.

Left open by the contract, and decided so:
- Within 60 s ahead, the newest follows the device (a clock a second fast is common, and its readings
  still have to be told from duplicates and put in order). A faulty reading sets the newest to its
  arrival, back if need be: that is the one moment at which the time of a point goes back.
- The same time with another value is late, not a duplicate: so a frozen clock becomes a clock fault, and
  a sensor that repeats one message for ever becomes silent.
- A value that is not finite is no value, whatever its quality says.
"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ingest.readings import BAD, Qualities, Times, Values
from registry.clock import MINUTE, SECOND
from registry.model import Registry
from streams.episodes import CLOCK, CLOSED, Book
from streams.sieve import Index
from streams.state import NEVER, Rows

AHEAD = MINUTE
PATIENCE = 10 * SECOND


class Verdict(Enum):
    JUDGED = "judged"
    LATE = "late"
    DUPLICATE = "duplicate"


class Order:
    def __init__(self, registry: Registry) -> None:
        self._gateway = registry.points.gateway
        self._id = registry.points.id
        self.rows = Rows(
            len(registry.points),
            newest=np.int64(NEVER),
            value=np.float64(np.nan),
            quality=np.uint8(BAD),
            late_since=np.int64(NEVER),
            fault=np.bool_(False),
        )
        self.newest: Times = self.rows["newest"]
        self.value: Values = self.rows["value"]
        self.quality: Qualities = self.rows["quality"]
        self._late_since: Times = self.rows["late_since"]
        self._fault: NDArray[np.bool_] = self.rows["fault"]
        self._faulty = np.zeros(len(registry.gateways), np.int64)

    def judge(self, row: int, time: int, value: float, arrival: int, book: Book) -> tuple[Verdict, int]:
        """What becomes of one reading, and at which time (µs) it is judged."""
        newest = int(self.newest[row])
        sane = newest < time <= arrival + AHEAD
        if self._fault[row]:
            if sane:
                self._recover(row, arrival, book)
            else:
                time = arrival
        elif sane:
            self._late_since[row] = NEVER
        elif time > arrival + AHEAD:
            self._fail(row, arrival, time, arrival, book)
            time = arrival
        elif time == newest and _same(value, float(self.value[row])):
            return Verdict.DUPLICATE, time
        else:
            since = int(self._late_since[row])
            if since == NEVER:
                self._late_since[row] = arrival
                return Verdict.LATE, time
            if arrival - since <= PATIENCE:
                return Verdict.LATE, time
            self._fail(row, since, time, arrival, book)
            time = arrival
        self.newest[row] = time
        return Verdict.JUDGED, time

    def troubled(self, row: int) -> bool:
        """Whether the next reading in order would change something here."""
        return bool(self._fault[row]) or int(self._late_since[row]) != NEVER

    def all_troubled(self) -> NDArray[np.bool_]:
        troubled: NDArray[np.bool_] = self._fault | (self._late_since != NEVER)
        return troubled

    def trust(self, rows: Index) -> None:
        """Trust the clock of these points anew: they have moved to another gateway."""
        self._fault[rows] = False
        self._late_since[rows] = NEVER
        self.count()

    def count(self) -> None:
        """Count the faulty points of each gateway (after a change of state from outside)."""
        self._faulty = np.bincount(self._gateway[self._fault], minlength=len(self._faulty)).astype(np.int64)

    def faulty(self, gateway: int) -> bool:
        return bool(self._faulty[gateway])

    def _fail(self, row: int, since: int, time: int, arrival: int, book: Book) -> None:
        gateway = int(self._gateway[row])
        self._fault[row] = True
        self._late_since[row] = NEVER
        self._faulty[gateway] += 1
        if book.flag[CLOCK][gateway] == CLOSED:
            off = (time - arrival) / SECOND
            book.begin(CLOCK, gateway, since, arrival, value=off, unit="s", evidence=(self._id[row],))

    def _recover(self, row: int, arrival: int, book: Book) -> None:
        gateway = int(self._gateway[row])
        self._fault[row] = False
        self._faulty[gateway] -= 1
        if not self._faulty[gateway]:
            book.end(CLOCK, gateway, arrival)


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)
