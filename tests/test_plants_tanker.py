"""The ammonia tanker keeps mass, heat and the road, and only faults make it dangerous."""

import csv
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulators.plant import Stage, kind, usual
from simulators.plants import tanker
from simulators.plants.tanker import DAY, HOUR, KM, LIMIT, Design, Tanker

KIND = kind("tanker")
DESIGN = KIND.design
N = 4

inputs_drawn = st.fixed_dictionaries({i.name: st.floats(i.low, i.high) for i in KIND.inputs})


class Still:
    """Draws nothing: the process without its noise."""

    def standard_normal(self, shape: tuple[int, int]) -> np.ndarray:
        return np.zeros(shape)


def inputs(n: int = N, **changed: float) -> dict[str, np.ndarray]:
    return usual(KIND, n) | {name: np.full(n, value) for name, value in changed.items()}


def begun(n: int = N, *, seed: int = 1, **changed: float) -> Tanker:
    """On the road without any wander, with some fields as given."""
    state = KIND.start(DESIGN, n, np.random.default_rng(seed))
    still = dict.fromkeys(("cruise", "weather", "camber", "seals", "wind"), 0.0)
    return replace(state, **{name: np.full(n, value) for name, value in (still | changed).items()})


def full(n: int = N, km: float = 20.0, **changed: float) -> Tanker:
    return begun(
        n, **({"heading": 1.0, "mass": DESIGN.full, "position": 1000 * km, "temperature": 25.0} | changed)
    )


def run(state: Tanker, seconds: float, dt: float, design: Design = DESIGN, **changed: float) -> Tanker:
    held = inputs(len(state.time), **changed)
    for _ in range(round(seconds / dt)):
        state = KIND.step(design, state, dt, held, Still())
    return state


def total(state: Tanker) -> np.ndarray:
    return state.mass + state.leaked + state.relieved - state.loaded


def signals(state: Tanker, **changed: float) -> dict[str, np.ndarray]:
    return KIND.measure(DESIGN, state, inputs(len(state.time), **changed))


@given(inputs_drawn, st.floats(0.1, 60.0), st.integers(0, 99))
def test_no_ammonia_is_made_or_lost_and_all_stays_finite(held: dict[str, float], dt: float, seed: int):
    state = before = begun(seed=seed)
    for _ in range(10):
        state = run(state, dt, dt, **held)
    np.testing.assert_allclose(total(state), total(before), rtol=1e-12)
    assert (state.mass > 0).all()
    for field in fields(state):
        assert np.isfinite(getattr(state, field.name)).all(), field.name
    for value in signals(state, **held).values():
        assert np.isfinite(value).all()
    assert (state.temperature <= tanker.FLAME).all()


def test_mass_is_in_balance_over_a_day_of_loading_and_unloading():
    before = begun()
    after = run(before, DAY, 60.0)
    assert (after.loaded != before.loaded).any()
    np.testing.assert_allclose(total(after), total(before), rtol=1e-9)


@given(st.floats(0, 3000), st.floats(0, 1), st.floats(0.1, 2.0), st.booleans())
def test_the_tank_gains_the_heat_that_reaches_it(heat: float, spray: float, dt: float, loaded: bool):
    state = full() if loaded else full(mass=DESIGN.heel)
    after = run(state, dt, dt, heat=heat, spray=spray)
    held = inputs(heat=heat, spray=spray)
    middle = (state.temperature + after.temperature) / 2
    conductance, steady = tanker._warmth(DESIGN, state, state.time + dt / 2, held)
    capacity = state.mass * tanker.LIQUID_HEAT + DESIGN.steel * tanker.STEEL_HEAT
    reached = conductance * (steady - middle) * dt
    gained = capacity * (after.temperature - state.temperature)
    np.testing.assert_allclose(gained, reached, rtol=1e-3, atol=1.0)


