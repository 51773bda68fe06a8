"""Which points leave their normal range, round by round, and exactly what a correct judge must find."""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

SECOND = 1_000_000

NORMAL = 0
"""State of a point that is within its limits; an excursion has the number of its level in ``levels``, from 1."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that every point is presumed to have: set-points in the points' unit, delays in µs of device time.

    normal: values between these are beyond no limit and no reset.
    """

    LL: float = 10.0
    L: float = 20.0
    H: float = 80.0
    HH: float = 90.0
    on_delay: int = 2 * SECOND
    off_delay: int = 5 * SECOND
    normal: tuple[float, float] = (40.0, 60.0)

    def beyond(self, level: str) -> float:
        """A value that violates this limit and no worse one."""
        return {
            "LL": self.LL / 2,
            "L": (self.LL + self.L) / 2,
            "H": (self.H + self.HH) / 2,
            "HH": self.HH + (self.HH - self.H) / 2,
        }[level]


@dataclass(slots=True)
class Expected:
    """What was sent, in the judge's terms.

    pending_begun, pending_ended: readings that start an on- or off-delay, and readings that complete or
    cancel one. begun, ended: findings "limit.high" and "limit.low" that must have begun and ended (each
    excursion is one finding that begins at its level, without worsening or easing on the way).
    """

    pending_begun: int = 0
    pending_ended: int = 0
    begun: int = 0
    ended: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Cohort:
    """Points that began their excursion in the same round, and so share their whole history."""

    points: NDArray[np.int64]
    since: int


class Excursions:
    """Keeps one reading in ``one_in`` the beginning or the end of a pending limit.

    Every round has one reading of every point at the time that the round is told; a round's points may lie
    at fixed distances from that time. Excursions are of two kinds: one in ``lasting`` outlasts the on-delay
    (four such readings: the value goes out, the finding begins, the value comes back, the finding ends);
    the others come back before it (two: out and back, no finding). Pure: no clock, no chance but the seed.

    Args:
        points: how many there are. levels: the limits that the lasting and the brief ones go to, in turn.
    """

    def __init__(
        self,
        points: int,
        limits: Limits,
        *,
        one_in: int = 1000,
        lasting: int = 4,
        levels: Sequence[str] = ("H", "L"),
        seed: int = 1,
    ) -> None:
        if limits.on_delay <= 0 or limits.off_delay <= 0:
            raise ValueError("a limit without delays is never pending")
        self.expected = Expected()
        self._limits = limits
        self._lasting = lasting
        self._share = points / (one_in * (2 + 2 / lasting))
        self._levels = len(levels)
        self._order = np.random.default_rng(seed).permutation(points)
        self._free_at = np.zeros(points, np.int64)
        self._next = 0
        self._owed = 0.0
        self._cohorts = 0
        self._brief: deque[_Cohort] = deque()  # out, will come back before the on-delay is over
        self._waiting: deque[_Cohort] = deque()  # out, the on-delay runs
        self._active: deque[_Cohort] = deque()  # out, the finding has begun
        self._leaving: deque[_Cohort] = deque()  # back, the off-delay runs

    def round(self, time: int, *, begin: bool = True) -> list[tuple[NDArray[np.int64], int]]:
        """The changes of this round, as (points, state from now on); time in µs, later than the last round's.

        begin: whether new excursions may begin; those that run are brought to their end either way.
        """
        limits, expected = self._limits, self.expected
        changes: list[tuple[NDArray[np.int64], int]] = []
        for cohort in _due(self._leaving, time - limits.off_delay):
            expected.pending_ended += len(cohort.points)
            expected.ended += len(cohort.points)
            self._free_at[cohort.points] = time + 1  # not in this very round, whose reading ends the finding
        for cohort in _due(self._active, time - 2 * limits.on_delay - SECOND // 2):
            changes.append((cohort.points, NORMAL))
            expected.pending_begun += len(cohort.points)
            self._leaving.append(_Cohort(cohort.points, time))
        for cohort in _due(self._waiting, time - limits.on_delay):  # comes back in a later round than this
            expected.pending_ended += len(cohort.points)
            expected.begun += len(cohort.points)
            self._active.append(cohort)
        for cohort in _due(self._brief, time - limits.on_delay // 4):
            changes.append((cohort.points, NORMAL))
            expected.pending_ended += len(cohort.points)
            self._free_at[cohort.points] = time + 1
        if begin:
            cohort, lasting, state = self._begin(time)
            if len(cohort.points):
                changes.append((cohort.points, state))
                expected.pending_begun += len(cohort.points)
                (self._waiting if lasting else self._brief).append(cohort)
        return changes

    def _begin(self, time: int) -> tuple[_Cohort, bool, int]:
        """The next points of the rotation, as many as are owed and have finished their last excursion."""
        self._owed += self._share
        count = int(self._owed)
        self._owed -= count
        points = np.take(self._order, range(self._next, self._next + count), mode="wrap")
        busy = np.flatnonzero(self._free_at[points] > time)
        points = points[: busy[0]] if len(busy) else points
        self._next = (self._next + len(points)) % len(self._order)
        self._free_at[points] = np.iinfo(np.int64).max
        lasting = self._cohorts % self._lasting == 0
        state = 1 + self._cohorts // self._lasting % self._levels
        self._cohorts += 1 if len(points) else 0
        return _Cohort(points, time), lasting, state


def _due(queue: deque[_Cohort], until: int) -> list[_Cohort]:
    """Take out the cohorts at the head that are at least as old as this."""
    due = []
    while queue and queue[0].since <= until:
        due.append(queue.popleft())
    return due
