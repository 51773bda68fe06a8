"""Time to limit: a value that at its present slope will reach a limit within ``ahead``.

The slope is that of H. Theil and P. K. Sen (J. Am. Stat. Assoc. 63, 1968): the median of the slopes between any two
of up to 16 samples, so that a quarter of them may be wild. It is believed where nearly all of these slopes point the
same way, as they hardly ever do in noise (the test of M. G. Kendall).

Left open by the contract, and decided so: each sample is judged when it is taken, what comes between is not; where the
time of a point goes back, its samples begin anew; the sample before those of ``ahead_over`` is used too, so that a
point that is heard seldom can still show that its slope is gone.
"""

import numpy as np
from numpy.typing import NDArray

from ingest.readings import Times, Values
from registry.clock import MINUTE, SECOND
from registry.model import HH, LEVELS, LL, H, L, Registry
from streams.batch_rule import BatchRule
from streams.episodes import CLOSED, TIME_TO_LIMIT, Book
from streams.finding import Phase
from streams.sieve import Index, Mask
from streams.state import NEVER, Rows

SAMPLES = 16
ENOUGH = 10
"""So many samples are needed to begin."""
SURE, DOUBTFUL = 0.9, 0.6
"""Share of the slopes that must point to the limit for it to begin, and below which it is over."""
LATER = 1.5
"""It is over where the limit is further away than this many times ``ahead``."""

_I, _J = np.triu_indices(SAMPLES, 1)


