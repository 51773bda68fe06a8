"""The cold store keeps its heat and its ammonia, warms without its compressor, and its leaks poison the room."""

import csv
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.plant import Floats, Stage, kind, usual
from simulators.plants.cold_store import (
    AMMONIA_DENSITY,
    KIND,
    Design,
    Store,
    start,
    step,
    vapour_pressure,
    ventilation_flow,
)

DESIGN = KIND.design


class Still:
    """A generator that always gives the mean."""

    def standard_normal(self, n: int) -> Floats:
        return np.zeros(n)


STILL = Still()


def store(n: int = 1, **changed: float) -> Store:
    return replace(start(DESIGN, n, STILL), **{name: np.full(n, float(v)) for name, v in changed.items()})


def inputs(n: int = 1, **changed: float | Floats) -> dict[str, Floats]:
    return usual(KIND, n) | {name: np.broadcast_to(np.asarray(v, float), n) for name, v in changed.items()}


def run(state: Store, seconds: float, dt: float = 10.0, design: Design = DESIGN, **changed: float) -> Store:
    for _ in range(round(seconds / dt)):
        state = step(design, state, dt, inputs(len(state.room), **changed), STILL)
    return state


def times(hazard: str, hours: float, dt: float = 1.0, **changed: float) -> list[float]:
    """Seconds until the hazard is VISIBLE, DANGER, HARM; infinite where it does not come so far."""
    state, found = store(), [math.inf] * 3
    for i in range(round(hours * 3600 / dt)):
        state = step(DESIGN, state, dt, inputs(**changed), STILL)
        now = KIND.stages(DESIGN, state, inputs(**changed))[hazard].item()
        found = [min(at, i * dt) if now > j else at for j, at in enumerate(found)]
    return found


shares = st.floats(0.0, 1.0)
doings = st.fixed_dictionaries(
    {
        "compressor": shares,
        "door": shares,
        "leak": st.floats(0.0, 5.0),
        "ventilation": st.floats(0.0, 2.0),
        "emergency_ventilation": shares,
    }
)
stores = st.builds(
    store,
    room=st.floats(240.0, 290.0),
    goods=st.floats(240.0, 290.0),
    evaporating=st.floats(240.0, 265.0),
    condensing=st.floats(285.0, 315.0),
    near=st.floats(0.0, 0.3),
    far=st.floats(0.0, 0.3),
)


def air(design: Design, state: Store) -> Floats:
    """kg of ammonia in the machine room."""
    return design.around * state.near + (design.volume - design.around) * state.far


@given(stores, doings)
@settings(max_examples=40)
def test_what_left_the_plant_is_in_the_machine_rooms_air_or_was_blown_out(state: Store, doing):
    after, out, dt = state, 0.0, 0.5
    flow = ventilation_flow(DESIGN, inputs(**doing))
    for _ in range(240):
        before, after = after, step(DESIGN, after, dt, inputs(**doing), STILL)
        pushed = (before.charge - after.charge) / dt / AMMONIA_DENSITY
        out += (flow + pushed) * (before.far + after.far) / 2 * dt
    released = state.charge - after.charge
    assert released == pytest.approx((doing["leak"] / 60 + DESIGN.weep) * 120)
    assert air(DESIGN, after) - air(DESIGN, state) == pytest.approx(released - out, rel=1e-3, abs=1e-3)


