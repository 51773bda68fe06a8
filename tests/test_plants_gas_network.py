"""The gas networks keep their balance, a leak can be found by it, and they are quiet while nothing is wrong."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.plant import Floats, Stage, kind, usual
from simulators.plants.gas_network import KIND, Design, Network, line_pack

CALM = replace(KIND.design, people=0.0, wind=0.0, habits=0.0, hunting=0.0, supply=0.0, begins=43200.0)
"""At noon and without chance."""

EVERY_INPUT = st.fixed_dictionaries({x.name: st.floats(x.low, x.high) for x in KIND.inputs})


def inputs_of(n: int, **changed: float) -> dict[str, Floats]:
    return {**usual(KIND, n), **{name: np.full(n, value) for name, value in changed.items()}}


def run(
    design: Design, n: int, seconds: float, dt: float, state: Network | None = None, **changed: float
) -> Network:
    random, inputs = np.random.default_rng(1), inputs_of(n, **changed)
    state = KIND.start(design, n, random) if state is None else state
    for _ in range(round(seconds / dt)):
        state = KIND.step(design, state, dt, inputs, random)
    return state


def reached(seconds: int, hazard: str, every: int = 1, **changed: float) -> dict[int, int]:
    """After how many seconds a network at noon, without chance, has come to each stage."""
    random, inputs = np.random.default_rng(2), inputs_of(1, **changed)
    state, found = run(CALM, 1, 600, 10.0), {}
    for second in range(every, seconds + 1, every):
        state = KIND.step(CALM, state, float(every), inputs, random)
        for stage in range(1, int(KIND.stages(CALM, state, inputs)[hazard][0]) + 1):
            found.setdefault(stage, second)
    return found


@given(EVERY_INPUT, st.sampled_from([0.1, 1.0, 13.0, 60.0]), st.integers(0, 1000))
def test_what_comes_in_is_used_leaks_or_stays_in_the_pipes(changed: dict[str, float], dt: float, seed: int):
    random, inputs = np.random.default_rng(seed), inputs_of(4, **changed)
    state = KIND.start(KIND.design, 4, random)
    for _ in range(20):
        after = KIND.step(KIND.design, state, dt, inputs, random)
        packed = line_pack(KIND.design, after) - line_pack(KIND.design, state)
        came = (after.flow - after.demand - after.leak) * dt / 3600
        assert came == pytest.approx(packed, abs=1e-9)
        assert (after.flow <= 1.2 * KIND.design.capacity * changed["regulator"] + 1e-6).all()
        state = after


@given(EVERY_INPUT, st.sampled_from([0.1, 1.0, 60.0]))
def test_the_regulator_gives_what_its_curve_says_for_the_pressure(changed: dict[str, float], dt: float):
    before = run(CALM, 1, 600, 10.0)
    after = run(CALM, 1, dt, dt, before, **changed)
    held_at = CALM.set_point * (1 + changed["regulator_over"])
    opening = np.clip((held_at - after.pressure) / CALM.droop, 0, 1)
    choked = (after.inlet * 1000 + 101.325) / (CALM.inlet * 1000 + 101.325)
    assert after.flow == pytest.approx(
        CALM.capacity * changed["regulator"] * choked * opening, abs=1e-5 * (1 + 60 / dt)
    )


@given(st.floats(0.5, 60.0), st.floats(0.0, 1.0))
def test_a_leak_is_found_by_the_balance(leak: float, share: float):
    random, inputs = np.random.default_rng(5), inputs_of(10, leak=leak, leak_into_space=share)
    first = state = KIND.start(KIND.design, 10, random)
    missing, put_in = np.zeros(10), np.zeros(10)
    for _ in range(60):
        state = KIND.step(KIND.design, state, 60.0, inputs, random)
        missing += (state.flow - state.demand) / 60
        put_in += leak * np.sqrt(state.pressure / KIND.design.nominal) / 60
    missing -= line_pack(KIND.design, state) - line_pack(KIND.design, first)
    assert missing == pytest.approx(put_in, rel=1e-6)
    assert missing == pytest.approx(leak, rel=0.05)  # the pressure is held, so it is the leak that was put in


@given(st.floats(0.0, 200.0), st.floats(0.05, 20.0), st.sampled_from([0.1, 1.0, 60.0]))
def test_the_gas_of_a_leak_stays_in_the_spaces_or_leaves_with_the_air(leak: float, air: float, dt: float):
    def held(state: Network) -> float:
        return float(state.room[0] * CALM.room + state.hall[0] * CALM.hall)

    state = run(CALM, 1, 600, 60.0, leak=5.0)
    inputs = {"leak": leak, "ventilation": air}
    after = run(CALM, 1, dt, dt, state, **inputs)
    came = after.leak[0] + CALM.trace
    past = (CALM.room_air + CALM.hall_air) * air + came
    # the hall's share runs from one value to the other, so what leaves lies between
    ends = sorted((state.hall[0] * past, after.hall[0] * past))
    left = came - (held(after) - held(state)) * 3600 / dt
    between = 0.05 * (ends[1] + came) if dt > 1 else 1e-3 * (ends[1] + came) + 1e-6
    assert ends[0] - between <= left <= ends[1] + between
    assert 0 <= after.hall[0] < 1
    assert 0 <= after.room[0] < 1


@given(st.floats(0.0, 180.0), st.floats(1.0, 20.0), st.floats(0.2, 10.0), st.sampled_from([6.0, 30.0]))
@settings(max_examples=40)
def test_a_bigger_leak_is_never_more_pressure_nor_less_gas(leak: float, more: float, air: float, dt: float):
    little = run(CALM, 1, 600, dt, leak=leak, ventilation=air)
    much = run(CALM, 1, 600, dt, leak=leak + more, ventilation=air)
    aired = run(CALM, 1, 600, dt, leak=leak, ventilation=air * 2)
    assert much.pressure[0] <= little.pressure[0]
    assert much.room[0] > little.room[0] > aired.room[0]
    assert much.hall[0] > little.hall[0]
    assert much.flow[0] >= little.flow[0]


@given(st.floats(0.0, 3.0), st.floats(0.5, 1.0), st.floats(0.1, 1.0))
def test_more_demand_or_a_worse_regulator_is_never_more_pressure(demand: float, share: float, more: float):
    base = run(CALM, 1, 60, 5.0, demand=demand, regulator=share)
    assert run(CALM, 1, 60, 5.0, demand=demand + more, regulator=share).pressure[0] <= base.pressure[0]
    assert run(CALM, 1, 60, 5.0, demand=demand, regulator=share / 2).pressure[0] <= base.pressure[0] + 1e-12


@given(st.floats(0.0, 50.0), st.floats(0.05, 20.0), st.floats(0.0, 1.0), st.integers(2, 60))
@settings(max_examples=50)
def test_many_short_steps_are_one_long_step(leak: float, air: float, demand: float, parts: int):
    before = run(CALM, 1, 600, 10.0, leak=2.0)
    changed = {"leak": leak, "ventilation": air, "demand": demand}
    long, short = run(CALM, 1, 60, 60.0, before, **changed), run(CALM, 1, 60, 60 / parts, before, **changed)
    assert short.pressure == pytest.approx(long.pressure, abs=0.01)
    assert short.room == pytest.approx(long.room, rel=0.02, abs=1e-6)
    assert short.hall == pytest.approx(long.hall, rel=0.05, abs=1e-4)


@given(st.lists(EVERY_INPUT, min_size=2, max_size=5))
def test_units_do_not_know_of_each_other(cases: list[dict[str, float]]):
    before = run(CALM, len(cases), 60, 10.0)
    inputs = {name: np.array([case[name] for case in cases]) for name in cases[0]}
    together = KIND.step(CALM, before, 20.0, inputs, np.random.default_rng(0))
    for unit, case in enumerate(cases):
        single = Network(*(getattr(before, name)[unit : unit + 1] for name in Network.__slots__))
        alone = run(CALM, 1, 20, 20.0, single, **case)
        assert alone.pressure[0] == pytest.approx(together.pressure[unit], rel=1e-12, abs=1e-12)
        assert alone.hall[0] == pytest.approx(together.hall[unit], rel=1e-12, abs=1e-15)


@given(EVERY_INPUT, st.sampled_from([0.1, 1.0, 7.3, 60.0]), st.integers(0, 1000))
def test_every_input_in_its_range_gives_physical_values(changed: dict[str, float], dt: float, seed: int):
    random, inputs = np.random.default_rng(seed), inputs_of(3, **changed)
    state = KIND.start(KIND.design, 3, random)
    for _ in range(100):
        state = KIND.step(KIND.design, state, dt, inputs, random)
    for name, values in KIND.measure(KIND.design, state, inputs).items():
        assert np.isfinite(values).all(), name
        assert (values >= 0).all(), name
    assert (state.room < 1).all()


@pytest.mark.parametrize(
    ("seed", "dt", "winter"),
    [(1, 60.0, 1.0), (2, 60.0, 0.0), pytest.param(3, 10.0, 1.0, marks=pytest.mark.long)],
)
def test_ordinary_days_are_safe(seed: int, dt: float, winter: float):
    design = replace(KIND.design, winter=winter)
    random, inputs = np.random.default_rng(seed), inputs_of(100)
    state = KIND.start(design, 100, random)
    flows = []
    for _ in range(round(86400 / dt)):
        state = KIND.step(design, state, dt, inputs, random)
        values = KIND.measure(design, state, inputs)
        flows.append(values["flow"].mean())
        for signal in KIND.signals:
            assert values[signal.name].min() >= signal.low or signal.name == "flow", signal.name
            assert values[signal.name].max() <= signal.high, signal.name
        assert not any(stage.any() for stage in KIND.stages(design, state, inputs).values())
    assert max(flows) > 1.8 * min(flows)


def test_gas_builds_up_the_faster_the_more_leaks_and_airing_helps():
    small, large = (reached(7200, "flammable_gas", 5, leak=leak) for leak in (1.0, 5.0))
    assert 120 < small[Stage.VISIBLE] < small[Stage.DANGER] < 3600
    assert Stage.HARM not in small
    assert large[Stage.VISIBLE] < 120 < large[Stage.DANGER] < 600 < large[Stage.HARM] < 3600
    assert Stage.DANGER not in reached(7200, "flammable_gas", 5, leak=5.0, ventilation=20.0)
    assert reached(7200, "flammable_gas", 5, leak=50.0, leak_into_space=0.0) == {}
    filled = run(CALM, 1, 3600, 10.0, leak=5.0)
    shut = run(CALM, 1, 3600, 10.0, filled, leak=5.0, regulator=0.0, ventilation=10.0)
    assert not KIND.stages(CALM, shut, inputs_of(1))["flammable_gas"].any()


def test_a_worn_regulator_is_over_pressure_and_a_shut_one_puts_the_flames_out():
    assert reached(600, "over_pressure", regulator_over=0.3).keys() == {Stage.VISIBLE, Stage.DANGER}
    assert reached(600, "over_pressure", regulator_over=5.0).keys() == set(Stage) - {Stage.SAFE}
    lost = reached(600, "pressure_lost", regulator=0.0)
    assert 0 < lost[Stage.VISIBLE] < lost[Stage.DANGER] < lost[Stage.HARM] < 300


def test_a_leak_outdoors_shows_in_the_flow_alone():
    dry, leaking = run(CALM, 1, 600, 10.0), run(CALM, 1, 600, 10.0, leak=50.0, leak_into_space=0.0)
    assert leaking.flow[0] - dry.flow[0] == pytest.approx(50.0, abs=5.0)
    assert leaking.room[0] == pytest.approx(dry.room[0], rel=1e-9)


def test_the_same_seed_is_the_same_course_and_time_goes_forward():
    one, two = (run(KIND.design, 5, 3000, 30.0).pressure for _ in range(2))
    assert np.array_equal(one, two)
    with pytest.raises(ValueError, match="forward"):
        KIND.step(CALM, run(CALM, 1, 1, 1.0), 0.0, inputs_of(1), np.random.default_rng(1))


def test_the_index_names_signals_and_no_limit_is_within_an_ordinary_day():
    signals = {signal.name: signal for signal in KIND.signals}
    with KIND.index.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert kind("gas_network") is KIND
    assert {row["signal"] for row in rows} == set(signals)
    assert len({row["point"] for row in rows}) == len(rows)
    for row in rows:
        signal = signals[row["signal"]]
        assert row["engineering_unit"] == signal.unit
        assert all(float(row[limit]) > signal.high for limit in ("H", "HH") if row[limit])
        assert all(float(row[limit]) < signal.low for limit in ("LL", "L") if row[limit])
