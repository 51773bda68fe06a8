"""The stirred reactor obeys its physics, agrees with its published operating point and runs away as it should."""

import csv
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.plant import Floats, Stage, kind, usual
from simulators.plants.stirred_reactor import (
    BENCHMARK,
    HOT,
    KIND,
    Design,
    Reactor,
    coolant_flow,
    heat_balance,
    start,
    step,
    valve_position,
)


class Still:
    """A generator that never departs from the mean."""

    def standard_normal(self, n: int) -> Floats:
        return np.zeros(n)


STILL = Still()
CONTENTS = BENCHMARK.volume * BENCHMARK.density * BENCHMARK.heat_capacity
SHELL = BENCHMARK.jacket_volume * BENCHMARK.coolant_capacity


def reactor(concentration=0.5, temperature=350.0, jacket=300.0) -> Reactor:
    values = np.broadcast_arrays(*map(np.atleast_1d, (concentration, temperature, jacket)))
    zeros = np.zeros(values[0].shape)
    return Reactor(*(v.astype(float) for v in values), stronger=zeros, warmer=zeros)


def inputs(n: int = 1, **changed: float | Floats) -> dict[str, Floats]:
    return usual(KIND, n) | {name: np.broadcast_to(np.asarray(v, float), n) for name, v in changed.items()}


def fixed(coolant: float) -> dict[str, Floats]:
    """Inputs with so many L/min of coolant, whatever the controller wants."""
    return inputs(cooling=0.0, emergency=coolant / BENCHMARK.coolant)


def run(seconds: int, dt: float = 1.0, **changed: float) -> list[Reactor]:
    states = [start(BENCHMARK, 1, STILL)]
    for _ in range(round(seconds / dt)):
        states.append(step(BENCHMARK, states[-1], dt, inputs(**changed), STILL))
    return states


def hottest(seconds: int, **changed: float) -> float:
    return max(state.temperature.item() for state in run(seconds, **changed))


def first(states: list[Reactor], hazard: str, at_least: Stage, **changed: float) -> int:
    """Seconds until the hazard comes so far; -1 if it never does."""
    reached = (KIND.stages(BENCHMARK, s, inputs(**changed))[hazard].item() >= at_least for s in states)
    return next((i for i, there in enumerate(reached) if there), -1)


states = st.builds(reactor, st.floats(0.0, 1.0), st.floats(300.0, 420.0), st.floats(285.0, 360.0))


@given(states, st.floats(0.0, 30.0))
def test_a_closed_insulated_vessel_only_turns_chemical_heat_into_temperature(state: Reactor, dt: float):
    design = replace(BENCHMARK, feed=0.0, exchange=0.0)
    after = step(design, state, dt, fixed(0.0), STILL)
    rise = design.reaction_heat / (design.density * design.heat_capacity)
    assert after.temperature + rise * after.concentration == pytest.approx(
        state.temperature + rise * state.concentration, rel=1e-9
    )
    assert 0 <= after.concentration <= state.concentration


@given(states, st.floats(0.0, 150.0), st.floats(0.0, 0.9), st.floats(0.0, 1.2))
def test_what_contents_and_jacket_gain_is_what_feed_and_reaction_give_less_what_the_coolant_takes(
    state: Reactor, coolant: float, fouling: float, feed: float
):
    dt = 1e-4  # so short that the flows at its beginning are the flows throughout
    given_inputs = fixed(coolant) | {"fouling": np.array([fouling]), "feed": np.array([feed])}
    after = step(BENCHMARK, state, dt, given_inputs, STILL)
    heat = {name: flow.item() for name, flow in heat_balance(BENCHMARK, state, given_inputs).items()}
    gained = CONTENTS * (after.temperature - state.temperature) + SHELL * (after.jacket - state.jacket)
    given_to_it = (heat["reaction"] + heat["feed"] - heat["coolant"]) * dt / 60
    scale = max(abs(flow) for flow in heat.values()) * dt / 60
    assert gained.item() == pytest.approx(given_to_it, abs=2e-3 * scale + 1e-3)


