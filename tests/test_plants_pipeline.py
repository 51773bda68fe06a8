"""The pipelines lose no oil but through the leak, whose wave comes to each end in its time."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.plant import Floats, Stage, kind, usual
from simulators.plants.pipeline import KIND, Design, Section, line_pack

CALM = replace(KIND.design, ripple=0.0, takers=0.0, lowest_order=1.0)
"""Without chance: the pump always at full speed."""
IMPEDANCE = 850.0 * 1000.0 / (np.pi / 4 * 0.39**2)
"""Pa for each m³/s of a wave: density * wave speed / area (Joukowsky)."""

EVERY_INPUT = st.fixed_dictionaries({x.name: st.floats(x.low, x.high) for x in KIND.inputs})


def inputs_of(n: int, **changed: float | Floats) -> dict[str, Floats]:
    return {**usual(KIND, n), **{name: np.full(n, value) for name, value in changed.items()}}


def run(
    design: Design, n: int, seconds: float, dt: float, state: Section | None = None, **changed: float | Floats
) -> Section:
    random, inputs = np.random.default_rng(1), inputs_of(n, **changed)
    state = KIND.start(design, n, random) if state is None else state
    for _ in range(round(seconds / dt)):
        state = KIND.step(design, state, dt, inputs, random)
    return state


def reached(seconds: int, hazard: str, **changed: float) -> dict[int, int]:
    """After how many seconds a section without chance has come to each stage."""
    random, inputs = np.random.default_rng(2), inputs_of(1, **changed)
    state, found = run(CALM, 1, 60, 10.0), {}
    for second in range(1, seconds + 1):
        state = KIND.step(CALM, state, 1.0, inputs, random)
        for stage in range(1, int(KIND.stages(CALM, state, inputs)[hazard][0]) + 1):
            found.setdefault(stage, second)
    return found


def arrivals(leak_at: float) -> tuple[int, int]:
    """Seconds from the beginning of a leak until the pressure falls at the inlet and at the outlet."""
    random, inputs = np.random.default_rng(1), inputs_of(1, leak=0.05, leak_at=leak_at)
    first = state = run(CALM, 1, 1800, 60.0)
    heard = [0, 0]
    for second in range(1, 60):
        state = KIND.step(CALM, state, 1.0, inputs, random)
        falls = (first.pressure_in - state.pressure_in)[0], (first.pressure_out - state.pressure_out)[0]
        heard = [was or (second if fall > 1e-4 else 0) for was, fall in zip(heard, falls, strict=True)]
    return heard[0], heard[1]


@given(EVERY_INPUT, st.sampled_from([0.3, 1.0, 17.0, 60.0]), st.integers(0, 1000))
@settings(max_examples=50)
def test_what_comes_in_goes_out_leaks_or_packs_the_line(changed: dict[str, float], dt: float, seed: int):
    random, inputs = np.random.default_rng(seed), inputs_of(4, **changed)
    first = state = KIND.start(KIND.design, 4, random)
    for _ in range(10):
        state = KIND.step(KIND.design, state, dt, inputs, random)
    packed = line_pack(KIND.design, state) - line_pack(KIND.design, first)
    assert state.entered - state.delivered - state.lost == pytest.approx(packed, abs=1e-9)


def test_a_leak_is_found_by_the_balance():
    random = np.random.default_rng(6)
    leak, leak_at = random.uniform(0.002, 0.3, 60), random.uniform(0.0, 1.0, 60)
    inputs = {**inputs_of(60), "leak": leak, "leak_at": leak_at}
    first = state = run(CALM, 60, 600, 60.0)
    for _ in range(80):
        state = KIND.step(CALM, state, 30.0, inputs, random)
    packed = line_pack(CALM, state) - line_pack(CALM, first)
    missing = (state.entered - first.entered) - (state.delivered - first.delivered) - packed
    assert missing == pytest.approx(state.lost, rel=1e-6)
    # once the flow is steady again, the meters at the ends differ by what leaks
    later = state
    for _ in range(20):
        later = KIND.step(CALM, later, 30.0, inputs, random)
    rate = (later.lost - state.lost) * 6
    assert later.flow_in - later.flow_out == pytest.approx(rate, rel=0.01, abs=0.01)
    assert (rate > 500 * leak * (0.9 - 1.2 * leak)).all()  # a big leak takes its own pressure away
    assert (rate < 500 * leak * 1.05).all()


def test_the_line_pack_is_what_compressed_oil_and_pipe_take_up():
    section = run(CALM, 1, 600, 60.0)
    mean = (section.pressure_in + section.pressure_out) / 2 * 1e6
    volume = np.pi / 4 * 0.39**2 * 30000
    assert line_pack(CALM, section) == pytest.approx(volume * mean / (850 * 1000**2), rel=0.01)


@pytest.mark.parametrize("share", [0.4, 0.7, 1.0])
def test_the_steady_friction_is_darcy_weisbach_with_haaland(share: float):
    section = run(CALM, 1, 7200, 60.0, pump=share)
    speed = section.flow_in / 3600 / (np.pi / 4 * 0.39**2)
    reynolds = speed * 0.39 / 1e-5
    factor = (1.8 * np.log10(1 / (6.9 / reynolds + (5e-5 / 0.39 / 3.7) ** 1.11))) ** -2
    loss = factor * 30000 / 0.39 * 850 * speed**2 / 2 / 1e6
    assert section.flow_out == pytest.approx(section.flow_in, rel=1e-4)
    assert section.pressure_in - section.pressure_out == pytest.approx(loss, rel=0.005)


def test_the_start_is_steady():
    first, later = run(CALM, 3, 1, 1.0), run(CALM, 3, 3600, 60.0)
    for name in ("flow_in", "flow_out", "pressure_in", "pressure_middle", "pressure_out"):
        assert getattr(later, name) == pytest.approx(getattr(first, name), rel=2e-3)


@pytest.mark.parametrize(("leak_at", "inlet", "outlet"), [(0.2, 6, 24), (0.5, 15, 15), (0.9, 27, 3)])
def test_the_wave_of_a_leak_comes_to_each_end_at_its_distance_over_the_wave_speed(
    leak_at: float, inlet: int, outlet: int
):
    heard = arrivals(leak_at)
    assert heard[0] == pytest.approx(inlet, abs=1)
    assert heard[1] == pytest.approx(outlet, abs=1)


def test_the_wave_is_as_high_as_joukowsky_says_and_fades_on_its_way():
    random, inputs = np.random.default_rng(1), inputs_of(1, leak=0.05, leak_at=0.1)
    first = state = run(CALM, 1, 1800, 60.0)
    for _ in range(2):  # 3 s to the inlet, so the wave is still alone in the pipe
        state = KIND.step(CALM, state, 1.0, inputs, random)
    lowered = ((first.onward + first.back) - (state.onward + state.back)).max()
    assert lowered == pytest.approx(IMPEDANCE * state.lost[0] / 2 / 2, rel=0.05)
    for _ in range(14):
        state = KIND.step(CALM, state, 1.0, inputs, random)
    far = ((first.onward + first.back) - (state.onward + state.back))[0, 18]
    assert 0.5 * lowered < far < 0.98 * lowered


@given(st.floats(0.0, 0.9), st.floats(0.005, 0.1), st.floats(0.0, 1.0), st.sampled_from([20, 120, 600]))
@settings(max_examples=40)
def test_a_bigger_leak_is_never_more_pressure(leak: float, more: float, leak_at: float, seconds: int):
    both = run(CALM, 2, seconds, 20.0, leak=np.array([leak, leak + more]), leak_at=leak_at)
    for name in ("pressure_in", "pressure_middle", "pressure_out"):
        little, much = getattr(both, name)
        assert much <= little + 1e-9
    assert both.lost[1] > both.lost[0]
    assert both.flow_in[1] >= both.flow_in[0] - 1e-6
    assert both.flow_out[1] <= both.flow_out[0] + 1e-6


@given(EVERY_INPUT, st.sampled_from([0.1, 0.5, 2.0, 5.0]))
@settings(max_examples=50)
def test_many_short_steps_are_one_long_step(changed: dict[str, float], dt: float):
    before = run(CALM, 1, 60, 60.0)
    long, short = run(CALM, 1, 20, 20.0, before, **changed), run(CALM, 1, 20, dt, before, **changed)
    assert short.onward == pytest.approx(long.onward, rel=1e-9, abs=1e-3)
    assert short.lost == pytest.approx(long.lost, rel=1e-9)
    assert short.age == pytest.approx(long.age)


@given(st.lists(EVERY_INPUT, min_size=2, max_size=5))
@settings(max_examples=40)
def test_units_do_not_know_of_each_other(cases: list[dict[str, float]]):
    before = run(CALM, len(cases), 60, 10.0)
    inputs = {name: np.array([case[name] for case in cases]) for name in cases[0]}
    together = KIND.step(CALM, before, 20.0, inputs, np.random.default_rng(0))
    for unit, case in enumerate(cases):
        single = Section(*(getattr(before, name)[unit : unit + 1] for name in Section.__slots__))
        alone = run(CALM, 1, 20, 20.0, single, **case)
        assert alone.onward[0] == pytest.approx(together.onward[unit], rel=1e-12)
        assert alone.lost[0] == pytest.approx(together.lost[unit], rel=1e-12)


def test_units_may_differ_in_their_design():
    wide = replace(CALM, diameter=np.array([0.39, 0.45]), flow=np.array([500.0, 500.0]))
    both = run(wide, 2, 3600, 60.0)
    assert both.pressure_out[1] > both.pressure_out[0]
    assert both.pressure_out[0] == pytest.approx(run(CALM, 1, 3600, 60.0).pressure_out[0], rel=1e-12)
    same = replace(CALM, length=np.array([30000.0, 33000.0]), wave_speed=np.array([1000.0, 1100.0]))
    assert np.diff(run(same, 2, 3600, 60.0).flow_in)[0] < -1
    with pytest.raises(ValueError, match="equally long"):
        run(replace(CALM, length=np.array([30000.0, 10000.0])), 2, 60, 60.0)


@pytest.mark.parametrize("dt", [0.1, 1.0, 7.3, 60.0])
def test_every_input_in_its_range_gives_numbers(dt: float):
    """Each unit has its own inputs, each at an end of its range or between."""
    n, random = 300, np.random.default_rng(8)
    inputs = {
        x.name: np.clip(
            random.uniform(1.4 * x.low - 0.4 * x.high, 1.4 * x.high - 0.4 * x.low, n), x.low, x.high
        )
        for x in KIND.inputs
    }
    state = KIND.start(KIND.design, n, random)
    for _ in range(20 if dt > 10 else 200):
        state = KIND.step(KIND.design, state, dt, inputs, random)
    for name, values in KIND.measure(KIND.design, state, inputs).items():
        assert np.isfinite(values).all(), name
        assert (values >= (-0.1 if "pressure" in name else 0.0)).all(), name
        assert (values < 2000).all(), name


@pytest.mark.parametrize(
    ("seed", "dt", "hours"),
    [
        (1, 60.0, 6),
        (2, 10.0, 2),
        (3, 1.0, 0.5),
        pytest.param(4, 60.0, 24, marks=pytest.mark.long),
        pytest.param(5, 10.0, 6, marks=pytest.mark.long),
        pytest.param(6, 1.0, 2, marks=pytest.mark.long),
    ],
)
def test_ordinary_days_are_safe_though_the_flow_changes(seed: int, dt: float, hours: float):
    random, inputs = np.random.default_rng(seed), inputs_of(100)
    state = KIND.start(KIND.design, 100, random)
    difference = 0.0
    for _ in range(round(hours * 3600 / dt)):
        state = KIND.step(KIND.design, state, dt, inputs, random)
        values = KIND.measure(KIND.design, state, inputs)
        difference = max(difference, float(np.abs(values["flow_in"] - values["flow_out"]).max()))
        for signal in KIND.signals:
            assert values[signal.name].min() >= signal.low, signal.name
            assert values[signal.name].max() <= signal.high, signal.name
        assert not any(stage.any() for stage in KIND.stages(KIND.design, state, inputs).values())
    assert difference > 5  # more than a leak of 1 %: a rule of the flows alone would err


def test_a_leak_is_seen_becomes_a_danger_and_does_harm_the_sooner_the_bigger():
    small, large = reached(9000, "leak", leak=0.01), reached(3600, "leak", leak=0.1)
    assert 30 < small[Stage.VISIBLE] < 180 < small[Stage.DANGER] < 1800 < small[Stage.HARM] < 9000
    assert 15 <= large[Stage.VISIBLE] < large[Stage.DANGER] < 180 < large[Stage.HARM] < 1200
    assert reached(60, "leak", leak=1.0, leak_at=0.1)[Stage.VISIBLE] == 3  # not before its wave has come


def test_people_who_stop_the_pump_and_close_the_valve_lose_less_and_a_mended_pipe_is_safe():
    leaking = run(CALM, 1, 300, 10.0, leak=0.05)
    left = run(CALM, 1, 1800, 10.0, leaking, leak=0.05)
    stopped = run(CALM, 1, 1800, 10.0, leaking, leak=0.05, pump=0.0, valve=0.0)
    assert stopped.lost[0] - leaking.lost[0] < 0.3 * (left.lost[0] - leaking.lost[0])
    mended = run(CALM, 1, 3600, 10.0, left)
    assert KIND.stages(CALM, left, inputs_of(1, leak=0.05))["leak"][0] == Stage.HARM
    assert KIND.stages(CALM, mended, inputs_of(1))["leak"][0] == Stage.SAFE


def test_a_valve_that_closes_against_the_pump_is_over_pressure():
    assert reached(600, "over_pressure", valve=0.0)[Stage.DANGER] < 120
    assert Stage.HARM in reached(600, "over_pressure", valve=0.0, pump=1.1)
    assert reached(600, "over_pressure", pump=0.0) == {}


def test_the_same_seed_is_the_same_course_and_time_goes_forward():
    one, two = (run(KIND.design, 5, 3000, 30.0).onward for _ in range(2))
    assert np.array_equal(one, two)
    with pytest.raises(ValueError, match="forward"):
        KIND.step(CALM, run(CALM, 1, 1, 1.0), 0.0, inputs_of(1), np.random.default_rng(1))


def test_the_index_names_signals_and_no_limit_is_within_an_ordinary_day():
    signals = {signal.name: signal for signal in KIND.signals}
    with KIND.index.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert kind("pipeline") is KIND
    assert len({row["point"] for row in rows}) == len(rows) == 4
    for row in rows:
        signal = signals[row["signal"]]
        assert row["engineering_unit"] == signal.unit
        assert all(float(row[limit]) > signal.high for limit in ("H", "HH") if row[limit])
        assert all(float(row[limit]) < signal.low for limit in ("LL", "L") if row[limit])
