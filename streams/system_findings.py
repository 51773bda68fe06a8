"""Findings about the system itself: its disk, its clock, its lost spans; they go straight to the desk.

They cannot go through the journal, since the journal may be what is broken.
"""

from collections.abc import Iterable

from streams.finding import Finding, Phase, Tier, finding_id

TIERS = {
    "system.journal": Tier.II,  # the disk: readings pile up at the broker, the plant is judged late
    "system.broker": Tier.II,  # nothing is heard: nobody is guarded
    "system.judge": Tier.II,  # the judging process is dead or stands still
    "system.engine": Tier.II,  # something that arrived could not be judged
    "system.lost": Tier.III,  # history has a hole
    "system.history": Tier.III,  # readings are not kept for later: the journal has them for some days
    "system.clock": Tier.III,  # deadlines may be wrong
    "system.configuration": Tier.IV,  # the old one stays in force
}


class SystemFindings:
    """Open findings by rule; begin and end are idempotent.

    Args:
        opened: the newest messages of those that an earlier process left open.
        subject: whose they are, where several processes have such: "slot:3".
    """

    def __init__(self, opened: Iterable[Finding] = (), subject: str = "system") -> None:
        self._subject = subject
        self._open = {finding.rule: finding for finding in opened if finding.subject == subject}

    def begin(self, rule: str, now: int, *evidence: str, since: int = 0) -> list[Finding]:
        """The message that opens it, or none where it is open already."""
        if rule in self._open:
            return []
        finding = Finding(
            id=finding_id(rule, "", self._subject, since or now),
            seq=1,
            rule=rule,
            enterprise="",
            subject=self._subject,
            phase=Phase.BEGUN,
            since=since or now,
            time=now,
            arrival=now,
            tier=TIERS[rule],
            evidence=evidence,
        )
        self._open[rule] = finding
        return [finding]

    def holds(self, rule: str, now: int, why: str | None, since: int = 0) -> list[Finding]:
        """What there is to say now that a rule's condition holds (``why`` says for what reason), or does not
        (""); nothing as long as that is not known (None), for what is not known is not over."""
        if why is None:
            return []
        return self.begin(rule, now, why, since=since) if why else self.end(rule, now)

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
                subject=self._subject,
                phase=Phase.ENDED,
                since=opened.since,
                time=now,
                arrival=now,
                tier=opened.tier,
                evidence=opened.evidence,
            )
        ]

    def once(self, rule: str, now: int, *evidence: str, since: int = 0) -> list[Finding]:
        """Something that happened and is over: begun and ended at once, so that it rings and is answered.

        ``since``: gives the same finding the same id whenever it is said; the present time if left out.
        """
        return self.begin(rule, now, *evidence, since=since) + self.end(rule, now)
