"""A journal, or history, once more through a new rulebook beside the old one: what would have rung, and for whom."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import msgspec

from alerting.ladder import Ladder
from alerting.lifecycle import REOPEN_WITHIN
from alerting.words import moment
from history import replay
from history.catalogue import reached
from history.reader import Reader
from ingest.journal import read, version_at
from ingest.journal_file import first_offset, paths, query
from ingest.readings import Round
from registry import versions
from registry.clock import DAY, MINUTE
from registry.model import FOREVER, Registry
from streams import configuration
from streams.configuration import Configuration
from streams.evaluator import Evaluator
from streams.finding import Finding, Phase, Tier
from streams.guard import evaluate, reconfigure
from streams.rule_test import rings
from streams.rulebook import Rulebook
from streams.templates import strangers

WINDOW = 10 * MINUTE
"""ISA-18.2 counts the alarms of ten minutes."""

ACCEPTABLE, MOST = 1, 2
"""Alarms to one person in WINDOW that are acceptable on average, and the most that are manageable."""

FLOOD_BEGINS, FLOOD_ENDS = 10, 5
"""A flood begins with more than so many alarms in WINDOW, and ends with fewer than so many."""

CHATTERS = 3
"""An alarm chatters that rings so often in a minute."""

Key = tuple[str, str, str]
"""Rule, enterprise and subject."""


class CannotBacktest(Exception):
    """The journal does not hold what is asked for; the message says what it lacks."""


class Load(msgspec.Struct, frozen=True):
    """How much one person would have been called about. mean, peak: alarms in ten minutes."""

    person: str
    name: str
    alarms: int
    mean: float
    peak: int
    floods: int
    verdict: str  # "acceptable", "manageable" or "overloaded"


class Side(msgspec.Struct, frozen=True):
    """What one of the two rulebooks made of the journal."""

    version: str
    alerts: int
    alerts_a_day: float
    by_tier: dict[str, int]
    by_rule: dict[str, int]
    alarms: int  # times that something rang: an alert that began, began again, or got worse
    chattering: dict[str, int]  # by "RULE ENTERPRISE SUBJECT": times that it rang too often in a minute
    load: list[Load]  # the most called first


class Change(msgspec.Struct, frozen=True):
    """An alert that only one of them has, or that has another tier. time: µs; tiers: "" where it is not."""

    time: int
    rule: str
    enterprise: str
    subject: str
    old: str
    new: str


class Report(msgspec.Struct, frozen=True):
    """begin, end: arrival times of the first and the last round, µs. time_zone: the registry's."""

    time_zone: str
    begin: int
    end: int
    rounds: int
    readings: int
    old: Side
    new: Side
    appears: list[Change]
    disappears: list[Change]
    changes: list[Change]
    lost: int = 0  # files of history of this time that are damaged or missing


@dataclass(slots=True)
class Alert:
    """One alert, as the desk would make of findings. tier: the worst that it had."""

    key: Key
    begun: int
    tier: Tier
    ended: int = FOREVER


@dataclass
class Told:
    """What findings of one rulebook come to."""

    alerts: list[Alert] = field(default_factory=list)
    by_person: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    by_key: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))
    alarms: int = 0
    _last: dict[Key, Alert] = field(default_factory=dict)

    def take(self, findings: Iterable[Finding], registry: Registry, ladder: Ladder) -> None:
        """Findings in their order, under this registry."""
        for finding in findings:
            key = finding.rule, finding.enterprise, finding.subject
            alert = self._last.get(key)
            if finding.phase in (Phase.ENDED, Phase.WITHDRAWN):
                if alert is not None:
                    alert.ended = finding.arrival
                continue
            if not rings(finding):
                continue
            assert finding.tier is not None
            if alert is None or finding.arrival - alert.ended > REOPEN_WITHIN:
                alert = self._last[key] = Alert(key, finding.arrival, finding.tier)
                self.alerts.append(alert)
            alert.tier, alert.ended = max(alert.tier, finding.tier), FOREVER
            self.alarms += 1
            self.by_key[key].append(finding.arrival)
            for person in _called(finding, registry, ladder):
                self.by_person[person].append(finding.arrival)


