"""What a kind of plant is: units side by side in arrays, what can be measured, and when its physics is a danger.

A kind knows nothing of points, gateways, rules or limits. It says what is true: whoever measures may be
wrong, and whoever judges is judged by it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
"""One value for each unit, [n]."""

Inputs = Mapping[str, Floats]
"""What a scenario does to the units, by the input's name; every input of the kind is there, each [n]."""

D = TypeVar("D")
S = TypeVar("S")

FOLDER = Path(__file__).parent / "plants"


class Stage(IntEnum):
    """How far a hazard has come. A larger number is worse, so that max() is the worst."""

    SAFE = 0  # nothing that a perfect instrument could tell from an ordinary day
    VISIBLE = 1  # a perfect instrument could tell; people need not act yet
    DANGER = 2  # people must act
    HARM = 3  # it has happened: too late to prevent


@dataclass(frozen=True, slots=True)
class Signal:
    """A quantity that an instrument could measure, free of the instrument's faults.

    low, high: between these it stays while nothing is wrong, the process's own swings included.
    """

    name: str
    unit: str
    low: float
    high: float
    about: str


@dataclass(frozen=True, slots=True)
class Input:
    """What the timeline of a scenario may change of a unit, and the value that it has else."""

    name: str
    usual: float
    low: float
    high: float
    about: str


@dataclass(frozen=True, slots=True)
class Hazard:
    """A way in which the plant comes to harm people.

    tier: "I" people off the site or many on it may die; "II" people on the site may be poisoned, burnt or
    buried; "III" the last barrier before that is gone, or the plant is damaged; "IV" a barrier is worn.
    signals: those that show it, the plainest first. response: seconds that people need from hearing of it
    until it is averted. source: why the bounds of its stages are what they are.
    """

    name: str
    zh: str
    en: str
    tier: str
    signals: tuple[str, ...]
    response: float
    source: str


@dataclass(frozen=True)
class Kind(Generic[D, S]):
    """One kind of plant. Its functions are pure but for the generator that they are given.

    design: sizes and constants; each is a number or [n], so that units may differ.
    start(design, n, random): the state of n units on an ordinary day; a frozen dataclass of arrays [n, ...].
    step(design, state, dt, inputs, random): the state dt seconds later (any dt from 0.1 s to 60 s), the inputs held
    meanwhile.
    measure(design, state, inputs): the true value of every one of ``signals`` by its name, each [n].
    stages(design, state, inputs): the Stage of every one of ``hazards`` by its name, each int8 [n].
    """

    name: str
    design: D
    signals: tuple[Signal, ...]
    inputs: tuple[Input, ...]
    hazards: tuple[Hazard, ...]
    start: Callable[[D, int, Generator], S]
    step: Callable[[D, S, float, Inputs, Generator], S]
    measure: Callable[[D, S, Inputs], dict[str, Floats]]
    stages: Callable[[D, S, Inputs], dict[str, NDArray[np.int8]]]

    @property
    def index(self) -> Path:
        """The instrument index: which points a unit has by default (see simulators/instruments.py)."""
        return FOLDER / f"{self.name}.csv"


def usual(kind: Kind[Any, Any], n: int) -> dict[str, Floats]:
    """The inputs of n units on an ordinary day."""
    return {input.name: np.full(n, float(input.usual)) for input in kind.inputs}


def stage(visible: NDArray[np.bool_], danger: NDArray[np.bool_], harm: NDArray[np.bool_]) -> NDArray[np.int8]:
    """The worst Stage that holds, int8 [n]."""
    return np.select(
        [harm, danger, visible],
        [np.int8(Stage.HARM), np.int8(Stage.DANGER), np.int8(Stage.VISIBLE)],
        np.int8(0),
    ).astype(np.int8)


def towards(value: Floats, target: Floats, dt: float, constant: float | Floats) -> Floats:
    """What follows a target with a first-order lag of this time constant (s), ``dt`` seconds later; exact while
    the target is held."""
    return np.asarray(target + (value - target) * np.exp(-dt / constant))


def wander(value: Floats, spread: float | Floats, dt: float, constant: float, draw: Floats) -> Floats:
    """Ornstein-Uhlenbeck noise about 0, ``dt`` seconds later; exact for any ``dt``.

    spread: its standard deviation in the long run. constant: its correlation time, s. draw: standard normal, [n].
    Source: D. T. Gillespie, Phys. Rev. E 54 (1996) 2084.
    """
    kept = math.exp(-dt / constant)
    return value * kept + spread * math.sqrt(1 - kept * kept) * draw


def kinds() -> tuple[str, ...]:
    """The names of all kinds: the modules in simulators/plants."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"))


def kind(name: str) -> Kind[Any, Any]:
    """The kind of this name. Raises KeyError where there is none."""
    if name not in kinds():
        raise KeyError(f"no kind of plant is called {name!r}; there are {', '.join(kinds())}")
    found: Kind[Any, Any] = import_module(f"simulators.plants.{name}").KIND
    return found
