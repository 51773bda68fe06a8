"""Stop: an event that a signal handler may set."""

import threading

from registry.clock import stopwatch

SLICE = 0.25
"""Seconds of real time after which one that waits has seen that it is set."""


class Stop(threading.Event):
    """As an Event; but to set it needs no lock.

    An Event's lock may be held by the very thread that the handler interrupts, while that waits: it would wait for
    itself, and the process would never end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told = False

    def set(self, *_: object) -> None:
        self._told = True

    def is_set(self) -> bool:
        return self._told

    def wait(self, timeout: float | None = None) -> bool:
        end = None if timeout is None else stopwatch() + timeout
        while not self._told:
            left = SLICE if end is None else min(SLICE, end - stopwatch())
            if left <= 0:
                break
            super().wait(left)
        return self._told
