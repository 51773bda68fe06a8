"""The gasoline tank keeps its mass, overflows when it is overfilled, and its leaks fill the bund with vapour."""

import csv
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.plant import Floats, Stage, kind, usual
from simulators.plants.tank_farm import (
    DELIVERS,
    DENSITY,
    KIND,
    RECEIVES,
    WAITS_TO_DELIVER,
    Design,
    Tank,
    capacity,
    evaporation_flux,
    lel,
    start,
    step,
)

DESIGN = KIND.design


class Still:
    """A generator that always gives the mean."""

    def standard_normal(self, n: int) -> Floats:
        return np.zeros(n)

    def random(self, n: int) -> Floats:
        return np.full(n, 0.5)

    def integers(self, low: int, high: int, n: int) -> np.ndarray:
        return np.full(n, WAITS_TO_DELIVER)


STILL = Still()


def tank(percent: float = 50.0, phase: int = WAITS_TO_DELIVER, pool: float = 0.0, n: int = 1) -> Tank:
    """A tank that stays in its phase for hours, unless that is ended by its level."""
    return replace(
        start(DESIGN, n, STILL),
        volume=np.full(n, percent / 100 * capacity(DESIGN)),
        pool=np.full(n, pool),
        phase=np.full(n, phase),
        target=np.full(n, (0.74 if phase == RECEIVES else 0.25) * capacity(DESIGN)),
        left=np.full(n, 1e6),
    )


def inputs(n: int = 1, **changed: float | Floats) -> dict[str, Floats]:
    return usual(KIND, n) | {name: np.broadcast_to(np.asarray(v, float), n) for name, v in changed.items()}


def run(state: Tank, seconds: float, dt: float = 10.0, **changed: float) -> Tank:
    for _ in range(round(seconds / dt)):
        state = step(DESIGN, state, dt, inputs(len(state.volume), **changed), STILL)
    return state


def times(state: Tank, hazard: str, hours: float, **changed: float) -> list[float]:
    """Seconds until the hazard is VISIBLE, DANGER, HARM; infinite where it does not come so far."""
    found = [math.inf] * 3
    for second in range(0, round(hours * 3600), 10):
        state = step(DESIGN, state, 10.0, inputs(**changed), STILL)
        now = KIND.stages(DESIGN, state, inputs(**changed))[hazard].item()
        found = [min(at, second) if now > i else at for i, at in enumerate(found)]
    return found


shares = st.floats(0.0, 1.0)
doings = st.fixed_dictionaries(
    {
        "inflow": st.floats(0.0, 2.0),
        "outflow": st.floats(0.0, 1.5),
        "inlet_stuck": st.sampled_from([0.0, 1.0]),
        "leak": shares,
        "shutoff": st.sampled_from([0.0, 1.0]),
        "foam": shares,
    }
)
tanks = st.builds(tank, st.floats(0.0, 100.0), st.integers(0, 3), st.floats(0.0, 500.0))
steps = st.floats(0.1, 60.0)


@given(tanks, doings, steps)
def test_what_came_in_is_in_the_tank_or_gone_or_in_the_pool_or_evaporated(state: Tank, doing, dt: float):
    after = step(DESIGN, state, dt, inputs(**doing), STILL)
    gained = after.volume - state.volume + after.pool - state.pool
    came = (after.inflow - after.outflow) * dt / 3600 - after.evaporation * dt / DENSITY
    assert gained == pytest.approx(came, abs=1e-9 * capacity(DESIGN))
    assert after.volume >= 0
    assert after.pool >= 0
    assert after.evaporation >= -1e-9
    assert after.volume <= capacity(DESIGN)


@given(tanks, doings, steps)
def test_the_vapour_over_the_bund_is_what_evaporated_less_what_the_wind_took(state: Tank, doing, dt: float):
    state = replace(state, vapour=np.array([0.01]))
    after = step(DESIGN, state, dt, inputs(**doing), STILL)
    air = DESIGN.bund**2 * DESIGN.layer
    carried = DESIGN.shelter * DESIGN.wind * DESIGN.bund * DESIGN.layer  # m³/s
    kept = math.exp(-carried / air * dt)
    mean = after.evaporation / carried + (state.vapour - after.evaporation / carried) * (1 - kept) / (
        carried / air * dt
    )
    assert air * (after.vapour - state.vapour) == pytest.approx(
        (after.evaporation - carried * mean) * dt, abs=1e-6
    )


@given(st.floats(5.0, 100.0), shares, steps)
def test_a_hole_drains_as_torricelli_has_it(percent: float, leak: float, dt: float):
    before = tank(percent)
    after = step(DESIGN, before, dt, inputs(leak=leak), STILL)
    area = math.pi / 4 * DESIGN.diameter**2
    head = math.sqrt(before.volume.item() / area * after.volume.item() / area)
    speed = DESIGN.discharge * math.sqrt(2 * 9.81 * head)
    lost = before.volume - after.volume
    assert lost.item() == pytest.approx(leak * math.pi / 4 * DESIGN.bore**2 * speed * dt, rel=1e-3, abs=1e-9)


