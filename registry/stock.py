"""How much a tank holds: from the geometry of a vessel to the table of (what is measured, tonnes)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.model import Holding, Tank

Floats = NDArray[np.float64]

SHAPES = ("upright_cylinder", "lying_cylinder", "sphere", "scale", "weight")

STEPS = 32
"""A curved vessel's table has one row more. It is nowhere wrong by more than 0.07 % of what the vessel holds."""

LENGTHS = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001}
"""Engineering units of a level, in m; "%" is of the vessel's inner height."""

WEIGHTS = {"t": 1.0, "kg": 0.001}
"""Engineering units of a weight, in t."""


@dataclass(frozen=True, slots=True)
class Vessel:
    """The inside of a vessel. Lengths in m, density in kg/m³; NaN for what its shape does not need.

    height: of an upright cylinder. length: of the straight part of a lying one; head_depth: how deep each of its
    two heads is: 0 where they are flat, a quarter of the diameter where they are 2:1 ellipsoids, half where they
    are hemispheres. scale: (value, t) pairs of the shape "scale", rising.
    """

    shape: str
    diameter: float = math.nan
    height: float = math.nan
    length: float = math.nan
    head_depth: float = 0.0
    density: float = math.nan
    scale: tuple[tuple[float, float], ...] = ()

    @property
    def top(self) -> float:
        """From the lowest to the highest point inside, m."""
        return self.height if self.shape == "upright_cylinder" else self.diameter


def volume(vessel: Vessel, level: Floats) -> Floats:
    """How much is below this level (m above the lowest point) in an upright, lying or spherical vessel, m³."""
    h = np.clip(level, 0.0, vessel.top)
    radius = vessel.diameter / 2
    cap = math.pi * h * h * (3 * radius - h) / 3  # of a sphere
    if vessel.shape == "sphere":
        return cap
    if vessel.shape == "upright_cylinder":
        return math.pi * radius**2 * h
    above = radius - h
    segment = radius**2 * np.arccos(np.clip(above / radius, -1.0, 1.0)) - above * np.sqrt(
        np.clip(h * (vessel.diameter - h), 0.0, None)
    )
    return segment * vessel.length + cap * (vessel.head_depth / radius)


def capacity(vessel: Vessel) -> float:
    """What it holds when it is full, t; NaN for a weight, which does not say."""
    if vessel.shape == "weight":
        return math.nan
    if vessel.shape == "scale":
        return vessel.scale[-1][1]
    return float(volume(vessel, np.array(vessel.top))) * vessel.density / 1000


def table(vessel: Vessel, engineering_unit: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Values in this engineering unit, rising, and the tonnes that each of them means.

    A level's unit is one of LENGTHS or "%", a weight's one of WEIGHTS (KeyError otherwise); a scale has any.
    """
    if vessel.shape == "scale":
        return tuple(value for value, _ in vessel.scale), tuple(mass for _, mass in vessel.scale)
    if vessel.shape == "weight":
        return (0.0, 1e9), (0.0, 1e9 * WEIGHTS[engineering_unit])
    steps = 1 if vessel.shape == "upright_cylinder" else STEPS
    # closer together near bottom and top, where the walls bend away
    level = vessel.top * (1 - np.cos(np.linspace(0.0, math.pi, steps + 1))) / 2
    mass = volume(vessel, level) * vessel.density / 1000
    value = level / (vessel.top / 100 if engineering_unit == "%" else LENGTHS[engineering_unit])
    return tuple(value.tolist()), tuple(mass.tolist())


def vessels(tanks: Mapping[str, Sequence[Any]]) -> list[Vessel]:
    """The vessels of tanks.csv, whose columns are given; {} where there are none."""
    if not tanks:
        return []
    names = ("shape", "diameter", "height", "length", "head_depth", "density", "scale")
    return [Vessel(*row) for row in zip(*(tanks[name] for name in names), strict=True)]


def holdings(
    records: Mapping[str, Mapping[str, Sequence[Any]]], rows: Mapping[tuple[str, str], tuple[int, str]]
) -> tuple[Holding, ...]:
    """The chemicals that lie in tanks, sorted by enterprise and id.

    Args:
        records: the checked columns of chemicals.csv and tanks.csv, by stem; either may be left out.
        rows: row and engineering unit of every point, by enterprise and id.
    """
    tanks, chemicals = records.get("tanks"), records.get("chemicals")
    if not tanks or not chemicals:
        return ()
    of: dict[tuple[str, str], list[Tank]] = {}
    keys = zip(tanks["enterprise"], tanks["chemical"], tanks["point"], vessels(tanks), strict=True)
    for enterprise, chemical, point, vessel in keys:
        row, unit = rows[enterprise, point]
        of.setdefault((enterprise, chemical), []).append(Tank(row, *table(vessel, unit)))
    names = ("enterprise", "id", "name", "unit", "cas", "permitted", "declared", "clause")
    return tuple(
        Holding(
            enterprise,
            id_,
            name or id_,
            unit,
            cas,
            permitted,
            0.0 if math.isnan(declared) else declared,
            tuple(sorted(of[enterprise, id_], key=lambda tank: tank.row)),
            clause,
        )
        for enterprise, id_, name, unit, cas, permitted, declared, clause in sorted(
            zip(*(chemicals[column] for column in names), strict=True), key=lambda row: row[:2]
        )
        if (enterprise, id_) in of
    )
