"""Episodes: which findings are open, and the messages about them, numbered without gaps.

Two episodes of one rule and subject never share an id: where the time at which the second first held
is not after that of the one before (several readings judged at one arrival time), it is moved to 1 µs after. That holds
also where the subject was gone from the registry in between.
"""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.readings import Times, Values
from registry.model import Gateway, Group, Holding, Registry, Section
from streams.finding import Finding, Phase, Tier, finding_id
from streams.rulebook import Rulebook
from streams.sieve import Index
from streams.state import NEVER, Rows

CLOCK, OFFLINE = "clock", "gateway.offline"
SILENT, BAD_QUALITY, RANGE, LOW, HIGH = "silent", "bad_quality", "range", "limit.low", "limit.high"
RATE, STUCK, STATE, TIME_TO_LIMIT = "rate", "stuck", "state", "time_to_limit"
DISAGREEMENT, LEAK, OVERSTORED = "disagreement", "leak", "chemical.overstored"

POINT_RULES = (SILENT, BAD_QUALITY, RANGE, LOW, HIGH, RATE, STUCK, STATE, TIME_TO_LIMIT)
RULES = (CLOCK, OFFLINE, *POINT_RULES, DISAGREEMENT, LEAK, OVERSTORED)
"""In the order in which one reading's messages are told."""

CLOSED, OPEN, UNKNOWN = 0, 1, 2

_KIND = {
    CLOCK: "gateway",
    OFFLINE: "gateway",
    DISAGREEMENT: "group",
    LEAK: "section",
    OVERSTORED: "holding",
}
_PREFIX = {"section": "pipeline", "holding": "chemical"}
_RANK = {rule: rank for rank, rule in enumerate(RULES)}


def kind_of(rule: str) -> str:
    """What the index of a rule's subject counts: "point", "gateway", "group", "section" or "holding"."""
    return _KIND.get(rule, "point")


class Book:
    """The open findings by rule and index of their subject: a point row, a gateway ...

    ``flag[rule]`` holds CLOSED, OPEN or UNKNOWN of every subject. ``arrival`` and ``place`` (number of the
    reading in its round) are set by the engine before a stage speaks; messages come out by place, then by rule.
    """

    def __init__(self, registry: Registry, rulebook: Rulebook) -> None:
        self.registry, self.rulebook = registry, rulebook
        self._served = _served(registry)
        self._things: dict[str, Sequence[Gateway | Group | Section | Holding]] = {
            "gateway": registry.gateways,
            "group": registry.groups,
            "section": registry.sections,
            "holding": registry.holdings,
        }
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
        kind = kind_of(rule)
        return len(self.registry.points) if kind == "point" else len(self._things[kind])

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
        """Say that an open finding is worse, or eased: now at this level. One that is unknown stays so."""
        tier = self._tier(rule, index, level)
        self._next(rule, index, phase, time, value, limit=limit, level=level, tier=tier, **changes)
        if self.flag[rule][index] == UNKNOWN:
            self._next(rule, index, Phase.UNKNOWN, time, None)

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
            own = None if rule == TIME_TO_LIMIT else float(value[i])  # whose value is the time that is left
            self.known(rule, int(row[i]), int(time[i]), own)
        return known

    def known(self, rule: str, index: int, time: int, value: float | None) -> None:
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

    def revise(self, rule: str, index: int, time: int) -> None:
        """Say of an open finding if its tier is another by this rulebook; the evidence names the version."""
        last = self.open[rule, index]
        tier = self._tier(rule, index, last.level)
        if tier != last.tier:
            phase = Phase.WORSENED if (tier or 0) > (last.tier or 0) else Phase.EASED
            evidence = (self.registry.version,)
            self.change(rule, index, phase, time, last.value, last.limit, last.level, evidence=evidence)

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
        one = self._things[kind][index]
        return one.enterprise, f"{_PREFIX.get(kind, kind)}:{one.id}"

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
        points = self.registry.points
        enterprise, subject = self._subject(rule, index)
        name = kind = clause = template = ""
        if kind_of(rule) == "point":
            kind, clause, template = points.kind[index], points.clause[index], self._template(index)
        elif rule == LEAK:
            name = self.registry.sections[index].name
        elif rule == OVERSTORED:
            holding = self.registry.holdings[index]
            name, kind, clause = holding.name, holding.cas, holding.clause
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
            tier=self._tier(rule, index, level),
            value=value,
            limit=limit,
            unit=unit,
            clause=clause,
            evidence=evidence,
            version=self.registry.version,
            name=name,
            kind=kind,
            template=template,
            within=self._within(rule, index),
        )

    def _tier(self, rule: str, index: int, level: str) -> Tier | None:
        """A forecast has the tier of its rule, not that of the limit it speaks of."""
        if rule == TIME_TO_LIMIT:
            level = ""
        template = self._template(index) if kind_of(rule) == "point" else ""
        return self.rulebook.tier(template, rule, level)

    def _template(self, row: int) -> str:
        """The name of the template that judges a point."""
        return self.registry.points.template[row] or self.registry.points.kind[row]

    def _within(self, rule: str, index: int) -> tuple[str, ...]:
        """What a subject lies in: one of several points in what all of them lie in."""
        registry, kind = self.registry, kind_of(rule)
        if kind == "point":
            return self._around(index)
        if kind == "holding":
            unit = registry.holdings[index].unit
            return (f"unit:{unit}",) if unit else ()
        if kind == "section":
            rows = [row for row in ends(registry.sections[index]) if row >= 0]
        else:
            home = registry.points.gateway if kind == "gateway" else registry.points.group
            rows = np.flatnonzero(home == index).tolist()
        common = self._around(rows[0]) if rows else ()
        for row in rows[1:]:
            if not common:
                break
            here = self._around(row)
            common = tuple(part for part in common if part in here)
        return common

    def _around(self, row: int) -> tuple[str, ...]:
        """Unit, group and pipelines of a point."""
        registry, parts = self.registry, self._served.get(row, ())
        if registry.groups and registry.points.group[row] >= 0:
            parts = (f"group:{registry.groups[registry.points.group[row]].id}", *parts)
        unit = registry.points.unit[row]
        return (f"unit:{unit}", *parts) if unit else parts

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


def _served(registry: Registry) -> dict[int, tuple[str, ...]]:
    """The pipelines that a point serves, by its row."""
    served: dict[int, tuple[str, ...]] = {}
    for section in registry.sections:
        pipeline = f"pipeline:{section.id}"
        for row in ends(section):
            if row >= 0 and pipeline not in served.get(row, ()):
                served[row] = (*served.get(row, ()), pipeline)
    return served


def ends(section: Section) -> tuple[int, int, int, int]:
    """Rows of its flows and pressures, -1 for a pressure that is not measured."""
    return section.flow_in, section.flow_out, section.pressure_in, section.pressure_out
