"""The evaluator: point engine, facts and compound engine as one; rounds and time in, findings out; pure.

What the first two find is what the compound rules stand on, so they come first, and all that is found at one arrival
time is told together.
"""

import msgspec

from ingest.readings import Qualities, Round, Times, Values
from registry.model import Registry
from streams.compound import CompoundEngine
from streams.configuration import Configuration
from streams.engine import Counts, PointEngine, SnapshotError
from streams.facts import FactEngine
from streams.finding import Finding

FORMAT = 3


class Parts(msgspec.Struct, frozen=True):
    format: int
    points: bytes
    facts: bytes
    compound: bytes
    owed: list[Finding]


class Evaluator:
    """All rules of one configuration, and their state.

    Not for several threads. Times are µs; ``now`` is the arrival time at the evaluator's place in the journal.
    ``epoch``: where what was told before is lost, what tells ids that say nothing of when the evaluator began (those
    of facts, and of what stands on them) from the ids of then; else the desk would take new messages for old ones.
    """

    def __init__(self, configuration: Configuration, now: int, epoch: str = "") -> None:
        registry, rulebook = configuration
        self.configuration = configuration
        self._points = PointEngine(registry, now, rulebook)
        self._facts = FactEngine(registry, now, epoch)
        self._compound = CompoundEngine(registry, rulebook, now, epoch)
        self._found: list[Finding] = []
        self._owed: list[Finding] = []  # to the compound rules: of a round over which the point engine failed
        self._compounding = False

    @property
    def registry(self) -> Registry:
        return self.configuration.registry

    @property
    def now(self) -> int:
        return self._points.now

    @property
    def counts(self) -> Counts:
        return self._points.counts

    @property
    def newest(self) -> Times:
        """By row: time of the newest judged reading, NEVER if none. Not to be written to; likewise:"""
        return self._points.newest

    @property
    def value(self) -> Values:
        """By row: last judged value, NaN if none or unknown."""
        return self._points.value

    @property
    def quality(self) -> Qualities:
        """By row: quality of the last judged value, BAD if none."""
        return self._points.quality

    def apply(self, round: Round) -> list[Finding]:
        """Judge one round that brings no new version. Raises as the engines do; then call :meth:`salvage`."""
        self._found = self._facts.advance(round.time)
        self._found += self._points.apply(round)
        return self._all(round.time)

    def advance(self, now: int, listening: bool = True) -> list[Finding]:
        """Let time pass until ``now``. Raises ValueError where that is earlier than before."""
        self._found = self._facts.advance(now)
        self._found += self._points.advance(now, listening)
        return self._all(now)

    def salvage(self) -> list[Finding]:
        """What a round gave before it failed, once; the rest of it is left out, and the next round can come."""
        found, self._found = self._found + self._points.salvage(), []
        if self._compounding:  # which failed over them, and would again
            self._compounding = False
        else:
            self._owed += found
        return found

    def next_deadline(self) -> int | None:
        """Arrival time before which :meth:`advance` gives nothing; None if time alone can bring nothing."""
        engines = (self._points, self._facts, self._compound)
        return min((due for engine in engines if (due := engine.next_deadline()) is not None), default=None)

    def reconfigure(self, configuration: Configuration, now: int, listening: bool = True) -> list[Finding]:
        """From ``now`` on judge by another version; all state that still means something goes on."""
        registry, rulebook = configuration
        found = self._points.reconfigure(registry, rulebook, now, listening)
        found += self._facts.reconfigure(registry, now)
        self.configuration = configuration
        owed, self._owed = self._owed, []
        compound = self._compound.apply(owed + found, now)
        return found + compound + self._compound.reconfigure(registry, rulebook, now)

    def snapshot(self) -> bytes:
        """All state, for :meth:`restore`; taken between rounds."""
        points, facts, compound = self._points, self._facts, self._compound
        parts = Parts(FORMAT, points.snapshot(), facts.snapshot(), compound.snapshot(), self._owed)
        return msgspec.msgpack.encode(parts)

    @classmethod
    def restore(cls, configuration: Configuration, blob: bytes) -> "Evaluator":
        """The evaluator as it was, with the version it had (then reconfigure). Raises SnapshotError."""
        registry, rulebook = configuration
        try:
            parts = msgspec.msgpack.decode(blob, type=Parts)
            if parts.format != FORMAT:
                raise SnapshotError(f"format {parts.format}")
            points = PointEngine.restore(registry, rulebook, parts.points)
            evaluator = cls(configuration, points.now)
            evaluator._points = points
            evaluator._facts = FactEngine.restore(registry, parts.facts)
            evaluator._compound = CompoundEngine.restore(registry, rulebook, parts.compound)
            evaluator._owed = parts.owed
        except ValueError as error:  # a SnapshotError, or undecodable
            raise SnapshotError(f"not a snapshot of this configuration: {error}") from error
        return evaluator

    def _all(self, now: int) -> list[Finding]:
        owed, self._owed, self._compounding = self._owed, [], True
        found = self._found + self._compound.apply(owed + self._found, now)
        self._found, self._compounding = [], False
        return found
