"""Hold: an excursion that is already over when a gateway tells of it late rings nobody.

A finding that begins more than a minute before its arrival (a gateway sent what it had stored) is held
until the arrival time moves on. If it also ends within that arrival time, and that long ago, one message
is left of it: ended, late, at the worst level reached. Otherwise all its messages follow as they were.
So the outcome does not depend on how the readings that arrived together were cut into rounds.

What came about while we did not listen for more than a minute rings all the same, whenever it is heard in its order.
"""

from collections.abc import Iterable

import msgspec

from registry.clock import MINUTE
from streams.episodes import BAD_QUALITY, CLOCK, OFFLINE, SILENT
from streams.finding import Finding, Phase

OLD = MINUTE

ON_ARRIVAL = frozenset({CLOCK, OFFLINE, SILENT, BAD_QUALITY})
"""Rules that run on arrival time: theirs are never held."""


class Hold:
    def __init__(self) -> None:
        self.held: dict[str, list[Finding]] = {}

    def filter(self, findings: Iterable[Finding], deaf: tuple[int, int]) -> list[Finding]:
        """Those that can be told now, in order; the others are kept.

        deaf: from when to when we did not listen last, of more than a minute (arrival time, µs).
        """
        told: list[Finding] = []
        for finding in findings:
            ours = deaf[0] - OLD <= finding.time <= deaf[1]  # would have been heard within a minute
            old = finding.time < finding.arrival - OLD and not ours
            if finding.id in self.held:
                self.held[finding.id].append(finding)
                if finding.phase is Phase.ENDED:
                    messages = self.held.pop(finding.id)
                    told += [_evidence(messages)] if old else messages
            elif finding.phase is Phase.BEGUN and old and finding.rule not in ON_ARRIVAL:
                self.held[finding.id] = [finding]
            else:
                told.append(finding)
        return told

    def release(self) -> list[Finding]:
        """The arrival time has moved on: what is held is still active and has to be told."""
        told = [finding for messages in self.held.values() for finding in messages]
        self.held.clear()
        return told


def _evidence(messages: list[Finding]) -> Finding:
    worst, end = messages[0], messages[-1]
    for finding in messages:
        worse_level = finding.phase is Phase.WORSENED and finding.level != worst.level
        if (finding.tier or 0, worse_level) > (worst.tier or 0, False):
            worst = finding
    return msgspec.structs.replace(worst, seq=1, phase=end.phase, time=end.time, late=True)