def test_a_relief_valve_boils_off_what_the_fire_gives():
    """Pressure held by the valve: the heat that comes in leaves as latent heat of what goes out."""
    state = run(full(temperature=50.0), 2400, 10, heat=2000.0, speed_factor=0.0)
    after = run(state, 60, 10, heat=2000.0, speed_factor=0.0)
    conductance, steady = tanker._warmth(DESIGN, state, state.time, inputs(heat=2000.0))
    capacity = state.mass * tanker.LIQUID_HEAT + DESIGN.steel * tanker.STEEL_HEAT
    reached = conductance * (steady - state.temperature) * 60
    out = tanker.LATENT_HEAT * (after.relieved - state.relieved)
    gained = capacity * (after.temperature - state.temperature)
    assert (out > 0.5 * reached).all()
    np.testing.assert_allclose(out + gained, reached, rtol=0.02)
    assert (signals(after)["pressure"] < 1.1 * DESIGN.relief_set).all()


@given(st.floats(0, 2900), st.floats(1, 100), st.floats(0.1, 60))
@settings(max_examples=25)
def test_more_fire_is_never_less_pressure_nor_more_spray_more(heat: float, more: float, dt: float):
    """Exactly while the relief valve is shut; else within the tenth of its set pressure over which it opens."""
    for mass in (DESIGN.full, DESIGN.heel):
        state = full(temperature=35.0, mass=mass)
        sprayed, plain, hotter = (
            run(state, 5 * dt, dt, heat=h, spray=water)
            for h, water in ((heat, more / 100), (heat, 0), (heat + more, 0))
        )
        low, middle, high = (signals(after)["pressure"] for after in (sprayed, plain, hotter))
        slack = np.where(hotter.relieved > 0, 0.1 * DESIGN.relief_set, 1e-9)
        assert (low <= middle + slack).all()
        assert (middle <= high + slack).all()


@given(st.floats(0, 190), st.floats(0.1, 10))
@settings(max_examples=40)
def test_a_larger_leak_is_never_more_level_nor_less_gas(leak: float, more: float):
    little, much = (run(full(), 300, 10, leak=rate) for rate in (leak, leak + more))
    assert (much.mass < little.mass).all()
    assert (signals(much)["level"] < signals(little)["level"]).all()
    assert (signals(much)["gas"] > signals(little)["gas"]).all()


@given(st.floats(0, 1.9), st.floats(0.01, 0.1), st.floats(0.1, 64.9))
def test_more_haste_never_leaves_more_margin_against_rolling_over(haste: float, more: float, km: float):
    slow, fast = (run(full(km=km), 60, 5, speed_factor=f) for f in (haste, haste + more))
    assert (fast.position >= slow.position - 1e-6).all()
    assert (fast.rolled >= slow.rolled).all()


def ends_of_the_range(**more: float) -> dict[str, float]:
    return {"leak": 200.0, "heat": 3000.0, "spray": 0.0, "speed_factor": 0.0, "tilt": 0.0} | more


@given(
    inputs_drawn.map(lambda held: held | {"tilt": 0.0, "speed_factor": min(held["speed_factor"], 1.0)}),
    st.sampled_from([20.0, 52.0]),
)
@example(ends_of_the_range(righted=0.0, outdoors=42.0), 20.0)
@example(ends_of_the_range(righted=0.0, outdoors=42.0, heat=0.0, spray=1.0), 20.0)
@example(ends_of_the_range(righted=0.0, outdoors=42.0, leak=0.0), 52.0)
@settings(max_examples=20)
def test_many_short_steps_are_nearly_one_long_step(held: dict[str, float], temperature: float):
    """Driving tankers, empty and full, and one that is being loaded; from 52 °C a fire lifts the relief valve."""
    state = begun(5, temperature=temperature)
    stands = np.arange(5) == 4
    state = replace(
        state,
        position=np.where(stands, 0.0, state.position),
        heading=np.where(stands, 1.0, state.heading),
        mass=np.where(stands, DESIGN.heel, state.mass),
        staying=np.where(stands, 300.0, 0.0),
    )
    long, short = run(state, 60, 60.0, **held), run(state, 60, 1.0, **held)
    np.testing.assert_allclose(long.position, short.position, atol=2.0)
    np.testing.assert_allclose(long.loaded, short.loaded, rtol=1e-9)
    np.testing.assert_allclose(long.leaked, short.leaked, rtol=0.04, atol=0.1)
    if (
        temperature > 20
    ):  # the less there is in it, the faster the fire drives the pressure about the valve's set point
        holds_much = state.mass > DESIGN.heel
        assert (np.abs(long.relieved - short.relieved) <= np.where(holds_much, 4.0, 10.0)).all()
        assert (np.abs(long.temperature - short.temperature) <= np.where(holds_much, 0.1, 2.0)).all()
    else:
        assert (short.relieved == 0).all()
        np.testing.assert_allclose(long.temperature, short.temperature, atol=0.4)


