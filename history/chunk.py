"""A chunk: what arrived of readings between two places of the journal, as every keeper of history takes it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ingest.readings import Readings, Round, Times
from registry.model import Registry


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Readings of one registry version, in their order of arrival.

    first, last: journal offsets of what it was made of; where ``first`` does not follow what was taken before, the
        journal no longer had it.
    registry: whose rows these are. arrival: [n] µs UTC, rising. time: arrival time of the last of it, readings or not.
    """

    first: int
    last: int
    registry: Registry
    readings: Readings
    arrival: Times
    time: int

    def __len__(self) -> int:
        return len(self.readings)


def chunk(registry: Registry, rounds: Sequence[tuple[int, Round]]) -> Chunk:
    """One of these rounds, which follow each other under this registry; there is at least one."""
    arrival = np.repeat(
        np.array([round_.time for _, round_ in rounds], np.int64),
        [len(round_.readings) for _, round_ in rounds],
    )
    readings = Readings.joined([round_.readings for _, round_ in rounds])
    return Chunk(rounds[0][0], rounds[-1][0], registry, readings, arrival, rounds[-1][1].time)
