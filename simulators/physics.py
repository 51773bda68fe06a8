"""All units of a scenario, kind by kind, moved through its timeline: what is true at every step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.plant import Floats, Kind, kind, usual
from simulators.scenario import Change, Scenario, ScenarioError, copies, matches

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
        ScenarioError: a design with which its kind cannot be.
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
                    self.kinds.setdefault(plant.kind, kind(plant.kind))
                    first = counts.get(plant.kind, 0)
                    self.units += [Unit(id, u, plant.kind, first + at) for at, u in enumerate(plant.units)]
                    counts[plant.kind] = first + len(plant.units)
                    designs.setdefault(plant.kind, []).append((len(plant.units), plant.design))
        self.count = counts
        begins = float((scenario.start // 1_000_000 + ZONE) % 86_400)
        self._designs = {name: _design(self.kinds[name], parts, begins) for name, parts in designs.items()}
        for name, parts in designs.items():
            if any(design for _, design in parts):
                self._try(name)
        events = [event for event in scenario.timeline if isinstance(event, Change)]
        if not remedies:
            events = [
                event.model_copy(update={"lasts": None}) if event.ended_by else event
                for event in events
                if not event.by
            ]
        self._tracks = [
            track for event in sorted(events, key=lambda event: event.at) for track in self._track(event)
        ]

    def run(self, beyond: int = 0) -> Iterator[Truth]:
        """The truth at the start and after every step, to the end and so many µs beyond. Each call begins anew."""
        scenario = self.scenario
        randoms = {name: np.random.default_rng([scenario.seed, *name.encode()]) for name in self.kinds}
        states = {
            name: kind.start(self._designs[name], self.count[name], randoms[name])
            for name, kind in self.kinds.items()
        }
        dt = scenario.step / 1e6
        for since in range(0, scenario.lasts + beyond + 1, scenario.step):
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

    def _try(self, name: str) -> None:
        """Whether there can be units with what the scenario changes of the kind's design."""
        kind, design, n = self.kinds[name], self._designs[name], self.count[name]
        random, inputs = np.random.default_rng(0), usual(kind, n)
        try:
            with np.errstate(all="ignore"):  # what comes of sizes that cannot be is seen below
                state = kind.step(design, kind.start(design, n, random), 1.0, inputs, random)
                signals = kind.measure(design, state, inputs)
        except (ArithmeticError, ValueError) as error:
            raise ScenarioError(f"{name}: design: these sizes cannot be: {error}") from error
        if wrong := [signal for signal, values in signals.items() if not np.isfinite(values).all()]:
            raise ScenarioError(f"{name}: design: these sizes cannot be: there is no {wrong[0]} with them")

    def of(self, event: Change) -> list[Unit]:
        """The units to which an event happens."""
        return [
            unit
            for unit in self.units
            if any(matches(target, unit.enterprise, unit.id) for target in event.units)
        ]

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
        for unit in self.of(event):
            by_kind.setdefault(unit.kind, []).append(unit.index)
        for name, indexes in by_kind.items():
            for input, value in event.set.items():
                yield _Track(name, input, np.array(indexes), times, shares, value)


@dataclass(frozen=True, slots=True)
class _Track:
    """How far an event has moved an input at which time: 0 not at all, 1 wholly."""

    kind: str
    input: str
    units: NDArray[np.int64]
    times: Sequence[int]  # µs since the start
    shares: Sequence[float]
    value: float


def _design(
    kind: Kind[Any, Any], parts: Sequence[tuple[int, Mapping[str, Sequence[float] | float]]], begins: float
) -> Any:
    """The kind's design with what the plants change of it, [n] where units differ.

    begins: seconds after local midnight at which it starts, for a kind whose days differ from its nights.
    """
    types = {field.name: field.type for field in fields(kind.design)}
    changed: dict[str, Floats | float] = {"begins": begins} if "begins" in types else {}
    for name in {name for _, design in parts for name in design}:
        default = changed.get(name, getattr(kind.design, name))
        values = np.concatenate(
            [np.broadcast_to(np.asarray(design.get(name, default), float), n) for n, design in parts]
        )
        same = bool(np.all(values == values[0]))
        if types[name] is float and not same:
            raise ScenarioError(f"{kind.name}: design: {name} has to be the same for all units")
        changed[name] = float(values[0]) if same else values
    return replace(kind.design, **changed)
