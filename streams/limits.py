"""Limits: LL, L, H, HH of a point, each with its own reset and delays; one finding a direction.

Reaching a limit is crossing it (>= for H, <= for L). Each limit is a machine of its own: inactive; pending
since its value reached the limit; active once a known reading, at least its on-delay later, still holds;
off-pending since its value was beyond the reset (< for H, > for L); inactive again once a known reading,
at least its off-delay later, still is. Delays are completed and cancelled by known readings only.
The direction's level is the worst active limit.

Left open by the contract, and decided so:
- No reset is the limit itself; one on the wrong side of its limit counts as the limit itself.
- A value out of the physical range may reach limits. If it reaches none of a direction, that direction is
  UNKNOWN by it; if it reaches one, those it does not reach stay as they are.
- Where the time of a point goes back (see order), running delays begin again at the earlier time.
- A late value is no evidence while its direction is open, or pending, since then or before. The others that reach
  a limit are one excursion as long as no late value between them reaches none, and each is no further from the one
  before it than a minute, or the point's interval if that is longer. Of an excursion the first value is evidence,
  and each that reaches a worse limit: an hour of stored values is not evidence once a second.
"""

from math import inf, nextafter

import numpy as np
from numpy.typing import NDArray

from registry.clock import MINUTE
from registry.model import HH, LEVELS, LL, H, L, Registry
from streams.episodes import HIGH, LOW, UNKNOWN, Book
from streams.finding import Phase
from streams.sieve import FOREVER, LARGEST
from streams.state import NEVER, Rows

INACTIVE, PENDING, ACTIVE, OFF_PENDING = 0, 1, 2, 3

DIRECTIONS = ((LOW, -1.0, (L, LL)), (HIGH, 1.0, (H, HH)))
"""Rule, sign that makes it a high limit, columns from the milder to the worse."""

_SIGN = np.array([-1.0, -1.0, 1.0, 1.0])