class TimeToLimit(BatchRule):
    """State of the points that have the rule, in the order of ``points``."""

    def __init__(self, registry: Registry) -> None:
        points = registry.points
        self._unit, self._limit = points.engineering_unit, points.limit
        self._ahead, self._over = points.ahead, points.ahead_over
        limited = ~np.isnan(points.limit).all(axis=1)
        self.has = (points.ahead > 0) & (points.ahead_over > 0) & limited
        self.points: list[int] = np.flatnonzero(self.has).tolist()
        self._slot = np.zeros(len(points), np.intp)
        self._slot[self.points] = np.arange(len(self.points))
        self._step = -(-points.ahead_over // (SAMPLES - 1))  # at least
        self.rows = Rows(len(self.points), time=np.full(SAMPLES, NEVER), value=np.full(SAMPLES, np.nan))
        self._time: Times = self.rows["time"]  # from the oldest to the newest
        self._value: Values = self.rows["value"]

    def _pass(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        known = book.recognise(TIME_TO_LIMIT, place, row, time, value)
        slot = self._slot[row]
        last = self._time[slot, -1]
        first = last == NEVER
        back = known & (time < last)
        late_enough = time - np.where(first, time, last) >= self._step[row]
        due = np.flatnonzero(known & (first | back | late_enough))
        if not len(due):
            return
        self._time[slot[back]] = NEVER
        row, slot = row[due], slot[due]
        for array, newest in ((self._time, time[due]), (self._value, value[due])):
            array[slot, :-1] = array[slot, 1:]
            array[slot, -1] = newest
        self._judge(place[due], row, self._time[slot], self._value[slot], book)

    def _judge(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        """Rows each with its samples [m, SAMPLES], the newest of which has just been taken."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            used, enough = self._used(row, time)
            pair = used[:, _I] & used[:, _J]
            span = np.where(pair, time[:, _J] - time[:, _I], SECOND) / SECOND
            slopes = np.where(pair, (value[:, _J] - value[:, _I]) / span, np.nan)
            slope = _median(slopes)
            back = np.where(used, time[:, -1:] - time, 0) / SECOND
            here = _median(np.where(used, value + slope[:, None] * back, np.nan))
            rising = slope > 0
            towards = np.where(rising[:, None], slopes > 0, slopes < 0)
            share = towards.sum(axis=1) / np.maximum(pair.sum(axis=1), 1)
            column, target = self._nearest(row, rising, slope < 0, here, value[:, -1])
            left = np.where(column >= 0, (target - here) / slope, np.inf)
        ahead = self._ahead[row] / SECOND
        begins = (enough >= ENOUGH) & (left <= ahead) & (share >= SURE)
        stays = (left <= LATER * ahead) & (share >= DOUBTFUL)
        is_open = book.flag[TIME_TO_LIMIT][row] != CLOSED
        oldest = np.where(used, time, time[:, -1:]).min(axis=1)
        judged = is_open & (time[:, -1] - oldest >= self._over[row] // 2) & (oldest < time[:, -1])
        for i in np.flatnonzero(judged | (begins & ~is_open)).tolist():
            book.place = int(place[i])
            at = int(row[i])
            said = LEVELS[column[i]] if begins[i] or stays[i] else ""
            rate, sure = float(slope[i]), float(share[i])
            evidence = (
                f"{said} {target[i]:g} {self._unit[at]}",
                f"{rate * 60:+.3g} {self._unit[at]}/min",
                f"{sure:.0%}",
            )
            self._tell(at, int(time[i, -1]), said, bool(begins[i]), float(left[i]), evidence, book)

    def _used(self, row: Index, time: Times) -> tuple[Mask, NDArray[np.intp]]:
        """Which samples are used, [m, SAMPLES], and how many of them lie within ``ahead_over``."""
        taken = time != NEVER
        age = np.where(taken, time[:, -1:] - time, 0)
        used = taken & (age <= self._over[row][:, None])
        enough = used.sum(axis=1)
        used[:, -2] |= taken[:, -2]
        return used, enough

    def _nearest(
        self, row: Index, rising: Mask, falling: Mask, here: Values, value: Values
    ) -> tuple[NDArray[np.intp], Values]:
        """The first limit on the way that neither the slope nor the last value has come to; -1 if there is none."""
        column, target = np.full(len(row), -1), np.full(len(row), np.nan)
        top, bottom = np.fmax(here, value), np.fmin(here, value)
        for number in (HH, H):
            limit = self._limit[row, number]
            ahead = rising & (limit > top) & ~(target <= limit)
            column[ahead], target[ahead] = number, limit[ahead]
        for number in (LL, L):
            limit = self._limit[row, number]
            ahead = falling & (limit < bottom) & ~(target >= limit)
            column[ahead], target[ahead] = number, limit[ahead]
        return column, target

    def _tell(
        self,
        row: int,
        time: int,
        level: str,
        begins: bool,
        left: float,
        evidence: tuple[str, ...],
        book: Book,
    ) -> None:
        """level: of the limit that will be reached, "" for none."""
        limit = int(self._ahead[row]) / MINUTE
        last = book.open.get((TIME_TO_LIMIT, row))
        if last is not None:
            minutes = round(left / 60, 1) if level else None
            if level[:1] == last.level[:1]:
                if level != last.level:
                    phase = Phase.WORSENED if len(level) > len(last.level) else Phase.EASED
                    book.change(TIME_TO_LIMIT, row, phase, time, minutes, limit, level, evidence=evidence)
                return
            book.end(TIME_TO_LIMIT, row, time)
        if begins:
            minutes = round(left / 60, 1)
            book.begin(
                TIME_TO_LIMIT,
                row,
                time,
                time,
                value=minutes,
                limit=limit,
                level=level,
                unit="min",
                evidence=evidence,
            )

    def withdraw(self, row: int, time: int, book: Book) -> None:
        """Say of an open finding if its rule or its limit is no more."""
        last = book.open[TIME_TO_LIMIT, row]
        if not self.has[row] or np.isnan(self._limit[row, LEVELS.index(last.level)]):
            book.withdraw(TIME_TO_LIMIT, row, time)


def _median(values: Values) -> Values:
    """Of each row, NaN left out; NaN of none."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = (~np.isnan(values)).sum(axis=1)
    each = np.arange(len(values))
    median: Values = (ordered[each, (count - 1) // 2] + ordered[each, count // 2]) / 2
    return median