def backtest(
    journal: Path,
    compiled: Path,
    new: Rulebook,
    begin: int = 0,
    end: int = FOREVER,
    progress: Callable[[float, int], None] = lambda share, readings: None,
) -> Report:
    """The rounds that arrived from ``begin`` until before ``end`` (µs) through both.

    Both begin without a past at ``begin``: what was active then is found when its points are next heard.

    Args:
        journal: the journal's folder. compiled: where the versions are that it names.
        progress: is told the share of the time that is done, and how many readings were judged, a few times.

    Raises:
        CannotBacktest: there is nothing of that time, or its configuration is not known.
        JournalDamaged, JournalUnreadable, BrokenVersion, OSError: as they say.
    """
    rounds = _rounds(journal, begin, end)
    first = next(rounds, None)
    if first is None:
        raise CannotBacktest(_nothing(journal))
    version = version_at(journal, first[0])
    if version is None:
        raise CannotBacktest("the journal does not say which configuration was in force then")
    past = (round_ for _, round_ in chain([first], rounds))
    return _through(past, min(end, _newest(journal)), _both(compiled, version, new), compiled, new, progress)


def backtest_history(
    history: Path,
    compiled: Path,
    new: Rulebook,
    begin: int = 0,
    end: int = FOREVER,
    progress: Callable[[float, int], None] = lambda share, readings: None,
) -> Report:
    """As ``backtest``, but of what history has kept, which goes further back; all of it under the registry of today.

    Args:
        history: folder of a ParquetHome.

    Raises:
        CannotBacktest: there is nothing of that time, or no configuration. BrokenVersion, OSError: as they say.
    """
    version = versions.wanted(compiled)
    if version is None:
        raise CannotBacktest("no configuration is in force: start `fenghuo serve` once")
    both = _both(compiled, version, new)
    reader = Reader(history)
    try:
        rounds = replay.rounds(reader, both[0].registry, begin, end)
        first = next(rounds, None)
        if first is None:
            raise CannotBacktest("history has nothing of this time")
        until = min(end, reached(history)[1])
        report = _through(chain([first], rounds), until, both, compiled, new, progress)
        lost = sum(reader.lost(code, begin, end) for code in both[0].registry.enterprises)
        return msgspec.structs.replace(report, lost=lost)
    except FileNotFoundError as error:
        raise CannotBacktest(str(error)) from error
    finally:
        reader.close()


def _through(
    rounds: Iterable[Round],
    until: int,
    both: tuple[Configuration, Configuration],
    compiled: Path,
    new: Rulebook,
    progress: Callable[[float, int], None],
) -> Report:
    """Rounds, of which there is one at least, through both of what was in force before them."""
    told, ladder = (Told(), Told()), Ladder(both[0].registry)
    engines: list[Evaluator] = []
    begun = last = count = readings = 0
    for round_ in rounds:
        if not engines:
            begun = round_.time
            engines = [Evaluator(one, begun) for one in both]
        if round_.version is not None:
            both = _both(compiled, round_.version, new)
            ladder = Ladder(both[0].registry)
            for number, (configured, side) in enumerate(zip(both, told, strict=True)):
                engines[number], found, _ = reconfigure(engines[number], configured, round_)
                side.take(found, configured.registry, ladder)
        else:
            for engine, side in zip(engines, told, strict=True):
                found, _ = evaluate(engine, round_)
                if found:
                    side.take(found, engine.registry, ladder)
        last, count, readings = round_.time, count + 1, readings + len(round_.readings)
        if count % 200 == 0:
            progress((last - begun) / max(until - begun, 1), readings)
    progress(1.0, readings)
    sides = [
        _side(side, engine.configuration, ladder, last - begun)
        for side, engine in zip(told, engines, strict=True)
    ]
    appears, disappears, changes = _compared(told[0].alerts, told[1].alerts)
    zone = engines[0].registry.time_zone
    return Report(zone, begun, last, count, readings, sides[0], sides[1], appears, disappears, changes)


def floods(times: Sequence[int]) -> int:
    """How many floods there are in these times, which rise (ISA-18.2)."""
    window: deque[int] = deque()
    count, flooded = 0, False
    for time in times:
        while window and window[0] <= time - WINDOW:
            window.popleft()
            flooded = flooded and len(window) >= FLOOD_ENDS
        window.append(time)
        if len(window) > FLOOD_BEGINS and not flooded:
            count, flooded = count + 1, True
    return count


def most_within(times: Sequence[int], within: int) -> int:
    """The most of these times, which rise, that lie in one stretch of this length."""
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - within:
            first += 1
        most = max(most, last - first + 1)
    return most


def chatters(times: Sequence[int]) -> int:
    """How often an alarm that rang at these times, which rise, began to chatter."""
    count, chattering = 0, False
    for last, time in enumerate(times):
        often = last + 1 >= CHATTERS and times[last + 1 - CHATTERS] > time - MINUTE
        count += often and not chattering
        chattering = often
    return count


