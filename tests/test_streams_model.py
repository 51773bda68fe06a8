"""The point engine is equal to the plain model, message by message, whatever comes in whatever order."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from ingest.readings import BAD, GOOD, UNCERTAIN, GatewayStatus, Readings, Round
from registry.clock import SECOND
from registry.model import Group, Holding, Registry, Section, Tank
from streams.engine import PointEngine
from streams.finding import Finding, Tier
from streams.rulebook import Rulebook, Template
from streams.state import NEVER
from tests.build import RULEBOOK, PointSpec, code, make_registry
from tests.model.points import PointModel

NAN = math.nan
START = 1_000_000 * SECOND
ONE, TWO = code(1), code(2)


def readings(entries: list[tuple[int, int, float, int]]) -> Readings:
    """From (row, time, value, quality)."""
    row, time, value, quality = zip(*entries, strict=True) if entries else ((), (), (), ())
    return Readings(
        np.array(row, np.int32),
        np.array(time, np.int64),
        np.array(value, np.float64),
        np.array(quality, np.uint8),
    )


# ---- small domains, so that interesting things meet

UNDER_RESET = math.nextafter(78.0, 0.0)
VALUES = (
    -30.0,
    5.0,
    10.0,
    15.0,
    20.0,
    21.0,
    50.0,
    50.5,
    UNDER_RESET,
    78.0,
    79.0,
    80.0,
    85.0,
    90.0,
    95.0,
    130.0,
)
FAR = (-3600, -70, -61, -60, -30, 5, 30, 60, 61, 3600)
S = SECOND

LIMITS = {"LL": 10.0, "L": 20.0, "H": 80.0, "HH": 90.0}
RESETS = {"LL_reset": 15.0, "L_reset": 21.0, "H_reset": 78.0, "HH_reset": 85.0}
SOON = {"on_delay": S, "off_delay": 2 * S}
CROSSED = {"on_delay": {"H": 5 * S, "LL": 2 * S}, "off_delay": {"HH": 5 * S, "L": S}}
RANGE = {"range_low": 5.0, "range_high": 95.0}

PROFILES = (
    PointSpec(id="", H=80.0, interval=3 * S, unit="R1"),
    PointSpec(id="", **LIMITS, **RESETS, kind="methane", clause="AQ 1029 5.1"),
    PointSpec(id="", **LIMITS, **RESETS, **SOON, interval=2 * S, template="other"),
    PointSpec(id="", **LIMITS, **RESETS, **CROSSED, **RANGE, interval=10 * S),
    PointSpec(id="", H=79.0, H_reset=85.0, LL=15.0, **SOON, range_low=12.0),
    PointSpec(id="", H=80.0, HH=95.0, range_high=85.0),
    PointSpec(id="", rate=5.0, rate_over=2 * S, interval=3 * S),
    PointSpec(id="", rate=0.5, rate_over=S, **RANGE, **LIMITS, engineering_unit="kPa"),
    PointSpec(id="", stuck_after=2 * S, stuck_within=0.5, interval=3 * S),
    PointSpec(id="", stuck_after=S, rate=5.0, rate_over=S, **RANGE),
    PointSpec(id="", group="g1", unit="R1", **RANGE),
    PointSpec(id="", group="g1", unit="R1", interval=3 * S),
    PointSpec(
        id="", group="g1", **LIMITS, **SOON, interval=2 * S, stuck_after=5 * S, rate=1.0, rate_over=5 * S
    ),
    PointSpec(id=""),
    PointSpec(id="", group="g2"),
    PointSpec(id="", alarm_state=50.0, interval=3 * S),
    PointSpec(id="", alarm_state=80.0, state_delay=2 * S, **RANGE, H=80.0, engineering_unit="1"),
    PointSpec(id="", ahead=10 * S, ahead_over=15 * S, **LIMITS, **RANGE),
    PointSpec(id="", ahead=60 * S, ahead_over=10 * S, **LIMITS, interval=5 * S),
    PointSpec(id="", ahead=20 * S, ahead_over=20 * S, LL=10.0, HH=90.0, alarm_state=50.5),
    PointSpec(id="", **LIMITS, **RESETS, interval=90 * S),
)
SCALES = (((0.0, 100.0), (0.0, 50.0)), ((10.0, 20.0, 95.0), (0.0, 30.0, 45.0)))
RULEBOOKS = (
    RULEBOOK,
    RULEBOOK,
    Rulebook(tiers={"H": Tier.II, "silent": Tier.III, "rate": Tier.IV}),
    Rulebook(
        tiers={"HH": Tier.IV, "L": Tier.III, "stuck": Tier.I, "range": Tier.II, "clock": Tier.III},
        templates={
            "methane": Template(name="methane", kind="methane", tiers={"H": Tier.I, "L": None, "HH": None}),
            "other": Template(name="other", kind="temperature", tiers={"H": None, "disagreement": Tier.I}),
        },
    ),
)
PLACES = ((ONE, "A", "gw1"), (ONE, "B", "gw1"), (ONE, "C", "gw2"), (TWO, "A", "gw1"), (TWO, "B", "gw1"))


@dataclass(frozen=True)
class Configuration:
    """Which profile each of five points has (None: it is not there), and which point is behind another gateway."""

    profiles: tuple[int | None, ...]
    moved: int | None = None
    tolerance: float = 0.0
    delay: int = 0
    book: int = 0
    window: int = 0  # s, of the section between the first two points; 0 for none
    stock: float = 0.0  # permitted of the first point's and its fellows' tanks; 0 for no tanks

    @property
    def rulebook(self) -> Rulebook:
        return RULEBOOKS[self.book]

    def registry(self, version: str) -> Registry:
        points: dict[str, list[PointSpec]] = {ONE: [], TWO: []}
        for number, (profile, (enterprise, id, gateway)) in enumerate(
            zip(self.profiles, PLACES, strict=True)
        ):
            if profile is not None:
                home = "gw3" if number == self.moved else gateway
                points[enterprise].append(replace(PROFILES[profile], id=id, gateway=home))
        groups = [
            Group(enterprise, id, self.tolerance, self.delay)
            for enterprise in (ONE, TWO)
            for id in ("g1", "g2")
        ]
        registry = make_registry(points, groups=groups, version=version)
        return replace(
            registry, holdings=tuple(self.holdings(registry)), sections=tuple(self.sections(registry))
        )

    def sections(self, registry: Registry) -> Iterator[Section]:
        """From A to B, with the pressure at C, at C and B, or at neither end."""
        rows = registry.rows[ONE]
        if self.window and rows.keys() >= {"A", "B"}:
            third = rows.get("C", -1)
            pressures = {8: (third, rows["B"]), 12: (third, -1), 24: (-1, -1)}[self.window]
            leak = 0.02 if self.window == 24 else 0.1
            yield Section(
                ONE, "s", "管段", rows["A"], rows["B"], *pressures, 0.02, 3.0, 1.0, leak, self.window * S
            )

    def holdings(self, registry: Registry) -> Iterator[Holding]:
        """One in A and B, one in B and C, and one of the other enterprise."""
        if not self.stock:
            return
        for enterprise, id, ids in ((ONE, "h1", "AB"), (ONE, "h2", "BC"), (TWO, "h1", "A")):
            rows = [registry.rows[enterprise][point] for point in ids if point in registry.rows[enterprise]]
            tanks = [Tank(row, *SCALES[number]) for number, row in enumerate(rows)]
            if tanks:
                permitted = self.stock * len(tanks)
                yield Holding(
                    enterprise, id, "液氨", "R1", "7664-41-7", permitted, 5.0, tuple(tanks), "clause"
                )


@dataclass(frozen=True)
class Heard:
    """A round: ``after`` the one before; readings as (which point, age against arrival, value, quality)."""

    after: int
    listening: bool = True
    status: tuple[tuple[int, bool], ...] = ()
    readings: tuple[tuple[int, int, float, int], ...] = ()


@dataclass(frozen=True)
class Reconfigured:
    after: int
    configuration: Configuration


@dataclass(frozen=True)
class Redelivered:
    """What came last comes again."""

    after: int


@dataclass(frozen=True)
class Restarted:
    pass


def configurations_of(*family: int) -> st.SearchStrategy[Configuration]:
    """Points of these profiles."""
    return st.builds(
        Configuration,
        st.tuples(*[st.sampled_from((*family, *family, *family, None))] * 5),
        st.none() | st.none() | st.integers(0, 4),
        st.sampled_from([0.0, 5.0]),
        st.sampled_from([0, 2 * S]),
        st.integers(0, len(RULEBOOKS) - 1),
        st.sampled_from([0, 0, 8, 12, 24]),
        st.sampled_from([0.0, 0.0, 30.0, 42.0]),
    )


SLOWEST = len(PROFILES) - 1  # for examples only: hold_honest goes through its interval by seconds
FAMILIES = (
    range(SLOWEST),
    (1, 2, 3, 4, 5),
    (6, 7, 8, 9),
    (10, 11, 12, 14),
    (0, 2, 6, 11),
    (15, 16, 13, 3),
    (17, 18, 19),
)
configurations = st.sampled_from(FAMILIES).flatmap(lambda family: configurations_of(*family))


Step = Heard | Redelivered | Reconfigured | Restarted
qualities = st.sampled_from([GOOD] * 8 + [UNCERTAIN, BAD])


@st.composite
def tame(draw: st.DrawFn) -> Heard:
    """A second later: what every gateway does all day, perhaps with a few seconds stored up."""
    seconds = draw(st.sampled_from([1, 1, 1, 3]))
    base = draw(st.sampled_from((50.0,) * 8 + VALUES))
    near = st.sampled_from([base, base + 0.5, base + 5.0])
    if draw(st.booleans()):
        near |= st.sampled_from(VALUES)
    readings = [
        (point, age * S, NAN if quality == BAD else draw(near), quality)
        for age in range(1 - seconds, 1)
        for point in range(5)
        if (quality := draw(qualities)) or draw(st.integers(0, 9))
    ]
    return Heard(after=seconds * S, readings=tuple(readings))


@st.composite
def wild(draw: st.DrawFn) -> Heard:
    """Anything: disorder, duplicates, gaps, jumps of the clock, deafness, gateways that come and go."""
    seconds = draw(st.sampled_from([0, 0, 1, 1, 1, 1, 1, 2, 2, 3, 11, 70]))
    age = st.integers(-6, 0) | st.just(0) | st.just(0) | st.sampled_from(FAR)
    entry = st.tuples(st.integers(0, 4), age, st.sampled_from(VALUES), qualities)
    entries = draw(st.lists(entry, max_size=8))
    if draw(st.integers(0, 3)):
        entries.sort(key=lambda entry: entry[1])
    entries += entries[: draw(st.sampled_from([0, 0, 1, 8]))]
    status = draw(
        st.just([]) | st.just([]) | st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=2)
    )
    return Heard(
        after=seconds * S,
        listening=bool(draw(st.integers(0, 9))),
        status=tuple(status),
        readings=tuple((r, a * S, NAN if q == BAD else v, q) for r, a, v, q in entries),
    )


@st.composite
def jumps(draw: st.DrawFn) -> Heard:
    """All devices' clocks are right, or all are wrong by as much."""
    after, age = draw(st.sampled_from([S, 3 * S, 5 * S])), draw(st.sampled_from([0, 0, 7, 30, 60, -20]))
    value = st.sampled_from([50.0, 50.0, 80.0, 95.0, 15.0, 78.0, UNDER_RESET])
    return Heard(after, readings=tuple((point, age * S, draw(value), GOOD) for point in range(5)))