@given(states, st.floats(0.0, 149.0), st.floats(0.1, 100.0), st.floats(0.5, 5.0))
def test_less_coolant_is_never_cooler(state: Reactor, coolant: float, more: float, dt: float):
    """For seconds, that is: what is cooled less is burnt out sooner, and then it is the cooler one."""
    state = replace(state, jacket=np.maximum(state.jacket, BENCHMARK.coolant_temperature))
    less = step(BENCHMARK, state, dt, fixed(coolant), STILL)
    cooled = step(BENCHMARK, state, dt, fixed(coolant + more), STILL)
    assert less.temperature >= cooled.temperature - 1e-4  # the integration's own error


@given(states, st.integers(1, 20))
def test_many_short_steps_are_one_long_step(state: Reactor, parts: int):
    long, short = step(BENCHMARK, state, 2.0, fixed(50.0), STILL), state
    for _ in range(parts):
        short = step(BENCHMARK, short, 2.0 / parts, fixed(50.0), STILL)
    # above 440 K the relief valve lifts and the rate is about to be capped
    assert short.temperature == pytest.approx(long.temperature, abs=0.05 if long.temperature < 440 else 5.0)


@pytest.mark.parametrize("dt", [0.1, 0.5, 1.0, 7.0, 60.0])
def test_the_published_operating_point_is_held_for_hours(dt: float):
    last = run(7200 if dt >= 1 else 600, dt)[-1]
    assert last.temperature == pytest.approx(350.0, abs=0.1)
    assert last.concentration == pytest.approx(0.5, abs=0.005)
    assert coolant_flow(BENCHMARK, last, inputs()) == pytest.approx(49.84, abs=1.0)


def test_the_temperature_runs_away_within_minutes_of_losing_the_coolant():
    assert hottest(120, cooling=1.0) < 351
    assert hottest(120, cooling=0.0) > 420


