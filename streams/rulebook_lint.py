"""What is doubtful in a rulebook, by itself and for the registry that it is to judge. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from unicodedata import normalize

from registry import inspection
from registry.clock import MINUTE
from registry.model import LEVELS, Registry
from streams import names
from streams import rulebook as rules
from streams.compound_places import NEIGHBOURS
from streams.configuration import Configuration
from streams.rulebook import CompoundRule, Condition, Pattern, Rulebook, Template
from streams.rulebook_reach import Reach, patterns, span
from streams.rulebook_words import meant

GASES = ("combustible_gas", "toxic_gas", "methane")
"""Kinds of which a point without a high limit protects nobody."""

NEAR = 0.9
"""A limit above this share of its ceiling, and not the ceiling itself, is more likely a slip than a choice."""

LATE = MINUTE
"""A statutory limit that has to hold for so long before anybody is told is told late."""


class Severity(IntEnum):
    ERROR = 0
    WARNING = 1
    NOTE = 2


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    severity: Severity
    where: str  # "points.methane", "compound.runaway", or a point: CODE/POINT
    text: str

    def __str__(self) -> str:
        return f"{self.severity.name.lower()}: {self.where}: {self.text}"


def lint(rulebook: Rulebook, registry: Registry | None = None, shard: str = "") -> list[Problem]:
    """All problems, the worst first.

    Args:
        registry: as it was compiled, without what templates give its points.
        shard: the level of the grid whose cells are judged apart; "" for the top.
    """
    found = [*_templates(rulebook), *_kinds(rulebook, registry)]
    if registry is not None:
        found += _points(rulebook, registry)
        found += _unused(rulebook, registry)
        found += scopes(rulebook, registry, shard)
        found += _impossible(rulebook, registry)
    return sorted(found)


def same_unit(one: str, other: str) -> bool:
    """Whether two spellings are of one engineering unit: mg/m³ and mg/m3, ℃ and °C, %LEL and % LEL."""
    return _plain(one) == _plain(other)


def _plain(unit: str) -> str:
    return normalize("NFKC", unit).replace(" ", "").replace("·", ".")


def _templates(rulebook: Rulebook) -> Iterator[Problem]:
    for name, template in rulebook.templates.items():
        where = f"points.{name}"
        if (
            template.ceilings or any(level in template.given for level in LEVELS)
        ) and not template.engineering_unit:
            text = "has limits or ceilings but no engineering_unit: they are given to no point"
            yield Problem(Severity.ERROR, where, text)
        for level in ("H", "HH"):
            delay = template.given.get(f"{level}_on_delay", template.given.get("on_delay", 0))
            yield from _ceiling(where, level, template.given.get(level), int(delay), template)


def _ceiling(
    where: str, level: str, limit: float | None, delay: int, template: Template
) -> Iterator[Problem]:
    ceiling = template.ceilings.get(level)
    if limit is None or limit != limit or ceiling is None:
        return
    unit, clause = template.engineering_unit, template.clause or "its ceiling"
    if limit > ceiling:
        text = f"{level} is {limit:g} {unit}; {clause} allows {ceiling:g} at most (template {template.name})"
        yield Problem(Severity.ERROR, where, text)
        return
    if NEAR * ceiling < limit < ceiling:
        text = (
            f"{level} is {limit:g} {unit}, close below the ceiling of {ceiling:g} ({clause}): was that meant?"
        )
        yield Problem(Severity.WARNING, where, text)
    if delay >= LATE:
        text = f"{level} has to hold for {span(delay)} before anybody is told, though {clause} sets a ceiling to it"
        yield Problem(Severity.WARNING, where, text)


def _points(rulebook: Rulebook, registry: Registry) -> Iterator[Problem]:
    own, judged = registry.points, Configuration.of(registry, rulebook).registry.points
    for row, (name, kind) in enumerate(zip(own.template, own.kind, strict=True)):
        template = rulebook.templates.get(name or kind)
        where = f"{registry.gateways[own.gateway[row]].enterprise}/{own.id[row]}"
        if template is None:
            if name:
                near = get_close_matches(name, rulebook.templates, 1)
                hint = f": {near[0]}?" if near else ""
                yield Problem(
                    Severity.ERROR, where, f"names template {name!r}, which the rulebook does not have{hint}"
                )
        elif template.kind != kind:
            yield Problem(
                Severity.ERROR, where, f"is a point of {kind}; template {name} is for {template.kind}"
            )
            continue
        if template is not None and (template.ceilings or template.given) and template.engineering_unit:
            unit = own.engineering_unit[row]
            if not same_unit(unit, template.engineering_unit):
                if template.ceilings:
                    text = (
                        f"is in {unit}, template {template.name} in {template.engineering_unit}: its limits cannot be "
                        "compared with the ceilings, and it is given none"
                    )
                    yield Problem(Severity.WARNING, where, text)
            else:
                if unit != template.engineering_unit and any(level in template.given for level in LEVELS):
                    text = (
                        f"is in {unit}: write {template.engineering_unit}, as template {template.name} does"
                    )
                    yield Problem(Severity.WARNING, where, text)
                for level in ("H", "HH"):
                    column = LEVELS.index(level)
                    limit, delay = float(own.limit[row, column]), int(own.on_delay[row, column])
                    yield from _ceiling(where, level, limit, delay, template)
        high = judged.limit[row, 2:]
        if kind in GASES and not (high == high).any():
            yield Problem(
                Severity.WARNING, where, f"a point of {kind} without H and HH: it can tell of no gas"
            )


def _unused(rulebook: Rulebook, registry: Registry) -> Iterator[Problem]:
    points = registry.points
    used = Counter(name or kind for name, kind in zip(points.template, points.kind, strict=True))
    idle = [name for name in rulebook.templates if name not in used]
    if idle:
        yield Problem(Severity.NOTE, "points", f"no point is judged by {', '.join(idle)}")


def _kinds(rulebook: Rulebook, registry: Registry | None) -> Iterator[Problem]:
    """Kinds of records that a rule names and nothing has, and licences that expire without any rule's seeing it."""
    there: dict[str, set[str]] = defaultdict(set)  # by the first word of the findings' rule
    for rule, kind in set(zip(registry.facts.rule, registry.facts.kind, strict=True)) if registry else ():
        there[rule.partition(".")[0]].add(kind)
    asked = {name for one in rulebook.compound for ask in one.asks for name in (ask.lead, *ask.support)}
    known = {"equipment": {*inspection.in_force({}).kinds, inspection.OTHER}}
    if registry is not None:  # only there can it be seen which licences and departments there are
        known |= {"licence": {*names.LICENCES}, "penalty": asked}
    of_licences: set[str] | None = set()
    for one in rulebook.compound:
        for pattern in patterns(one.when):
            what = pattern.rule.partition(".")[0]
            if what == "licence" and of_licences is not None:
                of_licences = of_licences | {*pattern.kinds} if pattern.kinds else None
            for kind in pattern.kinds if what in known else ():
                all_of_it = known[what] | there[what]
                if kind not in all_of_it:
                    text = f"{pattern.rule} of {kind}: nothing known is of that kind; expected "
                    text += names.expected(kind, tuple(sorted(all_of_it)))
                    yield Problem(Severity.NOTE, f"compound.{one.id}", text)
    for kind in sorted(there["licence"] - of_licences) if of_licences is not None else ():
        near = get_close_matches(kind, of_licences or (), 1)
        text = f"no rule sees a licence of kind {kind} expire" + (f": {near[0]}?" if near else "")
        yield Problem(Severity.NOTE, "licences", text)


