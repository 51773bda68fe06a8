"""Findings about the system itself: its disk, its clock, its lost spans; they go straight to the desk.

They cannot go through the journal, since the journal may be what is broken.
"""

from collections.abc import Iterable

from streams.finding import Finding, Phase, Tier, finding_id

TIERS = {
    "system.journal": Tier.II,  # readings pile up at the broker: the plant is judged late
    "system.lost": Tier.III,  # history has a hole
    "system.clock": Tier.III,  # deadlines may be wrong
    "system.configuration": Tier.IV,  # the old one stays in force
}


class SystemFindings:
    """Open findings by rule; begin and end are idempotent.

    Args:
        opened: the newest messages of those that an earlier process left open.
    """

    def __init__(self, opened: Iterable[Finding] = ()) -> None:
        self._open = {finding.rule: finding for finding in opened}

    def begin(self, rule: str, now: int, *evidence: str) -> list[Finding]:
        """The message that opens it, or none where it is open already."""
        if rule in self._open:
            return []
        finding = Finding(
            id=finding_id(rule, "", "system", now),
            seq=1,
            rule=rule,
            enterprise="",
            subject="system",
            phase=Phase.BEGUN,
            since=now,
            time=now,
            arrival=now,
            tier=TIERS[rule],
            evidence=evidence,
        )
        self._open[rule] = finding
        return [finding]

    def begin_anew(self, rule: str, now: int, *evidence: str) -> list[Finding]:
        """As ``begin``; what is open with other evidence is ended first, so that the new is told."""
        opened = self._open.get(rule)
        ended = self.end(rule, now) if opened is not None and opened.evidence != evidence else []
        return ended + self.begin(rule, now, *evidence)

    def end(self, rule: str, now: int) -> list[Finding]:
        """The message that closes it, or none where it is not open."""
        opened = self._open.pop(rule, None)
        if opened is None:
            return []
        return [
            Finding(
                id=opened.id,
                seq=opened.seq + 1,
                rule=rule,
                enterprise="",
                subject="system",
                phase=Phase.ENDED,
                since=opened.since,
                time=now,
                arrival=now,
                tier=opened.tier,
                evidence=opened.evidence,
            )
        ]

    def once(self, rule: str, now: int, *evidence: str) -> list[Finding]:
        """Something that happened and is over: begun and ended at once, so that it rings and is answered."""
        return self.begin(rule, now, *evidence) + self.end(rule, now)
