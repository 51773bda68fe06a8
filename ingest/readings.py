"""Readings: a columnar batch of sensor values, and the round, the unit in which they are journaled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

GOOD, UNCERTAIN, BAD = 0, 1, 2
"""Quality of a value. A bad value is stored as NaN; uncertain is judged like good."""

Rows = NDArray[np.int32]
Times = NDArray[np.int64]
Values = NDArray[np.float64]
Qualities = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """One value a place in four arrays of equal length, in the order in which they arrived.

    row: point row in the registry version in force; time: device time, µs UTC;
    value: in the point's engineering unit, NaN where quality is BAD; quality: GOOD, UNCERTAIN or BAD.
    A point may appear several times; points of several enterprises may be mixed.
    """

    row: Rows
    time: Times
    value: Values
    quality: Qualities

    def __len__(self) -> int:
        return len(self.row)

    @staticmethod
    def joined(parts: "Sequence[Readings]") -> "Readings":
        """All of them, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return Readings(
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.value for part in parts]),
            np.concatenate([part.quality for part in parts]),
        )

    @staticmethod
    def empty() -> "Readings":
        return Readings(
            np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.uint8)
        )


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """A gateway said, or its last will said for it, whether it is online."""

    gateway: int  # index into Registry.gateways
    online: bool


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """All that arrived together: one journal entry, one commit, one step of the engines.

    time: arrival, µs UTC, the same for everything in it and never before an earlier round's.
    listening: we were subscribed and had caught up with the broker when this was taken; the time until
        the next round counts as silence only if this is so.
    version: the registry version in force from this round on, where it changed; else None.
        A round that changes the version carries nothing else.
    status: gateways' status, applied before the readings of the round.
    digests: 8-byte digests of the messages that are in it, to know them again if the broker redelivers.
    A round with nothing but a time is a time mark.
    """

    time: int
    listening: bool = True
    version: str | None = None
    status: tuple[GatewayStatus, ...] = ()
    readings: Readings = field(default_factory=Readings.empty)
    digests: bytes = b""


def joined(rounds: Sequence[Round]) -> list[Round]:
    """Fewer rounds that say the same: neighbours of one time and without status become one.

    However the readings of one time are cut into rounds, the engines find the same.
    """
    whole: list[Round] = []
    for _, group in groupby(rounds, lambda r: (r.time, r.listening, r.version, r.status)):
        first, *others = same = list(group)
        if not others or first.status or first.version is not None:
            whole += same
            continue
        whole.append(
            Round(
                first.time,
                first.listening,
                readings=Readings.joined([round_.readings for round_ in same]),
                digests=b"".join(round_.digests for round_ in same),
            )
        )
    return whole


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be used of a message, kept so that a person can look at it.

    In a flood one stands for several (see ingest/dead_letters.py).
    """

    time: int  # arrival, µs
    topic: str
    reason: str  # a short stable word, e.g. "not_json": metrics count by it
    detail: str  # what exactly, and how to mend it
    head: bytes  # the first 256 bytes of the payload
    count: int = 1  # how many there were like it, itself included
