"""The demo's story: when what goes wrong in which plant, and the readings that come of it.

Times are seconds of simulated time since the story began. A reactor loses its cooling and is saved after
four minutes; a coal face loses most of its air and nobody puts it right, so that its alert has time to
climb: methane reaches 1.5 % in the second minute, and with five minutes at each rung the city is asked
some twenty minutes later. The registry that belongs to it is examples/demo/registry.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np

from simulators import coal_face, reactor

CHEMICAL_PLANT = ("91370281MA3TR1101K", "gw1")
COAL_MINE = ("91370281MA3MK1160B", "gw1")
"""Credit code and gateway."""

Ramp = tuple[tuple[float, float], ...]
"""Corners (time, share) of a line that is level before the first and after the last."""

COOLING: Ramp = ((20, 1.0), (23, 0.0), (240, 0.0), (245, 1.0))
FEED: Ramp = ((235, 1.0), (240, 0.0))
EMERGENCY: Ramp = ((240, 0.0), (245, 1.0))
VENTILATION: Ramp = ((25, 1.0), (35, 0.4))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that an onlooker is told when it happens."""

    at: float
    gateway: tuple[str, str]
    zh: str
    en: str


EVENTS = (
    Event(20, CHEMICAL_PLANT, "反应釜 R-1101 冷却水中断", "Reactor R-1101 loses its cooling water"),
    Event(25, COAL_MINE, "工作面风门敞开，风量开始下降", "An air door is left open: the face loses its air"),
    Event(240, CHEMICAL_PLANT, "停止进料，投用应急冷却", "The feed is stopped, emergency cooling comes in"),
)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the plants are subject to at one moment; shares of what the design has.

    emergency: the coolant flow that the controller's valve may not fall below.
    """

    cooling: float
    emergency: float
    feed: float
    ventilation: float


def conditions(t: float) -> Conditions:
    """The conditions at simulated second ``t``."""
    return Conditions(_on(COOLING, t), _on(EMERGENCY, t), _on(FEED, t), _on(VENTILATION, t))


def story(
    *, seed: int = 1, step: float = 1.0
) -> Iterator[tuple[float, dict[tuple[str, str], dict[str, float]]]]:
    """The readings of each gateway every ``step`` simulated seconds, without end; one seed, one story.

    Yields (t, {(credit code, gateway): {point: value}}), first for t = 0.
    """
    noise = Random(seed)
    vessel = reactor.Reactor()
    face = coal_face.Face(at_face=0.68, in_return=0.33, freed=0.2, broken=0.2)
    now = conditions(0)
    count = 0
    while True:
        coolant = max(
            reactor.controlled(vessel, available=now.cooling), now.emergency * reactor.BENCHMARK.coolant
        )
        yield (
            count * step,
            {
                CHEMICAL_PLANT: reactor.measure(vessel, coolant, noise),
                COAL_MINE: coal_face.measure(face, noise, ventilation=now.ventilation),
            },
        )
        count += 1
        now = conditions(count * step)
        vessel = reactor.step(vessel, step, coolant, feed=now.feed * reactor.BENCHMARK.feed)
        face = coal_face.step(face, step, noise, cutting=True, ventilation=now.ventilation)


def _on(ramp: Ramp, t: float) -> float:
    times, shares = zip(*ramp, strict=True)
    return float(np.interp(t, times, shares))
