"""The desk: one transaction for each round of findings and for each answer of a person."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Engine

from alerting.alert import Receipt
from alerting.database import DeskBusy, DeskError, DeskUnwritable
from registry.model import Registry
from streams.finding import Finding

__all__ = ["Desk", "DeskBusy", "DeskError", "DeskUnwritable", "NoSuchAlert", "NotAsked", "Work"]


class NoSuchAlert(DeskError):
    """There is no alert of this id."""


class NotAsked(DeskError):
    """This person was neither asked nor told of the alert; nothing was recorded."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one round did, for the metrics."""

    applied: int = 0  # findings' messages applied
    ignored: int = 0  # messages it had already
    gaps: int = 0  # messages before which some are missing: an error
    raised: int = 0  # new alerts
    deadlines: int = 0  # deadlines handled
    late: int = 0  # of these, more than 2 s after they were due
    notices: int = 0  # put into the outbox


class Desk:
    """Findings to alerts to notices. Holds no state but caches; any number of processes may have one."""

    def __init__(self, engine: Engine, registry: Registry) -> None:
        raise NotImplementedError

    def set_registry(self, registry: Registry) -> None:
        """Judge by this registry from the next transaction on."""
        raise NotImplementedError

    def round(self, findings: Sequence[Finding], offset: int | None, now: int) -> Work:
        """Absorb the findings, do all deadlines due by ``now``, store the journal offset: one transaction.

        Messages that it already has are ignored, so a replay changes nothing; the offset never falls.

        Raises:
            DeskBusy: another process holds the database; nothing was done.
            DeskUnwritable: the disk is full, read-only or broken; nothing was done.
        """
        raise NotImplementedError

    def offset(self) -> int:
        """The journal offset absorbed; 0 at first."""
        raise NotImplementedError

    def version(self) -> str:
        """The registry version by which the newest round was judged; "" at first."""
        raise NotImplementedError

    def next_deadline(self) -> int | None:
        """When ``round`` next has something to do by itself, µs; None if nothing is pending."""
        raise NotImplementedError

    def confirm(self, alert: str, person: str, now: int, note: str = "") -> Receipt:
        """The person says that they have it.

        An asked person's confirm stops the clock; a told person's is recorded as seen; a second one, and one
        on a closed alert, is recorded.

        Raises:
            NoSuchAlert, NotAsked, DeskBusy, DeskUnwritable: nothing was done.
        """
        raise NotImplementedError

    def take_over(self, alert: str, person: str, now: int, note: str = "") -> Receipt:
        """The person, asked or not, takes the alert: they hold it from now on, and the clock stops.

        Raises:
            NoSuchAlert, DeskBusy, DeskUnwritable: nothing was done.
            NotAsked: the registry does not know the person.
        """
        raise NotImplementedError

    def act(self, alert: str, person: str, now: int, note: str) -> Receipt:
        """The record of what was done about it, by the holder or someone who was asked.

        Raises:
            NoSuchAlert, NotAsked, DeskBusy, DeskUnwritable: nothing was done.
            ValueError: the note is empty.
        """
        raise NotImplementedError
