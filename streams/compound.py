"""The compound engine: takes what other rules found, and finds the risks that show only in several of them; pure.

What the operators mean is in streams/compound_terms.py, in words in docs/compound-rules.md, and once more, plainly, in
tests/model/compound.py, to which the engine is held. Here is what makes it quick: each message goes to the patterns
that can match it, in the places where it counts; a rule is judged again only where a pattern says something
else than before, or where its deadline has come.

All that comes in one call is judged as one: the order of different findings does not matter. Where what arrives at
one time comes in several calls, each call is judged: what holds between them may be told, what holds in the end
is the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from operator import itemgetter

import msgspec

from registry.model import FOREVER, Registry
from streams.compound_places import around, is_known, is_measured, is_place, places_of, subject_of
from streams.compound_spans import at, next_edge
from streams.compound_state import Heard, Known, Packed, Place
from streams.compound_terms import Leaf, View, compiled
from streams.engine import SnapshotError
from streams.finding import Finding, Ground, Phase, Tier, finding_id
from streams.rulebook import CompoundRule, Rulebook
from streams.state import NEVER

FORMAT = 2
"""Of a snapshot; a change of the state raises it."""

GROUNDS = 20
"""A compound finding names so many of the findings that it stands on; if there are more, its evidence says how many."""

COMPOUND = "compound."
"""What the names of our own rules begin with. Such findings are never operands, so there are no cycles."""

FALSE, UNKNOWN, TRUE = 0, 1, 2

OVER = (Phase.ENDED, Phase.WITHDRAWN)


class Instance(msgspec.Struct):
    """A rule in a place where something was found.

    stands: it has been TRUE and not FALSE since. done: see View. around: the place, and what lies around it.
    deadline: when time alone may change what it says. fresh: the earliest stretch heard since it was judged.
    """

    around: tuple[Place, ...]
    done: list[dict[str, list[Finding]]]
    value: int = FALSE
    stands: bool = False
    deadline: int = FOREVER
    fresh: int = NEVER


class Topic(msgspec.Struct):
    """What is told of one topic in one place. last: the newest message of the open finding."""

    last: Finding | None = None
    minted: int = NEVER


class PackedInstance(msgspec.Struct, array_like=True):
    place: Place
    done: list[dict[str, list[Finding]]]
    value: int
    stands: bool
    deadline: int
    fresh: int


class PackedRule(msgspec.Struct, array_like=True):
    id: str
    heard: list[tuple[int, Place, Packed]]
    instances: list[PackedInstance]


class Snapshot(msgspec.Struct):
    format: int
    version: str
    epoch: str
    now: int
    known: list[Known]
    rules: list[PackedRule]
    topics: list[tuple[str, Place, Topic]]


@dataclass(eq=False)
class Running:
    """A rule with its state. inside: by a wide place, the places of the instances within it."""

    rule: CompoundRule
    heard: dict[tuple[int, Place], Heard] = field(default_factory=dict)
    instances: dict[Place, Instance] = field(default_factory=dict)
    inside: dict[Place, set[Place]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        what = compiled(self.rule.when)
        self.term, self.leaves = what.term, what.leaves
        self.sequences, self.horizon = what.sequences, what.horizon

    def view(self, place: Place, known: dict[str, Known], now: int) -> View:
        instance = self.instances[place]
        limit = now - self.horizon
        heard = []
        for leaf in self.leaves:
            found = [h for p in instance.around if (h := self.heard.get((leaf.index, p))) is not None]
            for h in found:
                h.forget(limit)
            heard.append(found)
        return View(now, tuple(heard), known, instance.done, self.horizon)

    def until(self, place: Place) -> int:
        """When there will be nothing left that was found in the place itself; FOREVER while something holds."""
        until = NEVER
        for leaf in self.leaves:
            heard = self.heard.get((leaf.index, place))
            if heard is not None:
                if heard.key:
                    return FOREVER
                if heard.last != NEVER:
                    until = max(until, heard.last + self.horizon)
        return until

    def begin(self, place: Place, instance: Instance) -> None:
        self.instances[place] = instance
        for outer in instance.around[1:]:
            self.inside.setdefault(outer, set()).add(place)

    def leave(self, place: Place) -> None:
        for outer in self.instances[place].around[1:]:
            self.inside[outer].discard(place)
            if not self.inside[outer]:
                del self.inside[outer]

    def end(self, place: Place) -> None:
        self.leave(place)
        del self.instances[place]
        for leaf in self.leaves:
            if not leaf.denied:
                self.heard.pop((leaf.index, place), None)

    def tidy(self, now: int) -> None:
        """Forget what was heard around places and has been over for long."""
        for (leaf, place), heard in list(self.heard.items()):
            limit = now - self.horizon
            heard.forget(limit)
            if not heard.parts and heard.last <= limit and not self.leaves[leaf].denied:
                del self.heard[leaf, place]


class CompoundEngine:
    """The compound rules of one rulebook, and their state.

    Not for several threads. Times are µs; ``now`` is the arrival time at the engine's place in the journal.
    ``epoch``: where what was told before is lost, what tells the ids from now on from those of then.
    """

    def __init__(self, registry: Registry, rulebook: Rulebook, now: int, epoch: str = "") -> None:
        self.now = now
        self._epoch = epoch
        self._known: dict[str, Known] = {}
        self._topics: dict[tuple[str, Place], Topic] = {}
        self._deadlines: list[tuple[int, str, Place]] = []
        self._touched: set[tuple[str, Place]] = set()  # rule id and place of instances
        self._newest: dict[tuple[str, Place], int] = {}  # event time of what was heard in this call
        self._set(registry, rulebook)

    def apply(self, findings: Sequence[Finding], now: int) -> list[Finding]:
        """What these messages, known at ``now``, make of the rules. Raises ValueError where time goes back."""
        self._pass(now)
        for finding in findings:
            self._take(finding)
        return self._judge()

    def advance(self, now: int) -> list[Finding]:
        """Let time pass until ``now``. Raises ValueError where that is earlier than before."""
        return self.apply((), now)

    def next_deadline(self) -> int | None:
        """Arrival time before which :meth:`advance` gives nothing; None if time alone can bring nothing."""
        while self._deadlines and not self._is_due(*self._deadlines[0]):
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def reconfigure(self, registry: Registry, rulebook: Rulebook, now: int) -> list[Finding]:
        """From ``now`` on judge by other rules, or in another grid.

        A rule that asks what it asked goes on; a new or changed one knows the findings that are not over, and
        nothing of what is. What only a rule that is no more could say is WITHDRAWN.
        """
        told = self.advance(now)
        before, old = self._rules, self.registry
        self._set(registry, rulebook)
        self._deadlines.clear()
        moved = self._moved(old, before)
        for id, running in self._rules.items():
            was = before.get(id)
            if was is None or not _same(was.rule, running.rule):
                for known in self._known.values():
                    self._enter(running, known, places_of(registry, running.rule.scope, known.finding))
                self._keep_standing(running, was)
                continue
            running.heard = was.heard
            for place, instance in was.instances.items():
                if moved and not is_place(registry, running.rule.scope, place):
                    continue
                running.begin(place, instance)
                self._set_deadline(id, place, instance.deadline)
            if moved:
                self._move(running, old)
        return told + self._judge(every=True)

    def _moved(self, old: Registry, rules: dict[str, Running]) -> bool:
        """Whether the grid is another, for what is known here."""
        new = self.registry
        codes = {known.finding.enterprise for known in self._known.values()}
        codes |= {place[0] for running in rules.values() for place in running.instances}
        return old.cells != new.cells or any(_cell(old, code) != _cell(new, code) for code in codes)

    def _move(self, running: Running, old: Registry) -> None:
        """In another grid: what counts elsewhere now was never where it counted."""
        registry, scope = self.registry, running.rule.scope
        for place, instance in running.instances.items():
            running.leave(place)
            instance.around, instance.fresh = self._around(place), NEVER
            running.begin(place, instance)
            self._touched.add((running.rule.id, place))
        for known in self._known.values():
            there, here = (places_of(grid, scope, known.finding) for grid in (old, registry))
            if here != there:
                self._erase(running, known, [place for place in there if place not in here])
                self._enter(running, known, [place for place in here if place not in there])
        for leaf, place in [key for key in running.heard if not is_known(registry, key[1])]:
            del running.heard[leaf, place]

    def snapshot(self) -> bytes:
        """All state, for :meth:`restore`; taken between calls."""
        for running in self._rules.values():
            running.tidy(self.now)
        return msgspec.msgpack.encode(
            Snapshot(
                format=FORMAT,
                version=self.registry.version,
                epoch=self._epoch,
                now=self.now,
                known=[self._known[id] for id in sorted(self._known)],
                rules=[
                    PackedRule(
                        id,
                        [(*key, running.heard[key].pack()) for key in sorted(running.heard)],
                        [
                            PackedInstance(place, of.done, of.value, of.stands, of.deadline, of.fresh)
                            for place, of in sorted(running.instances.items(), key=itemgetter(0))
                        ],
                    )
                    for id, running in self._rules.items()
                ],
                topics=[(*key, self._topics[key]) for key in sorted(self._topics)],
            )
        )

    @classmethod
    def restore(cls, registry: Registry, rulebook: Rulebook, blob: bytes) -> "CompoundEngine":
        """The engine as it was. Registry and rulebook are those it had (then reconfigure); else SnapshotError."""
        try:
            snapshot = msgspec.msgpack.decode(blob, type=Snapshot)
            if snapshot.format != FORMAT or snapshot.version != registry.version:
                raise SnapshotError(f"format {snapshot.format}, version {snapshot.version}")
            engine = cls(registry, rulebook, snapshot.now, snapshot.epoch)
            for packed in snapshot.rules:
                engine._load(engine._rules[packed.id], packed)
        except (LookupError, ValueError) as error:
            raise SnapshotError(f"not a snapshot of these compound rules: {error}") from error
        engine._known = {known.finding.id: known for known in snapshot.known}
        engine._topics = {(topic, place): told for topic, place, told in snapshot.topics}
        return engine

    def _load(self, running: Running, packed: PackedRule) -> None:
        for leaf, place, state in packed.heard:
            heard = Heard(running.leaves[leaf].remembers, running.leaves[leaf].stretched)
            heard.load(state)
            running.heard[leaf, place] = heard
        for of in packed.instances:
            instance = Instance(self._around(of.place), of.done, of.value, of.stands, of.deadline, of.fresh)
            running.begin(of.place, instance)
            self._set_deadline(running.rule.id, of.place, of.deadline)

    def _set(self, registry: Registry, rulebook: Rulebook) -> None:
        self.registry, self.rulebook = registry, rulebook
        self._places: dict[Place, tuple[Place, ...]] = {}
        self._rules = {rule.id: Running(rule) for rule in sorted(rulebook.compound, key=lambda rule: rule.id)}
        self._of_topic: dict[str, list[Running]] = {}
        self._index: dict[tuple[str, str | None], list[tuple[Running, Leaf]]] = {}
        for running in self._rules.values():
            self._of_topic.setdefault(running.rule.topic, []).append(running)
            for leaf in running.leaves:
                for kind in leaf.pattern.kinds or (None,):
                    self._index.setdefault((leaf.pattern.rule, kind), []).append((running, leaf))

    def _around(self, place: Place) -> tuple[Place, ...]:
        found = self._places.get(place)
        if found is None:
            found = self._places[place] = around(self.registry, place)
        return found

    # -- what is heard --------------------------------------------------------------------------

    def _pass(self, now: int) -> None:
        if now < self.now:
            raise ValueError(f"time goes back from {self.now} to {now}")
        self.now = now
        while self._deadlines and self._deadlines[0][0] <= now:
            due, id, place = heappop(self._deadlines)
            if self._is_due(due, id, place):
                self._touched.add((id, place))

    def _is_due(self, due: int, id: str, place: Place) -> bool:
        """Whether this is still what the instance waits for."""
        instance = self._rules[id].instances.get(place)
        return instance is not None and instance.deadline == due

    def _take(self, finding: Finding) -> None:
        """One message: what it makes of its finding, and of the patterns that match it."""
        if finding.late or finding.rule.startswith(COMPOUND):
            return
        known = self._known.get(finding.id)
        corrected = finding.phase == Phase.CORRECTED
        over = finding.phase in OVER
        if known is None and (over or corrected):
            return
        if known is not None and corrected and _counts_as(known.finding) == _counts_as(finding):
            known.finding = _shown(known.finding, finding)
            return
        edge = min(finding.since if finding.phase == Phase.BEGUN else finding.time, self.now)
        true = known.true if known is not None and corrected else finding.phase != Phase.UNKNOWN
        before = None
        if known is None:
            known = self._known[finding.id] = Known(finding, true, edge, edge, edge, edge)
        else:
            before = known.finding
            edge = known.edge = max(edge, known.edge)
            if (finding.kind, finding.within) != (before.kind, before.within):
                known.begun = known.levelled = edge
            if finding.level != before.level:
                known.levelled = edge
            if true != known.true:
                known.true, known.turned = true, edge
            if over:
                del self._known[finding.id]
            else:
                known.finding = _shown(before, finding)
        self._tell_patterns(known, before, over, edge)

    def _tell_patterns(self, known: Known, before: Finding | None, over: bool, edge: int) -> None:
        """``before``: the finding as it was, None if it is new. It stays where it counts as it did."""
        finding, places = known.finding, {}
        noted = edge if is_measured(finding) else self.now
        for running, leaf in self._leaves(finding, before):
            matched = before is not None and leaf.matches(before)
            matches = not over and leaf.matches(finding)
            if not (matched or matches):
                continue
            scope = running.rule.scope
            if scope not in places:
                here = there = places_of(self.registry, scope, finding)
                if before is not None and before.within != finding.within:
                    there = places_of(self.registry, scope, before)
                places[scope] = there, here
            there, here = places[scope]
            stays: set[Place] = set()
            if before is not None and matched:
                if matches and leaf.key(before) == leaf.key(finding):
                    stays = {place for place in there if place in here}
                for place in there:
                    heard = running.heard[leaf.index, place]
                    self._note(running, place, noted)
                    part = heard.parts[heard.key[finding.id]]
                    since = part.since()
                    if place in stays:
                        heard.turn(finding.id, known.true, edge)
                    else:
                        heard.leave(finding.id, edge, before)
                    if leaf.stretched or part.since() != since:
                        self._touch(running, place)
            for place in here if matches else ():
                if place not in stays:
                    self._hear(running, leaf, place, known, edge, noted)

    def _leaves(self, finding: Finding, before: Finding | None) -> Iterable[tuple[Running, Leaf]]:
        """Every leaf that may match a finding as it is, or as it was."""
        leaves = [
            *self._index.get((finding.rule, finding.kind), ()),
            *self._index.get((finding.rule, None), ()),
        ]
        if before is not None and before.kind != finding.kind:
            of_both = (*leaves, *self._index.get((finding.rule, before.kind), ()))
            return list(dict.fromkeys(of_both))
        return leaves

    def _hear(self, running: Running, leaf: Leaf, place: Place, known: Known, start: int, noted: int) -> None:
        """A finding matches from ``start`` on; ``noted``: the event time of this news."""
        key = leaf.key(known.finding)
        assert key is not None  # else it does not match
        heard = running.heard.get((leaf.index, place))
        if heard is None:
            heard = running.heard[leaf.index, place] = Heard(leaf.remembers, leaf.stretched)
        self._note(running, place, noted)
        part = heard.parts.get(key)
        since = part.since() if part else None
        true = known.turned if known.true else None
        part = heard.enter(known.finding.id, key, start, None if true is None else max(start, true))
        if is_place(self.registry, running.rule.scope, place) and place not in running.instances:
            running.begin(place, Instance(self._around(place), [{} for _ in running.sequences]))
        elif part.since() == since:
            return
        self._touch(running, place, start if leaf.stretched else FOREVER)

    def _note(self, running: Running, place: Place, time: int) -> None:
        key = running.rule.id, place
        self._newest[key] = max(time, self._newest.get(key, time))

    def _touch(self, running: Running, place: Place, fresh: int = FOREVER) -> None:
        """Have the rule judged in the place, and in what lies in it."""
        id = running.rule.id
        for inner in (place, *running.inside.get(place, ())):
            instance = running.instances.get(inner)
            if instance is not None:
                instance.fresh = min(instance.fresh, fresh)
                self._touched.add((id, inner))

    def _enter(self, running: Running, known: Known, places: Iterable[Place]) -> None:
        """A rule hears of a finding that there was before."""
        for leaf in running.leaves:
            if leaf.matches(known.finding):
                start = known.levelled if leaf.pattern.levels else known.begun
                for place in places:
                    self._hear(running, leaf, place, known, start, self.now)

    def _erase(self, running: Running, known: Known, places: Iterable[Place]) -> None:
        """It never counted in these places, nor completed a sequence there."""
        for leaf in running.leaves:
            if leaf.matches(known.finding):
                for place in places:
                    heard = running.heard[leaf.index, place]
                    for inner in (place, *running.inside.get(place, ())) if leaf.stretched else ():
                        for done in running.instances[inner].done if inner in running.instances else ():
                            done.pop(heard.key[known.finding.id], None)
                    heard.erase(known.finding.id)

    def _keep_standing(self, running: Running, was: Running | None) -> None:
        """What stood goes on standing where the changed rule is UNKNOWN."""
        if was is not None and (was.rule.topic, was.rule.scope) == (running.rule.topic, running.rule.scope):
            for place, instance in running.instances.items():
                if place in was.instances:
                    instance.stands = was.instances[place].stands

    # -- what follows ---------------------------------------------------------------------------

    def _judge(self, every: bool = False) -> list[Finding]:
        """Judge what was touched, and tell what has changed; ``every``: look at every open finding."""
        topics, over = set(), []
        for id, place in self._touched:
            running = self._rules[id]
            if place in running.instances:
                topics.add((running.rule.topic, place))
                if not self._judge_one(running, place):
                    over.append((running, place))
        if every:
            topics |= {key for key, topic in self._topics.items() if topic.last is not None}
        told = [self._tell(topic, place) for topic, place in sorted(topics)]
        for running, place in over:
            running.end(place)
        self._touched.clear()
        self._newest.clear()
        return [finding for finding in told if finding is not None]

    def _judge_one(self, running: Running, place: Place) -> bool:
        """Whether there is anything left that was found in the place."""
        instance, now, id = running.instances[place], self.now, running.rule.id
        until = running.until(place)
        if until <= now:
            instance.value, instance.stands = FALSE, False
            return False
        view = running.view(place, self._known, now)
        for sequence in running.sequences:
            sequence.complete(view, instance.fresh)
        instance.fresh = FOREVER
        true, possible, _ = running.term.truth(view)
        instance.value = TRUE if at(true, now) else UNKNOWN if at(possible, now) else FALSE
        instance.stands = instance.value == TRUE or (instance.stands and instance.value == UNKNOWN)
        due = min(next_edge(true, now), next_edge(possible, now), until)
        if due != instance.deadline:
            instance.deadline = due
            self._set_deadline(id, place, due)
        return True

    def _set_deadline(self, id: str, place: Place, due: int) -> None:
        if due != FOREVER:
            heappush(self._deadlines, (due, id, place))

    def _tell(self, name: str, place: Place) -> Finding | None:
        """What is new of a topic: of the rules that stand, the strictest, of equals the first by id, applies."""
        topic = self._topics.get((name, place))
        last = topic.last if topic is not None else None
        best = None
        for running in self._of_topic.get(name, ()):
            instance = running.instances.get(place)
            if (
                instance is not None
                and instance.stands
                and (best is None or _rank(running.rule.tier) > _rank(best.rule.tier))
            ):
                best = running
        if last is None:
            if best is None or best.instances[place].value != TRUE:
                return None
            if topic is None:
                topic = self._topics[name, place] = Topic()
            topic.last = self._begin(name, place, best, topic)
            return topic.last
        assert topic is not None
        if best is None:
            gone = not self._is_rule(last.level, name, place)
            phase, evidence = (Phase.WITHDRAWN, (self.registry.version,)) if gone else (Phase.ENDED, None)
            told = self._next(
                last, phase, name, place, evidence=last.evidence if evidence is None else evidence
            )
            topic.last = None
            return told
        if best.instances[place].value == UNKNOWN:
            if last.phase == Phase.UNKNOWN:
                return None
            topic.last = self._next(last, Phase.UNKNOWN, name, place)
            return topic.last
        was, is_ = _rank(last.tier), _rank(best.rule.tier)
        if was == is_ and last.phase != Phase.UNKNOWN:
            return None
        phase = Phase.WORSENED if is_ > was else Phase.EASED if is_ < was else Phase.RESUMED
        topic.last = self._next(last, phase, name, place, **self._says(best, place))
        return topic.last

    def _is_rule(self, id: str, topic: str, place: Place) -> bool:
        """Whether the rule that applied still speaks of the topic in such places."""
        running = self._rules.get(id)
        return (
            running is not None
            and running.rule.topic == topic
            and is_place(self.registry, running.rule.scope, place)
        )

    def _begin(self, name: str, place: Place, running: Running, topic: Topic) -> Finding:
        rule = COMPOUND + name
        enterprise, subject, called = subject_of(self.registry, place)
        since = running.term.since(running.view(place, self._known, self.now))
        since = max(self.now if since == NEVER else since, topic.minted + 1)
        topic.minted = since
        finding = Finding(
            id=finding_id(rule, enterprise, subject, f"{since}{self._epoch}"),
            seq=1,
            rule=rule,
            enterprise=enterprise,
            subject=subject,
            phase=Phase.BEGUN,
            since=since,
            time=self._time(name, place),
            arrival=self.now,
            version=self.registry.version,
            name=called,
            within=(subject,) if place[1] and enterprise else (),
        )
        return msgspec.structs.replace(finding, **self._says(running, place))

    def _next(self, last: Finding, phase: Phase, name: str, place: Place, **changes: object) -> Finding:
        return msgspec.structs.replace(
            last,
            seq=last.seq + 1,
            phase=phase,
            time=self._time(name, place),
            arrival=self.now,
            version=self.registry.version,
            **changes,
        )

    def _time(self, name: str, place: Place) -> int:
        """The newest event time of what arrived just now of the topic: of what was measured; of all else, and if
        only time has passed, now. For what a record says of long ago was not late."""
        rules = [running.rule.id for running in self._of_topic.get(name, ())]
        keys = [(id, outer) for id in rules for outer in self._around(place)]
        return max((self._newest[key] for key in keys if key in self._newest), default=self.now)

    def _says(self, running: Running, place: Place) -> dict[str, object]:
        """What a message takes from the rule that applies."""
        rule = running.rule
        view = running.view(place, self._known, self.now)
        found: dict[str, Finding] = {}
        for finding in running.term.grounds(view, past=False):
            if finding.id not in found or finding.seq > found[finding.id].seq:
                found[finding.id] = finding
        grounds = sorted(found.values(), key=lambda f: (-_rank(f.tier), -f.since, f.id))
        return {
            "level": rule.id,
            "tier": rule.tier,
            "clause": rule.clause,
            "why": rule.say,
            "asks": rule.asks,
            "grounds": tuple(_ground(finding) for finding in grounds[:GROUNDS]),
            "evidence": (f"grounds {len(grounds)}",) if len(grounds) > GROUNDS else (),
        }


def _same(some: CompoundRule, other: CompoundRule) -> bool:
    """Whether they ask the same."""
    return (some.topic, some.scope, some.when) == (other.topic, other.scope, other.when)


def _cell(registry: Registry, code: str) -> str:
    enterprise = registry.enterprises.get(code)
    return enterprise.cell if enterprise else ""


def _rank(tier: Tier | None) -> int:
    return tier or 0


def _counts_as(finding: Finding) -> tuple[str, str, tuple[str, ...]]:
    """What decides which patterns match it, and where; the rest never changes."""
    return finding.kind, finding.level, finding.within


def _shown(known: Finding, finding: Finding) -> Finding:
    """A finding as a newer message says it is."""
    return msgspec.structs.replace(
        known,
        seq=finding.seq,
        kind=finding.kind,
        level=finding.level,
        tier=finding.tier,
        within=finding.within,
        value=finding.value,
        limit=finding.limit,
        unit=finding.unit,
        clause=finding.clause,
        name=finding.name,
    )


def _ground(finding: Finding) -> Ground:
    return Ground(
        id=finding.id,
        rule=finding.rule,
        enterprise=finding.enterprise,
        subject=finding.subject,
        name=finding.name,
        kind=finding.kind,
        level=finding.level,
        since=finding.since,
        value=finding.value,
        limit=finding.limit,
        unit=finding.unit,
        clause=finding.clause,
    )