def test_a_loss_of_cooling_takes_the_course_that_an_independent_integration_takes():
    """Forward Euler of the same balances with steps of a millisecond, written out for one unit."""
    c, t, j, wanted = 0.5, 350.0, 300.0, {}
    for millisecond in range(60_000):
        if millisecond % 1000 == 0:
            wanted[millisecond // 1000] = t
            flow = 0.3 * min(max(49.84 + 25 * (t - 350), 0), 3 * 49.84)
        r = 7.2e10 * np.exp(-8750 / t) * c
        wall, h = 5.0e4 * (t - j), 1e-3 / 60
        c, t, j = (
            c + h * ((1.0 - c) - r),
            t + h * ((350.0 - t) + r * 5.0e4 / 239 - wall / 23900),
            j + h * (wall - flow * 4180 * (j - 288.0)) / 20900,
        )
    course = run(59, cooling=0.3)
    assert max(wanted.values()) > 435  # through the whole ignition, not the beginning only
    for second, state in enumerate(course):
        assert state.temperature.item() == pytest.approx(wanted[second], abs=0.3)


def test_cooling_lost_shows_then_endangers_then_harms_within_a_minute():
    lost = run(60, cooling=0.0)
    for hazard in ("over_temperature", "runaway"):
        visible, danger, harm = (first(lost, hazard, stage, cooling=0.0) for stage in list(Stage)[1:])
        assert 0 <= visible < danger < harm < 60
    assert first(lost, "runaway", Stage.DANGER, cooling=0.0) < first(
        lost, "over_temperature", Stage.DANGER, cooling=0.0
    )
    after = KIND.measure(BENCHMARK, lost[-1], inputs(cooling=0.0))
    assert after["pressure"] == BENCHMARK.relief
    assert after["coolant_flow"] == 0


def test_the_valve_opens_for_what_is_too_warm_and_water_that_is_missing_opens_it_further():
    usual_flow = valve_position(BENCHMARK, reactor()).item()
    assert usual_flow == pytest.approx(100 / BENCHMARK.valve)
    cold, warm = reactor(temperature=340.0), reactor(temperature=360.0)
    assert (valve_position(BENCHMARK, cold).item(), valve_position(BENCHMARK, warm).item()) == (0.0, 100.0)
    assert KIND.measure(BENCHMARK, warm, inputs(cooling=0.3))["coolant_flow"] == pytest.approx(0.9 * 49.84)
    weak = run(60, cooling=0.7)
    openings = [valve_position(BENCHMARK, state).item() for state in weak]
    assert usual_flow + 5 < openings[-1] < 100
    flow = KIND.measure(BENCHMARK, weak[-1], inputs(cooling=0.7))["coolant_flow"].item()
    assert flow == pytest.approx(0.7 * openings[-1] / 100 * BENCHMARK.valve * BENCHMARK.coolant)


def test_a_valve_that_is_open_to_its_limit_says_that_heat_outruns_cooling_where_the_flow_does_not():
    """A third of the water: the flow is never low, while the valve is wide open seconds after the danger began."""
    weak = run(60, cooling=0.3)
    danger = first(weak, "runaway", Stage.DANGER, cooling=0.3)
    measured = [KIND.measure(BENCHMARK, state, inputs(cooling=0.3)) for state in weak]
    wide_open = next(second for second, values in enumerate(measured) if values["cooling_valve"] >= 90)
    assert abs(wide_open - danger) <= 5
    index = csv.DictReader(KIND.index.read_text("utf-8").splitlines())
    low = next(float(row["L"]) for row in index if row["signal"] == "coolant_flow")
    burning = [values["coolant_flow"].item() for values in measured[danger:]]
    assert min(burning) > low


def test_fouling_shows_in_the_coolants_flow_long_before_the_temperature_runs_away():
    state, at = start(BENCHMARK, 1, STILL), {}
    for second in range(7200):
        changed = inputs(fouling=0.15 * min(1.0, second / 3600))
        state = step(BENCHMARK, state, 1.0, changed, STILL)
        at.setdefault(KIND.stages(BENCHMARK, state, changed)["runaway"].item(), second)
    assert at[Stage.DANGER] - at[Stage.VISIBLE] > 600


def test_what_people_do_in_time_averts_the_runaway():
    state = run(10, cooling=0.0)[-1]
    assert KIND.stages(BENCHMARK, state, inputs(cooling=0.0))["runaway"].item() == Stage.DANGER
    for remedy in ({"emergency": 3.0, "feed": 0.0}, {"emergency": 3.0}):
        after, temperatures = state, []
        for _ in range(1800):
            after = step(BENCHMARK, after, 1.0, inputs(cooling=0.0, **remedy), STILL)
            temperatures.append(after.temperature.item())
        assert max(temperatures) < (400 if "feed" in remedy else 440)
    assert hottest(1800, cooling=0.0, feed=0.0) < 450 < hottest(1800, cooling=0.0)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.2), st.floats(0.0, 3.0), st.floats(0.0, 0.9), st.floats(-30, 30))
@settings(max_examples=30)
def test_every_input_in_its_range_leaves_finite_figures(cooling, feed, emergency, fouling, offset):
    changed = inputs(
        4, cooling=cooling, feed=feed, emergency=emergency, fouling=fouling, feed_temperature_offset=offset
    )
    random = np.random.default_rng(0)
    state = start(BENCHMARK, 4, random)
    for dt in (0.1, 1.0, 60.0, 60.0, 60.0, 60.0, 3.3):
        state = step(BENCHMARK, state, dt, changed, random)
        assert all(np.isfinite(v).all() for v in KIND.measure(BENCHMARK, state, changed).values())
        assert ((state.concentration >= 0) & (state.temperature > 250) & (state.temperature < 650)).all()


