"""The point engine is equal to the plain model, message by message, whatever comes in whatever order."""

import math
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from model.points import PointModel

from build import PointSpec, code, make_registry
from ingest.readings import BAD, GOOD, UNCERTAIN, GatewayStatus, Readings, Round
from registry.clock import SECOND
from registry.model import Group, Registry
from streams.engine import PointEngine
from streams.finding import Finding
from streams.state import NEVER

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

VALUES = (-30.0, 5.0, 10.0, 15.0, 20.0, 21.0, 50.0, 50.5, 78.0, 79.0, 80.0, 85.0, 90.0, 95.0, 130.0)
FAR = (-3600, -70, -61, -60, -30, 5, 30, 60, 61, 3600)
S = SECOND

LIMITS = {"LL": 10.0, "L": 20.0, "H": 80.0, "HH": 90.0}
RESETS = {"LL_reset": 15.0, "L_reset": 21.0, "H_reset": 78.0, "HH_reset": 85.0}
SOON = {"on_delay": S, "off_delay": 2 * S}
CROSSED = {"on_delay": {"H": 5 * S, "LL": 2 * S}, "off_delay": {"HH": 5 * S, "L": S}}
RANGE = {"range_low": 0.0, "range_high": 100.0}

PROFILES = (
    PointSpec(id="", H=80.0, interval=3 * S),
    PointSpec(id="", **LIMITS, **RESETS, kind="methane", clause="AQ 1029 5.1"),
    PointSpec(id="", **LIMITS, **RESETS, **SOON, interval=S),
    PointSpec(id="", **LIMITS, **RESETS, **CROSSED, **RANGE, interval=10 * S),
    PointSpec(id="", H=79.0, H_reset=85.0, LL=15.0, **SOON, range_low=12.0),
    PointSpec(id="", HH=90.0, HH_reset=78.0, **CROSSED, range_high=85.0),
    PointSpec(id="", rate=5.0, rate_over=2 * S, interval=3 * S),
    PointSpec(id="", rate=0.5, rate_over=S, **RANGE, **LIMITS, engineering_unit="kPa"),
    PointSpec(id="", stuck_after=2 * S, stuck_within=0.5, interval=3 * S),
    PointSpec(id="", stuck_after=S, rate=5.0, rate_over=S, **RANGE),
    PointSpec(id="", group="g1", **RANGE),
    PointSpec(id="", group="g1", interval=3 * S),
    PointSpec(id="", group="g2", **LIMITS, **SOON, interval=S, stuck_after=5 * S, rate=1.0, rate_over=5 * S),
    PointSpec(id=""),
)
PLACES = ((ONE, "A", "gw1"), (ONE, "B", "gw1"), (ONE, "C", "gw2"), (TWO, "A", "gw1"), (TWO, "B", "gw1"))


@dataclass(frozen=True)
class Configuration:
    """Which profile each of five points has (None: it is not there), and which point is behind another gateway."""

    profiles: tuple[int | None, ...]
    moved: int | None = None
    tolerance: float = 0.0
    delay: int = 0

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
        return make_registry(points, groups=groups, version=version)


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
class Restarted:
    pass


profiles = st.integers(0, len(PROFILES) - 1)
configurations = st.builds(
    Configuration,
    st.tuples(*[profiles | profiles | profiles | st.none()] * 5),
    st.none() | st.none() | st.integers(0, 4),
    st.sampled_from([0.0, 5.0]),
    st.sampled_from([0, 2 * S]),
)


@st.composite
def heard(draw: st.DrawFn) -> Heard:
    seconds = draw(st.sampled_from([0, 0, 1, 1, 1, 1, 1, 2, 2, 3, 11, 70]))
    age = st.integers(-6, 0) | st.just(0) | st.just(0) | st.sampled_from(FAR)
    quality = st.sampled_from([GOOD] * 6 + [UNCERTAIN, BAD])
    entry = st.tuples(st.integers(0, 4), age, st.sampled_from(VALUES), quality)
    entries = draw(st.lists(entry, max_size=8))
    if draw(st.integers(0, 3)):
        entries.sort(key=lambda entry: entry[1])
    status = draw(
        st.just([]) | st.just([]) | st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=2)
    )
    return Heard(
        after=seconds * SECOND,
        listening=bool(draw(st.integers(0, 9))),
        status=tuple(status),
        readings=tuple((r, a * SECOND, NAN if q == BAD else v, q) for r, a, v, q in entries),
    )


def step_of(number: int) -> st.SearchStrategy[Heard | Reconfigured | Restarted]:
    if number < 14:
        return heard()
    return (
        st.just(Restarted())
        if number == 14
        else st.builds(Reconfigured, st.sampled_from([0, S, 3 * S]), configurations)
    )


stories = st.lists(st.integers(0, 15).flatmap(step_of), min_size=1, max_size=25)


def as_round(heard: Heard, now: int, registry: Registry) -> Round:
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


def hold_honest(engine: PointEngine, model: PointModel) -> None:
    """Before its deadline time brings nothing; and the deadline is no later than what the model knows to come."""
    deadline, exact = engine.next_deadline(), model.deadline()
    if deadline is None:
        assert exact is None
        return
    assert engine.now <= deadline
    assert exact is None or deadline <= exact
    if deadline > engine.now:
        twin = PointEngine.restore(engine.registry, engine.snapshot())
        now = engine.now
        while now < deadline - 1:
            now = min(now + SECOND, deadline - 1)
            assert twin.advance(now) == []
        if deadline == exact and deadline - now <= 2 * SECOND:
            assert twin.advance(deadline) != []


def run(first: Configuration, story: list[Heard | Reconfigured | Restarted]) -> list[Finding]:
    registry = first.registry("v0")
    engine, model = PointEngine(registry, START), PointModel(registry, START)
    now, told = START, []
    for number, step in enumerate(story, 1):
        if isinstance(step, Restarted):
            blob = engine.snapshot()
            engine = PointEngine.restore(engine.registry, blob)
            assert engine.snapshot() == blob
            continue
        now += step.after
        if isinstance(step, Reconfigured):
            registry = step.configuration.registry(f"v{number}")
            got, expected = engine.reconfigure(registry, now), model.reconfigure(registry, now)
        else:
            round = as_round(step, now, engine.registry)
            got, expected = engine.apply(round), model.apply(round)
        assert got == expected
        hold_equal(engine, model)
        hold_honest(engine, model)
        told += got
    return told


def hold_numbered(told: list[Finding]) -> None:
    """Every id's messages are 1, 2, 3 ... from its begin to its end, and no id is used twice."""
    seen: dict[str, Finding] = {}
    for finding in told:
        if finding.late:
            continue  # the same late reading may come twice, and is the same evidence
        before = seen.get(finding.id)
        assert finding.seq == (before.seq + 1 if before else 1)
        assert (finding.phase == "begun") == (before is None)
        assert before is None or before.phase not in ("ended", "withdrawn")
        seen[finding.id] = finding


SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(SLOW, max_examples=400)
@given(configurations, stories)
def test_engine_equals_model(first: Configuration, story: list[Heard | Reconfigured | Restarted]) -> None:
    told = run(first, story)
    hold_numbered(told)
    for finding in told:
        event(f"{finding.rule} {finding.phase}{' late' if finding.late else ''}")
