"""Retry: when to try again what could not be done: soon at first, then less and less often."""

import threading

FIRST, LONGEST = 0.25, 5.0
"""Seconds of real time before it is tried again, at first and at last; doubled in between."""


class Retry:
    """One thread."""

    def __init__(self) -> None:
        self._next = FIRST

    def wait(self, stop: threading.Event) -> None:
        """It could not be done: wait until it may be tried again, or until told to stop."""
        stop.wait(self._next)
        self._next = min(2 * self._next, LONGEST)

    def done(self) -> None:
        """What fails next is tried again soon."""
        self._next = FIRST
