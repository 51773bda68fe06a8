"""The kitchen on LPG keeps its gas in balance, and only faults make it dangerous."""

import csv
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.plant import Stage, kind, usual
from simulators.plants import restaurant
from simulators.plants.restaurant import DAY, HOUR, LEL, Design, Kitchen

KIND = kind("restaurant")
QUIET = replace(KIND.design, load_spread=0.0, weather_spread=0.0)
N = 4

inputs_drawn = st.fixed_dictionaries({i.name: st.floats(i.low, i.high) for i in KIND.inputs})


def inputs(n: int = N, **changed: float) -> dict[str, np.ndarray]:
    return usual(KIND, n) | {name: np.full(n, value) for name, value in changed.items()}


def begun(design: Design = QUIET, n: int = N, *, hour: float = 8.0, seed: int = 1) -> Kitchen:
    return KIND.start(replace(design, begins=hour * HOUR), n, np.random.default_rng(seed))


def run(
    state: Kitchen, seconds: float, dt: float, *, design: Design = QUIET, seed: int = 1, **changed: float
) -> Kitchen:
    random, held = np.random.default_rng(seed), inputs(len(state.time), **changed)
    for _ in range(round(seconds / dt)):
        state = KIND.step(design, state, dt, held, random)
    return state


def total(state: Kitchen) -> np.ndarray:
    return state.content + state.floor + state.above + state.vented + state.burnt - state.brought


def gas(state: Kitchen, design: Design = QUIET) -> np.ndarray:
    return KIND.measure(design, state, inputs(len(state.time)))["gas"]


@given(inputs_drawn, st.floats(0.1, 60.0), st.floats(0, 24), st.integers(0, 99))
def test_no_gas_is_made_or_lost(held: dict[str, float], dt: float, hour: float, seed: int):
    state = before = begun(hour=hour, seed=seed)
    for _ in range(5):
        state = run(state, dt, dt, **held)
        np.testing.assert_allclose(total(state), total(before), rtol=1e-12)
    assert (state.vented >= -1e-12).all()
    for field in fields(state):
        assert np.isfinite(getattr(state, field.name)).all(), field.name
    for value in KIND.measure(QUIET, state, inputs(**held)).values():
        assert np.isfinite(value).all()


def test_gas_is_in_balance_over_days_of_exchanged_cylinders():
    before = begun()
    after = run(before, 9 * DAY, 60.0)
    assert (after.brought > 90).all()
    np.testing.assert_allclose(total(after), total(before), rtol=1e-9)


def test_the_layers_follow_their_equation():
    """The closed form against small explicit steps."""
    state = replace(begun(), floor=np.full(N, 0.3), above=np.full(N, 0.1))
    source, hood, outside = np.full(N, 2e-3), np.full(N, 0.4), np.full(N, 0.05)
    low, high = QUIET.floor_share * QUIET.volume, (1 - QUIET.floor_share) * QUIET.volume
    floor, above, vented = 0.3, 0.1, 0.0
    h = 0.01
    for _ in range(6000):
        up = (0.4 + QUIET.stirring / HOUR) * floor / low - QUIET.stirring / HOUR * above / high
        out_low = 0.05 * QUIET.floor_share * floor / low
        out_high = (0.4 + 0.05 * (1 - QUIET.floor_share)) * above / high
        floor, above = floor + h * (2e-3 - up - out_low), above + h * (up - out_high)
        vented += h * (out_low + out_high)
    found = restaurant._layers(QUIET, state, 60.0, source, hood, outside)
    np.testing.assert_allclose([part[0] for part in found], [floor, above, vented], rtol=1e-3)


@given(st.floats(0.5, 20), st.floats(0.1, 5))
def test_what_evaporates_cools_the_liquid_by_its_latent_heat(leak: float, dt: float):
    state = begun(hour=1.0)  # nobody cooks
    after = run(state, dt, dt, leak=leak)
    capacity = state.content * QUIET.liquid_heat + QUIET.tare * QUIET.steel_heat
    held = inputs(leak=leak)
    room = QUIET.wall * (restaurant.surroundings(QUIET, state, held) - state.cylinder) * dt
    taken = QUIET.latent_heat * (state.content - after.content)
    gained = capacity * (after.cylinder - state.cylinder)
    np.testing.assert_allclose(gained, room - taken, atol=2e-3 * np.abs(taken).max() + 1)


@given(st.floats(0, 19), st.floats(0.1, 1), st.floats(0, 24))
def test_a_larger_leak_is_never_less_gas_nor_an_open_door_more(leak: float, more: float, hour: float):
    state = run(begun(hour=hour), 600, 60.0, leak=leak)
    assert (gas(run(state, 300, 30, leak=leak + more)) >= gas(run(state, 300, 30, leak=leak)) - 1e-9).all()
    assert (
        gas(run(state, 300, 30, leak=leak, door=more)) <= gas(run(state, 300, 30, leak=leak)) + 1e-9
    ).all()


@given(st.floats(0, 0.9), st.floats(0.01, 0.1))
@settings(max_examples=40)
def test_less_hood_is_never_less_gas_nor_less_carbon_monoxide(hood: float, more: float):
    state = begun(hour=11.5)
    weak, strong = (run(state, 1800, 60, hood=h, leak=2.0) for h in (hood, hood + more))
    assert (gas(weak) >= gas(strong)).all()
    assert (weak.co >= strong.co).all()


