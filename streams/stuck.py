"""Stuck: a value that has not moved by more than ``stuck_within`` for ``stuck_after`` of event time.

Left open by the contract, and decided so: unknown readings between do not prove a change, so they do not
end it; where the time of a point goes back, the time of the reference goes back with it.
"""

import numpy as np

from ingest.readings import Times, Values
from registry.model import Registry
from streams.episodes import CLOSED, STUCK, Book
from streams.passes import passes
from streams.sieve import Index
from streams.state import NEVER, Rows


class Stuck:
    def __init__(self, registry: Registry) -> None:
        points = registry.points
        self._unit = points.engineering_unit
        self._after, self._within = points.stuck_after, points.stuck_within
        self.has = points.stuck_after > 0
        self.rows = Rows(len(points), since=np.int64(NEVER), value=np.float64(np.nan))
        self._since: Times = self.rows["since"]
        self._value: Values = self.rows["value"]

    def judge(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        """Readings in order, NaN where unknown; place is their number in the round."""
        mine = self.has[row]
        if mine.any():
            place, row, time, value = place[mine], row[mine], time[mine], value[mine]
            for one in passes(row):
                self._pass(place[one], row[one], time[one], value[one], book)

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

    def prune(self) -> None:
        """Where there is no rule (any more), there is no reference."""
        self._since[~self.has] = NEVER
        self._value[~self.has] = np.nan
