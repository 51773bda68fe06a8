"""A scenario through a whole Fenghuo: its city sends, its people answer, and what was raised is written down.

Everything runs in the real processes under the stepped clock, so hours pass in seconds, and the same
scenario gives the same alerts, also where a process is killed on the way.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx
import msgspec

from alerting.alert import Alert, Notice
from fenghuo.desk_reader import DeskReader
from fenghuo.rehearsal import Rehearsal, password
from registry import versions
from registry.clock import SECOND, SystemClock
from registry.model import Registry
from registry.records import record
from registry.store import Change
from simulators import registry_files
from simulators.city import City, Moment
from simulators.lines import Lines
from simulators.people import Answer, Behaviour, People
from simulators.scenario import Entry, ScenarioError
from simulators.score import Raised
from simulators.truth import Tier as TierName
from simulators.uplink import Message
from streams.finding import Tier

EVERY = 10 * SECOND
"""However quiet a city is, its product lives on in steps of no more: what falls due is heard so soon."""


class Desk(Protocol):
    """Where it can be read what was raised."""

    registry: Registry

    def alerts(self) -> list[Alert]: ...

    def notices(self, alert: str) -> list[Notice]: ...


class Product(Desk, Protocol):
    """What a simulation needs of a Fenghuo: the whole of it, or its pure core alone."""

    def reach(self, time: int, messages: Sequence[Message]) -> None:
        """Let it live until this time, µs, then send it these messages; all that they bring is done on return."""
        ...

    def rings(self) -> Sequence[Any]:
        """What rang since the last call."""
        ...

    def line(self, person: str, line: str) -> None:
        """From now on a call to this person finds their line "free", "busy" or "off"."""
        ...

    def enter(self, entry: Entry, codes: Mapping[str, str]) -> None:
        """Somebody enters records into the registry; they are in force at once. codes: by enterprises' ids."""
        ...

    def answer(self, answer: Answer) -> None:
        """A person answers; what the product refuses is counted, and goes no further."""
        ...


class Simulation:
    """A city and its people around a product.

    ``network``: if set, what the network makes of the messages of a moment before they reach the broker.
    """

    def __init__(self, city: City, product: Product) -> None:
        self.city = city
        self.product = product
        names = sorted(product.registry.people)
        self._behaviours = behaviours(city, names)
        self.people = People(self._behaviours, city.scenario.seed)
        self.messages = 0
        self.network: Callable[[Sequence[Message]], Sequence[Message]] | None = None
        self._lines: dict[str, str] = {}
        self._reached = city.scenario.start
        self._end = city.scenario.start + city.scenario.lasts // city.scenario.step * city.scenario.step
        self._due: list[Answer] = []
        entries = [event for event in city.scenario.timeline if isinstance(event, Entry)]
        self._entries = sorted(entries, key=lambda entry: entry.at)
        self._moments = city.moments()

    def moments(self) -> Iterator[Moment]:
        """The moments that are left, each after all that it brought is done."""
        for moment in self._moments:
            self._reach(moment, wanted=moment.time >= self._end)
            yield moment

    def until(self, time: int) -> None:
        """Go on until this time, µs, or the end of the scenario."""
        for moment in self._moments:
            self._reach(moment, wanted=moment.time >= min(time, self._end))
            if moment.time >= time:
                return

    def _reach(self, moment: Moment, *, wanted: bool) -> None:
        """Where nothing is sent or answered, and nobody looks, a moment is passed over: what falls due then is done
        in its order at the next."""
        answers = [answer for answer in self._due if answer.at <= moment.time]
        lived = moment.time - self.city.scenario.start
        entries = [entry for entry in self._entries if entry.at <= lived]
        wanted |= bool(entries)
        messages = self.network(moment.messages) if self.network else moment.messages
        if not messages and not answers and not wanted and moment.time - self._reached < EVERY:
            return
        self._reached = moment.time
        for person, behaviour in self._behaviours.items():
            if behaviour.busy or behaviour.offline:
                line = self.people.line(person, moment.time)
                if line != self._lines.get(person, "free"):
                    self._lines[person] = line
                    self.product.line(person, line)
        self.product.reach(moment.time, messages)
        for entry in entries:
            self._entries.remove(entry)
            self.product.enter(entry, self.city.codes)
        self.messages += len(messages)
        self._due = [answer for answer in self._due if answer.at > moment.time]
        for answer in answers:
            self.product.answer(answer)
        for ring in self.product.rings():
            self._due += self.people.heard(ring, moment.time)
        self._due.sort(key=lambda answer: (answer.at, answer.person, answer.alert))