@given(stores, doings, st.floats(0.1, 60.0))
def test_the_rooms_air_is_the_exact_solution_of_its_two_balances(state: Store, doing, dt: float):
    """Against the matrix exponential by its series, on the pair's own balances."""
    given_inputs = inputs(**doing)
    after = step(DESIGN, state, dt, given_inputs, STILL)
    gas = ((state.charge - after.charge) / dt / AMMONIA_DENSITY).item()
    fresh = ventilation_flow(DESIGN, given_inputs).item()
    mixing, small, large = 2.0 + 0.5 * fresh, 60.0, 540.0
    rates = np.array(
        [
            [-(mixing + gas) / small, mixing / small, gas * AMMONIA_DENSITY / small],
            [(mixing + gas) / large, -(mixing + fresh + gas) / large, 0.0],
            [0.0, 0.0, 0.0],
        ]
    )
    parts = 64
    tenth = rates * dt / parts
    once = (
        np.eye(3) + tenth + tenth @ tenth / 2 + tenth @ tenth @ tenth / 6 + tenth @ tenth @ tenth @ tenth / 24
    )
    x = np.linalg.matrix_power(once, parts) @ np.array([state.near.item(), state.far.item(), 1.0])
    assert after.near.item() == pytest.approx(x[0], rel=1e-6, abs=1e-12)
    assert after.far.item() == pytest.approx(x[1], rel=1e-6, abs=1e-12)


@given(stores, doings, st.floats(0.1, 1.0))
def test_what_the_store_gains_is_what_came_in_and_the_compressors_power_less_what_the_condensers_gave_off(
    state: Store, doing, dt: float
):
    """Over a short step, with the flows worked out from the state and the equations of state alone."""
    after = step(DESIGN, state, dt, inputs(**doing), STILL)
    held = {
        "room": DESIGN.room,
        "goods": DESIGN.goods,
        "evaporating": DESIGN.receiver,
        "condensing": DESIGN.high_side,
    }
    gained = sum(heat * (getattr(after, name) - getattr(state, name)) for name, heat in held.items())
    room, evaporating, condensing = (
        (getattr(state, name) + getattr(after, name)) / 2 for name in ("room", "evaporating", "condensing")
    )
    clock = after.clock / 86400
    warm = DESIGN.swing * np.sin(2 * np.pi * (clock - 9 / 24))
    busy = 0.5 + 0.5 * np.sin(2 * np.pi * (clock - 8 / 24))
    brought = (DESIGN.wall + DESIGN.door * doing["door"]) * (DESIGN.air + warm - room)
    brought += DESIGN.inside + DESIGN.work * busy
    load = np.clip((evaporating - DESIGN.evaporating) / 2 + 0.5, 0, 1) * doing["compressor"]
    taken = load * DESIGN.swept * vapour_pressure(evaporating) * 0.01703 / 8.314 / evaporating * 1.3e6
    power = taken * np.maximum(condensing - evaporating, 5) / DESIGN.efficiency / evaporating
    given_off = DESIGN.condensers * (condensing - (DESIGN.air - DESIGN.wet + warm / 2))
    assert gained.item() == pytest.approx(((brought + power - given_off) * dt).item(), abs=2e3 * dt, rel=2e-3)


def test_ammonia_boils_as_in_the_tables():
    """-33.3 °C at one atmosphere; 0.1902 MPa at -20 °C and 1.167 MPa at 30 °C (Stoecker, appendix)."""
    pressure = vapour_pressure(np.array([-33.33, -20.0, 30.0]) + 273.15)
    assert pressure == pytest.approx([101325, 190.2e3, 1167e3], rel=0.02)


@given(stores, shares, st.floats(0.05, 1.0), st.integers(1, 60))
@settings(max_examples=40)
def test_less_compressor_is_never_colder(state, compressor, more, minutes):
    less, much = (
        run(state, 60 * minutes, 60.0, compressor=min(c, 1.0)) for c in (compressor, compressor + more)
    )
    assert less.room >= much.room - 1e-6
    assert less.goods >= much.goods - 1e-6


@given(
    stores,
    st.floats(0.0, 4.5),
    st.floats(0.01, 0.5),
    st.floats(0.0, 2.0),
    st.floats(0.0, 0.9),
    st.floats(0.01, 0.1),
)
@settings(max_examples=40)
def test_a_bigger_leak_or_less_ventilation_never_makes_the_air_better(
    state, leak, more, usual_share, fans, further
):
    plain = run(state, 300, leak=leak, ventilation=usual_share, emergency_ventilation=fans)
    leaking = run(state, 300, leak=leak + more, ventilation=usual_share, emergency_ventilation=fans)
    assert leaking.near >= plain.near
    assert leaking.far >= plain.far
    clean = replace(state, near=state.near * 0, far=state.far * 0)
    still = run(clean, 300, leak=leak, ventilation=usual_share, emergency_ventilation=fans)
    blown = run(clean, 300, leak=leak, ventilation=usual_share, emergency_ventilation=fans + further)
    assert blown.far <= still.far + 1e-12


