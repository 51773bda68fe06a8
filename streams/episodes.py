"""Episodes: which findings are open, and the messages about them, numbered without gaps.

Two episodes of one rule and subject never share an id: where the time at which the second first held
is not after that of the one before (several readings judged at one arrival time), it is moved to 1 µs after. That holds
also where the subject was gone from the registry in between.
"""

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.readings import Times, Values
from registry.model import Registry
from streams.finding import Finding, Phase, finding_id
from streams.sieve import Index
from streams.state import NEVER, Rows
from streams.tiers import tier

CLOCK, OFFLINE = "clock", "gateway.offline"
SILENT, BAD_QUALITY, RANGE, LOW, HIGH = "silent", "bad_quality", "range", "limit.low", "limit.high"
RATE, STUCK, DISAGREEMENT = "rate", "stuck", "disagreement"

RULES = (CLOCK, OFFLINE, SILENT, BAD_QUALITY, RANGE, LOW, HIGH, RATE, STUCK, DISAGREEMENT)
"""In the order in which one reading's messages are told."""

CLOSED, OPEN, UNKNOWN = 0, 1, 2

_KIND = {CLOCK: "gateway", OFFLINE: "gateway", DISAGREEMENT: "group"}
_RANK = {rule: rank for rank, rule in enumerate(RULES)}


def kind_of(rule: str) -> str:
    """What the index of a rule's subject counts: "point", "gateway" or "group"."""
    return _KIND.get(rule, "point")