@st.composite
def some(draw: st.DrawFn) -> Heard:
    """Some of the points are heard."""
    points = draw(st.sets(st.integers(0, 4)))
    return Heard(
        draw(st.sampled_from([S, 2 * S])), readings=tuple((point, 0, 80.0, GOOD) for point in points)
    )


@st.composite
def stored(draw: st.DrawFn) -> Heard:
    """What a gateway had stored while it was cut off, minutes old, in order."""
    oldest = draw(st.sampled_from([-66, -63, -300]))
    value = st.sampled_from([50.0, 50.0, 80.0, 95.0, 95.0, 5.0, 130.0])
    values = draw(st.lists(st.tuples(st.integers(0, 1), value), min_size=2, max_size=9))
    readings = [(point, (oldest + n) * S, value, GOOD) for n, (point, value) in enumerate(values)]
    return Heard(after=draw(st.sampled_from([0, S, S, 70 * S, 400 * S])), readings=tuple(readings))


def stories_of(*steps: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    """One to twenty steps; a step named often comes often."""
    step = st.integers(0, len(steps) - 1).flatmap(steps.__getitem__)
    return st.integers(1, 20).flatmap(lambda length: st.lists(step, min_size=length, max_size=length))


marks = st.builds(Heard, st.sampled_from([S, S, 2 * S, 2 * S + 1]))
restarts = st.just(Restarted())
redelivered = st.builds(Redelivered, st.sampled_from([0, S, 11 * S]))
reconfigured = st.builds(Reconfigured, st.sampled_from([0, S, 3 * S]), configurations)
regrouped = st.builds(Reconfigured, st.just(S), configurations_of(10, 12, 14))
stories = stories_of(*[tame()] * 8, *[wild()] * 4, stored(), marks, redelivered, restarts, reconfigured)


def as_round(heard: Heard | Redelivered, now: int, registry: Registry, last: Readings) -> Round:
    if isinstance(heard, Redelivered):
        return Round(time=now, readings=last)
    count = len(registry.points)
    entries = [(r % count, now + age, v, q) for r, age, v, q in heard.readings] if count else []
    gateways = len(registry.gateways)
    status = tuple(GatewayStatus(g % gateways, online) for g, online in heard.status) if gateways else ()
    return Round(time=now, listening=heard.listening, status=status, readings=readings(entries))


def hold_equal(engine: PointEngine, model: PointModel) -> None:
    for row, point in enumerate(model.points.values()):
        newest = int(engine.newest[row])
        assert (None if newest == NEVER else newest) == point.newest
        assert repr(float(engine.value[row])) == repr(point.value)
        assert int(engine.quality[row]) == point.quality


def hold_honest(engine: PointEngine, model: PointModel, rulebook: Rulebook) -> None:
    """Before its deadline time brings nothing; and the deadline is no later than what the model knows to come."""
    deadline, exact = engine.next_deadline(), model.deadline()
    if deadline is None:
        assert exact is None
        return
    assert engine.now <= deadline
    assert exact is None or deadline <= exact
    if deadline > engine.now:
        twin = PointEngine.restore(engine.registry, rulebook, engine.snapshot())
        now = engine.now
        while now < deadline - 1:
            now = min(now + SECOND, deadline - 1)
            assert twin.advance(now) == []
        if deadline == exact and deadline - now <= 2 * SECOND:
            assert twin.advance(deadline) != []


def run(first: Configuration, story: list[Step]) -> list[Finding]:
    registry, rulebook = first.registry("v0"), first.rulebook
    engine, model = PointEngine(registry, START, rulebook), PointModel(registry, START, rulebook)
    now, told, last = START, [], Readings.empty()
    for number, step in enumerate(story, 1):
        if isinstance(step, Restarted):
            blob = engine.snapshot()
            engine = PointEngine.restore(engine.registry, rulebook, blob)
            assert engine.snapshot() == blob
            continue
        now += step.after
        if isinstance(step, Reconfigured):
            registry, rulebook = step.configuration.registry(f"v{number}"), step.configuration.rulebook
            got = engine.reconfigure(registry, rulebook, now)
            expected = model.reconfigure(registry, rulebook, now)
            last = Readings.empty()
        else:
            round = as_round(step, now, engine.registry, last)
            last = round.readings
            got, expected = engine.apply(round), model.apply(round)
        assert got == expected
        hold_equal(engine, model)
        hold_honest(engine, model, rulebook)
        told += got
    return told


def hold_numbered(told: list[Finding]) -> None:
    """Every id's messages are 1, 2, 3 ... from its begin to its end, and no id is used twice."""
    seen: dict[str, Finding] = {}
    late: dict[str, Finding] = {}
    for finding in told:
        if finding.late:  # the same late reading may come twice, and is the same evidence
            same = late.setdefault(finding.id, finding)
            assert (finding.seq, finding.since, finding.level) == (1, same.since, same.level)
            assert finding.id not in seen
            continue
        assert finding.id not in late
        before = seen.get(finding.id)
        assert finding.seq == (before.seq + 1 if before else 1)
        assert (finding.phase == "begun") == (before is None)
        assert before is None or before.phase not in ("ended", "withdrawn")
        seen[finding.id] = finding


SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def hold(first: Configuration, story: list[Step]) -> None:
    told = run(first, story)
    hold_numbered(told)
    for finding in told:
        event(f"{finding.rule} {finding.phase}{' late' if finding.late else ''}")


JUST_UNDER_RESET = [Heard(S, readings=((0, 0, value, GOOD),)) for value in (80.0, 78.0, UNDER_RESET)]

GONE_AND_BACK = [
    Heard(S, readings=((2, 0, 80.0, GOOD),)),
    Reconfigured(S, Configuration((0, 0, None, 0, 0))),
    Restarted(),
    Reconfigured(S, Configuration((0, 0, 0, 0, 0))),
    Heard(S, readings=((2, -3 * S, 80.0, GOOD),)),
]

LATE = [
    Heard(1200 * S, readings=((0, -1190 * S, 85.0, GOOD), (1, -1190 * S, 85.0, GOOD))),
    Heard(S, readings=((0, 0, 50.0, GOOD), (1, 0, 50.0, GOOD))),
    Heard(
        0,
        readings=tuple(
            (point, age * S, value, GOOD)
            for age, value in [(-1191, 80.0), (-1191, 95.0), (-1130, 95.0), (-1040, 95.0), (-949, 80.0)]
            for point in (0, 1)
        ),
    ),
]


@settings(SLOW, max_examples=300)
@given(configurations, stories)
@example(Configuration((1, SLOWEST, None, None, None)), LATE)
@example(Configuration((0, 0, 0, 0, 0)), GONE_AND_BACK)
@example(Configuration((1, None, None, None, None)), JUST_UNDER_RESET)
def test_engine_equals_model(first: Configuration, story: list[Step]) -> None:
    hold(first, story)


@settings(SLOW, max_examples=100)
@given(configurations_of(10, 11, 12, 14), stories_of(*[tame()] * 9, wild(), marks, restarts, regrouped))
def test_redundant_points_equal_model(first: Configuration, story: list[Step]) -> None:
    hold(first, story)


@settings(SLOW, max_examples=100)
@given(configurations_of(0, 1, 4, 7), stories_of(stored(), stored(), tame(), restarts))
def test_stored_readings_equal_model(first: Configuration, story: list[Step]) -> None:
    hold(first, story)


@st.composite
def slopes(draw: st.DrawFn) -> Heard:
    """A second or more of values that go somewhere."""
    seconds = draw(st.integers(3, 12))
    first, last = draw(st.sampled_from(VALUES)), draw(st.sampled_from(VALUES))
    noise = st.sampled_from([0.0, 0.0, 0.5, -2.0])
    return Heard(
        seconds * S,
        readings=tuple(
            (point, (n - seconds + 1) * S, first + (last - first) * n / seconds + draw(noise), GOOD)
            for n in range(seconds)
            for point in range(3)
        ),
    )


@settings(SLOW, max_examples=100)
@given(
    configurations_of(17, 17, 18, 19), stories_of(*[slopes()] * 6, tame(), restarts, stored(), reconfigured)
)
def test_time_to_limit_equals_model(first: Configuration, story: list[Step]) -> None:
    hold(first, story)


@st.composite
def flowing(draw: st.DrawFn) -> Heard:
    """Seconds in which a section is in balance, but for a share that is lost; each end in its own rhythm."""
    seconds, lost = draw(st.integers(4, 20)), draw(st.sampled_from([0.0, 0.0, 0.01, 0.05, 0.15, 0.3]))
    level = draw(st.sampled_from([50.0, 50.5, 79.0]))
    readings = []
    for n in range(seconds):
        for point in range(3):
            if (n + point) % draw(st.sampled_from([1, 1, 2])) == 0:
                value = level * (1 - lost) if point == 1 else level
                noise, quality = (
                    draw(st.sampled_from([0.0, 0.0, 0.2, -0.4])),
                    draw(st.sampled_from([GOOD] * 30 + [BAD])),
                )
                late = draw(st.sampled_from([0, 0, 0, 300_000]))
                age = (n - seconds + 1) * S - late
                readings.append((point, age, NAN if quality == BAD else value + noise, quality))
    return Heard(seconds * S, readings=tuple(readings))


@settings(SLOW, max_examples=100)
@given(configurations_of(0, 13), stories_of(*[flowing()] * 8, tame(), wild(), marks, restarts, reconfigured))
def test_leak_equals_model(first: Configuration, story: list[Step]) -> None:
    hold(first, story)


BACK_IN_TIME = [
    Heard(S, readings=((0, 40 * S, 50.0, GOOD), (1, 30 * S, 50.0, GOOD))),
    Heard(S, readings=((0, 0, 50.0, GOOD),)),
    Heard(11 * S, readings=((1, 40 * S, 50.0, GOOD), (0, 0, 50.0, GOOD))),
    Heard(22 * S, readings=((0, 0, 90.0, GOOD),)),
]


@settings(SLOW, max_examples=120)
@given(configurations, stories_of(*[jumps()] * 6, redelivered, restarts))
@example(Configuration((10, 10, None, None, None)), BACK_IN_TIME)
def test_jumping_clocks_equal_model(first: Configuration, story: list[Step]) -> None:
    hold(first, story)


@settings(SLOW, max_examples=100)
@given(configurations_of(0, 2, 3, 4, 11, 13), stories_of(*[some()] * 4, *[marks] * 3, wild(), restarts))
def test_silence_equals_model(first: Configuration, story: list[Step]) -> None:
    hold(first, story)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(SLOW, max_examples=15_000)
@given(configurations, stories)
def test_engine_equals_model_long(first: Configuration, story: list[Step]) -> None:
    hold(first, story)


@settings(SLOW, max_examples=150)
@given(configurations, stories, st.randoms(use_true_random=False))
def test_cutting_rounds_changes_nothing(first: Configuration, story: list[Step], random: Random) -> None:
    """However the readings that arrived together are cut into rounds of that time, the findings are the same."""
    whole = PointEngine(first.registry("v0"), START, first.rulebook)
    cut = PointEngine(first.registry("v0"), START, first.rulebook)
    now, last = START, Readings.empty()
    for number, step in enumerate(story, 1):
        if isinstance(step, Restarted):
            continue
        now += step.after
        if isinstance(step, Reconfigured):
            registry = step.configuration.registry(f"v{number}")
            rulebook = step.configuration.rulebook
            assert whole.reconfigure(registry, rulebook, now) == cut.reconfigure(registry, rulebook, now)
            last = Readings.empty()
            continue
        round = as_round(step, now, whole.registry, last)
        last = round.readings
        told = []
        for part in cuts(round, random):
            told += cut.apply(part)
        assert whole.apply(round) == told
        assert whole.snapshot() == cut.snapshot()


def cuts(round: Round, random: Random) -> list[Round]:
    at = sorted(random.choices(range(len(round.readings) + 1), k=3))
    edges = [0, *at, len(round.readings)]
    r = round.readings
    parts = [Readings(r.row[a:b], r.time[a:b], r.value[a:b], r.quality[a:b]) for a, b in pairwise(edges)]
    first = replace(round, readings=parts[0])
    return [first, *(replace(round, status=(), readings=part) for part in parts[1:])]
