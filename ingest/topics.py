"""The cluster's Kafka topics: their names, and the form of a record of readings.

A partition of `readings` is what the local runtime's journal is: rounds in their order, in the journal's own binary
form, written by one collector at a time; time marks and the versions in force are among them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ingest.pack import pack, unpack
from ingest.readings import Round

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Topics:
    """Names. prefix: what all of them begin with."""

    prefix: str

    @property
    def readings(self) -> str:
        """A partition for each slot; see Entry."""
        return f"{self.prefix}.readings"

    @property
    def findings(self) -> str:
        """A partition for each compound shard; see streams.report."""
        return f"{self.prefix}.findings"

    @property
    def values(self) -> str:
        """Compacted; a partition for each slot, with its points' newest values; see streams.report."""
        return f"{self.prefix}.values"

    @property
    def dead(self) -> str:
        """Dead letters, a partition for each slot: ingest.readings.DeadLetter as MessagePack."""
        return f"{self.prefix}.dead"

    @property
    def evaluate(self) -> str:
        """Name of the workers' group, and what their changelogs' names begin with."""
        return f"{self.prefix}-evaluate"

    @property
    def desk(self) -> str:
        """Name of the desks' group."""
        return f"{self.prefix}-desk"

    @property
    def history(self) -> str:
        """Name of the historians' group."""
        return f"{self.prefix}-history"

    def changelog(self, table: str) -> str:
        """Compacted; the workers' state ("points", "compound")."""
        return f"{self.evaluate}-{table}-changelog"


class Entry(NamedTuple):
    """A record of `readings`.

    term: which owner of the slot wrote it; a record of a lower term than one before it is of an owner that had lost
        the slot, and is not read: its messages came again to the next.
    edition: of a round with a version, the number under which that was wanted: it only rises.
    asked: under a stepped clock, what the clock had asked when this was written (Clock.asked); else 0.
    """

    round: Round
    term: int
    edition: int = 0
    asked: int = 0


def encode(entry: Entry) -> tuple[bytes, Headers]:
    """Value and headers. Raises ValueError where the round is too large."""
    numbers = {"term": entry.term, "edition": entry.edition, "asked": entry.asked}
    return pack(entry.round), [(name, b"%d" % number) for name, number in numbers.items() if number]


def decode(value: bytes, headers: Iterable[tuple[str, bytes]] | None) -> Entry:
    """Undo :func:`encode`. Raises PackError, or ValueError where a header is no number."""
    numbers = {name: int(number) for name, number in headers or ()}
    return Entry(unpack(value), numbers.get("term", 0), numbers.get("edition", 0), numbers.get("asked", 0))


def term_of(headers: Iterable[tuple[str, bytes]] | None) -> int:
    """The term of a record of which nothing else is wanted. Raises ValueError where it is no number."""
    return int(dict(headers or ()).get("term", 0))