class Book:
    """The open findings by rule and index of their subject: a point row, a gateway or a group.

    ``flag[rule]`` holds CLOSED, OPEN or UNKNOWN of every subject. ``arrival`` and ``place`` (number of the
    reading in its round) are set by the engine before a stage speaks; messages come out by place, then by rule.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.arrival = NEVER
        self.place = 0
        self.open: dict[tuple[str, int], Finding] = {}
        self.gone: dict[
            tuple[str, str, str], int
        ] = {}  # minted, by rule, enterprise and subject that is no more
        self.rows = {
            rule: Rows(self._size(rule), flag=np.uint8(CLOSED), minted=np.int64(NEVER)) for rule in RULES
        }
        self.flag: dict[str, NDArray[np.uint8]] = {rule: rows["flag"] for rule, rows in self.rows.items()}
        self._said: list[tuple[int, int, Finding]] = []

    def _size(self, rule: str) -> int:
        registry = self.registry
        sizes = {
            "point": len(registry.points),
            "gateway": len(registry.gateways),
            "group": len(registry.groups),
        }
        return sizes[kind_of(rule)]

    def begin(
        self,
        rule: str,
        index: int,
        since: int,
        time: int,
        *,
        value: float | None = None,
        limit: float | None = None,
        level: str = "",
        unit: str = "",
        evidence: tuple[str, ...] = (),
    ) -> None:
        minted = self.rows[rule]["minted"]
        since = max(since, int(minted[index]) + 1)
        finding = self._finding(rule, index, Phase.BEGUN, since, time, value, limit, level, unit, evidence)
        minted[index] = since
        self.flag[rule][index] = OPEN
        self.open[rule, index] = finding
        self._say(finding)

    def change(
        self,
        rule: str,
        index: int,
        phase: Phase,
        time: int,
        value: float | None,
        limit: float | None,
        level: str,
        **changes: object,
    ) -> None:
        """Say that an open finding is worse, or eased: now at this level."""
        kind = self.registry.points.kind[index]
        self._next(
            rule, index, phase, time, value, limit=limit, level=level, tier=tier(level, kind), **changes
        )

    def unknown(self, rule: str, index: int, time: int) -> None:
        """Say once of an open finding that nobody can know any more whether it holds."""
        if self.flag[rule][index] == OPEN:
            self._next(rule, index, Phase.UNKNOWN, time, None)
            self.flag[rule][index] = UNKNOWN

    def recognise(self, rule: str, place: Index, row: Index, time: Times, value: Values) -> NDArray[np.bool_]:
        """Which values are known. What is open turns UNKNOWN where one is not, and RESUMED where it is again."""
        known = ~np.isnan(value)
        flag = self.flag[rule][row]
        for i in np.flatnonzero(~known & (flag == OPEN)):
            self.place = int(place[i])
            self.unknown(rule, int(row[i]), int(time[i]))
        for i in np.flatnonzero(known & (flag == UNKNOWN)):
            self.place = int(place[i])
            self.known(rule, int(row[i]), int(time[i]), float(value[i]))
        return known

    def known(self, rule: str, index: int, time: int, value: float) -> None:
        """Say of an unknown finding that its subject is known again."""
        if self.flag[rule][index] == UNKNOWN:
            self._next(rule, index, Phase.RESUMED, time, value)
            self.flag[rule][index] = OPEN

    def end(
        self,
        rule: str,
        index: int,
        time: int,
        value: float | None = None,
        phase: Phase = Phase.ENDED,
        **changes: object,
    ) -> None:
        self._next(rule, index, phase, time, value, **changes)
        del self.open[rule, index]
        self.flag[rule][index] = CLOSED

    def late(
        self, rule: str, index: int, time: int, value: float, limit: float, level: str, unit: str
    ) -> None:
        """Say that a limit was reached at a time that is over: evidence, complete in one message.

        Its id is made of the level too, so that it is neither that of an episode nor of a milder level's evidence.
        """
        finding = self._finding(rule, index, Phase.ENDED, time, time, value, limit, level, unit, ())
        id = finding_id(rule, finding.enterprise, finding.subject, time, late=level)
        self._say(msgspec.structs.replace(finding, id=id, late=True))

    def take(self) -> list[Finding]:
        """All that was said since the last call."""
        said = sorted(self._said, key=lambda entry: entry[:2]) if len(self._said) > 1 else self._said
        self._said = []
        return [finding for _, _, finding in said]

    def withdraw(self, rule: str, index: int, time: int) -> None:
        """End an open finding because its rule is no more; the evidence names the version that says so."""
        last = self.open[rule, index]
        self.end(rule, index, time, last.value, Phase.WITHDRAWN, evidence=(self.registry.version,))

    def carry(self, old: "Book", matches: dict[str, tuple[Index, Index]]) -> list[tuple[str, int]]:
        """Take over the open findings of another, and withdraw those whose subject is no more.

        matches: by kind of subject, indices here and there. The rules and indices that are open now.
        """
        index = {
            kind: dict(zip(there.tolist(), here.tolist(), strict=True))
            for kind, (here, there) in matches.items()
        }
        for (rule, there), last in sorted(
            old.open.items(), key=lambda entry: (_RANK[entry[0][0]], entry[0][1])
        ):
            here = index[kind_of(rule)].get(there)
            if here is not None:
                self.open[rule, here] = last
            else:
                self._say(
                    msgspec.structs.replace(
                        last,
                        seq=last.seq + 1,
                        phase=Phase.WITHDRAWN,
                        time=self.arrival,
                        arrival=self.arrival,
                        evidence=(self.registry.version,),
                        version=self.registry.version,
                    )
                )
        self._remember(old, matches)
        return list(self.open)

    def _remember(self, old: "Book", matches: dict[str, tuple[Index, Index]]) -> None:
        """Keep what was minted of subjects that are no more, and find it again for those that are new."""
        self.gone = dict(old.gone)
        for rule, rows in old.rows.items():
            here, there = matches[kind_of(rule)]
            left = rows["minted"] != NEVER
            left[there] = False
            for index in np.flatnonzero(left).tolist():
                self.gone[rule, *old._subject(rule, index)] = int(rows["minted"][index])
            new = np.ones(self._size(rule), np.bool_)
            new[here] = False
            for index in np.flatnonzero(new).tolist() if self.gone else ():
                minted = self.gone.pop((rule, *self._subject(rule, index)), NEVER)
                self.rows[rule]["minted"][index] = minted

    def load(self, entries: Iterable[tuple[str, int, Finding]]) -> None:
        self.open = {(rule, index): finding for rule, index, finding in entries}

    def _subject(self, rule: str, index: int) -> tuple[str, str]:
        """Enterprise and name of a rule's subject."""
        registry, kind = self.registry, kind_of(rule)
        if kind == "point":
            points = registry.points
            return registry.gateways[points.gateway[index]].enterprise, f"point:{points.id[index]}"
        one = registry.gateways[index] if kind == "gateway" else registry.groups[index]
        return one.enterprise, f"{kind}:{one.id}"

    def _finding(
        self,
        rule: str,
        index: int,
        phase: Phase,
        since: int,
        time: int,
        value: float | None,
        limit: float | None,
        level: str,
        unit: str,
        evidence: tuple[str, ...],
    ) -> Finding:
        registry = self.registry
        enterprise, subject = self._subject(rule, index)
        kind = clause = ""
        if kind_of(rule) == "point":
            kind, clause = registry.points.kind[index], registry.points.clause[index]
        return Finding(
            id=finding_id(rule, enterprise, subject, since),
            seq=1,
            rule=rule,
            enterprise=enterprise,
            subject=subject,
            phase=phase,
            since=since,
            time=time,
            arrival=self.arrival,
            level=level,
            tier=tier(level, kind),
            value=value,
            limit=limit,
            unit=unit,
            clause=clause,
            evidence=evidence,
            version=registry.version,
        )

    def _next(
        self, rule: str, index: int, phase: Phase, time: int, value: float | None, **changes: object
    ) -> None:
        last = self.open[rule, index]
        finding = msgspec.structs.replace(
            last,
            seq=last.seq + 1,
            phase=phase,
            time=time,
            arrival=self.arrival,
            value=value,
            version=self.registry.version,
            **changes,
        )
        self.open[rule, index] = finding
        self._say(finding)

    def _say(self, finding: Finding) -> None:
        self._said.append((self.place, _RANK[finding.rule], finding))
