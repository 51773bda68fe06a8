"""Attempts: work that the machine may refuse, tried again until it is done; the reason is logged when it changes."""

from collections.abc import Callable

import structlog

from registry.clock import stopwatch

TRY_AGAIN = 2.0
"""Seconds before something that the machine refused, such as a write to a full disk, is tried again."""

log = structlog.get_logger()


class Attempts:
    """Several kinds of work, each by its name.

    Args:
        who: says so in the log, "supervisor": its events are "supervisor_failed" and "supervisor_goes_on".
        expected: what may be raised and is tried again; all else is a fault, and goes through.
    """

    def __init__(self, who: str, *expected: type[Exception]) -> None:
        self._who = who
        self._expected = expected
        self._failed: dict[str, tuple[str, float]] = {}  # by name of the work: why, and when to try again

    def attempt(self, name: str, work: Callable[[], None]) -> None:
        """Do it, unless it has failed just now."""
        why, again = self._failed.get(name, ("", 0.0))
        if stopwatch() < again:
            return
        try:
            work()
        except self._expected as error:
            if str(error) != why:
                log.error(f"{self._who}_failed", at=name, why=str(error))
            self._failed[name] = (str(error), stopwatch() + TRY_AGAIN)
        else:
            if why:
                log.info(f"{self._who}_goes_on", at=name)
            self._failed.pop(name, None)
