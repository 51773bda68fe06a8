"""Instruments: what they show of the truth, each fault by itself, and faults that touch nobody else."""

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.instruments import BAD, GOOD, HOUR, KINDS, MUTE, Fault, Instruments, Readout

SECOND = 1_000_000
T = 1_800_000_000 * SECOND
NEVER = T * 2
RESOLUTIONS = (0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.3, 1.0, 2.5, 5.0, 10.0)


def instruments(p: int = 4, *, seed: int = 1, faults: tuple[Fault, ...] = (), **more: object) -> Instruments:
    """Perfect ones, but for what is given."""
    given_ = {
        "noise": 0.0,
        "resolution": 0.0,
        "lag": 0.0,
        "range_low": math.nan,
        "range_high": math.nan,
        **more,
    }
    arrays = {name: np.broadcast_to(np.asarray(value, float), p) for name, value in given_.items()}
    return Instruments(**arrays, faults=faults, random=np.random.default_rng(seed))


def fault(kind: str, *points: int, begin: int = T, end: int = NEVER, **more: float) -> Fault:
    return Fault(kind, np.array(points, np.intp), begin, end, **more)


def truth(second: int, p: int = 4) -> np.ndarray:
    return 20.0 + second + 10.0 * np.arange(p)


def show(given_: Instruments, seconds: int, p: int = 4) -> list[Readout]:
    return [given_.read(T + second * SECOND, 1.0, truth(second, p)) for second in range(seconds)]


def test_a_perfect_instrument_shows_the_truth():
    for second, readout in enumerate(show(instruments(), 3)):
        assert readout.values.tolist() == truth(second).tolist()
        assert readout.state.tolist() == [GOOD] * 4


@given(
    seed=st.integers(0, 9),
    resolution=st.sampled_from(RESOLUTIONS),
    true=st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=8),
)
def test_values_lie_on_steps_inside_the_range_and_are_short(seed: int, resolution: float, true: list[float]):
    p = len(true)
    low, high = -2000.0, 3000.0
    readout = instruments(
        p, seed=seed, noise=1.0, resolution=resolution, range_low=low, range_high=high
    ).read(T, 1.0, np.array(true))
    unlimited = instruments(p, seed=seed, noise=1.0).read(T, 1.0, np.array(true))
    for value, exact in zip(readout.values.tolist(), unlimited.values.tolist(), strict=True):
        assert low <= value <= high
        if low < value < high:
            assert abs(value - exact) <= resolution / 2 + 1e-9
        if resolution and low < value < high:
            assert Decimal(repr(value)) % Decimal(repr(resolution)) == 0  # exactly: no 0.30000000000000004
        assert not (value == 0 and math.copysign(1, value) < 0)