def test_units_side_by_side_are_units_alone():
    """Among them some that run away, since those take shorter steps."""
    shares = np.linspace(0.0, 1.0, 9)
    volumes = np.linspace(90.0, 110.0, 9)
    together = start(Design(volume=volumes), 9, STILL)
    for _ in range(40):
        together = step(Design(volume=volumes), together, 1.0, inputs(9, cooling=shares), STILL)
    assert (together.temperature > HOT).any()
    assert (together.temperature < HOT).any()
    for i, share in enumerate(shares):
        alone = start(BENCHMARK, 1, STILL)
        for _ in range(40):
            alone = step(Design(volume=volumes[i]), alone, 1.0, inputs(cooling=share), STILL)
        for field in fields(Reactor):
            assert getattr(alone, field.name)[0] == pytest.approx(getattr(together, field.name)[i], rel=1e-12)


@pytest.mark.parametrize(
    ("hours", "seed"),
    [(8, 1), pytest.param(24, 1, marks=pytest.mark.long), pytest.param(24, 2, marks=pytest.mark.long)],
)
def test_an_ordinary_day_is_safe_and_within_its_bounds(hours: int, seed: int):
    random, n = np.random.default_rng(seed), 100
    state, ordinary = start(KIND.design, n, random), usual(KIND, n)
    lowest = highest = None
    for _ in range(hours * 60):
        state = step(KIND.design, state, 60.0, ordinary, random)
        now = np.array(list(KIND.measure(KIND.design, state, ordinary).values()))
        lowest = now if lowest is None else np.minimum(lowest, now)
        highest = now if highest is None else np.maximum(highest, now)
        assert not any(v.any() for v in KIND.stages(KIND.design, state, ordinary).values())
    for signal, low, high in zip(KIND.signals, lowest.min(axis=1), highest.max(axis=1), strict=True):
        assert signal.low <= low < high <= signal.high, signal.name


def test_one_seed_is_one_course():
    def course(seed: int) -> Floats:
        random = np.random.default_rng(seed)
        state = start(BENCHMARK, 3, random)
        for _ in range(20):
            state = step(BENCHMARK, state, 10.0, usual(KIND, 3), random)
        return state.temperature

    assert (course(7) == course(7)).all()
    assert (course(7) != course(8)).any()


def test_nothing_flows_backwards():
    with pytest.raises(ValueError, match="backwards"):
        step(BENCHMARK, reactor(), -1.0, inputs(), STILL)


def test_pressure_rises_with_temperature_until_the_relief_valve_lifts():
    state = reactor(temperature=np.array([350.0, 420.0, 440.0, 460.0, 500.0]))
    pressure = KIND.measure(BENCHMARK, state, inputs(5))["pressure"]
    assert pressure[0] == pytest.approx(0.14, abs=0.005)
    assert (np.diff(pressure[:4]) > 0).all()
    assert (pressure[3:] == BENCHMARK.relief).all()


def test_the_kind_is_whole():
    assert kind("stirred_reactor") is KIND
    state = start(KIND.design, 2, np.random.default_rng(1))
    signals = {signal.name: signal for signal in KIND.signals}
    assert set(KIND.measure(KIND.design, state, usual(KIND, 2))) == set(signals)
    assert set(KIND.stages(KIND.design, state, usual(KIND, 2))) == {hazard.name for hazard in KIND.hazards}
    assert all(set(hazard.signals) <= set(signals) for hazard in KIND.hazards)
    rows = list(csv.DictReader(KIND.index.read_text("utf-8").splitlines()))
    assert [row["point"] for row in rows] == [f"{p}-{{unit}}{s}" for p, s in zip(
        ("TI", "TI", "PI", "LI", "FI", "ZI"), ("", "B", "", "", "", ""), strict=True)]  # fmt: skip
    for row in rows:
        signal, far = signals[row["signal"]], 6 * float(row["noise"])
        assert row["engineering_unit"] == signal.unit
        for limit in ("L", "LL"):
            assert not row[limit] or float(row[limit]) < signal.low - far
        for limit in ("H", "HH"):
            assert not row[limit] or float(row[limit]) > signal.high + far
