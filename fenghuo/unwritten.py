"""What has been judged and is not yet in the journal: it may leave this process only when it is."""

from collections.abc import Sequence

from ingest.dead_letters import merged
from ingest.message import Message
from ingest.readings import DeadLetter, Round, joined
from registry.clock import stopwatch
from streams.finding import Finding


class Unwritten:
    """Messages with the rounds and dead letters that were made of them, and what the engine found in those."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.dead: list[DeadLetter] = []
        self.findings: list[Finding] = []
        self._groups: list[list[Round]] = []
        self._since = 0.0
        self._whole = True  # the next round may share an entry of the journal with those before it

    def __bool__(self) -> bool:
        """Whether there are rounds; there are some for any messages."""
        return bool(self._groups)

    def take(self, messages: Sequence[Message], dead: Sequence[DeadLetter]) -> None:
        self.messages += messages
        if dead:
            self.dead = merged([*self.dead, *dead])

    def add(self, round_: Round, findings: Sequence[Finding], *, apart: bool) -> None:
        """A round that the engine has judged; ``apart``: it has failed over it, so that in a replay, too,
        it has to fail over this one alone."""
        if not self._groups:
            self._since = stopwatch()
        if apart or not self._whole or not self._groups:
            self._groups.append([round_])
        else:
            self._groups[-1].append(round_)
        self._whole = not apart
        self.findings += findings

    def joined(self) -> list[Round]:
        """The rounds as they are to be journaled: as few as say the same."""
        return [round_ for group in self._groups for round_ in joined(group)]

    def rest(self, patience: float) -> float:
        """Seconds of real time until they have waited that long; 0 if they have."""
        return max(0.0, self._since + patience - stopwatch())

    def due(self, patience: float) -> bool:
        """Whether there are rounds, and they have waited that long."""
        return bool(self) and not self.rest(patience)
