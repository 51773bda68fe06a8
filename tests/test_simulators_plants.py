"""The simulated plants obey their physics, and one seed gives one course."""

from itertools import islice
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators import coal_face, reactor
from simulators.reactor import BENCHMARK, Reactor, adiabatic, controlled, heat_balance, step

states = st.builds(
    Reactor,
    concentration=st.floats(0.0, 1.0),
    temperature=st.floats(300.0, 420.0),
    jacket=st.floats(285.0, 360.0),
)


def run(state: Reactor, seconds: int, available: float = 1.0) -> list[Reactor]:
    states = [state]
    for _ in range(seconds):
        states.append(step(states[-1], 1.0, controlled(states[-1], available=available)))
    return states


@given(states, st.floats(0.0, 30.0))
def test_a_closed_insulated_vessel_only_turns_chemical_heat_into_temperature(state: Reactor, dt: float):
    design = adiabatic()
    after = step(state, dt, 0.0, design=design)
    rise = design.reaction_heat / (design.density * design.heat_capacity)
    assert after.temperature + rise * after.concentration == pytest.approx(
        state.temperature + rise * state.concentration, rel=1e-9
    )
    assert 0 <= after.concentration <= state.concentration


@given(states, st.floats(0.0, 150.0))
def test_what_contents_and_jacket_gain_is_what_feed_and_reaction_give_less_what_the_coolant_takes(
    state: Reactor, coolant: float
):
    dt = 1e-4  # so short that the flows at its beginning are the flows throughout
    after = step(state, dt, coolant)
    heat = heat_balance(state, coolant)
    contents = BENCHMARK.volume * BENCHMARK.density * BENCHMARK.heat_capacity
    shell = BENCHMARK.jacket_volume * BENCHMARK.coolant_capacity
    gained = contents * (after.temperature - state.temperature) + shell * (after.jacket - state.jacket)
    given_to_it = (heat["feed"] + heat["reaction"] - heat["coolant"]) * dt / 60
    scale = max(abs(flow) for flow in heat.values()) * dt / 60
    assert gained == pytest.approx(given_to_it, abs=2e-3 * scale + 1e-3)


@given(states, st.floats(0.0, 149.0), st.floats(0.1, 100.0), st.floats(0.5, 20.0))
def test_less_coolant_is_never_cooler(state: Reactor, coolant: float, more: float, dt: float):
    if state.jacket < BENCHMARK.coolant_temperature:
        state = Reactor(state.concentration, state.temperature, BENCHMARK.coolant_temperature)
    assert step(state, dt, coolant).temperature >= step(state, dt, coolant + more).temperature - 1e-9


@given(states, st.integers(1, 20))
def test_many_short_steps_are_one_long_step(state: Reactor, parts: int):
    long, short = step(state, 2.0, 50.0), state
    for _ in range(parts):
        short = step(short, 2.0 / parts, 50.0)
    assert short.temperature == pytest.approx(long.temperature, abs=0.05)


def test_the_published_operating_point_is_held_for_hours():
    last = run(Reactor(), 7200)[-1]
    assert last.temperature == pytest.approx(350.0, abs=0.1)
    assert last.concentration == pytest.approx(0.5, abs=0.005)


def test_the_temperature_runs_away_within_minutes_of_losing_the_coolant():
    hottest = [max(s.temperature for s in run(Reactor(), 120, share)) for share in (1.0, 0.3, 0.0)]
    assert hottest[0] < 351
    assert hottest[2] > 420


def test_nothing_flows_backwards():
    with pytest.raises(ValueError, match="backwards"):
        step(Reactor(), -1.0, 0.0)
    with pytest.raises(ValueError, match="backwards"):
        step(Reactor(), 1.0, -0.1)


def test_redundant_thermometers_agree_and_pressure_rises_with_temperature():
    cold, hot = (reactor.measure(Reactor(temperature=t), 50.0, Random(1)) for t in (350.0, 420.0))
    assert abs(cold["TI-1101"] - cold["TI-1102"]) < 1.0
    assert cold["TI-1101"] == pytest.approx(76.85, abs=0.5)
    assert hot["PI-1101"] > cold["PI-1101"]


def faces(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rows = list(islice(coal_face.course(seed), count))
    return np.array([cutting for cutting, _ in rows]), np.array([values["MM116"] for _, values in rows])


def test_one_seed_is_one_course():
    assert list(islice(coal_face.course(7), 500)) == list(islice(coal_face.course(7), 500))
    assert list(islice(coal_face.course(7), 500)) != list(islice(coal_face.course(8), 500))


def test_the_face_is_like_the_published_recording():
    """Long-run figures of MM116 in the recording: 0.96 % (spread 0.22) cutting, 0.69 % otherwise, 31 % of the
    time cutting, correlation 0.97 over a minute and 0.85 over 20 minutes."""
    courses = [faces(seed, 6000) for seed in range(6)]
    cutting = np.concatenate([c for c, _ in courses])
    methane = np.concatenate([m for _, m in courses])
    assert 0.2 < cutting.mean() < 0.45
    assert 0.8 < methane[cutting].mean() < 1.1
    assert 0.6 < methane[~cutting].mean() < 0.85
    assert 0.15 < methane[cutting].std() < 0.32
    assert 1.1 < np.quantile(methane[cutting], 0.95) < 1.6
    for lag, low, high in ((2, 0.93, 0.995), (40, 0.65, 0.95)):
        together = [np.corrcoef(m[:-lag], m[lag:])[0, 1] for _, m in courses]
        assert low < np.mean(together) < high


@given(st.integers(0, 2**32), st.floats(0.3, 0.9))
def test_less_air_is_more_methane(seed: int, share: float):
    def after(ventilation: float) -> float:
        noise, face = Random(seed), coal_face.Face()
        for _ in range(60):
            face = coal_face.step(face, 10.0, noise, cutting=True, ventilation=ventilation)
        return face.at_face

    assert after(share) > after(1.0)
