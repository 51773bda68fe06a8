"""The coal faces obey their balance, are like the published recording, and are quiet while nothing is wrong."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.plant import Floats, Stage, kind, usual
from simulators.plants.coal_face import KIND, LOWER_EXPLOSIVE_LIMIT, Design, Face

RECORDED = replace(KIND.design, gassiness=1.0)
CALM = replace(RECORDED, seam=0.0, eddies=0.0, leak=0.0, draught=0.0, weather=0.0)
"""The recorded face without chance, as long as nobody cuts."""
RECORDING = Path(__file__).parents[2] / "shared" / "data" / "longwall_methane.csv"

MEANS = {"MM116": 0.775, "MM31": 0.364, "AS038": 2.295, "PG072": 1.836, "BA13": 1073.4}
SPREADS = {"MM116": 0.269, "MM31": 0.117, "AS038": 0.142, "PG072": 0.107, "BA13": 3.16}
CORRELATIONS = {"MM116": 0.987, "MM31": 0.993, "AS038": 0.911, "PG072": 0.760, "BA13": 0.9986}
"""Of the recording's 4.6 days: mean, standard deviation, correlation over 30 s."""
FROM_1_0, FROM_1_5, CUTTING = 0.257, 0.008, 0.309
"""Shares of the recording's time in which MM116 shows so much or more, and in which the shearer runs."""

INSTRUMENTS = {
    "MM116": ("methane_face", 0.01, 0.1),
    "MM31": ("methane_return", 0.008, 0.01),
    "AS038": ("air_face", 0.03, 0.1),
    "PG072": ("air_return", 0.04, 0.1),
    "BA13": ("air_pressure", 0.2, 1.0),
}


def inputs_of(n: int, **changed: float) -> dict[str, Floats]:
    return {**usual(KIND, n), **{name: np.full(n, value) for name, value in changed.items()}}


def run(
    design: Design, n: int, seconds: float, dt: float, face: Face | None = None, **changed: float
) -> Face:
    random, inputs = np.random.default_rng(1), inputs_of(n, **changed)
    face = KIND.start(design, n, random) if face is None else face
    for _ in range(round(seconds / dt)):
        face = KIND.step(design, face, dt, inputs, random)
    return face


def reached(design: Design, seconds: int, hazard: str, **changed: float) -> dict[int, int]:
    """After how many seconds most of 50 faces, after an ordinary hour, have come to each stage."""
    random, inputs = np.random.default_rng(2), inputs_of(50, **changed)
    face, found = run(design, 50, 3600, 10.0), {}
    for second in range(1, seconds + 1):
        face = KIND.step(design, face, 1.0, inputs, random)
        now = int(np.median(KIND.stages(design, face, inputs)[hazard]))
        for stage in range(1, now + 1):
            found.setdefault(stage, second)
    return found


def test_a_course_is_like_the_published_recording():
    """24 faces over as long as the recording; each figure of the recording is one draw of what they show."""
    n, rows, random, inputs = 24, 13368, np.random.default_rng(3), inputs_of(24)
    face = KIND.start(RECORDED, n, random)
    shown = {name: np.empty((rows, n)) for name in INSTRUMENTS}
    cutting = np.empty((rows, n), dtype=bool)
    for row in range(rows):
        face = KIND.step(RECORDED, face, 30.0, inputs, random)
        values = KIND.measure(RECORDED, face, inputs)
        cutting[row] = values["cutting"] > 0
        for name, (signal, noise, resolution) in INSTRUMENTS.items():
            seen = values[signal] + noise * random.standard_normal(n)
            shown[name][row] = np.round(seen / resolution) * resolution
    for name, course in shown.items():
        assert course.mean() == pytest.approx(MEANS[name], rel=0.05), name
        assert np.median(course.std(axis=0)) == pytest.approx(SPREADS[name], rel=0.3), name
        both = [np.corrcoef(unit[:-1], unit[1:])[0, 1] for unit in course.T]
        assert np.median(both) == pytest.approx(CORRELATIONS[name], abs=0.06), name
    methane = shown["MM116"]
    assert (methane > 0.95).mean() == pytest.approx(FROM_1_0, abs=0.06)
    assert (methane > 1.45).mean() == pytest.approx(FROM_1_5, abs=0.012)
    assert cutting.mean() == pytest.approx(CUTTING, abs=0.03)
    assert methane[cutting].mean() == pytest.approx(0.96, abs=0.05)
    assert methane[~cutting].mean() == pytest.approx(0.69, abs=0.05)


