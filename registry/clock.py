"""The clock: the only file of the product that knows the time."""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

SECOND = 1_000_000
"""Microseconds in a second. Every time in Fenghuo is an int of microseconds since 1970-01-01 UTC."""

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock(Protocol):
    """What a shell may ask of time. Pure logic never holds one: it is told the time as a value."""

    def now(self) -> int:
        """The time now, µs UTC; never goes backwards within a process."""
        ...

    def timeout(self, until: int) -> float | None:
        """Seconds of real time until then (0 if past); None where only a step of the clock can bring it."""
        ...

    def marks(self, since: int, now: int) -> Sequence[int]:
        """The times in (since, now] at which a journal owes a time mark, when nothing else came.

        A clock that runs by itself owes one for now: what passed between was not listened to. A stepped
        clock owes one a second, since we listened while it stood.
        """
        ...

    def fileno(self) -> int:
        """A descriptor that turns readable when the clock was stepped from outside; -1 if there is none."""
        ...

    def poll(self) -> None:
        """Take over a step that has arrived, if any; never waits."""
        ...

    @property
    def asked(self) -> int:
        """How many times it was asked from outside whether all is done that was due by now()."""
        ...

    def rest(self) -> None:
        """It is, as far as asked: whoever steps the clock may go on."""
        ...


class Anchor(NamedTuple):
    """What ties monotonic time to the wall: UTC = monotonic + offset, µs. All processes of one start share
    one, so that a process that dies and comes back does not take over a wall that has moved meanwhile."""

    offset: int
    behind: int  # how far the wall was behind the last durable time, µs; 0 if it was not

    @classmethod
    def drop(cls, floor: int = 0) -> "Anchor":
        """The wall as it is now; or ``floor`` (the last durable time, µs) where the wall is before it:
        a restart goes on from there, at normal speed."""
        wall = time.time_ns() // 1000
        behind = max(0, floor - wall)
        return cls(wall + behind - time.monotonic_ns() // 1000, behind)

    def __str__(self) -> str:
        return f"{self.offset},{self.behind}"

    @classmethod
    def parse(cls, text: str) -> "Anchor":
        offset, _, behind = text.partition(",")
        return cls(int(offset), int(behind))


class SystemClock:
    """Monotonic time anchored to the wall, by default as it stands now."""

    def __init__(self, anchor: Anchor | None = None) -> None:
        self._offset, self.behind = anchor or Anchor.drop()

    def now(self) -> int:
        return time.monotonic_ns() // 1000 + self._offset

    def timeout(self, until: int) -> float | None:
        return max(0.0, (until - self.now()) / SECOND)

    def marks(self, since: int, now: int) -> Sequence[int]:
        return (now,) if now - since >= SECOND else ()

    def fileno(self) -> int:
        return -1

    def poll(self) -> None:
        pass

    @property
    def asked(self) -> int:
        return 0

    def rest(self) -> None:
        pass

    def wall_step(self) -> int:
        """How far the wall has moved away from this clock, µs (positive: the wall is ahead)."""
        return time.time_ns() // 1000 - self.now()


def stopwatch() -> float:
    """Seconds on a monotonic scale, for measuring and for pacing I/O; says nothing of the date."""
    return time.perf_counter()


async def pause(seconds: float) -> None:
    """Let real time pass: for pacing I/O in shells only, never for logic."""
    await asyncio.sleep(seconds)
