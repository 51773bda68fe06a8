"""All units of a scenario, kind by kind, moved through its timeline: what is true at every step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.plant import Floats, Kind, kind, usual
from simulators.scenario import Change, Enterprise, Scenario, ScenarioError

ZONE = 8 * 3600
"""Seconds by which the simulated city's clocks (Asia/Shanghai) are ahead of UTC."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of one enterprise, and where it stands in its kind's arrays."""

    enterprise: str  # id in the scenario, with the copy's number
    id: str
    kind: str
    index: int


@dataclass(frozen=True, slots=True)
class Truth:
    """What is so at one step. time: µs UTC. signals: kind → signal → [n]. stages: kind → hazard → int8 [n]."""

    time: int
    signals: Mapping[str, Mapping[str, Floats]]
    stages: Mapping[str, Mapping[str, NDArray[np.int8]]]


class Physics:
    """The physics of a scenario.

    Args:
        remedies: whether what people do to avert it is done; without, the run shows what would have come.

    Raises:
        ScenarioError: a kind, a design's field, a unit or an input that is not there.
    """

    def __init__(self, scenario: Scenario, *, remedies: bool = True) -> None:
        self.scenario = scenario
        self.units: list[Unit] = []
        self.kinds: dict[str, Kind[Any, Any]] = {}
        counts: dict[str, int] = {}
        designs: dict[str, list[tuple[int, Mapping[str, Sequence[float] | float]]]] = {}
        for enterprise in scenario.enterprises:
            for id in copies(enterprise):
                for plant in enterprise.plants:
                    self.kinds.setdefault(plant.kind, _kind(enterprise, plant.kind))
                    first = counts.get(plant.kind, 0)
                    ids = plant.ids
                    self.units += [Unit(id, u, plant.kind, first + at) for at, u in enumerate(ids)]
                    counts[plant.kind] = first + len(ids)
                    designs.setdefault(plant.kind, []).append((len(ids), plant.design))
        self.count = counts
        begins = float((scenario.start // 1_000_000 + ZONE) % 86_400)
        self._designs = {name: _design(self.kinds[name], parts, begins) for name, parts in designs.items()}
        self._tracks = [
            track
            for event in scenario.timeline
            if isinstance(event, Change) and (remedies or not event.by)
            for track in self._track(event)
        ]

    def run(self) -> Iterator[Truth]:
        """The truth at the start and after every step, to the end. Each call begins anew."""
        scenario = self.scenario
        randoms = {name: np.random.default_rng([scenario.seed, *name.encode()]) for name in self.kinds}
        states = {
            name: kind.start(self._designs[name], self.count[name], randoms[name])
            for name, kind in self.kinds.items()
        }
        dt = scenario.step / 1e6
        for since in range(0, scenario.lasts + 1, scenario.step):
            inputs = self._inputs(since)
            if since:
                states = {
                    name: kind.step(self._designs[name], states[name], dt, inputs[name], randoms[name])
                    for name, kind in self.kinds.items()
                }
            yield Truth(
                scenario.start + since,
                {n: k.measure(self._designs[n], states[n], inputs[n]) for n, k in self.kinds.items()},
                {n: k.stages(self._designs[n], states[n], inputs[n]) for n, k in self.kinds.items()},
            )

    def find(self, target: str) -> list[Unit]:
        """The units that a target of the timeline means. Raises ScenarioError where there is none."""
        found = [unit for unit in self.units if matches(target, unit.enterprise, unit.id)]
        if not found:
            raise ScenarioError(f"timeline: no unit {target!r}")
        return found

    def _inputs(self, since: int) -> dict[str, dict[str, Floats]]:
        inputs = {name: usual(kind, self.count[name]) for name, kind in self.kinds.items()}
        for track in self._tracks:
            if since >= track.times[0]:
                share = float(np.interp(since, track.times, track.shares))
                values = inputs[track.kind][track.input]
                values[track.units] += share * (track.value - values[track.units])
        return inputs

    def _track(self, event: Change) -> Iterator["_Track"]:
        times, shares = [event.at, event.at + event.over], [0.0 if event.over else 1.0, 1.0]
        if event.lasts is not None:
            end = max(event.at + event.lasts, times[-1])
            times, shares = [*times, end, end + max(event.over, 1)], [*shares, 1.0, 0.0]
        by_kind: dict[str, list[int]] = {}
        for unit in (unit for target in event.units for unit in self.find(target)):
            by_kind.setdefault(unit.kind, []).append(unit.index)
        for name, indexes in by_kind.items():
            known = {input.name: input for input in self.kinds[name].inputs}
            for input, value in event.set.items():
                if input not in known:
                    raise ScenarioError(f"timeline: {name} has no input {input!r}; it has {', '.join(known)}")
                if not known[input].low <= value <= known[input].high:
                    low, high = known[input].low, known[input].high
                    raise ScenarioError(
                        f"timeline: {name}: {input}: {value:g} is not from {low:g} to {high:g}"
                    )
                yield _Track(name, input, np.unique(indexes), times, shares, value)


@dataclass(frozen=True, slots=True)
class _Track:
    """How far an event has moved an input at which time: 0 not at all, 1 wholly."""

    kind: str
    input: str
    units: NDArray[np.int64]
    times: Sequence[int]  # µs since the start
    shares: Sequence[float]
    value: float


def copies(enterprise: Enterprise) -> list[str]:
    """The ids of an enterprise and all that are like it."""
    if enterprise.copies == 1:
        return [enterprise.id]
    return [f"{enterprise.id}-{number}" for number in range(1, enterprise.copies + 1)]


def matches(target: str, enterprise: str, name: str) -> bool:
    """Whether a target of the timeline means this unit, point or gateway of this enterprise."""
    if "/" not in target:
        return fnmatchcase(name, target)
    return fnmatchcase(f"{enterprise}/{name}", target)


def _kind(enterprise: Enterprise, name: str) -> Kind[Any, Any]:
    try:
        return kind(name)
    except KeyError as error:
        raise ScenarioError(f"{enterprise.id}: {error.args[0]}") from None


def _design(
    kind: Kind[Any, Any], parts: Sequence[tuple[int, Mapping[str, Sequence[float] | float]]], begins: float
) -> Any:
    """The kind's design with what the plants change of it, [n] where anything is changed.

    begins: seconds after local midnight at which it starts, for a kind whose days differ from its nights.
    """
    known = {field.name for field in fields(kind.design)}
    changed: dict[str, Floats | float] = {"begins": begins} if "begins" in known else {}
    for name in {name for _, design in parts for name in design}:
        if name not in known:
            raise ScenarioError(f"{kind.name} has no design {name!r}; it has {', '.join(sorted(known))}")
        default = getattr(kind.design, name)
        try:
            values = [np.broadcast_to(np.asarray(design.get(name, default), float), n) for n, design in parts]
        except ValueError:
            raise ScenarioError(f"{kind.name}: design {name}: one value, or one for each unit") from None
        changed[name] = np.concatenate(values)
    return replace(kind.design, **changed)