@pytest.mark.skipif(not RECORDING.exists(), reason="the recording is not here")
def test_the_figures_above_are_those_of_the_recording():
    recorded = np.genfromtxt(RECORDING, delimiter=",", names=True)
    for name in recorded.dtype.names[1:]:
        short = name.split("_")[0]
        if short in MEANS:
            course = recorded[name]
            assert course.mean() == pytest.approx(MEANS[short], rel=1e-3)
            assert course.std() == pytest.approx(SPREADS[short], rel=5e-3)
            assert np.corrcoef(course[:-1], course[1:])[0, 1] == pytest.approx(CORRELATIONS[short], abs=1e-3)
    methane = recorded["MM116_methane_pct"]
    assert (methane >= 1.0).mean() == pytest.approx(FROM_1_0, abs=1e-3)
    assert (methane >= 1.5).mean() == pytest.approx(FROM_1_5, abs=1e-3)
    assert (recorded["PD_production"] > 0).mean() == pytest.approx(CUTTING, abs=1e-3)


@pytest.mark.parametrize(
    ("seed", "dt"),
    [(1, 60.0), pytest.param(2, 60.0, marks=pytest.mark.long), pytest.param(3, 10.0, marks=pytest.mark.long)],
)
def test_ordinary_days_of_a_drained_face_are_safe(seed: int, dt: float):
    random, inputs = np.random.default_rng(seed), inputs_of(100)
    face = KIND.start(KIND.design, 100, random)
    for _ in range(round(2 * 86400 / dt)):
        face = KIND.step(KIND.design, face, dt, inputs, random)
        values = KIND.measure(KIND.design, face, inputs)
        for signal in KIND.signals:
            assert values[signal.name].min() >= signal.low, signal.name
            assert values[signal.name].max() <= signal.high, signal.name
        assert not any(stage.any() for stage in KIND.stages(KIND.design, face, inputs).values())


def test_the_recorded_face_has_dangers_on_ordinary_days():
    random, inputs = np.random.default_rng(4), inputs_of(10)
    face, worst = KIND.start(RECORDED, 10, random), np.zeros(10)
    for _ in range(2 * 2880):
        face = KIND.step(RECORDED, face, 30.0, inputs, random)
        worst = np.maximum(worst, KIND.stages(RECORDED, face, inputs)["methane"])
    assert (worst == Stage.DANGER).all()


@given(st.floats(0.0, 8.0), st.floats(0.05, 1.3), st.floats(0.3, 30.0))
def test_what_is_released_stays_or_leaves_with_the_air(methane: float, air: float, inflow: float):
    dt = 0.1
    before = replace(run(CALM, 1, 1.0, 1.0), at_face=np.array([methane]), air=np.array([air]))
    before = replace(before, broken=np.zeros(1), freed=np.zeros(1))
    after = run(CALM, 1, dt, dt, before, ventilation=air, inflow=inflow, cutting_allowed=0.0)
    released = CALM.at_rest * inflow  # % of the designed air flow
    leaving = (air + released / 100) * (before.at_face + after.at_face) / 2
    kept = (after.at_face - before.at_face) * CALM.mixing / dt
    assert kept[0] == pytest.approx(released - leaving[0], abs=1e-3 * released + 1e-4)


@given(st.floats(0.05, 1.3), st.floats(0.0, 1.0), st.floats(0.3, 20.0), st.floats(1.0, 3.0))
def test_less_air_or_more_gas_is_never_less_methane(air: float, fan: float, inflow: float, more: float):
    def after(**changed: float) -> float:
        return float(run(CALM, 1, 600, 20.0, cutting_allowed=0.0, **changed).at_face[0])

    usual_case = after(ventilation=air, fan=fan, inflow=inflow)
    assert after(ventilation=max(0.05, air / more), fan=fan, inflow=inflow) >= usual_case - 1e-12
    assert after(ventilation=air, fan=fan / more, inflow=inflow) >= usual_case - 1e-12
    assert after(ventilation=air, fan=fan, inflow=min(30.0, inflow * more)) >= usual_case - 1e-12


@given(st.floats(0.05, 1.3), st.sampled_from([0.0, 1.0]), st.floats(0.3, 30.0), st.integers(2, 60))
def test_many_short_steps_are_one_long_step(air: float, fan: float, inflow: float, parts: int):
    before = run(CALM, 1, 600, 10.0)
    changed = {"ventilation": air, "fan": fan, "inflow": inflow, "cutting_allowed": 0.0}
    long, short = run(CALM, 1, 60, 60.0, before, **changed), run(CALM, 1, 60, 60 / parts, before, **changed)
    assert short.at_face == pytest.approx(long.at_face, rel=0.04)
    assert short.in_return == pytest.approx(long.in_return, rel=0.04)
    assert short.air == pytest.approx(long.air, rel=1e-9)