@given(inputs_drawn, st.floats(0, 24))
@settings(max_examples=30)
def test_many_short_steps_are_nearly_one_long_step(held: dict[str, float], hour: float):
    state = replace(begun(hour=hour), content=np.full(N, 60.0))
    long, short = run(state, 60, 60.0, **held), run(state, 60, 1.0, **held)
    np.testing.assert_allclose(long.floor, short.floor, rtol=0.08, atol=2e-3)
    np.testing.assert_allclose(long.content, short.content, atol=0.02)
    np.testing.assert_allclose(long.cylinder, short.cylinder, atol=0.1)


def test_units_do_not_know_of_each_other():
    together = begun(n=6)
    alone = [Kitchen(*(getattr(together, f.name)[i : i + 1] for f in fields(together))) for i in range(6)]
    leaks = np.linspace(0, 20, 6)
    random = np.random.default_rng(0)
    for _ in range(50):
        together = KIND.step(QUIET, together, 30.0, inputs(6) | {"leak": leaks}, random)
        for i in range(6):
            alone[i] = KIND.step(QUIET, alone[i], 30.0, inputs(1) | {"leak": leaks[i : i + 1]}, random)
    for field in fields(together):
        one_by_one = np.concatenate([getattr(state, field.name) for state in alone])
        np.testing.assert_allclose(getattr(together, field.name), one_by_one, rtol=1e-12)


@pytest.mark.parametrize(
    ("dt", "days", "seed"),
    [
        (60.0, 2, 1),
        (10.0, 0.5, 3),
        pytest.param(60.0, 5, 1, marks=pytest.mark.long),
        pytest.param(60.0, 5, 2, marks=pytest.mark.long),
        pytest.param(10.0, 1, 3, marks=pytest.mark.long),
    ],
)
def test_an_ordinary_day_is_safe_and_within_its_signals(dt: float, days: float, seed: int):
    n, random = 100, np.random.default_rng(seed)
    state, held = KIND.start(KIND.design, n, random), usual(KIND, n)
    for _ in range(round(days * DAY / dt)):
        state = KIND.step(KIND.design, state, dt, held, random)
        values = KIND.measure(KIND.design, state, held)
        for signal in KIND.signals:
            assert (values[signal.name] >= signal.low).all(), signal.name
            assert (values[signal.name] <= signal.high).all(), signal.name
        for stages in KIND.stages(KIND.design, state, held).values():
            assert (stages == Stage.SAFE).all()


def worst(state: Kitchen, hazard: str, seconds: float, **changed: float) -> list[float]:
    """Seconds until each stage is first reached, inf where it is not."""
    reached = [float("inf")] * 4
    for now in range(0, round(seconds), 10):
        state = run(state, 10.0, 10.0, **changed)
        for stage in range(int(KIND.stages(QUIET, state, inputs(**changed))[hazard].max()) + 1):
            reached[stage] = min(reached[stage], now)
    return reached


def test_a_leak_at_night_goes_from_visible_to_an_explosive_room():
    night = replace(begun(hour=22.5), content=np.full(N, 99.0))
    _, visible, danger, harm = worst(night, "flammable_gas", 3 * HOUR, leak=8.0)
    assert visible < danger < harm < 2 * HOUR
    assert danger > 60


def test_the_same_leak_under_the_hood_is_no_danger_and_a_shut_valve_ends_it():
    noon = replace(begun(hour=11.0), content=np.full(N, 99.0))
    assert worst(noon, "flammable_gas", HOUR, leak=8.0)[Stage.DANGER] == float("inf")
    night = run(replace(begun(hour=22.5), content=np.full(N, 99.0)), HOUR, 10, leak=8.0)
    assert (gas(night) > 50).all()
    shut = run(night, HOUR, 10, leak=8.0, valve=0.0, door=1.0)
    assert (gas(shut) < 1).all()
    assert (shut.content == night.content).all()


def test_a_burner_left_open_unlit_at_night_is_a_danger():
    assert worst(begun(hour=22.5), "flammable_gas", 2 * HOUR, flame_out=1.0)[Stage.DANGER] < HOUR


def test_starved_flames_without_a_hood_poison_the_cook():
    visible, danger, harm = worst(begun(hour=11.0), "carbon_monoxide", 3 * HOUR, starved=1.0, hood=0.0)[1:]
    assert visible <= danger < harm < 2 * HOUR


def test_a_large_leak_throttles_itself_by_cold():
    state = replace(begun(hour=1.0), content=np.full(N, 40.0))
    first = state.content - run(state, 60, 10, leak=20.0).content
    later = run(state, HOUR, 10, leak=20.0)
    assert (later.cylinder < -5).all()
    assert (later.content - run(later, 60, 10, leak=20.0).content < 0.7 * first).all()


def test_an_empty_cylinder_leaks_nothing():
    state = run(replace(begun(hour=22.0), content=np.full(N, 0.01)), HOUR, 60, leak=20.0)
    assert (state.content == 0).all()


def test_figures_of_the_substance():
    """At 20 °C propane boils at 8.36 bar and n-butane at 2.08 bar (NIST Chemistry WebBook)."""
    assert restaurant.vapour_pressure(np.array(20.0)) == pytest.approx(5.22e5, rel=0.02)
    assert pytest.approx(0.0424, rel=0.01) == LEL
    flow = restaurant.nozzle(np.array(20.0)) * 1e-6  # kg/s of a square millimetre: choked
    assert flow == pytest.approx(1.5e-3, rel=0.1)


def test_the_index_measures_what_the_kind_has():
    with KIND.index.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    signals = {signal.name: signal for signal in KIND.signals}
    for row in rows:
        signal = signals[row["signal"]]
        assert row["engineering_unit"] == signal.unit
        for limit, side in (("L", -1), ("H", 1), ("HH", 1)):
            if row[limit]:
                bound = signal.low if side < 0 else signal.high
                assert (float(row[limit]) - bound) * side > 3 * float(row["noise"]), row["point"]
