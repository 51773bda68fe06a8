"""The conditions of compound rules, made ready to be judged: what each operator means.

``truth``: when a condition is what, as sets of times that go on into the future as if nothing more were heard.
``since``: since when it is TRUE, where it is TRUE now. docs/compound-rules.md says it in words.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from registry.clock import HOUR
from registry.model import FOREVER
from streams import rulebook
from streams.compound_spans import (
    ALWAYS,
    Spans,
    at,
    at_least,
    complement,
    grown,
    intersection,
    lasting,
    union,
)
from streams.compound_state import Heard, Known, Part, latest
from streams.finding import Finding
from streams.state import NEVER

LATENESS = HOUR
"""How much later than the last of a sequence began an earlier one that is over may become known, µs."""

Key = Callable[[Finding], str | None]


class Truth(NamedTuple):
    """When a condition is TRUE; when it is not FALSE, so that it is UNKNOWN where it is not TRUE either; and when it
    is true if every UNKNOWN finding counts as it was last known, that is as TRUE: so a running ``for`` goes on."""

    true: Spans
    possible: Spans
    held: Spans


@dataclass(frozen=True)
class View:
    """What a rule sees of one place at ``now``."""

    now: int
    heard: tuple[list[Heard], ...]  # by leaf: in the place itself, and around it
    known: dict[str, Known]
    done: list[dict[str, list[Finding]]]  # by sequence: stretches that complete it, and what came before
    remembers: int  # how long what is over is kept


class Term(ABC):
    @abstractmethod
    def truth(self, view: View) -> Truth: ...

    @abstractmethod
    def since(self, view: View) -> int:
        """NEVER where nothing says it."""

    @abstractmethod
    def grounds(self, view: View, past: bool) -> Iterator[Finding]:
        """The findings that make it TRUE; ``past``: or made it so a while ago."""

    @abstractmethod
    def leaves(self) -> Iterator["Leaf"]: ...

    def is_true(self, view: View) -> bool:
        return at(self.truth(view).true, view.now)


@dataclass(frozen=True)
class Leaf(Term):
    """At least so many findings of a pattern. ``key`` tells them apart; it is None where a finding does not count.

    remembers: it is below an operator that asks what was. denied: it is below a ``not``.
    """

    index: int
    pattern: rulebook.Pattern
    count: int
    key: Key
    remembers: bool
    denied: bool
    stretched: bool = False

    def matches(self, finding: Finding) -> bool:
        return self.pattern.matches(finding) and self.key(finding) is not None

    def truth(self, view: View) -> Truth:
        heard = view.heard[self.index]
        if self.remembers:
            true, possible = self._spans(heard, Part.true), self._spans(heard, Part.possible)
        else:  # so only now is asked for
            true = ALWAYS if self._many([h.true for h in heard]) else []
            possible = ALWAYS if self._many([h.possible for h in heard]) else []
        return Truth(true, possible, possible)

    def _many(self, keys: list[set[str]]) -> bool:
        return (len(keys[0]) if len(keys) == 1 else len(set().union(*keys))) >= self.count

    def _spans(self, heard: list[Heard], of: Callable[[Part], Spans]) -> Spans:
        if self.count == 1:
            return union(of(part) for h in heard for part in h.parts.values())
        by_key: dict[str, list[Spans]] = {}
        for h in heard:
            for key, part in h.parts.items():
                by_key.setdefault(key, []).append(of(part))
        return at_least(self.count, [sets[0] if len(sets) == 1 else union(sets) for sets in by_key.values()])

    def since(self, view: View) -> int:
        first: dict[str, int] = {}
        for heard in view.heard[self.index]:
            for key in heard.true:
                starts = (start for start, true in heard.parts[key].open.values() if true is not None)
                first[key] = min(min(starts), first.get(key, view.now))
        return sorted(first.values())[self.count - 1]

    def grounds(self, view: View, past: bool) -> Iterator[Finding]:
        heard = view.heard[self.index]
        found = [id for h in heard for id, key in h.key.items() if h.parts[key].open[id][1] is not None]
        if past and not found:
            found = [id for h in heard for id in h.key]
        yield from (view.known[id].finding for id in found)
        if past and not found:
            ended = [(h.ended.time, h.ended.finding.id, h.ended.finding) for h in heard if h.ended]
            recent = [mark for mark in ended if mark[0] > view.now - view.remembers]
            if recent:
                yield max(recent, key=lambda mark: mark[:2])[2]

    def leaves(self) -> Iterator["Leaf"]:
        yield self


@dataclass(frozen=True)
class Several(Term, ABC):
    """An operator over several conditions."""

    of: tuple[Term, ...]

    def truths(self, view: View) -> Iterator[tuple[Spans, ...]]:
        """When all are TRUE, possible and held: of each, one set for each condition."""
        return zip(*(term.truth(view) for term in self.of), strict=True)

    def leaves(self) -> Iterator[Leaf]:
        for term in self.of:
            yield from term.leaves()


class All(Several):
    def truth(self, view: View) -> Truth:
        return Truth(*map(intersection, self.truths(view)))

    def since(self, view: View) -> int:
        return max((term.since(view) for term in self.of), default=NEVER)

    def grounds(self, view: View, past: bool) -> Iterator[Finding]:
        for term in self.of:
            yield from term.grounds(view, past)


class Any(Several):
    def truth(self, view: View) -> Truth:
        return Truth(*map(union, self.truths(view)))

    def since(self, view: View) -> int:
        return min(term.since(view) for term in self.of if term.is_true(view))

    def grounds(self, view: View, past: bool) -> Iterator[Finding]:
        for term in self.of:
            if past or term.is_true(view):
                yield from term.grounds(view, past)


@dataclass(frozen=True)
class Not(Term):
    of: Term

    def truth(self, view: View) -> Truth:
        true, possible, held = self.of.truth(view)
        return Truth(complement(possible), complement(true), complement(held))

    def since(self, view: View) -> int:
        """When the last of its findings ended."""
        ends = (heard.last for leaf in self.leaves() for heard in view.heard[leaf.index])
        return max(ends, default=NEVER)

    def grounds(self, view: View, past: bool) -> Iterator[Finding]:
        yield from ()

    def leaves(self) -> Iterator[Leaf]:
        return self.of.leaves()


@dataclass(frozen=True)
class Within(Several):
    time: int

    def truth(self, view: View) -> Truth:
        return Truth(*(intersection(grown(spans, self.time) for spans in sets) for sets in self.truths(view)))

    def since(self, view: View) -> int:
        """When the last of them began, or, of those that are over, was last true."""
        times = [NEVER]
        for term in self.of:
            true = term.truth(view).true
            over = (end for _, end in reversed(true) if end <= view.now)
            times.append(term.since(view) if at(true, view.now) else next(over))
        return max(times)

    def grounds(self, view: View, past: bool) -> Iterator[Finding]:
        for term in self.of:
            yield from term.grounds(view, past or not term.is_true(view))


@dataclass(frozen=True)
class For(Term):
    time: int
    of: Term

    def truth(self, view: View) -> Truth:
        true, possible, held = self.of.truth(view)
        lasted = lasting(held, self.time)
        return Truth(intersection([lasted, true]), intersection([lasted, possible]), lasted)

    def since(self, view: View) -> int:
        """Before the delay; what it stood on at first may be over already, but no break was longer ago."""
        return min(self.of.since(view), view.now - self.time)

    def grounds(self, view: View, past: bool) -> Iterator[Finding]:
        return self.of.grounds(view, past)

    def leaves(self) -> Iterator[Leaf]:
        return self.of.leaves()


@dataclass(frozen=True)
class Sequence(Term):
    """``index``: of the sequence in its rule. A stretch of the last pattern completes it, for as long as it lasts."""

    index: int
    time: int
    of: tuple[Leaf, ...]

    def truth(self, view: View) -> Truth:
        completing = list(self._completing(view))
        true = _spans_of([(part.was_true, part.trues) for part in completing])
        possible = _spans_of([(part.was_possible, part.starts) for part in completing])
        return Truth(true, possible, possible)

    def _completing(self, view: View) -> Iterator[Part]:
        for heard in view.heard[self.of[-1].index]:
            parts = heard.parts
            yield from (parts[key] for key in view.done[self.index] if key in parts)

    def complete(self, view: View, fresh: int) -> None:
        """Look which stretches complete it, among those that began at ``fresh`` or later."""
        done, last = view.done[self.index], view.heard[self.of[-1].index]
        for key in done.keys() - set().union(*(heard.parts for heard in last)):
            del done[key]
        for heard in last:
            for start, key in heard.stretches[bisect_left(heard.stretches, (fresh, "")) :]:
                if key not in done and (before := self._before(view, start)) is not None:
                    done[key] = before

    def _before(self, view: View, start: int) -> list[Finding] | None:
        """What came before a stretch of the last pattern, the latest first; None if not all of it did."""
        before, time = [], start
        for leaf in reversed(self.of[:-1]):
            found = latest(view.heard[leaf.index], time)
            if found is None or start - found[0] > self.time:
                return None
            time, key, heard = found
            before.append(_finding(view, heard, key))
        return before

    def since(self, view: View) -> int:
        return min(start for part in self._completing(view) if part.trues for start, _ in part.starts)

    def grounds(self, view: View, past: bool) -> Iterator[Finding]:
        for heard in view.heard[self.of[-1].index]:
            for key, before in view.done[self.index].items():
                part = heard.parts.get(key)
                if part is not None and (past or part.trues):
                    yield _finding(view, heard, key)
                    yield from before

    def leaves(self) -> Iterator[Leaf]:
        return iter(self.of)


def _spans_of(parts: list[tuple[Spans, list[tuple[int, str]]]]) -> Spans:
    """When any of these parts was, or is since."""
    spans = [span for was, _ in parts for span in was]
    starts = [since[0][0] for _, since in parts if since]
    if starts:
        spans.append((min(starts), FOREVER))
    return union([spans])


def _finding(view: View, heard: Heard, key: str) -> Finding:
    """The finding of a stretch: as it is, or as it was last."""
    part = heard.parts[key]
    for id in part.open:
        return view.known[id].finding
    assert part.last is not None
    return part.last


def horizon(when: rulebook.Condition) -> int:
    """For how long a condition asks what was: the sum of the times that lie in each other, µs."""
    match when:
        case rulebook.Pattern() | rulebook.AtLeast():
            return 0
        case rulebook.Not():
            return horizon(when.of)
        case rulebook.For():
            return when.time + horizon(when.of)
        case rulebook.Sequence():
            return when.time + LATENESS
    inner = max((horizon(of) for of in when.of), default=0)
    return inner + when.time if isinstance(when, rulebook.Within) else inner


@dataclass(frozen=True)
class Compiled:
    term: Term
    leaves: tuple[Leaf, ...]
    sequences: tuple[Sequence, ...]
    horizon: int


def compiled(when: rulebook.Condition) -> Compiled:
    leaves: list[Leaf] = []
    sequences: list[Sequence] = []
    term = _term(when, leaves, sequences)
    return Compiled(term, tuple(leaves), tuple(sequences), horizon(when))


def _term(
    when: rulebook.Condition,
    leaves: list[Leaf],
    sequences: list[Sequence],
    past: bool = False,
    denied: bool = False,
) -> Term:
    """past, denied: it is below an operator that asks what was, and below a ``not``."""

    def leaf(
        pattern: rulebook.Pattern, key: Key, past: bool, count: int = 1, stretched: bool = False
    ) -> Leaf:
        leaves.append(Leaf(len(leaves), pattern, count, key, past, denied, stretched))
        return leaves[-1]

    def terms(several: tuple[rulebook.Condition, ...], past: bool) -> tuple[Term, ...]:
        return tuple(_term(of, leaves, sequences, past, denied) for of in several)

    match when:
        case rulebook.Pattern():
            return leaf(when, _one, past)
        case rulebook.AtLeast():
            key = _one if when.count == 1 else KEYS[when.different]
            return leaf(when.of, key, past, when.count)
        case rulebook.All():
            return All(terms(when.of, past))
        case rulebook.Any():
            return Any(terms(when.of, past))
        case rulebook.Not():
            return Not(_term(when.of, leaves, sequences, past, denied=True))
        case rulebook.Within():
            return Within(terms(when.of, past=True), when.time)
        case rulebook.For():
            return For(when.time, *terms((when.of,), past=True))
        case rulebook.Sequence():
            of = tuple(leaf(pattern, _one, past=True, stretched=True) for pattern in when.of)
            sequences.append(Sequence(len(sequences), when.time, of))
            return sequences[-1]


def _one(finding: Finding) -> str | None:
    return ""


def _subject(finding: Finding) -> str | None:
    return f"{finding.enterprise}|{finding.subject}"


def _unit(finding: Finding) -> str | None:
    parts = (part for part in (finding.subject, *finding.within) if part.startswith("unit:"))
    unit = next(parts, None)
    return unit and f"{finding.enterprise}|{unit}"


def _enterprise(finding: Finding) -> str | None:
    return finding.enterprise or None


KEYS: dict[str, Key] = {"subject": _subject, "unit": _unit, "enterprise": _enterprise}