@given(st.lists(st.tuples(st.floats(0.05, 1.3), st.floats(0.3, 30.0)), min_size=2, max_size=6))
def test_units_do_not_know_of_each_other(cases: list[tuple[float, float]]):
    together = run(CALM, len(cases), 60, 10.0, cutting_allowed=0.0)
    inputs = {
        **inputs_of(len(cases), cutting_allowed=0.0),
        "ventilation": np.array([air for air, _ in cases]),
        "inflow": np.array([inflow for _, inflow in cases]),
    }
    after = KIND.step(CALM, together, 30.0, inputs, np.random.default_rng(0))
    for unit, (air, inflow) in enumerate(cases):
        single = Face(*(getattr(together, name)[unit : unit + 1] for name in Face.__slots__))
        alone = run(CALM, 1, 30, 30.0, single, ventilation=air, inflow=inflow, cutting_allowed=0.0)
        assert alone.at_face[0] == pytest.approx(after.at_face[unit], rel=1e-12)


@given(
    st.fixed_dictionaries({x.name: st.floats(x.low, x.high) for x in KIND.inputs}),
    st.sampled_from([0.1, 1.0, 7.3, 60.0]),
    st.integers(0, 1000),
)
def test_every_input_in_its_range_gives_physical_values(changed: dict[str, float], dt: float, seed: int):
    random, inputs = np.random.default_rng(seed), inputs_of(3, **changed)
    face = KIND.start(RECORDED, 3, random)
    for _ in range(50):
        face = KIND.step(RECORDED, face, dt, inputs, random)
    for name, values in KIND.measure(RECORDED, face, inputs).items():
        assert np.isfinite(values).all(), name
        assert (values >= 0).all(), name
    assert (face.at_face <= 100).all()


def test_a_stopped_fan_leads_to_danger_in_minutes_and_to_an_explosive_mixture():
    drained, recorded = (reached(d, 5400, "methane", fan=0.0) for d in (KIND.design, RECORDED))
    assert 120 < drained[Stage.VISIBLE] < drained[Stage.DANGER] < 600 < drained[Stage.HARM] < 5400
    assert recorded[Stage.DANGER] < drained[Stage.DANGER]
    assert 200 < recorded[Stage.HARM] < 900
    lost = reached(KIND.design, 900, "ventilation_lost", fan=0.0)
    assert lost[Stage.VISIBLE] < 60 < lost[Stage.DANGER] < 400
    assert Stage.HARM not in lost


def test_an_outburst_is_dangerous_at_once_and_people_can_end_it():
    assert reached(KIND.design, 600, "methane", inflow=5.0)[Stage.DANGER] < 120
    bad = run(KIND.design, 20, 600, 10.0, inflow=30.0)
    assert np.median(bad.at_face) > LOWER_EXPLOSIVE_LIMIT
    mended = run(KIND.design, 20, 1200, 10.0, bad)
    assert not KIND.stages(KIND.design, mended, inputs_of(20))["methane"].any()


def test_without_power_the_shearer_stands_and_methane_falls():
    cutting = run(RECORDED, 200, 4 * 3600, 30.0)
    stopped = run(RECORDED, 200, 4 * 3600, 30.0, cutting, cutting_allowed=0.0)
    assert cutting.cutting.mean() > 0.2
    assert not stopped.cutting.any()
    assert stopped.at_face.mean() < cutting.at_face.mean() - 0.08


def test_the_same_seed_is_the_same_course_and_time_goes_forward():
    assert np.array_equal(run(RECORDED, 5, 3000, 30.0).at_face, run(RECORDED, 5, 3000, 30.0).at_face)
    with pytest.raises(ValueError, match="forward"):
        run(RECORDED, 1, 0.0, 1.0, KIND.step(RECORDED, run(RECORDED, 1, 1, 1.0), 0.0, inputs_of(1), None))


def test_the_index_names_signals_and_no_limit_is_within_an_ordinary_day():
    signals = {signal.name: signal for signal in KIND.signals}
    with KIND.index.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert kind("coal_face") is KIND
    assert len({row["point"] for row in rows}) == len(rows) == 5
    for row in rows:
        signal = signals[row["signal"]]
        assert row["engineering_unit"] == signal.unit
        assert all(float(row[limit]) > signal.high for limit in ("H", "HH") if row[limit])
        assert all(float(row[limit]) < signal.low for limit in ("LL",) if row[limit])
