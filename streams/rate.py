"""Rate of change: |v - v0| / (t - t0), taken at the first known reading at least ``rate_over`` after the last.

Left open by the contract, and decided so: a finding has been since t0, the start of the span that was too
steep; where the time of a point goes back, the span begins anew.
"""

import numpy as np

from ingest.readings import Times, Values
from registry.clock import SECOND
from registry.model import Registry
from streams.batch_rule import ReferenceRule
from streams.episodes import CLOSED, RATE, Book
from streams.sieve import Index
from streams.state import NEVER


class Rate(ReferenceRule):
    def __init__(self, registry: Registry) -> None:
        points = registry.points
        self._unit = points.engineering_unit
        self._rate, self._over = points.rate, points.rate_over
        super().__init__(~np.isnan(points.rate) & (points.rate_over > 0))

    def _pass(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        flag = book.flag[RATE][row]
        known = book.recognise(RATE, place, row, time, value)
        since = self._since[row]
        back = time < since
        due = (
            known
            & (since != NEVER)
            & ~back
            & (time - np.where(since == NEVER, time, since) >= self._over[row])
        )
        anew = known & (back | (since == NEVER) | due)
        at = np.flatnonzero(due)
        if len(at):
            with np.errstate(over="ignore"):
                change = np.abs(value[at] - self._value[row[at]])
            rate = change / ((time[at] - since[at]) / SECOND)
            steep = rate >= self._rate[row[at]]
            for i in np.flatnonzero(steep != (flag[at] != CLOSED)):
                self._tell(
                    int(place[at[i]]), int(row[at[i]]), int(since[at[i]]), int(time[at[i]]), rate[i], book
                )
        self._since[row[anew]] = time[anew]
        self._value[row[anew]] = value[anew]

    def _tell(self, place: int, row: int, since: int, time: int, rate: float, book: Book) -> None:
        book.place = place
        if book.flag[RATE][row] != CLOSED:
            book.end(RATE, row, time, float(rate))
        else:
            limit, unit = float(self._rate[row]), f"{self._unit[row]}/s"
            book.begin(RATE, row, since, time, value=float(rate), limit=limit, unit=unit)
