"""Stuck: a value that has not moved by more than ``stuck_within`` for ``stuck_after`` of event time.

Left open by the contract, and decided so: unknown readings between do not prove a change, so they do not
end it; where the time of a point goes back, the time of the reference goes back with it.
"""

import numpy as np

from ingest.readings import Times, Values
from registry.model import Registry
from streams.batch_rule import ReferenceRule
from streams.episodes import CLOSED, STUCK, Book
from streams.sieve import Index


class Stuck(ReferenceRule):
    def __init__(self, registry: Registry) -> None:
        points = registry.points
        self._unit = points.engineering_unit
        self._after, self._within = points.stuck_after, points.stuck_within
        super().__init__(points.stuck_after > 0)

    def _pass(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        flag = book.flag[STUCK][row]
        known = book.recognise(STUCK, place, row, time, value)
        since = np.minimum(self._since[row], time)
        with np.errstate(over="ignore"):
            same = known & (np.abs(value - self._value[row]) <= self._within[row])
        moved = known & ~same
        for i in np.flatnonzero(moved & (flag != CLOSED)):
            book.place = int(place[i])
            book.end(STUCK, int(row[i]), int(time[i]), float(value[i]))
        full = same & (flag == CLOSED)
        full[full] = time[full] - since[full] >= self._after[row[full]]
        for i in np.flatnonzero(full):
            at = int(row[i])
            book.place = int(place[i])
            limit, unit = float(self._within[at]), self._unit[at]
            book.begin(STUCK, at, int(since[i]), int(time[i]), value=float(value[i]), limit=limit, unit=unit)
        self._since[row[same]] = since[same]
        self._since[row[moved]] = time[moved]
        self._value[row[moved]] = value[moved]