class Limits:
    """States of n points' four limits. Inside, low limits are mirrored: all are reached from below."""

    def __init__(self, registry: Registry) -> None:
        points = registry.points
        self._unit = points.engineering_unit
        self._limit = points.limit
        self._at = np.where(np.isnan(points.limit), np.inf, points.limit * _SIGN)
        self._reset = np.fmin(points.reset * _SIGN, self._at)
        self._on, self._off = points.on_delay, points.off_delay
        self.has: NDArray[np.bool_] = ~np.isnan(points.limit)
        first = np.minimum(self._at[:, (L, H)], self._at[:, (LL, HH)])  # the limit that is reached first
        edge = np.nextafter(first, -np.inf)
        self.low, self.high = -edge[:, 0], edge[:, 1]  # the band of a point with no limit pending or active
        self.rows = Rows(
            len(points),
            state=np.zeros(4, np.uint8),
            mark=np.zeros(4, np.int64),
            late=np.zeros(2, np.uint8),
            late_at=np.full(2, NEVER),
        )
        self._state: NDArray[np.uint8] = self.rows["state"]
        self._mark: NDArray[np.int64] = self.rows["mark"]  # time at which the state's condition first held
        self._late: NDArray[np.uint8] = self.rows["late"]  # level of the late excursion, by direction
        self._late_at: NDArray[np.int64] = self.rows["late_at"]  # and the time of its last value
        self._apart = np.maximum(points.interval, MINUTE)  # further, and it is another excursion

    def judge(self, row: int, time: int, value: float, out: bool, book: Book) -> None:
        """One reading in order; value is NaN if unknown, out if it is out of the physical range."""
        at, state, mark = self._at[row].tolist(), self._state[row].tolist(), self._mark[row].tolist()
        for rule, sign, columns in DIRECTIONS:
            mild, worse = columns
            x = value * sign
            reaches = x >= at[mild] or x >= at[worse]
            if not (reaches or state[mild] or state[worse]):
                continue  # nothing here, and nothing comes
            if not reaches and (out or x != x):
                book.unknown(rule, row, time)
                continue
            book.known(rule, row, time, value)
            before = _level(state, columns)
            for column in columns:
                if x >= at[column] or not out:
                    self._move(row, column, x, time, at[column], state, mark)
            after = _level(state, columns)
            if after != before:
                self._tell(row, rule, columns, before, after, time, value, state, mark, book)
            self._state[row] = state
            self._mark[row] = mark

    def _move(
        self, row: int, column: int, x: float, time: int, at: float, state: list[int], mark: list[int]
    ) -> None:
        now = state[column]
        if now in (PENDING, OFF_PENDING):
            mark[column] = min(mark[column], time)
        if now == INACTIVE and x >= at:
            now, mark[column] = PENDING, time
        elif now == PENDING and x < at:
            now = INACTIVE
        elif now == ACTIVE and x < self._reset[row, column]:
            now, mark[column] = OFF_PENDING, time
        elif now == OFF_PENDING and x >= self._reset[row, column]:
            now = ACTIVE
        if now == PENDING and time >= mark[column] + int(self._on[row, column]):
            now = ACTIVE
        elif now == OFF_PENDING and time >= mark[column] + int(self._off[row, column]):
            now = INACTIVE
        state[column] = now

    def _tell(
        self,
        row: int,
        rule: str,
        columns: tuple[int, int],
        before: int,
        after: int,
        time: int,
        value: float,
        state: list[int],
        mark: list[int],
        book: Book,
    ) -> None:
        if not after:
            book.end(rule, row, time, value)
            return
        column = columns[after - 1]
        limit, level = float(self._limit[row, column]), LEVELS[column]
        if not before:
            since = min(mark[c] for c in columns if state[c] != INACTIVE)
            unit = self._unit[row]
            book.begin(rule, row, since, time, value=value, limit=limit, level=level, unit=unit)
        else:
            phase = Phase.WORSENED if after > before else Phase.EASED
            book.change(rule, row, phase, time, value, limit, level)

    def late(self, row: int, time: int, value: float, book: Book) -> None:
        """A reading that came late: evidence, if it reached a limit that is not being dealt with."""
        if value != value:
            return
        for number, (rule, sign, columns) in enumerate(DIRECTIONS):
            reached = [column for column in columns if value * sign >= self._at[row, column]]
            if not reached:
                self._late[row, number] = 0
                continue
            column = reached[-1]
            worse = columns.index(column) + 1
            finding = book.open.get((rule, row))
            running = [
                int(self._mark[row, column]) for column in columns if self._state[row, column] == PENDING
            ]
            since = min([finding.since] if finding else running, default=FOREVER)
            if time >= since:
                continue
            told = int(self._late[row, number])
            if abs(time - int(self._late_at[row, number])) > self._apart[row]:
                told = 0
            self._late[row, number], self._late_at[row, number] = max(told, worse), time
            if worse > told:
                limit, level = float(self._limit[row, column]), LEVELS[column]
                book.late(rule, row, time, value, limit, level, self._unit[row])

    def band(self, row: int) -> tuple[float, float, int]:
        """Values (inclusive) and the time before which a reading changes nothing here."""
        state = self._state[row].tolist()
        if not any(state):
            return float(self.low[row]), float(self.high[row]), FOREVER
        low, high, until = -LARGEST, LARGEST, FOREVER
        at, reset, mark = self._at[row].tolist(), self._reset[row].tolist(), self._mark[row].tolist()
        for _, sign, columns in DIRECTIONS:
            least, most = -LARGEST, LARGEST
            for column in columns:
                if state[column] == INACTIVE:
                    most = min(most, nextafter(at[column], -inf))
                elif state[column] == PENDING:
                    least = max(least, at[column])
                    until = min(until, mark[column] + int(self._on[row, column]))
                elif state[column] == ACTIVE:
                    least = max(least, reset[column])
                else:
                    most = min(most, nextafter(reset[column], -inf))
                    until = min(until, mark[column] + int(self._off[row, column]))
            least, most = (least, most) if sign > 0 else (-most, -least)
            low, high = max(low, least), min(high, most)
        return low, high, until

    def moving(self) -> NDArray[np.bool_]:
        """Which points have a limit that is not inactive."""
        moving: NDArray[np.bool_] = (self._state != INACTIVE).any(axis=1)
        return moving

    def troubled(self, row: int, book: Book) -> bool:
        """Whether any known reading would be news."""
        return any(book.flag[rule][row] == UNKNOWN for rule in (LOW, HIGH))

    def prune(self) -> None:
        """A limit that is no more is inactive."""
        self._state[~self.has] = INACTIVE

    def withdraw(self, rule: str, row: int, time: int, book: Book) -> None:
        """Say of an open finding what has become of it because limits are no more (after a carry)."""
        columns = next(columns for name, _, columns in DIRECTIONS if name == rule)
        after = _level(self._state[row].tolist(), columns)
        evidence = (book.registry.version,)
        last = book.open[rule, row]
        if last.level == (LEVELS[columns[after - 1]] if after else ""):
            return
        if not after:
            book.end(rule, row, time, last.value, Phase.WITHDRAWN, evidence=evidence)
        else:
            column = columns[after - 1]
            limit, level = float(self._limit[row, column]), LEVELS[column]
            book.change(rule, row, Phase.EASED, time, last.value, limit, level, evidence=evidence)


def _level(state: list[int], columns: tuple[int, int]) -> int:
    mild, worse = columns
    return 2 if state[worse] >= ACTIVE else 1 if state[mild] >= ACTIVE else 0