def scopes(rulebook: Rulebook, registry: Registry, shard: str) -> Iterator[Problem]:
    """Compound rules whose scope the grid does not have, or that look wider than what is judged apart; see lint."""
    levels = dict.fromkeys(cell.level for cell in registry.cells.values())
    wider = {
        above.level
        for cell in registry.cells.values()
        if cell.level == shard
        for above in registry.ancestors(cell.id)[1:]
    }
    cells = {enterprise.cell for enterprise in registry.enterprises.values()} & registry.cells.keys()
    above_enterprises = {registry.ancestors(cell)[:2][-1].level for cell in cells}
    for rule in rulebook.compound:
        kind, _, level = rule.scope.partition(":")
        where = f"compound.{rule.id}"
        if rule.scope == NEIGHBOURS and (reached := wider & above_enterprises):
            levels_reached = ", ".join(sorted(reached))
            text = (
                f"reaches cells of level {levels_reached}, wider than {shard!r}, whose cells are judged apart"
            )
            yield Problem(Severity.ERROR, where, text)
        if kind != "cell":
            continue
        if level not in levels:
            text = (
                f"is for cells of level {level!r}, which the grid does not have: it has {', '.join(levels)}"
            )
            yield Problem(Severity.ERROR, where, text)
        elif level in wider:
            text = f"is for cells of level {level!r}, wider than {shard!r}, whose cells are judged apart"
            yield Problem(Severity.ERROR, where, text)


def _impossible(rulebook: Rulebook, registry: Registry) -> Iterator[Problem]:
    only = {pattern.rule for rule in rulebook.compound for pattern in patterns(rule.when)}
    reach = Reach(Configuration.of(registry, rulebook), only=only)
    for rule in rulebook.compound:
        if not reach.places(rule):
            yield Problem(Severity.NOTE, f"compound.{rule.id}", why_not(rule, reach))


def why_not(rule: CompoundRule, reach: Reach) -> str:
    """Why a rule can hold nowhere."""
    missing = dict.fromkeys(_missing(rule.when, reach))
    if missing:
        return f"cannot hold as the registry stands: nothing gives {', '.join(missing)}"
    return f"cannot hold as the registry stands: what it needs is never together in one {rule.scope}"


def _missing(when: Condition, reach: Reach) -> list[str]:
    """What the condition needs and nothing gives; of alternatives only where all are missing."""
    match when:
        case Pattern():
            return [] if reach.meant(when) else [meant(when)]
        case rules.AtLeast(_, of_):
            return _missing(of_, reach)
        case rules.Not():
            return []
        case rules.For(_, inner):
            return _missing(inner, reach)
    each = [_missing(one, reach) for one in when.of]
    if isinstance(when, rules.Any):
        return [" or ".join(" and ".join(one) for one in each)] if all(each) else []
    return [one for of in each for one in of]
