"""Discrete: a point whose value is its alarm state (valve closed, fan stopped) for so long.

Left open by the contract, and decided so: it is kept since when the value is what it is, whatever that is; so a state
that becomes an alarm state by a new configuration has held since then. Where the time of a point goes back, that time
goes back with it.
"""

import numpy as np

from ingest.readings import Times, Values
from registry.model import Registry
from streams.batch_rule import ReferenceRule
from streams.episodes import CLOSED, STATE, Book
from streams.sieve import Index


class Discrete(ReferenceRule):
    def __init__(self, registry: Registry) -> None:
        points = registry.points
        self._unit = points.engineering_unit
        self._alarm, self._delay = points.alarm_state, points.state_delay
        super().__init__(~np.isnan(points.alarm_state))

    def _pass(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        flag = book.flag[STATE][row]
        known = book.recognise(STATE, place, row, time, value)
        same = known & (value == self._value[row])
        since = np.where(same, np.minimum(self._since[row], time), time)
        self._since[row[known]] = since[known]
        self._value[row[known]] = value[known]
        alarm = known & (value == self._alarm[row])
        for i in np.flatnonzero(known & ~alarm & (flag != CLOSED)):
            book.place = int(place[i])
            book.end(STATE, int(row[i]), int(time[i]), float(value[i]))
        for i in np.flatnonzero(alarm & (flag == CLOSED) & (time - since >= self._delay[row])):
            at = int(row[i])
            book.place = int(place[i])
            limit, unit = float(self._alarm[at]), self._unit[at]
            book.begin(STATE, at, int(since[i]), int(time[i]), value=float(value[i]), limit=limit, unit=unit)