def test_units_do_not_know_of_each_other():
    together = begun(n=6)
    alone = [Tanker(*(getattr(together, f.name)[i : i + 1] for f in fields(together))) for i in range(6)]
    heats = np.linspace(0, 3000, 6)
    for _ in range(60):
        together = KIND.step(DESIGN, together, 30.0, inputs(6) | {"heat": heats}, Still())
        for i in range(6):
            alone[i] = KIND.step(DESIGN, alone[i], 30.0, inputs(1) | {"heat": heats[i : i + 1]}, Still())
    for field in fields(together):
        one_by_one = np.concatenate([getattr(state, field.name) for state in alone])
        np.testing.assert_allclose(getattr(together, field.name), one_by_one, rtol=1e-12)


@pytest.mark.parametrize(
    ("dt", "days", "seed"),
    [
        (60.0, 1, 1),
        (10.0, 0.25, 3),
        (1.0, 0.02, 4),
        pytest.param(60.0, 2, 1, marks=pytest.mark.long),
        pytest.param(60.0, 2, 2, marks=pytest.mark.long),
        pytest.param(10.0, 1, 3, marks=pytest.mark.long),
        pytest.param(1.0, 0.05, 4, marks=pytest.mark.long),
    ],
)
def test_an_ordinary_day_is_safe_and_within_its_signals(dt: float, days: float, seed: int):
    n, random = 100, np.random.default_rng(seed)
    state, held = KIND.start(DESIGN, n, random), usual(KIND, n)
    for _ in range(round(days * DAY / dt)):
        state = KIND.step(DESIGN, state, dt, held, random)
        values = KIND.measure(DESIGN, state, held)
        for signal in KIND.signals:
            assert (values[signal.name] >= signal.low).all(), signal.name
            assert (values[signal.name] <= signal.high).all(), signal.name
        for name, stages in KIND.stages(DESIGN, state, held).items():
            assert (stages == Stage.SAFE).all(), name


def test_it_drives_out_full_and_home_empty_and_stops_on_the_way():
    state = begun(1, position=0.0, heading=1.0, staying=0.0, mass=DESIGN.full)
    stops, turns, unloaded = set(), 0, 0
    for _ in range(4 * 360):
        after = run(state, 10, 10)
        assert abs(after.position[0] - state.position[0]) <= 10 * 83 / 3.6
        if after.staying[0] > state.staying[0]:
            stops.add(round(after.position[0] / 1000, 2))
        turns += after.heading[0] != state.heading[0]
        unloaded += after.heading[0] < 0 and after.position[0] < 60_000 and after.mass[0] == DESIGN.heel
        state = after
    assert stops == {3.5, 38.0, 65.0}
    assert turns == 1
    assert unloaded > 100


def test_it_never_drives_faster_than_its_stretch_of_road_allows():
    state = begun(50)
    for _ in range(2000):
        state = run(state, 5, 5)
        assert (3.6 * state.speed <= 1.05 * LIMIT[tanker._segment(state)]).all()
    assert KM[0] <= state.position.min() / 1000 <= state.position.max() / 1000 <= KM[-1]