def test_noise_has_its_sigma_and_the_seed_its_numbers():
    p = 20_000
    first, again, other = (
        instruments(p, seed=seed, noise=0.5).read(T, 1.0, np.full(p, 7.0)).values for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.std() == pytest.approx(0.5, rel=0.03)
    assert first.mean() == pytest.approx(7.0, abs=0.02)


@given(lag=st.floats(0.1, 500.0), steps=st.integers(1, 30))
def test_lag_is_of_first_order_however_many_steps_are_made(lag: float, steps: int):
    slow = instruments(1, lag=lag)
    slow.read(T, 1.0, np.zeros(1))
    for step in range(steps):
        readout = slow.read(T + (step + 1) * 60 * SECOND // steps, 60 / steps, np.ones(1))
    assert readout.values[0] == pytest.approx(1 - math.exp(-60 / lag), abs=1e-9)


def test_a_frozen_display_keeps_what_it_showed_at_its_begin():
    on_a_step = fault("frozen", 0, begin=T + 2 * SECOND, end=T + 5 * SECOND)
    between = fault("frozen", 1, begin=T + 2_500_000, end=T + 5 * SECOND)
    before_the_first = fault("frozen", 2, begin=T - SECOND, end=T + 5 * SECOND)
    given_ = instruments(noise=0.1, faults=(on_a_step, between, before_the_first))
    values = np.array([readout.values for readout in show(given_, 7)])
    alone = np.array([readout.values for readout in show(instruments(noise=0.1), 7)])
    expected = alone.copy()
    expected[2:5, 0] = alone[2, 0]
    expected[3:5, 1] = alone[2, 1]
    expected[:5, 2] = alone[0, 2]
    assert np.array_equal(values, expected)


def test_covered_sees_a_share_and_span_gas_takes_the_place_of_the_truth():
    given_ = instruments(
        faults=(
            fault("covered", 0),
            fault("covered", 1, share=0.1),
            fault("calibration", 2, value=50.0, begin=T + SECOND, end=T + 2 * SECOND),
        )
    )
    first, second, third = (readout.values for readout in show(given_, 3))
    assert first[0] == pytest.approx(0.02 * 20.0)
    assert first[1] == pytest.approx(0.1 * 30.0)
    assert [first[2], second[2], third[2]] == [40.0, 50.0, 42.0]


def test_span_gas_comes_and_goes_with_the_sensors_lag():
    given_ = instruments(1, lag=10.0, faults=(fault("calibration", 0, value=50.0, begin=T + SECOND),))
    given_.read(T, 1.0, np.zeros(1))
    assert given_.read(T + SECOND, 1.0, np.zeros(1)).values[0] == pytest.approx(50 * (1 - math.exp(-0.1)))


def test_offset_and_drift_add_up_and_saturate():
    faults = (fault("offset", 0, 1, value=3.0), fault("drift", 0, begin=T - HOUR, per_hour=2.0))
    given_ = instruments(faults=faults, range_high=32.0)
    assert given_.read(T, 1.0, truth(0)).values.tolist() == [25.0, 32.0, 32.0, 32.0]
    assert given_.read(T + HOUR, 1.0, truth(0)).values.tolist() == [27.0, 32.0, 32.0, 32.0]


def test_an_open_circuit_is_bad_and_a_dead_one_mute():
    given_ = instruments(
        faults=(fault("open_circuit", 0, 1, end=T + SECOND), fault("dead", 1, 2, end=T + 2 * SECOND))
    )
    states = [readout.state.tolist() for readout in show(given_, 3)]
    assert states == [[BAD, MUTE, MUTE, GOOD], [GOOD, MUTE, MUTE, GOOD], [GOOD] * 4]
    again = show(instruments(faults=(fault("dead", 1), fault("open_circuit", 0))), 1)[0]
    assert np.isnan(again.values).tolist() == [True, True, False, False]


@given(
    kind=st.sampled_from(KINDS),
    points=st.sets(st.integers(0, 5)),
    begin=st.integers(-3, 6),
    lasts=st.integers(0, 5),
    seed=st.integers(0, 5),
)
def test_a_fault_touches_only_its_points_and_its_time(
    kind: str, points: set[int], begin: int, lasts: int, seed: int
):
    usual = {"noise": 0.3, "resolution": 0.1, "range_low": 0.0, "range_high": 200.0}
    given_ = fault(
        kind,
        *sorted(points),
        begin=T + begin * SECOND,
        end=T + (begin + lasts) * SECOND,
        value=5.0,
        per_hour=3600.0,
    )
    wrong = show(instruments(6, seed=seed, faults=(given_,), **usual), 8, 6)
    right = show(instruments(6, seed=seed, **usual), 8, 6)
    for second in range(8):
        inside = begin <= second < begin + lasts
        for point in range(6):
            if not (inside and point in points):
                assert wrong[second].state[point] == GOOD
                assert wrong[second].values[point] == right[second].values[point]


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="no fault of an instrument"):
        fault("broken", 0)
    with pytest.raises(ValueError, match="ends before"):
        fault("dead", 0, begin=T, end=T - 1)
    with pytest.raises(ValueError, match="not among the 4"):
        instruments(faults=(fault("dead", 4),))
    with pytest.raises(ValueError, match="negative"):
        instruments(noise=-1.0)
    with pytest.raises(ValueError, match="differ in length"):
        Instruments(
            **dict.fromkeys(("noise", "resolution", "lag", "range_low"), np.zeros(2)),
            range_high=np.zeros(3),
            random=np.random.default_rng(1),
        )
