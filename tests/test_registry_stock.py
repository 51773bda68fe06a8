"""Tank geometry: known volumes, and tables that are nowhere further from them than is said."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.model import Holding
from registry.stock import STEPS, Vessel, capacity, holdings, table, volume

NAN = math.nan


def mass(vessel: Vessel, unit: str, value: float) -> float:
    values, masses = table(vessel, unit)
    return float(np.interp(value, values, masses))


def test_full_vessels() -> None:
    # upright: π × 2² × 10 m³ of 800 kg/m³ = 40π × 0.8 t; lying with flat heads: the same
    assert capacity(Vessel("upright_cylinder", 4, height=10, density=800)) == pytest.approx(32 * math.pi)
    assert capacity(Vessel("lying_cylinder", 4, length=10, density=800)) == pytest.approx(32 * math.pi)
    # two 2:1 ellipsoidal heads are an ellipsoid with half axes 2, 2 and 1 m: 4/3 π × 4 m³ more
    assert capacity(Vessel("lying_cylinder", 4, length=10, head_depth=1.0, density=800)) == pytest.approx(
        (40 + 16 / 3) * math.pi * 0.8
    )
    # two hemispheres are a sphere: 4/3 π × 8 m³ more
    assert capacity(Vessel("lying_cylinder", 4, length=10, head_depth=2.0, density=800)) == pytest.approx(
        (40 + 32 / 3) * math.pi * 0.8
    )
    assert capacity(Vessel("sphere", 12, density=600)) == pytest.approx(4 / 3 * math.pi * 216 * 0.6)
    assert capacity(Vessel("scale", scale=((4, 0), (20, 50)))) == 50
    assert math.isnan(capacity(Vessel("weight")))


def test_partly_full_vessels() -> None:
    sphere, lying = Vessel("sphere", 2, density=1000), Vessel("lying_cylinder", 2, length=3, density=1000)
    # half a sphere of radius 1; a cap of height 0.5: π × 0.25 × (3 − 0.5) / 3
    levels = np.array([1.0, 0.5])
    assert volume(sphere, levels) == pytest.approx([2 / 3 * math.pi, math.pi * 0.25 * 2.5 / 3])
    # half a circle; a segment of height 0.5 has arccos(0.5) − 0.5 × √0.75 = π/3 − 0.4330
    assert volume(lying, levels) == pytest.approx([1.5 * math.pi, 3 * (math.pi / 3 - 0.4330127)])
    assert volume(lying, np.array([-1.0, 9.0])) == pytest.approx([0, 3 * math.pi])


def test_a_level_may_be_in_any_unit_of_length_or_in_percent() -> None:
    tank = Vessel("upright_cylinder", 4, height=10, density=1000)
    half = 20 * math.pi
    for unit, value in (("m", 5), ("dm", 50), ("cm", 500), ("mm", 5000), ("%", 50)):
        assert mass(tank, unit, value) == pytest.approx(half)
    assert mass(Vessel("sphere", 4, density=1000), "%", 50) == pytest.approx(16 / 3 * math.pi)
    with pytest.raises(KeyError):
        table(tank, "ft")


def test_scales_and_weights() -> None:
    scale = Vessel("scale", scale=((4, 0), (20, 48)))
    assert [mass(scale, "mA", value) for value in (3, 4, 8, 20, 22)] == [0, 0, 12, 48, 48]
    assert mass(Vessel("weight"), "t", 12.5) == pytest.approx(12.5)
    assert mass(Vessel("weight"), "kg", 12500) == pytest.approx(12.5)


@given(
    st.sampled_from(["lying_cylinder", "sphere"]),
    st.floats(0.2, 30),
    st.floats(0.1, 40),
    st.floats(0, 1),
    st.sampled_from(["m", "mm", "%"]),
)
@settings(max_examples=60, deadline=None)
def test_a_table_is_rising_and_nowhere_wrong_by_more_than_is_said(
    shape: str, diameter: float, length: float, depth: float, unit: str
) -> None:
    vessel = Vessel(shape, diameter, NAN, length, depth * diameter / 2, 700)
    values, masses = table(vessel, unit)
    assert len(values) == len(masses) == STEPS + 1
    assert np.all(np.diff(values) > 0)
    assert np.all(np.diff(masses) > 0)
    assert masses[0] == 0
    assert masses[-1] == pytest.approx(capacity(vessel))
    levels = np.linspace(0, vessel.top, 2001)
    exact = volume(vessel, levels) * 0.7
    told = np.interp(levels / vessel.top * values[-1], values, masses)
    assert np.max(np.abs(told - exact)) <= 0.0007 * capacity(vessel)


def test_holdings_are_the_chemicals_that_lie_in_tanks() -> None:
    records = {
        "chemicals": {
            "enterprise": ["E", "E"],
            "id": ["NH3", "CL2"],
            "name": ["液氨", ""],
            "unit": ["U1", ""],
            "cas": ["7664-41-7", ""],
            "permitted": [30.0, 5.0],
            "declared": [NAN, 4.0],
            "clause": ["", ""],
        },
        "tanks": {
            "enterprise": ["E", "E"],
            "id": ["T2", "T1"],
            "chemical": ["NH3", "NH3"],
            "point": ["WI-2", "LI-1"],
            "shape": ["weight", "scale"],
            "diameter": [NAN, NAN],
            "height": [NAN, NAN],
            "length": [NAN, NAN],
            "head_depth": [0.0, 0.0],
            "density": [NAN, NAN],
            "scale": [(), ((0.0, 0.0), (100.0, 20.0))],
        },
    }
    [holding] = holdings(records, {("E", "LI-1"): (3, "%"), ("E", "WI-2"): (7, "kg")})
    assert isinstance(holding, Holding)
    assert (holding.enterprise, holding.id, holding.name, holding.unit) == ("E", "NH3", "液氨", "U1")
    assert (holding.cas, holding.permitted, holding.declared) == ("7664-41-7", 30, 0)
    assert [(tank.row, tank.value, tank.mass) for tank in holding.tanks] == [
        (3, (0, 100), (0, 20)),
        (7, (0, 1e9), (0, 1e6)),
    ]
    assert holdings({"chemicals": records["chemicals"]}, {}) == ()