def test_the_air_can_hold_no_more_than_pure_ammonia():
    after = run(store(charge=1e6), 6 * 3600, 60.0, leak=5.0, ventilation=0.0)
    assert 0.3 * AMMONIA_DENSITY < after.far.item() < after.near.item() <= AMMONIA_DENSITY


def test_a_leak_ends_with_the_charge_and_an_empty_plant_does_not_cool():
    after = run(store(), 12 * 3600, 60.0, leak=5.0)
    assert after.charge.item() == 0
    assert after.far.item() < 1e-6
    assert after.room.item() > run(store(), 12 * 3600, 60.0).room.item() + 2


@given(stores, doings, st.integers(2, 30))
@settings(max_examples=40)
def test_many_short_steps_are_one_long_step(state, doing, parts):
    long, short = run(state, 60.0, 60.0, **doing), run(state, 60.0, 60.0 / parts, **doing)
    for name, tolerance in (("room", 0.03), ("goods", 0.01), ("evaporating", 0.3), ("condensing", 0.3)):
        assert getattr(short, name) == pytest.approx(getattr(long, name), abs=tolerance)
    for name in ("near", "far", "charge"):
        assert getattr(short, name) == pytest.approx(getattr(long, name), rel=1e-6)


@pytest.mark.parametrize(
    ("leak", "stage"), [(0.0, Stage.SAFE), (0.001, Stage.VISIBLE), (0.005, Stage.DANGER), (0.1, Stage.HARM)]
)
def test_the_size_of_a_leak_decides_how_bad_the_air_gets(leak: float, stage: Stage):
    state = run(store(), 3600, leak=leak)
    assert KIND.stages(DESIGN, state, inputs(leak=leak))["toxic_ammonia"].item() == stage


def test_a_leak_shows_then_endangers_then_harms():
    visible, danger, harm = times("toxic_ammonia", 1, leak=0.02)
    assert visible < danger < harm < 1800
    assert danger < 60


def test_emergency_fans_avert_the_harm_and_clear_the_air():
    state = run(store(), 120, leak=0.03)
    fans = run(state, 1200, leak=0.03, emergency_ventilation=1.0)
    assert KIND.stages(DESIGN, run(state, 1200, leak=0.03), inputs())["toxic_ammonia"].item() == Stage.HARM
    assert KIND.stages(DESIGN, fans, inputs())["toxic_ammonia"].item() < Stage.HARM
    cleared = run(fans, 1200, emergency_ventilation=1.0)
    assert KIND.stages(DESIGN, cleared, inputs())["toxic_ammonia"].item() == Stage.SAFE


def test_machine_room_without_ventilation_only_smells():
    state = run(store(), 2 * 86400, 60.0, ventilation=0.0)
    assert KIND.stages(DESIGN, state, inputs())["toxic_ammonia"].item() == Stage.VISIBLE


def test_a_stopped_compressor_shows_at_once_and_warms_the_goods_within_a_day():
    visible, danger, _ = times("warm_store", 24, 60.0, compressor=0.0)
    assert visible < 600, "the suction pressure rises at once"
    assert 6 * 3600 < danger < 24 * 3600
    _, sooner, harm = times("warm_store", 24, 60.0, compressor=0.0, door=1.0)
    assert sooner < danger
    assert sooner < harm < 24 * 3600


def test_pressures_tell_that_the_compressor_stands():
    after = run(store(), 7200, compressor=0.0)
    before, now = (KIND.measure(DESIGN, state, inputs()) for state in (run(store(), 7200), after))
    assert now["suction_pressure"] > before["suction_pressure"] + 0.05
    assert now["discharge_pressure"] < before["discharge_pressure"]