class Whole:
    """All of Fenghuo: its real processes, a real broker and a simulated exchange, under the stepped clock.

    Use in a ``with``. ``refused`` counts answers that the API did not take.
    """

    POINTS = ("stepped", "acknowledged", "judged")
    """Where a fault can be let in: the clock has moved; the broker has acknowledged what was sent; all of it is
    judged, and notices are on their way."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self.registry = rehearsal.registry
        self.refused = 0
        self._rings = 0
        self._lines: Lines | None = None
        self._faults: dict[str, list[Callable[[], object]]] = {}

    def __enter__(self) -> "Whole":
        self.rehearsal.__enter__()
        self._lines = Lines("127.0.0.1", self.rehearsal.broker_port, self.rehearsal.password)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lines is not None:
            self._lines.close()
        self.rehearsal.__exit__(kind, error, trace)

    def reach(self, time: int, messages: Sequence[Message]) -> None:
        assert self._lines is not None, "not started"
        self.rehearsal.step(time)
        self._pass("stepped")
        for message in messages:
            self._lines.send(message)
        if messages:
            self._lines.flush()
            self._pass("acknowledged")
            self.rehearsal.settle()
        self._pass("judged")
        self.rehearsal.settle_notices()

    def at(self, point: str, fault: Callable[[], object]) -> None:
        """Do this once, the next time that one of the POINTS is passed."""
        if point not in self.POINTS:
            raise ValueError(f"no point {point!r}; there are {', '.join(self.POINTS)}")
        self._faults.setdefault(point, []).append(fault)

    def _pass(self, point: str) -> None:
        for fault in self._faults.pop(point, ()):
            fault()

    def rings(self) -> Sequence[Any]:
        rings = self.rehearsal.rings()[self._rings :]
        self._rings += len(rings)
        return rings

    def line(self, person: str, line: str) -> None:
        self.rehearsal.phone_mode("" if line == "free" else line, address=person)

    def enter(self, entry: Entry, codes: Mapping[str, str]) -> None:
        self.rehearsal.edit_registry(changes(entry, codes), who=entry.by, why=_why(entry))
        self.registry = self.rehearsal.registry
        self.rehearsal.settle_notices()

    def answer(self, answer: Answer) -> None:
        if not answer.verb:
            return  # a wrong key: the menu says so, and nothing reaches us
        try:
            self.rehearsal.answer(answer.verb, answer.alert, answer.person, answer.note)
        except httpx.HTTPStatusError as error:
            if error.response.status_code >= 500:
                raise
            self.refused += 1

    def alerts(self) -> list[Alert]:
        return self.rehearsal.alerts()

    def notices(self, alert: str) -> list[Notice]:
        return self.rehearsal.notices(alert)


class Running(DeskReader):
    """A Fenghuo that runs by itself, at this broker and with this data folder; use in a ``with``.

    Raises:
        OSError, NoSuchVersion, BrokenVersion: there is no such data folder.
    """

    def __init__(self, host: str, port: int, data: Path) -> None:
        version = versions.wanted(data / "versions")
        if version is None:
            raise FileNotFoundError(f"{data} holds no data of `fenghuo serve`")
        self.registry = versions.load(data / "versions", version)
        super().__init__(data / "desk.sqlite")
        self._lines = Lines(host, port, partial(password, data))

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self.close()

    def check(self, city: City) -> None:
        """Raises LookupError where its registry lacks a point of the scenario's."""
        missing = [
            f"{point.code}/{point.id}"
            for point in city.points
            if point.id not in self.registry.rows.get(point.code, {})
        ]
        if missing:
            raise LookupError(
                f"it does not serve this scenario's registry: it lacks {len(missing)} points, {missing[0]} among "
                f"them; `fenghuo simulate registry {city.name} FOLDER` writes one"
            )

    def send(self, messages: Sequence[Message]) -> None:
        """Send these, and wait until the broker has them."""
        for message in messages:
            self._lines.send(message)
        self._lines.flush()


def now() -> int:
    """The wall's time, µs, for a scenario that is to begin at once."""
    return SystemClock().now()


def whole(city: City, folder: Path, registry: Path | None = None, **options: object) -> Whole:
    """A Fenghuo for a scenario, whose data go to ``folder``.

    Args:
        registry: the folder to use; None writes the registry that the scenario needs.
        options: further settings, as in docs/settings.md.
    """
    if registry is None:
        registry = folder / "registry"
        registry_files.write(registry, city.scenario, city.points)
    return Whole(Rehearsal(folder, registry, city.scenario.start, None, **options))