def first(state: Tanker, hazard: str, seconds: float, dt: float = 5.0, **changed: float) -> list[float]:
    """Seconds until each stage is first reached, inf where it is not."""
    reached = [float("inf")] * 4
    for now in np.arange(0, seconds, dt):
        state = run(state, dt, dt, **changed)
        for stage in range(int(KIND.stages(DESIGN, state, inputs(**changed))[hazard].max()) + 1):
            reached[stage] = min(reached[stage], float(now))
    return reached


def test_a_fire_lifts_the_relief_valve_after_minutes_and_water_in_time_averts_it():
    _, visible, danger, harm = first(
        full(), "tank_pressure", 2 * HOUR, dt=10.0, heat=1000.0, speed_factor=0.0
    )
    assert visible < danger < harm
    assert 1200 < harm < HOUR
    assert harm - danger > 900  # what people need
    warmed = run(full(), danger + 600, 10, heat=1000.0, speed_factor=0.0)
    averted = first(warmed, "tank_pressure", 2 * HOUR, dt=10.0, heat=1000.0, spray=1.0, speed_factor=0.0)
    assert averted[Stage.HARM] == float("inf")


@pytest.mark.parametrize(
    ("leak", "stage"), [(0.0, Stage.SAFE), (0.01, Stage.VISIBLE), (0.2, Stage.DANGER), (60.0, Stage.HARM)]
)
def test_how_bad_a_leak_is(leak: float, stage: Stage):
    stages = KIND.stages(DESIGN, full(), inputs(leak=leak))["toxic_leak"]
    assert (stages == stage).all()


def test_a_leak_empties_the_tank_until_only_vapour_without_pressure_is_left():
    state = run(full(), 4 * HOUR, 60, leak=200.0, speed_factor=0.0)
    values = signals(state)
    assert (values["level"] == 0).all()
    assert (np.abs(values["pressure"]) < 0.01).all()


def test_haste_rolls_it_over_in_the_next_bend_and_a_crane_sets_it_upright():
    _, visible, danger, harm = first(full(km=55.0), "roll_over", 600, dt=1.0, speed_factor=2.0)
    assert visible < danger < harm < 300
    lying = run(full(km=55.0), 400, 5, speed_factor=2.0)
    assert (signals(lying)["inclination"] == 90).all()
    assert (lying.speed == 0).all()
    assert (run(lying, 300, 5).position == lying.position).all()
    again = run(lying, 300, 5, righted=1.0)
    assert (again.position > lying.position).all()


@pytest.mark.parametrize(("tilt", "stage"), [(4, 0), (12, 1), (16, 2), (25, 3), (-25, 3), (90, 3)])
def test_how_far_it_may_lean(tilt: float, stage: int):
    state = run(full(speed=0.0), 10, 5, tilt=tilt, speed_factor=0.0)
    assert (KIND.stages(DESIGN, state, inputs(tilt=tilt))["roll_over"] == stage).all()


def test_figures_of_ammonia():
    """NIST Chemistry WebBook, saturation: 20 °C 0.8575 MPa, 50 °C 2.033 MPa; 610.2 and 562.9 kg/m³."""
    assert tanker.vapour_pressure(np.array([20.0, 50.0])) == pytest.approx([0.8575, 2.033], rel=0.01)
    assert tanker.liquid_density(np.array([20.0, 50.0])) == pytest.approx([610.2, 562.9], rel=0.003)
    assert signals(full(temperature=20.0))["level"] == pytest.approx(85, abs=1)


def test_the_index_measures_what_the_kind_has():
    with KIND.index.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert {row["signal"] for row in rows} == {signal.name for signal in KIND.signals}
    known = {signal.name: signal for signal in KIND.signals}
    for row in rows:
        signal = known[row["signal"]]
        assert row["engineering_unit"] == signal.unit
        for limit, side in (("LL", -1), ("L", -1), ("H", 1), ("HH", 1)):
            if row[limit]:
                bound = signal.low if side < 0 else signal.high
                assert (float(row[limit]) - bound) * side > 3 * float(row["noise"]), row["point"]