def test_the_plant_copes_with_an_open_door_until_its_compressor_is_weak():
    assert times("warm_store", 12, 60.0, door=1.0)[1] == math.inf
    assert times("warm_store", 48, 60.0, door=1.0, compressor=0.3)[1] < math.inf


@given(stores, doings, st.integers(0, 2**32))
@settings(max_examples=30)
def test_every_input_in_its_range_leaves_finite_figures(state, doing, seed):
    random = np.random.default_rng(seed)
    for dt in (0.1, 1.0, 60.0, 60.0, 60.0, 3.3) * 10:
        state = step(DESIGN, state, dt, inputs(**doing), random)
        assert all(np.isfinite(v).all() for v in KIND.measure(DESIGN, state, inputs(**doing)).values())
        assert ((state.near >= 0) & (state.far >= 0) & (state.charge >= 0)).all()
        assert ((state.room > 230) & (state.room < 310) & (state.evaporating > 230)).all()


def test_units_side_by_side_are_units_alone():
    leaks, rooms = np.linspace(0.0, 1.0, 5), np.linspace(400.0, 900.0, 5)
    together = start(Design(volume=rooms), 5, STILL)
    alone = [start(Design(volume=v), 1, STILL) for v in rooms]
    for _ in range(50):
        together = step(Design(volume=rooms), together, 30.0, inputs(5, leak=leaks, door=leaks), STILL)
        alone = [
            step(Design(volume=v), s, 30.0, inputs(leak=share, door=share), STILL)
            for v, s, share in zip(rooms, alone, leaks, strict=True)
        ]
    for i, one in enumerate(alone):
        for field in fields(Store):
            assert getattr(one, field.name)[0] == pytest.approx(getattr(together, field.name)[i], rel=1e-12)


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)]
)
def test_two_ordinary_days_are_safe_and_within_their_bounds(seed: int):
    random, n = np.random.default_rng(seed), 100
    state, ordinary = start(DESIGN, n, random), usual(KIND, n)
    lowest, highest = [math.inf] * 5, [-math.inf] * 5
    for _ in range(2 * 1440):
        state = step(DESIGN, state, 60.0, ordinary, random)
        now = list(KIND.measure(DESIGN, state, ordinary).values())
        lowest = [min(a, v.min()) for a, v in zip(lowest, now, strict=True)]
        highest = [max(a, v.max()) for a, v in zip(highest, now, strict=True)]
        assert not any(v.any() for v in KIND.stages(DESIGN, state, ordinary).values())
    for signal, low, high in zip(KIND.signals, lowest, highest, strict=True):
        assert signal.low <= low < high <= signal.high, signal.name


def test_one_seed_is_one_course():
    def course(seed: int) -> Floats:
        random = np.random.default_rng(seed)
        state = start(DESIGN, 3, random)
        for _ in range(20):
            state = step(DESIGN, state, 60.0, usual(KIND, 3), random)
        return state.room

    assert (course(7) == course(7)).all()
    assert (course(7) != course(8)).any()


def test_time_goes_forward():
    with pytest.raises(ValueError, match="forward"):
        step(DESIGN, store(), 0.0, inputs(), STILL)


def test_the_kind_is_whole():
    assert kind("cold_store") is KIND
    state = start(DESIGN, 2, np.random.default_rng(1))
    signals = {signal.name: signal for signal in KIND.signals}
    assert set(KIND.measure(DESIGN, state, usual(KIND, 2))) == set(signals)
    assert set(KIND.stages(DESIGN, state, usual(KIND, 2))) == {hazard.name for hazard in KIND.hazards}
    assert all(set(hazard.signals) <= set(signals) for hazard in KIND.hazards)
    rows = list(csv.DictReader(KIND.index.read_text("utf-8").splitlines()))
    assert {row["signal"] for row in rows} == set(signals)
    for row in rows:
        signal, far = signals[row["signal"]], 6 * float(row["noise"])
        assert row["engineering_unit"] == signal.unit
        assert not row["L"] or float(row["L"]) < signal.low - far
        assert not row["H"] or float(row["H"]) > signal.high + far
