"""The compound rules said as plainly as possible: every rule, in every place, from all that was ever heard.

Written from docs/compound-rules.md. Nothing is forgotten, indexed or kept ready: whether a condition holds at a time is
worked out from all stretches of time in which its findings matched, one microsecond after the other where
an operator looks back. Shares with the engine only the types that travel.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from registry.clock import HOUR
from registry.model import Registry
from streams.finding import Finding, Ground, Phase, finding_id
from streams.rulebook import (
    All,
    Any,
    AtLeast,
    CompoundRule,
    Condition,
    For,
    Not,
    Pattern,
    Rulebook,
    Sequence,
    Within,
)

Place = tuple[str, str]  # credit code or "", and "unit:R1", "cell:ID" or ""
Path = tuple[int, ...]  # which operand of which operand
FALSE, UNKNOWN, TRUE = 0, 1, 2


@dataclass(eq=False)
class Stretch:
    """A finding matches a pattern, in a place, from ``start`` until ``end``."""

    path: Path
    place: Place
    finding: Finding  # as it is, or was last
    start: int
    marks: list[tuple[int, bool]]  # since when it is TRUE, or UNKNOWN
    end: int | None = None

    def value(self, time: int) -> int:
        if time < self.start or (self.end is not None and time >= self.end):
            return FALSE
        value = FALSE
        for since, true in self.marks:
            if since <= time:
                value = TRUE if true else UNKNOWN
        return value

    def is_true_now(self) -> bool:
        return self.end is None and self.marks[-1][1]


@dataclass
class Open:
    """A finding that is not over."""

    finding: Finding
    true: bool
    begun: int
    levelled: int
    turned: int
    edge: int


@dataclass
class Rule:
    rule: CompoundRule
    stretches: list[Stretch] = field(default_factory=list)
    touched: list[tuple[int, Place]] = field(default_factory=list)  # event times of what came in this call
    stands: set[Place] = field(default_factory=set)
    value: dict[Place, int] = field(default_factory=dict)
    done: dict[tuple[Place, Path], list[tuple[Stretch, list[Finding]]]] = field(default_factory=dict)


def patterns(when: Condition, path: Path = ()) -> Iterator[tuple[Path, Pattern, str]]:
    """Every pattern of a condition: where it stands, and what has to differ for two findings to count."""
    match when:
        case Pattern():
            yield path, when, ""
        case AtLeast():
            yield path, when.of, when.different if when.count > 1 else ""
        case Not() | For():
            yield from patterns(when.of, (*path, 0))
        case _:
            for number, of in enumerate(when.of):
                yield from patterns(of, (*path, number))


def length(when: Condition) -> int:
    """For how long it asks what was."""
    match when:
        case Pattern() | AtLeast():
            return 0
        case Not():
            return length(when.of)
        case For():
            return when.time + length(when.of)
        case Sequence():
            return when.time + HOUR
        case Within():
            return when.time + max(length(of) for of in when.of)
        case All() | Any():
            return max(length(of) for of in when.of)


def key(different: str, finding: Finding) -> str | None:
    if different == "subject":
        return finding.enterprise + finding.subject
    if different == "unit":
        units = [part for part in (finding.subject, *finding.within) if part[:5] == "unit:"]
        return finding.enterprise + units[0] if units else None
    if different == "enterprise":
        return finding.enterprise or None
    return ""


class CompoundModel:
    def __init__(self, registry: Registry, rulebook: Rulebook, now: int) -> None:
        self.registry = registry
        self.rules = {rule.id: Rule(rule) for rule in rulebook.compound}
        self.now = now
        self.open: dict[str, Open] = {}
        self.told: dict[tuple[str, Place], Finding] = {}
        self.minted: dict[tuple[str, Place], int] = {}

    # ---- places

    def cells(self, place: Place) -> list[str]:
        code, part = place
        cell = self.registry.enterprises[code].cell if code in self.registry.enterprises else ""
        if not code:
            cell = part[5:]
        cells = []
        while cell in self.registry.cells:
            cells.append(cell)
            cell = self.registry.cells[cell].parent
        return cells

    def around(self, place: Place) -> list[Place]:
        places = [place]
        if place[0] and place[1]:
            places.append((place[0], ""))
        return places + [("", f"cell:{c}") for c in self.cells(place) if ("", f"cell:{c}") != place]

    def is_place(self, scope: str, place: Place) -> bool:
        code, part = place
        if scope == "enterprise":
            return code != "" and part == ""
        if scope == "neighbours":
            return code == "" and part[5:] in self.registry.cells
        if scope[:5] == "cell:":
            return (
                code == ""
                and part[5:] in self.registry.cells
                and self.registry.cells[part[5:]].level == scope[5:]
            )
        return part.split(":")[0] == scope

    def places(self, scope: str, finding: Finding) -> list[Place]:
        """Where it is put down: where it is, or in the wide place that it is a finding of."""
        cell = finding.subject[:5] == "cell:"
        if cell and finding.subject[5:] not in self.registry.cells:
            return []
        if scope == "neighbours":
            cells = [finding.subject[5:]] if cell else self.cells((finding.enterprise, ""))
            return [("", f"cell:{cells[1] if len(cells) > 1 else cells[0]}")] if cells else []
        if scope[:5] == "cell:":
            for outer in self.cells(("", finding.subject) if cell else (finding.enterprise, "")):
                if self.registry.cells[outer].level == scope[5:]:
                    return [("", f"cell:{outer}")]
        if cell:
            return [("", finding.subject)]
        if scope[:5] == "cell:" or not finding.enterprise:
            return []
        if scope == "enterprise":
            return [(finding.enterprise, "")]
        parts = {part for part in (finding.subject, *finding.within) if part.split(":")[0] == scope}
        if parts:
            return [(finding.enterprise, part) for part in sorted(parts)]
        device = finding.subject.split(":")[0] in ("point", "gateway", "group", "unit", "pipeline")
        return [] if device or finding.within else [(finding.enterprise, "")]

    # ---- what is heard

    def apply(self, findings: list[Finding], now: int) -> list[Finding]:
        assert now >= self.now
        self.now = now
        for finding in findings:
            self.take(finding)
        return self.judge()

    def take(self, message: Finding) -> None:
        if message.late or message.rule.startswith("compound."):
            return
        was = self.open.get(message.id)
        corrected, over = message.phase == "corrected", message.phase in ("ended", "withdrawn")
        if (over or corrected) and not was:
            return
        names = ("seq", "value", "limit", "unit", "clause", "name", "kind", "level", "tier", "within")
        shown = {name: getattr(message, name) for name in names}
        if corrected and all(
            getattr(was.finding, name) == shown[name] for name in ("kind", "level", "within")
        ):
            was.finding = msgspec.structs.replace(was.finding, **shown)
            for rule in self.rules.values():
                for stretch in rule.stretches:
                    if stretch.finding.id == message.id and stretch.end is None:
                        stretch.finding = was.finding
            return
        edge = min(message.since if message.phase == "begun" else message.time, self.now)
        true = was.true if corrected else message.phase != "unknown"
        if was is None:
            was = self.open[message.id] = Open(message, true, edge, edge, edge, edge)
        else:
            edge = was.edge = max(edge, was.edge)
            if message.kind != was.finding.kind or message.within != was.finding.within:
                was.begun = was.levelled = edge
            if message.level != was.finding.level:
                was.levelled = edge
            if true != was.true:
                was.true, was.turned = true, edge
            if over:
                del self.open[message.id]
            else:
                was.finding = msgspec.structs.replace(was.finding, **shown)
        for rule in self.rules.values():
            for path, pattern, different in patterns(rule.rule.when):
                here = self.counts(rule, pattern, different, None if over else was.finding)
                stretches = [
                    s for s in rule.stretches if (s.path, s.finding.id, s.end) == (path, message.id, None)
                ]
                device = message.subject.split(":")[0] in ("point", "gateway", "group", "pipeline")
                time = edge if device else self.now
                rule.touched += [(time, place) for place in {*here, *(s.place for s in stretches)}]
                for stretch in stretches:
                    if stretch.place in here and here[stretch.place] == key(different, stretch.finding):
                        del here[stretch.place]
                        stretch.finding = was.finding
                        if stretch.marks[-1][1] != true:
                            stretch.marks.append((edge, true))
                    else:
                        stretch.end = edge
                for place in here:
                    self.enter(rule, path, place, was, edge)

    def counts(
        self, rule: Rule, pattern: Pattern, different: str, finding: Finding | None
    ) -> dict[Place, str | None]:
        """Where it counts, and as what; nowhere if it does not fit, or is over."""
        if finding is None or not self.fits(pattern, different, finding):
            return {}
        return {place: key(different, finding) for place in self.places(rule.rule.scope, finding)}

    def fits(self, pattern: Pattern, different: str, finding: Finding) -> bool:
        if finding.rule != pattern.rule or key(different, finding) is None:
            return False
        asked = ((pattern.levels, "level"), (pattern.kinds, "kind"), (pattern.templates, "template"))
        return all(not allowed or getattr(finding, name) in allowed for allowed, name in asked)

    def enter(self, rule: Rule, path: Path, place: Place, was: Open, start: int) -> None:
        marks = [(start, False)] + [(max(start, was.turned), True)] * was.true
        rule.stretches.append(Stretch(path, place, was.finding, start, marks))

    def enter_all(self, rule: Rule, was: Open, places: list[Place]) -> None:
        for path, pattern, different in patterns(rule.rule.when):
            if self.fits(pattern, different, was.finding):
                for place in places:
                    start = was.levelled if pattern.levels else was.begun
                    rule.touched.append((self.now, place))
                    self.enter(rule, path, place, was, start)

    def reconfigure(self, registry: Registry, rulebook: Rulebook, now: int) -> list[Finding]:
        told = self.apply([], now)
        was = {finding.finding.id: self.all_places(finding.finding) for finding in self.open.values()}
        before, self.registry = self.rules, registry
        self.rules = {rule.id: Rule(rule) for rule in rulebook.compound}
        for rule in self.rules.values():
            old = before.get(rule.rule.id)
            same = old and (old.rule.topic, old.rule.scope) == (rule.rule.topic, rule.rule.scope)
            if old and same:
                rule.stands = old.stands
            if old and same and old.rule.when == rule.rule.when:
                rule.stretches, rule.done = old.stretches, old.done
                for finding in self.open.values():
                    here = self.places(rule.rule.scope, finding.finding)
                    there = was[finding.finding.id][rule.rule.scope]
                    rule.stretches = [
                        s
                        for s in rule.stretches
                        if not (
                            s.finding.id == finding.finding.id
                            and s.end is None
                            and s.place in there
                            and s.place not in here
                        )
                    ]
                    self.enter_all(rule, finding, [place for place in here if place not in there])
                rule.stretches = [s for s in rule.stretches if self.is_known(s.place)]
            else:
                for finding in self.open.values():
                    self.enter_all(rule, finding, self.places(rule.rule.scope, finding.finding))
        return told + self.judge()

    def all_places(self, finding: Finding) -> dict[str, list[Place]]:
        return {rule.rule.scope: self.places(rule.rule.scope, finding) for rule in self.rules.values()}

    def is_known(self, place: Place) -> bool:
        return place[0] != "" or place[1][5:] in self.registry.cells

    # ---- what holds

    def judge(self) -> list[Finding]:
        topics = set(self.told)
        for rule in self.rules.values():
            here = {s.place for s in rule.stretches if self.is_place(rule.rule.scope, s.place)}
            rule.value = {}
            for place in here:
                if self.exists(rule, place):
                    self.complete(rule, place)
                    value = self.truth(rule, place, rule.rule.when, (), self.now)
                    rule.value[place] = value
                    if value == TRUE or (place in rule.stands and value == UNKNOWN):
                        topics.add((rule.rule.topic, place))
            rule.stands = {
                place
                for place, value in rule.value.items()
                if value == TRUE or (value == UNKNOWN and place in rule.stands)
            }
            for place, path in list(rule.done):
                if place not in rule.value:
                    del rule.done[place, path]
        told = [self.tell(topic, place) for topic, place in sorted(topics)]
        for rule in self.rules.values():
            rule.touched.clear()
        return [finding for finding in told if finding]

    def exists(self, rule: Rule, place: Place) -> bool:
        return any(self.remembered(rule, s) for s in rule.stretches if s.place == place)

    def remembered(self, rule: Rule, stretch: Stretch) -> bool:
        return stretch.end is None or stretch.end + length(rule.rule.when) > self.now

    def seen(self, rule: Rule, place: Place, path: Path) -> list[Stretch]:
        places = self.around(place)
        return [s for s in rule.stretches if s.path == path and s.place in places]

    def complete(self, rule: Rule, place: Place) -> None:
        """Which stretches of the last pattern of each sequence complete it: once they do, they do so to their end."""
        for path, sequence in self.sequences(rule.rule.when):
            done = rule.done.setdefault((place, path), [])
            seen = self.seen(rule, place, (*path, len(sequence.of) - 1))
            done[:] = [entry for entry in done if entry[0] in seen and self.remembered(rule, entry[0])]
            for last in seen:
                if not self.remembered(rule, last) or any(last is stretch for stretch, _ in done):
                    continue
                before, time = [], last.start
                for number in reversed(range(len(sequence.of) - 1)):
                    earlier = [s for s in self.seen(rule, place, (*path, number)) if s.start <= time]
                    earlier = [s for s in earlier if self.remembered(rule, s)]
                    if not earlier:
                        break
                    before.append(max(earlier, key=lambda s: (s.start, s.finding.id)))
                    time = before[-1].start
                if len(before) == len(sequence.of) - 1 and last.start - time <= sequence.time:
                    done.append((last, [s.finding for s in before]))

    def sequences(self, when: Condition, path: Path = ()) -> Iterator[tuple[Path, Sequence]]:
        match when:
            case Sequence():
                yield path, when
            case Not() | For():
                yield from self.sequences(when.of, (*path, 0))
            case All() | Any() | Within():
                for number, of in enumerate(when.of):
                    yield from self.sequences(of, (*path, number))

    def truth(
        self, rule: Rule, place: Place, when: Condition, path: Path, time: int, held: bool = False
    ) -> int:
        """What a condition is at a time; ``held``: if every UNKNOWN finding counts as TRUE, as it was last known."""

        def of(number: int, time: int = time, held: bool = held) -> int:
            inner = when.of[number] if isinstance(when.of, tuple) else when.of
            return self.truth(rule, place, inner, (*path, number), time, held)

        match when:
            case Pattern() | AtLeast():
                different = "" if isinstance(when, Pattern) or when.count == 1 else when.different
                true, possible = set(), set()
                for stretch in self.seen(rule, place, path):
                    value = stretch.value(time)
                    if value != FALSE:
                        possible.add(key(different, stretch.finding))
                    if value == TRUE or (held and value == UNKNOWN):
                        true.add(key(different, stretch.finding))
                count = 1 if isinstance(when, Pattern) else when.count
                return TRUE if len(true) >= count else UNKNOWN if len(possible) >= count else FALSE
            case All():
                return min(of(number) for number in range(len(when.of)))
            case Any():
                return max(of(number) for number in range(len(when.of)))
            case Not():
                return TRUE - of(0)
            case Within():
                times = range(time - when.time, time + 1)
                return min(max(of(number, then) for then in times) for number in range(len(when.of)))
            case For():
                value = of(0)
                if value == FALSE:
                    return FALSE
                times = range(time - when.time, time + 1)
                return value if all(of(0, then, held=True) == TRUE for then in times) else FALSE
            case Sequence():
                values = [s.value(time) for s, _ in rule.done[place, path]]
                value = max(values, default=FALSE)
                return TRUE if held and value == UNKNOWN else value

    def since(self, rule: Rule, place: Place, when: Condition, path: Path) -> int | None:
        """Since when a condition is TRUE that is TRUE now; None where nothing says it."""

        def of(number: int) -> int | None:
            inner = when.of[number] if isinstance(when.of, tuple) else when.of
            return self.since(rule, place, inner, (*path, number))

        def is_true(number: int, time: int) -> bool:
            return self.truth(rule, place, when.of[number], (*path, number), time) == TRUE

        match when:
            case Pattern() | AtLeast():
                different = "" if isinstance(when, Pattern) or when.count == 1 else when.different
                first: dict[str | None, int] = {}
                for stretch in self.seen(rule, place, path):
                    if stretch.is_true_now():
                        name = key(different, stretch.finding)
                        first[name] = min(stretch.start, first.get(name, stretch.start))
                return sorted(first.values())[0 if isinstance(when, Pattern) else when.count - 1]
            case All():
                times = [of(number) for number in range(len(when.of))]
                return max((time for time in times if time is not None), default=None)
            case Any():
                times = [of(number) for number in range(len(when.of)) if is_true(number, self.now)]
                return None if None in times else min(times)
            case Not():
                ends = [
                    s.end
                    for inner, _, _ in patterns(when, path)
                    for s in self.seen(rule, place, inner)
                    if s.end is not None
                ]
                return max(ends, default=None)
            case Within():
                times = []
                for number in range(len(when.of)):
                    if is_true(number, self.now):
                        times.append(of(number))
                    else:
                        times.append(
                            next(
                                then + 1
                                for then in range(self.now, self.now - when.time - 1, -1)
                                if is_true(number, then)
                            )
                        )
                return max((time for time in times if time is not None), default=None)
            case For():
                time = of(0)
                return None if time is None else min(time, self.now - when.time)
            case Sequence():
                return min(s.start for s, _ in rule.done[place, path] if s.is_true_now())

    def grounds(self, rule: Rule, place: Place, when: Condition, path: Path, past: bool) -> list[Finding]:
        def of(number: int, past: bool) -> list[Finding]:
            inner = when.of[number] if isinstance(when.of, tuple) else when.of
            return self.grounds(rule, place, inner, (*path, number), past)

        def is_true(number: int) -> bool:
            return self.truth(rule, place, when.of[number], (*path, number), self.now) == TRUE

        match when:
            case Pattern() | AtLeast():
                seen = self.seen(rule, place, path)
                found = [s.finding for s in seen if s.is_true_now()]
                if not found and past:
                    found = [s.finding for s in seen if s.end is None]
                if not found and past:
                    recent = [s for s in seen if s.end is not None and self.remembered(rule, s)]
                    recent.sort(key=lambda s: (s.end, s.finding.id))
                    found = [s.finding for s in recent[-1:]]
                return found
            case All():
                return [f for number in range(len(when.of)) for f in of(number, past)]
            case Any():
                return [
                    f for number in range(len(when.of)) if past or is_true(number) for f in of(number, past)
                ]
            case Not():
                return []
            case For():
                return of(0, past)
            case Within():
                return [f for number in range(len(when.of)) for f in of(number, past or not is_true(number))]
            case Sequence():
                done = [entry for entry in rule.done[place, path] if past or entry[0].is_true_now()]
                return [f for s, before in done for f in (*before, s.finding)]

    # ---- what is told

    def tell(self, name: str, place: Place) -> Finding | None:
        last = self.told.get((name, place))
        of_topic = [rule for rule in self.rules.values() if rule.rule.topic == name]
        standing = [rule for rule in of_topic if place in rule.stands]
        best = min(standing, key=lambda rule: (-(rule.rule.tier or 0), rule.rule.id), default=None)
        edges = [edge for rule in of_topic for edge, outer in rule.touched if outer in self.around(place)]
        common = {
            "time": max(edges, default=self.now),
            "arrival": self.now,
            "version": self.registry.version,
        }
        if best is None:
            if last is None:
                return None
            del self.told[name, place]
            if any(r.rule.id == last.level and self.is_place(r.rule.scope, place) for r in of_topic):
                return self.next(last, Phase.ENDED, **common)
            return self.next(last, Phase.WITHDRAWN, **common, evidence=(self.registry.version,))
        if best.value[place] == UNKNOWN:
            if last is None or last.phase == Phase.UNKNOWN:
                return None
            told = self.told[name, place] = self.next(last, Phase.UNKNOWN, **common)
            return told
        tier, told_tier = best.rule.tier or 0, (last.tier or 0) if last else 0
        if last and tier == told_tier and last.phase != Phase.UNKNOWN:
            return None
        found = sorted(self.grounds(best, place, best.rule.when, (), False), key=lambda f: f.seq)
        newest = {f.id: f for f in found}
        grounds = sorted(newest.values(), key=lambda f: (-(f.tier or 0), -f.since, f.id))
        common |= {
            "level": best.rule.id,
            "tier": best.rule.tier,
            "clause": best.rule.clause,
            "why": best.rule.say,
            "asks": best.rule.asks,
            "grounds": tuple(
                Ground(**{name: getattr(f, name) for name in Ground.__struct_fields__}) for f in grounds[:20]
            ),
            "evidence": (f"grounds {len(grounds)}",) if len(grounds) > 20 else (),
        }
        if last:
            phase = Phase.WORSENED if tier > told_tier else Phase.EASED if tier < told_tier else Phase.RESUMED
            told = self.told[name, place] = self.next(last, phase, **common)
            return told
        since = self.since(best, place, best.rule.when, ())
        since = self.now if since is None else since
        if (name, place) in self.minted:
            since = max(since, self.minted[name, place] + 1)
        self.minted[name, place] = since
        rule, (code, part) = f"compound.{name}", place
        subject = part or f"enterprise:{code}"
        told = self.told[name, place] = Finding(
            id=finding_id(rule, code, subject, since),
            seq=1,
            rule=rule,
            enterprise=code,
            subject=subject,
            phase=Phase.BEGUN,
            since=since,
            name=self.called(place),
            within=(subject,) if code and part else (),
            **common,
        )
        return told

    def next(self, last: Finding, phase: Phase, **changes: object) -> Finding:
        return msgspec.structs.replace(last, seq=last.seq + 1, phase=phase, **changes)

    def called(self, place: Place) -> str:
        code, part = place
        if not code:
            return self.registry.cells[part[5:]].name
        enterprise = self.registry.enterprises.get(code)
        if enterprise is None:
            return ""
        return (
            {f"unit:{id}": name for id, name in enterprise.units}.get(part, "") if part else enterprise.name
        )
