"""What in a registry can give which findings, at which value; and where a compound rule could hold. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np

from registry.clock import DAY, HOUR, MINUTE, SECOND
from registry.model import FOREVER, LEVELS, LL, L
from streams import rulebook as rules
from streams.compound_places import around, is_place, places_of
from streams.compound_state import Place
from streams.configuration import Configuration
from streams.finding import Finding, Phase, Tier
from streams.rulebook import CompoundRule, Condition, Pattern


@dataclass(frozen=True, slots=True)
class Source:
    """A subject, and at what it gives a finding.

    rule, level, enterprise, subject, name, kind, within, tier, clause: as the finding will have them.
    at: in words, with the value and the delay. template: the name of what judges it, "" if no template does.
    """

    rule: str
    level: str
    enterprise: str
    subject: str
    name: str
    kind: str
    within: tuple[str, ...]
    at: str
    tier: Tier | None
    clause: str = ""
    template: str = ""

    def finding(self) -> Finding:
        """One that it could give, as far as its place and its pattern go."""
        return Finding(
            id="",
            seq=1,
            rule=self.rule,
            enterprise=self.enterprise,
            subject=self.subject,
            phase=Phase.BEGUN,
            since=0,
            time=0,
            arrival=0,
            level=self.level,
            kind=self.kind,
            within=self.within,
        )


class Reach:
    """The sources of a configuration.

    enterprise: of this one, and of cells; "" for all. only: of points, sources of these rules; None for all.
    """

    def __init__(
        self, configuration: Configuration, enterprise: str = "", only: Collection[str] | None = None
    ) -> None:
        self.registry, self.rulebook = configuration
        self.enterprise, self._only = enterprise, only

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """All, in the order of the registry."""
        found = (*self._points(), *self._groups(), *self._gateways(), *self._pipelines(), *self._records())
        return tuple(found)

    @cached_property
    def _by_kind(self) -> Mapping[str, Mapping[str, list[Source]]]:
        """By rule, then by kind."""
        by_kind: dict[str, dict[str, list[Source]]] = defaultdict(lambda: defaultdict(list))
        for source in self.sources:
            by_kind[source.rule][source.kind].append(source)
        return by_kind

    def meant(self, pattern: Pattern) -> list[Source]:
        """What can give the findings that the pattern means."""
        by_kind = self._by_kind.get(pattern.rule, {})
        return [
            source
            for kind in pattern.kinds or by_kind
            for source in by_kind.get(kind, ())
            if (not pattern.levels or source.level in pattern.levels)
            and (not pattern.templates or source.template in pattern.templates)
        ]

    def places(self, rule: CompoundRule) -> dict[Place, list[Source]]:
        """Where all that the rule needs could come together, by what the registry has now; and of what there."""
        of: dict[Pattern, dict[Place, list[Source]]] = {}
        for pattern in patterns(rule.when):
            by_place: dict[Place, list[Source]] = defaultdict(list)
            for source in self.meant(pattern):
                for place in places_of(self.registry, rule.scope, source.finding()):
                    by_place[place].append(source)
            of[pattern] = by_place
        judged = {place for by_place in of.values() for place in by_place}
        found: dict[Place, list[Source]] = {}
        for place in sorted(place for place in judged if is_place(self.registry, rule.scope, place)):
            outer = around(self.registry, place)
            there = {
                pattern: [source for one in outer for source in by_place.get(one, ())]
                for pattern, by_place in of.items()
            }
            if _possible(rule.when, there):
                found[place] = [source for sources in there.values() for source in sources]
        return found

    # ---- sources of each sort ----------------------------------------------------------------------

    def _points(self) -> Iterator[Source]:
        registry, points = self.registry, self.registry.points
        for row in self._rows():
            template = points.template[row] or points.kind[row]
            judged = template if template in self.rulebook.templates else ""
            enterprise, subject = registry.gateways[points.gateway[row]].enterprise, f"point:{points.id[row]}"
            name, kind, clause, within = (
                points.name[row],
                points.kind[row],
                points.clause[row],
                self._within(row),
            )
            for rule, level, at in self._rules(row, points.engineering_unit[row]):
                if self._only is None or rule in self._only:
                    tier = self.rulebook.tier(template, rule, level)
                    yield Source(
                        rule, level, enterprise, subject, name, kind, within, at, tier, clause, judged
                    )

    def _rules(self, row: int, unit: str) -> Iterator[tuple[str, str, str]]:
        points = self.registry.points
        for column, level in enumerate(LEVELS):
            limit, reset = float(points.limit[row, column]), float(points.reset[row, column])
            if limit == limit:
                rule, sign, over = (
                    ("limit.low", "≤", "above") if column in (LL, L) else ("limit.high", "≥", "below")
                )
                at = (
                    f"{sign} {limit:g} {unit}{_for(int(points.on_delay[row, column]))}, over {over} {reset:g}"
                )
                yield rule, level, at + _for(int(points.off_delay[row, column]))
        if points.rate[row] == points.rate[row] and points.rate_over[row] > 0:
            yield "rate", "", f"≥ {points.rate[row]:g} {unit}/s over {span(int(points.rate_over[row]))}"
        for column, level in enumerate(LEVELS if points.ahead[row] > 0 else ()):
            if (limit := float(points.limit[row, column])) == limit:
                ahead, over = span(int(points.ahead[row])), span(int(points.ahead_over[row]))
                yield "time_to_limit", level, f"{limit:g} {unit} within {ahead} at the slope of {over}"
        if points.alarm_state[row] == points.alarm_state[row]:
            yield "state", "", f"= {points.alarm_state[row]:g}{_for(int(points.state_delay[row]))}"
        if points.interval[row] > 0:
            interval = span(int(points.interval[row]))
            yield "silent", "", f"nothing for {interval}"
            yield "bad_quality", "", f"no valid value for {interval}"
        if points.stuck_after[row] > 0:
            after = span(int(points.stuck_after[row]))
            yield "stuck", "", f"no change over {points.stuck_within[row]:g} {unit} for {after}"
        low, high = float(points.range_low[row]), float(points.range_high[row])
        if low == low or high == high:
            outside = " or ".join(
                words for words, given in ((f"< {low:g}", low == low), (f"> {high:g}", high == high)) if given
            )
            yield "range", "", f"{outside} {unit}"

    def _groups(self) -> Iterator[Source]:
        for index, group in enumerate(self.registry.groups):
            if self._is_meant(group.enterprise):
                rows = np.flatnonzero(self.registry.points.group == index).tolist()
                at = f"spread > {group.tolerance:g}{_for(group.delay)}"
                yield self._other(
                    "disagreement", "", group.enterprise, f"group:{group.id}", group.id, rows, at
                )

    def _gateways(self) -> Iterator[Source]:
        for index, gateway in enumerate(self.registry.gateways):
            if self._is_meant(gateway.enterprise):
                rows = np.flatnonzero(self.registry.points.gateway == index).tolist()
                for rule, at in (
                    ("gateway.offline", "it says so, or all its points are silent"),
                    ("clock", "readings over 60 s ahead of their arrival, or late for over 10 s"),
                ):
                    subject = f"gateway:{gateway.id}"
                    yield self._other(rule, "", gateway.enterprise, subject, gateway.id, rows, at)

    def _pipelines(self) -> Iterator[Source]:
        for section in self.registry.sections:
            if self._is_meant(section.enterprise):
                for level in ("suspected", "confirmed"):
                    at = f"≥ {section.leak:.2%} of the flow is missing over {span(section.over)}"
                    at += ", and the pressure drops" if level == "confirmed" else ""
                    yield Source(
                        rule="leak",
                        level=level,
                        enterprise=section.enterprise,
                        subject=f"pipeline:{section.id}",
                        name=section.name,
                        kind="",
                        within=(f"pipeline:{section.id}",),
                        at=at,
                        tier=self.rulebook.tier("", "leak", level),
                    )

    def _other(
        self, rule: str, level: str, enterprise: str, subject: str, name: str, rows: list[int], at: str
    ) -> Source:
        """Of something that has points: it lies in what all of them lie in."""
        parts = [self._within(row) for row in rows]
        within = tuple(part for part in parts[0] if all(part in other for other in parts)) if parts else ()
        return Source(
            rule, level, enterprise, subject, name, "", within, at, self.rulebook.tier("", rule, level)
        )

    def _records(self) -> Iterator[Source]:
        registry, facts = self.registry, self.registry.facts
        zone = ZoneInfo(registry.time_zone)
        for row in range(len(facts)):
            if facts.enterprise[row] and not self._is_meant(facts.enterprise[row]):
                continue
            begins, ends = int(facts.begins[row]), int(facts.ends[row])
            at = f"from {_date(begins, zone)}" + (f" to {_date(ends, zone)}" if ends < FOREVER else "")
            unit = facts.unit[row]
            yield Source(
                rule=facts.rule[row],
                level=facts.level[row],
                enterprise=facts.enterprise[row],
                subject=facts.subject[row],
                name=facts.name[row],
                kind=facts.kind[row],
                within=(f"unit:{unit}",) if unit else (),
                at=at,
                tier=None,
                clause=facts.clause[row],
            )
        for holding in registry.holdings:
            if self._is_meant(holding.enterprise):
                yield Source(
                    rule="chemical.overstored",
                    level="",
                    enterprise=holding.enterprise,
                    subject=f"chemical:{holding.id}",
                    name=holding.name,
                    kind=holding.cas,
                    within=(f"unit:{holding.unit}",) if holding.unit else (),
                    at=f"its tanks hold more than {max(0.0, holding.permitted - holding.declared):g} t",
                    tier=None,
                    clause=holding.clause,
                )

    def _rows(self) -> Iterable[int]:
        if self.enterprise:
            return sorted(self.registry.rows.get(self.enterprise, {}).values())
        return range(len(self.registry.points))

    def _is_meant(self, enterprise: str) -> bool:
        return self.enterprise in ("", enterprise)

    def _within(self, row: int) -> tuple[str, ...]:
        points = self.registry.points
        parts = [f"unit:{points.unit[row]}"] if points.unit[row] else []
        if points.group[row] >= 0:
            parts.append(f"group:{self.registry.groups[points.group[row]].id}")
        return (*parts, *self._pipelines_of.get(row, ()))

    @cached_property
    def _pipelines_of(self) -> Mapping[int, list[str]]:
        pipelines: dict[int, list[str]] = defaultdict(list)
        for section in self.registry.sections:
            rows = {section.flow_in, section.flow_out, section.pressure_in, section.pressure_out} - {-1}
            for row in rows:
                pipelines[row].append(f"pipeline:{section.id}")
        return pipelines


def span(micros: int) -> str:
    """A time as it is written in a rulebook."""
    for name, unit in (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND)):
        if micros and micros % unit == 0:
            return f"{micros // unit}{name}"
    return f"{micros / SECOND:g}s"


def patterns(condition: Condition) -> Iterator[Pattern]:
    """All patterns of a condition, in their order."""
    match condition:
        case Pattern():
            yield condition
        case rules.AtLeast():
            yield condition.of
        case rules.Not() | rules.For():
            yield from patterns(condition.of)
        case _:
            for one in condition.of:
                yield from patterns(one)


def _for(delay: int) -> str:
    return f" for {span(delay)}" if delay else ""


def _possible(condition: Condition, there: Mapping[Pattern, list[Source]]) -> bool:
    """Whether it could hold where these sources count."""
    match condition:
        case Pattern():
            return bool(there[condition])
        case rules.AtLeast(count, of, different):
            seen = {key for source in there[of] for key in _differing(source, different)}
            return len(seen) >= count
        case rules.Any(of):
            return any(_possible(one, there) for one in of)
        case rules.Not():
            return True
        case rules.For(_, inner):
            return _possible(inner, there)
    return all(_possible(one, there) for one in condition.of)


def _differing(source: Source, different: str) -> set[tuple[str, str]]:
    if different == "enterprise":
        return {(source.enterprise, "")}
    if different == "unit":
        return {(source.enterprise, part) for part in source.within if part.startswith("unit:")}
    return {(source.enterprise, source.subject)}


def _date(micros: int, zone: ZoneInfo) -> str:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    moment = (epoch + timedelta(microseconds=micros)).astimezone(zone)
    return moment.strftime("%Y-%m-%d" if (moment.hour, moment.minute) == (0, 0) else "%Y-%m-%d %H:%M")
