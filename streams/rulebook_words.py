"""Conditions of compound rules in words, and what differs between two rulebooks. Pure."""

from collections.abc import Iterator, Mapping

from streams import rulebook as rules
from streams.finding import Tier
from streams.rulebook import CompoundRule, Condition, Pattern, Rulebook, Template
from streams.rulebook_reach import span


def said(condition: Condition, depth: int = 0) -> str:
    """The condition in English, on one line."""
    match condition:
        case Pattern():
            return meant(condition)
        case rules.All(of):
            return _joined(" and ", of, depth)
        case rules.Any(of):
            return _joined(" or ", of, depth)
        case rules.Not(inner):
            return f"not {said(inner, depth + 1)}"
        case rules.AtLeast(count, of_, different):
            return f"at least {count} of {meant(of_)}, of different {different}s"
        case rules.Within(time, of):
            return f"within {span(time)}: {_joined(' and ', of, depth)}"
        case rules.For(time, inner):
            return f"for {span(time)}: {said(inner, depth + 1)}"
    return f"within {span(condition.time)}, {_joined(', then ', condition.of, depth)}"


def meant(pattern: Pattern) -> str:
    """Which findings are meant."""
    words = [pattern.rule]
    if pattern.levels:
        words.append(" or ".join(pattern.levels))
    if pattern.kinds:
        words.append(f"of {' or '.join(pattern.kinds)}")
    if pattern.templates:
        words.append(f"of template {' or '.join(pattern.templates)}")
    return " ".join(words)


def tier(given: Tier | None) -> str:
    return given.name if given else "none"


def difference(old: Rulebook, new: Rulebook) -> list[str]:
    """What changes from the old to the new, a line each; none where both say the same."""
    return [
        *_changed("tiers", _tiers(old.tiers), _tiers(new.tiers)),
        *_entries("points", _templates(old), _templates(new)),
        *_entries("compound", _rules(old), _rules(new)),
    ]


def _joined(word: str, of: tuple[Condition, ...], depth: int) -> str:
    text = word.join(said(one, depth + 1) for one in of)
    return f"({text})" if depth and len(of) > 1 else text


def _entries(
    part: str, old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield f"{part}.{name}: no more"
        elif name not in old:
            yield f"{part}.{name}: new"
            yield from (f"{part}.{name}.{key}: {value}" for key, value in new[name].items())
        else:
            yield from _changed(f"{part}.{name}", old[name], new[name])


def _changed(place: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key, "nothing"), new.get(key, "nothing")
        if before != after:
            yield f"{place}.{key}: {before} → {after}"


def _tiers(tiers: Mapping[str, Tier | None]) -> dict[str, str]:
    return {key: tier(tiers[key]) for key in sorted(tiers)}


_TIMES = ("delay", "interval", "rate_over", "stuck_after", "ahead")


def _value(column: str, value: float) -> str:
    return span(int(value)) if any(word in column for word in _TIMES) else f"{value:g}"


def _templates(rulebook: Rulebook) -> dict[str, dict[str, str]]:
    return {name: _template(template) for name, template in rulebook.templates.items()}


def _template(template: Template) -> dict[str, str]:
    words = {"kind": template.kind}
    words |= {f"tiers.{key}": value for key, value in _tiers(template.tiers).items()}
    words |= {f"given.{column}": _value(column, value) for column, value in sorted(template.given.items())}
    words |= {f"ceilings.{level}": f"{value:g}" for level, value in sorted(template.ceilings.items())}
    words |= {"engineering_unit": template.engineering_unit, "clause": template.clause}
    return {key: value for key, value in words.items() if value}


def _rules(rulebook: Rulebook) -> dict[str, dict[str, str]]:
    return {rule.id: _rule(rule) for rule in rulebook.compound}


def _rule(rule: CompoundRule) -> dict[str, str]:
    words = {"topic": rule.topic, "scope": rule.scope, "when": said(rule.when), "tier": tier(rule.tier)}
    words |= {f"say.{language}": text for language, text in rule.say.items()}
    words["clause"] = rule.clause
    words["asks"] = "; ".join(
        f"{ask.what} led by {ask.lead}" + (f" with {', '.join(ask.support)}" if ask.support else "")
        for ask in rule.asks
    )
    return {key: value for key, value in words.items() if value}