@given(
    st.floats(35.0, 65.0), st.integers(0, 3), st.floats(0.0, 0.9), st.floats(0.05, 1.0), st.integers(1, 30)
)
@settings(max_examples=40)
def test_a_bigger_leak_never_leaves_more_in_the_tank_nor_less_vapour(percent, phase, leak, more, count):
    state = tank(percent, phase)
    small, big = (run(state, 60.0 * count, 60.0, leak=min(1.0, x)) for x in (leak, leak + more))
    assert big.volume <= small.volume + 1e-9
    assert big.pool >= small.pool - 1e-9
    # a wider pool has a little less transfer for each m² (exponent -0.11)
    assert big.vapour >= small.vapour * 0.98 - 1e-12


@given(tanks, st.floats(0.0, 0.9), st.floats(0.05, 0.1))
@settings(max_examples=40)
def test_foam_never_makes_more_vapour(state, foam, more):
    less, much = (run(state, 600.0, 30.0, leak=0.2, foam=f) for f in (foam + more, foam))
    assert less.vapour <= much.vapour + 1e-12


@given(
    st.floats(30.0, 70.0),
    st.sampled_from([WAITS_TO_DELIVER, RECEIVES, DELIVERS]),
    st.floats(0, 1),
    st.integers(2, 20),
)
@settings(max_examples=40)
def test_many_short_steps_are_one_long_step(percent, phase, leak, parts):
    state = run(tank(percent, phase, pool=5.0), 600, 10.0, leak=leak)
    long, short = run(state, 60.0, 60.0, leak=leak), run(state, 60.0, 60.0 / parts, leak=leak)
    assert short.volume == pytest.approx(long.volume, rel=1e-4)
    assert short.pool == pytest.approx(long.pool, rel=0.01, abs=0.01)
    assert short.vapour == pytest.approx(long.vapour, rel=0.05)
    assert short.temperature == pytest.approx(long.temperature, abs=0.01)


@given(st.floats(-20.0, 40.0), st.floats(0.0, 400.0))
def test_a_pool_evaporates_as_fast_as_its_heat_lets_it(celsius: float, pool: float):
    """The flux needs its heat of vaporisation and cannot have more than a pool as warm as the air."""
    design = replace(DESIGN, air=celsius + 273.15, swing=0.0)
    state = tank(pool=pool)
    flux = evaporation_flux(design, state).item()
    colder = evaporation_flux(replace(design, warmth=0.0), state).item()
    assert 0 < colder < flux < 0.02
    warmest = (
        6894.76 * math.exp(11.724 - 5237.3 / 1.8 / (celsius + 273.15)) * 0.066 / 8.314 / (celsius + 273.15)
    )
    assert flux <= 0.00482 * 3**0.78 * 2**-0.67 * warmest * 1.0001


def test_a_pool_evaporates_with_its_area_until_it_covers_the_bund():
    pools = (1.0, 4.0, 40.0, 400.0)
    rates = [step(DESIGN, tank(pool=m3), 1.0, inputs(), STILL).evaporation.item() for m3 in pools]
    assert 3.6 < rates[1] / rates[0] < 4.0  # transfer falls a little with the width
    covered = DESIGN.bund**2 - math.pi / 4 * DESIGN.diameter**2
    assert rates[3] == pytest.approx(rates[2], rel=0.01)
    assert rates[3] == pytest.approx(covered * evaporation_flux(DESIGN, tank(pool=400.0)).item(), rel=0.01)


def test_gasolines_vapour_pressure_is_the_tables():
    """AP-42 table 7.1-2: 5.2 psi at 60 °F for RVP 10; far below saturation the pool gives off what the air takes."""
    air = 273.15 + (60 - 32) / 1.8
    windy = evaporation_flux(replace(DESIGN, air=air, swing=0.0, warmth=1e9), tank())
    transfer = 0.00482 * 3**0.78 * math.sqrt(4 / math.pi) ** -0.11 * 2**-0.67
    assert windy.item() / transfer * 8.314 * air / 0.066 / 6894.76 == pytest.approx(5.2, abs=0.05)


def test_an_inlet_that_does_not_close_overfills_the_tank_in_hours():
    visible, danger, harm = times(tank(74.0, RECEIVES), "overfill", 5, inlet_stuck=1.0)
    assert 1800 < visible < danger < harm < 4 * 3600
    assert harm - danger == pytest.approx(1800, abs=30)
    _, _, sooner = times(tank(74.0, RECEIVES), "overfill", 5, inlet_stuck=1.0, inflow=2.0)
    assert sooner == pytest.approx(harm / 2, rel=0.01)


def test_what_overflows_makes_vapour_in_the_bund():
    full = run(tank(99.5, RECEIVES), 1800, inlet_stuck=1.0)
    assert full.volume == capacity(DESIGN)
    assert full.pool > 50
    assert KIND.stages(DESIGN, full, inputs())["flammable_vapour"].item() == Stage.HARM


def test_shutting_the_emergency_valve_averts_the_overflow():
    state = run(tank(97.0, RECEIVES), 300, inlet_stuck=1.0)
    shut = run(state, 7200, inlet_stuck=1.0, shutoff=1.0)
    assert KIND.stages(DESIGN, state, inputs())["overfill"].item() == Stage.DANGER
    assert shut.volume <= state.volume
    assert shut.inflow == 0


