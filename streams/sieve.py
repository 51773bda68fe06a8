"""Sieve: finds in a batch the few readings that can change anything, so that the rest cost next to nothing.

Every point has a band of values and a time until which a reading inside the band changes nothing but
the point's last value; a watched point has an empty band, so that each of its readings is looked at.
A reading that does not pass is only looked at, so a band may be too narrow, never too wide.
"""

import numpy as np
from numpy.typing import NDArray

from ingest.readings import Times, Values

FOREVER = 2**63 - 1
LARGEST = float(np.finfo(np.float64).max)

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]


class Sieve:
    def __init__(self, low: Values, high: Values) -> None:
        """Bands (inclusive) of points of which nothing is known yet."""
        self._low, self._high = low, high
        self._until = np.full(len(low), FOREVER, np.int64)
        self._mark = np.zeros(len(low), np.intp)
        self._hit = np.zeros(len(low), np.bool_)

    def watch(self, rows: Index | int) -> None:
        """Look at every reading of these points."""
        self._low[rows] = np.inf

    def set(self, row: int, low: float, high: float, until: int) -> None:
        """A reading of this point in low..high, before ``until`` (µs), changes nothing."""
        self._low[row], self._high[row], self._until[row] = low, high, until

    def quiet(self, row: Index, time: Times, value: Values, newest: Times, horizon: int) -> Mask:
        """Which readings of a batch change nothing but their point's last value.

        newest: by row, the time of the newest reading judged before; horizon: later times are too far ahead.
        A point of which any reading has to be looked at is not quiet at all, so that its order is kept.
        """
        quiet = time > newest.take(row)
        quiet &= time < self._until.take(row)
        quiet &= value >= self._low.take(row)
        quiet &= value <= self._high.take(row)
        if time.max() > horizon:
            quiet &= time <= horizon
        if not (row[1:] > row[:-1]).all() and self._repeats(row):
            order = np.argsort(row, kind="stable")
            rows, times = row[order], time[order]
            disorder = (rows[1:] == rows[:-1]) & (times[1:] <= times[:-1])
            quiet[order[1:][disorder]] = False
            rows = row[~quiet]
            self._hit[rows] = True
            quiet &= ~self._hit[row]
            self._hit[rows] = False
        return quiet

    def _repeats(self, row: Index) -> bool:
        places = np.arange(len(row))
        self._mark[row] = places
        return bool((self._mark[row] != places).any())