def _rounds(journal: Path, begin: int, end: int) -> Iterator[tuple[int, Round]]:
    for offset, round_ in read(journal, _before(journal, begin)):
        if round_.time >= end:
            return
        if round_.time >= begin:
            yield offset, round_


def _before(journal: Path, begin: int) -> int:
    """An offset before which no round is of ``begin`` or later: that of the newest file that begins before it."""
    for path in reversed(paths(journal)):
        for (time,) in query(path, "SELECT time FROM round ORDER BY offset LIMIT 1"):
            if time < begin:
                return first_offset(path) - 1
    return 0


def _newest(journal: Path) -> int:
    for path in reversed(paths(journal)):
        for (time,) in query(path, "SELECT time FROM round ORDER BY offset DESC LIMIT 1"):
            return int(time)
    return FOREVER


def _nothing(journal: Path) -> str:
    """Why there is nothing of the time that was asked for."""
    oldest = next((round_.time for _, round_ in read(journal, 0)), None)
    if oldest is None:
        return f"{journal} has no journal"
    span = " to ".join(f"{moment(time, 'UTC')}Z" for time in (oldest, _newest(journal)))
    return f"the journal has nothing of this time: it goes from {span}"


def _both(compiled: Path, version: str, new: Rulebook) -> tuple[Configuration, Configuration]:
    """What was in force, and the same registry under the new rulebook."""
    try:
        old = configuration.load(compiled, version)
        registry = versions.load(compiled, version)
    except versions.NoSuchVersion as error:
        raise CannotBacktest(f"the configuration of then is not kept any more: {error}") from error
    if refused := strangers(registry, new):
        raise CannotBacktest(f"no registry of then could be judged by it: {refused[0]}")
    return old, Configuration.of(replace(registry, version=version.partition(".")[0]), new)


def _called(finding: Finding, registry: Registry, ladder: Ladder) -> Iterator[str]:
    """Ids of the people who are called at once: who is asked, and who is told."""
    assert finding.tier is not None
    enterprise = registry.enterprises.get(finding.enterprise)
    cell = enterprise.cell if enterprise else finding.subject.removeprefix("cell:")
    policy = ladder.policy(finding.enterprise, cell, finding.tier, finding.arrival)
    places = filter(None, (policy.places[0], policy.told))
    people = (person.id for place in places for person in ladder.on_duty(place, finding.arrival))
    yield from dict.fromkeys(people)


def _side(told: Told, configured: Configuration, ladder: Ladder, lasted: int) -> Side:
    windows = max(lasted / WINDOW, 1.0)
    load = [
        Load(
            person=id,
            name=person.name if (person := ladder.person(id)) else id,
            alarms=len(times),
            mean=round(len(times) / windows, 4),
            peak=most_within(times, WINDOW),
            floods=floods(times),
            verdict=_verdict(len(times) / windows),
        )
        for id, times in told.by_person.items()
    ]
    return Side(
        version=configured.rulebook.version,
        alerts=len(told.alerts),
        alerts_a_day=round(len(told.alerts) / max(lasted / DAY, 1e-9), 2),
        by_tier={tier.name: count for tier, count in sorted(Counter(a.tier for a in told.alerts).items())},
        by_rule=dict(Counter(alert.key[0] for alert in told.alerts).most_common()),
        alarms=told.alarms,
        chattering={" ".join(key): often for key, times in told.by_key.items() if (often := chatters(times))},
        load=sorted(load, key=lambda one: (-one.alarms, one.person)),
    )


def _verdict(mean: float) -> str:
    return "acceptable" if mean <= ACCEPTABLE else "manageable" if mean <= MOST else "overloaded"


def _compared(old: Sequence[Alert], new: Sequence[Alert]) -> tuple[list[Change], list[Change], list[Change]]:
    """What only the new has, what only the old has, and what has another tier; the same if within WINDOW."""
    before: dict[Key, deque[Alert]] = defaultdict(deque)
    for alert in old:
        before[alert.key].append(alert)
    appears, disappears, changes = [], [], []
    for alert in new:
        same = before[alert.key]
        while same and same[0].begun < alert.begun - WINDOW:
            disappears.append(_change(same.popleft(), None))
        if same and same[0].begun <= alert.begun + WINDOW:
            was = same.popleft()
            if was.tier != alert.tier:
                changes.append(_change(was, alert))
        else:
            appears.append(_change(None, alert))
    disappears += [_change(alert, None) for same in before.values() for alert in same]
    return appears, sorted(disappears, key=lambda change: change.time), changes


def _change(old: Alert | None, new: Alert | None) -> Change:
    alert = new or old
    assert alert is not None
    return Change(alert.begun, *alert.key, old.tier.name if old else "", new.tier.name if new else "")