def test_a_tank_that_takes_in_gives_nothing_out():
    after = step(DESIGN, tank(50.0, DELIVERS), 10.0, inputs(inlet_stuck=1.0), STILL)
    assert (after.inflow > 0).all()
    assert after.outflow == 0


@pytest.mark.parametrize(("leak", "harmed"), [(0.01, False), (0.1, True), (1.0, True)])
def test_a_leak_shows_then_endangers_then_harms(leak: float, harmed: bool):
    visible, danger, harm = times(tank(70.0), "flammable_vapour", 4, leak=leak)
    assert visible < 1800
    if harmed:
        assert visible < danger < harm < 2 * 3600
    else:
        assert harm == math.inf  # a 10 mm hole makes a small cloud


@pytest.mark.parametrize(
    ("percent", "stage"),
    [
        (4.9, Stage.SAFE),
        (24.9, Stage.VISIBLE),
        (25.1, Stage.DANGER),
        (99.0, Stage.DANGER),
        (101.0, Stage.HARM),
    ],
)
def test_how_bad_a_cloud_is(percent: float, stage: Stage):
    thin = replace(tank(), vapour=np.full(1, 1e-3))
    state = replace(thin, vapour=thin.vapour * percent / max(lel(DESIGN, thin)).item())
    assert KIND.stages(DESIGN, state, inputs())["flammable_vapour"].item() == stage


def test_a_leak_that_is_stopped_and_foamed_blows_away():
    state = run(tank(70.0), 1200, leak=0.1)
    after = run(state, 1200, foam=1.0)
    assert max(lel(DESIGN, state)).item() > 25
    assert max(lel(DESIGN, after)).item() < 1
    assert after.pool == pytest.approx(state.pool)


@given(doings, st.integers(0, 2**32))
@settings(max_examples=30)
def test_every_input_in_its_range_leaves_finite_figures(doing, seed):
    random = np.random.default_rng(seed)
    state = start(DESIGN, 6, random)
    for dt in (0.1, 1.0, 60.0, 60.0, 60.0, 3.3) * 10:
        state = step(DESIGN, state, dt, inputs(6, **doing), random)
        measured = KIND.measure(DESIGN, state, inputs(6, **doing))
        assert all(np.isfinite(v).all() and (v >= 0).all() for v in measured.values())


def test_an_empty_tank_stays_empty():
    after = run(tank(0.1, DELIVERS), 3 * 3600, 60.0, leak=1.0, inflow=0.0)
    assert 0 <= after.volume.item() < 1e-6
    assert after.temperature == pytest.approx(DESIGN.air, abs=DESIGN.swing)


def test_units_side_by_side_are_units_alone():
    leaks, widths = np.linspace(0.0, 1.0, 5), np.linspace(20.0, 30.0, 5)
    together, alone = tank(60.0, DELIVERS, n=5), [tank(60.0, DELIVERS) for _ in leaks]
    for _ in range(50):
        together = step(Design(diameter=widths), together, 30.0, inputs(5, leak=leaks), STILL)
        alone = [
            step(Design(diameter=w), s, 30.0, inputs(leak=share), STILL)
            for w, s, share in zip(widths, alone, leaks, strict=True)
        ]
    for i, one in enumerate(alone):
        for field in fields(Tank):
            assert getattr(one, field.name)[0] == pytest.approx(getattr(together, field.name)[i], rel=1e-12)


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)]
)
def test_three_ordinary_days_are_safe_within_their_bounds_and_have_fills_and_draws(seed: int):
    random, n = np.random.default_rng(seed), 100
    state, ordinary = start(DESIGN, n, random), usual(KIND, n)
    lowest, highest = [math.inf] * 6, [-math.inf] * 6
    phases = np.zeros((4, n), bool)
    for _ in range(3 * 1440):
        state = step(DESIGN, state, 60.0, ordinary, random)
        phases[state.phase, np.arange(n)] = True
        now = list(KIND.measure(DESIGN, state, ordinary).values())
        lowest = [min(a, v.min()) for a, v in zip(lowest, now, strict=True)]
        highest = [max(a, v.max()) for a, v in zip(highest, now, strict=True)]
        assert not any(v.any() for v in KIND.stages(DESIGN, state, ordinary).values())
    assert phases.all()
    for signal, low, high in zip(KIND.signals, lowest, highest, strict=True):
        assert signal.low <= low < high <= signal.high, signal.name


def test_one_seed_is_one_course():
    def course(seed: int) -> Floats:
        random = np.random.default_rng(seed)
        state = start(DESIGN, 3, random)
        for _ in range(200):
            state = step(DESIGN, state, 60.0, usual(KIND, 3), random)
        return state.volume

    assert (course(7) == course(7)).all()
    assert (course(7) != course(8)).any()


def test_time_goes_forward():
    with pytest.raises(ValueError, match="forward"):
        step(DESIGN, tank(), 0.0, inputs(), STILL)


def test_the_kind_is_whole():
    assert kind("tank_farm") is KIND
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