def changes(entry: Entry, codes: Mapping[str, str]) -> list[Change]:
    """What an entry makes of the registry. Raises LookupError where it has no such file."""
    bodies = [
        (file, {"enterprise": codes[id], **row})
        for id, files in entry.enter.items()
        for file, rows in files.items()
        for row in rows
    ]
    return [Change(file, record(file, {**body}).key, body) for file, body in bodies]


def _why(entry: Entry) -> str:
    return entry.note.zh if entry.note else "entered"


def raised(product: Desk) -> list[Raised]:
    """Every alert of an enterprise that the product raised, in the terms of the score."""
    return [
        _raised(alert, product.notices(alert.id), product.registry)
        for alert in product.alerts()
        if alert.enterprise
    ]


def behaviours(city: City, people: Sequence[str]) -> dict[str, Behaviour]:
    """How these people answer; the first entry of the scenario that means a person is theirs.

    Raises ScenarioError for an entry that means nobody.
    """
    start = city.scenario.start
    for entry in city.scenario.people:
        if not any(fnmatchcase(person, entry.who) for person in people):
            raise ScenarioError(f"people: nobody is called {entry.who!r}; there are {', '.join(people[:20])}")
    found: dict[str, Behaviour] = {}
    for person in people:
        for entry in city.scenario.people:
            if fnmatchcase(person, entry.who):
                found[person] = Behaviour(
                    after=entry.after / SECOND,
                    spread=entry.spread / SECOND,
                    does=tuple(entry.does),
                    act_after=entry.act_after / SECOND,
                    misses=entry.misses,
                    busy=entry.busy,
                    wrong_key=entry.wrong_key,
                    away=tuple((start + begin, start + end) for begin, end in entry.away),
                    offline=tuple((start + begin, start + end) for begin, end in entry.offline),
                )
                break
    return found


DEVICE = ("silent", "bad_quality", "stuck", "range", "disagreement", "clock", "gateway.offline")
"""Rules that say something of how it is measured or sent, not of what is measured."""


def _raised(alert: Alert, notices: Sequence[Notice], registry: Registry) -> Raised:
    rang: dict[
        int, tuple[int, Tier]
    ] = {}  # step: when the first phone rang for it, and the alert's tier then
    for notice in sorted(notices, key=lambda notice: notice.delivered):
        if notice.delivered:
            rang.setdefault(notice.step, (notice.delivered, notice.tier))
    what, _, name = alert.subject.partition(":")
    return Raised(
        id=alert.id,
        enterprise=alert.enterprise,
        rule=alert.rule,
        subject=alert.subject,
        points=_points(alert, registry),
        gateway=name if what == "gateway" else "",
        device=alert.rule in DEVICE,
        calls=tuple((time, msgspec.convert(tier.name, TierName)) for time, tier in sorted(rang.values())),
        tier=msgspec.convert(alert.tier.name, TierName),
        raised=alert.raised,
        since=alert.since,
        ended=alert.ended or None,
        confirmed=alert.confirmed or None,
        rung=alert.rung,
        late=not notices,
    )


def _points(alert: Alert, registry: Registry) -> tuple[str, ...]:
    """The points that an alert is of: of a compound risk, those of the findings that it stands on."""
    subjects = [alert.subject, *(ground.subject for ground in alert.basis.grounds)]
    points: list[str] = []
    for subject in subjects:
        what, _, name = subject.partition(":")
        if what == "point":
            points.append(name)
        elif what == "group":
            points += _members(registry, alert.enterprise, name)
        elif what == "pipeline":
            points += _served(registry, alert.enterprise, name)
        elif what == "chemical":
            points += _stored(registry, alert.enterprise, name)
    return tuple(dict.fromkeys(points))


def _stored(registry: Registry, enterprise: str, chemical: str) -> tuple[str, ...]:
    """The points of the tanks that hold a chemical."""
    return tuple(
        registry.points.id[tank.row]
        for holding in registry.holdings
        if (holding.enterprise, holding.id) == (enterprise, chemical)
        for tank in holding.tanks
    )


def _served(registry: Registry, enterprise: str, section: str) -> tuple[str, ...]:
    """The points by which a pipeline section is watched."""
    return tuple(
        registry.points.id[row]
        for one in registry.sections
        if (one.enterprise, one.id) == (enterprise, section)
        for row in (one.flow_in, one.flow_out, one.pressure_in, one.pressure_out)
        if row >= 0
    )


def _members(registry: Registry, enterprise: str, group: str) -> tuple[str, ...]:
    """The points of a group of redundant points."""
    points = registry.points
    return tuple(
        id
        for id, row in registry.rows[enterprise].items()
        if points.group[row] >= 0 and registry.groups[points.group[row]].id == group
    )
