"""The points of a scenario: each unit's instrument index, read from the CSV of its kind."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from simulators.credit import made_up
from simulators.physics import Physics
from simulators.scenario import Gateway, Plant, Scenario, copies
from simulators.scenario_values import duration

DEVICE = ("signal", "noise", "resolution", "lag")
"""Columns of the index that say how it measures; the rest are the registry's own, but for those of a group."""

GROUP = ("group_tolerance", "group_delay")


@dataclass(frozen=True, slots=True)
class Point:
    """One point, what it measures and how.

    unit: the unit's place in its kind's arrays. noise: 1 sigma; resolution: smallest step, 0 for none; both in
    the signal's unit. lag: s. low, high: the instrument shows nothing beyond. columns: of the registry.
    """

    enterprise: str  # id in the scenario
    code: str
    gateway: str
    id: str
    kind: str
    signal: str
    unit: int
    noise: float
    resolution: float
    lag: float
    low: float
    high: float
    columns: Mapping[str, str]


def credit_codes(scenario: Scenario) -> dict[str, str]:
    """The credit code of every enterprise, by its id in the scenario."""
    codes: dict[str, str] = {}
    for enterprise in scenario.enterprises:
        for id in copies(enterprise):
            codes[id] = enterprise.code or made_up(len(codes) + 1)
    return codes


def points(scenario: Scenario, physics: Physics) -> list[Point]:
    """All points: enterprise by enterprise, gateway by gateway."""
    found = []
    codes = credit_codes(scenario)
    unit = dict.fromkeys(physics.kinds, 0)
    for enterprise in scenario.enterprises:
        for id in copies(enterprise):
            own = []
            for plant in enterprise.plants:
                rows = _rows(plant)
                least = _interval(enterprise.gateways[plant.gateway])
                for name in plant.units:
                    own += [_point(id, codes[id], plant, row, name, unit[plant.kind], least) for row in rows]
                    unit[plant.kind] += 1
            gateways = list(enterprise.gateways)
            found += sorted(own, key=lambda point: gateways.index(point.gateway))
    return found


def _rows(plant: Plant) -> list[dict[str, str]]:
    """The rows of the index that the plant's units have, with what the plant changes of them."""
    every = plant.registry.get("*", {})
    rows = [row | every | plant.registry.get(row["point"], {}) for row in plant.rows]
    sizes = Counter(row.get("group") for row in rows)
    return [
        row | {"group": ""} if sizes[row.get("group")] == 1 else row for row in rows
    ]  # nobody to agree with


def _interval(gateway: Gateway) -> int:
    """The shortest time, µs, after which a point of this gateway may be called silent: three readings are
    missing, and none is merely late. Whoever sets up a plant has to know how it sends."""
    usual = gateway.heartbeat if gateway.exception else gateway.every
    return 3 * max(usual, gateway.batch) + (gateway.late_by if gateway.late else 0)


def _point(
    id: str, code: str, plant: Plant, row: Mapping[str, str], unit: str, number: int, least: int
) -> Point:
    texts = {
        column: text.replace("{unit}", unit) for column, text in row.items() if column not in DEVICE and text
    }
    name = plant.point(row, unit)
    if (interval := texts.get("interval")) and duration(interval) < least:
        texts["interval"] = f"{-(-least // 1_000_000)}s"
    columns = {"enterprise": code, "gateway": plant.gateway, **texts, "point": name, "unit": unit}
    return Point(
        enterprise=id,
        code=code,
        gateway=plant.gateway,
        id=name,
        kind=plant.kind,
        signal=row["signal"],
        unit=number,
        noise=float(row["noise"] or 0),
        resolution=float(row["resolution"] or 0),
        lag=float(row.get("lag") or 0),
        low=float(texts["range_low"]),
        high=float(texts["range_high"]),
        columns=columns,
    )
