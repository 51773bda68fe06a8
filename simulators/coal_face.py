"""Methane at a longwall face: the seam breathes, cutting frees more, and the ventilation carries it away.

The shape is the usual one for a longwall: concentration = methane release / air flow. Release has a part
that desorbs from the seam and changes over hours, a part that the shearer frees at once and a part that
broken coal goes on giving off for hours. The sizes are fitted by eye to means, spreads and correlation
times of the public longwall recording of M. Sikora, L. Wrobel, A. Gudys (30-second means; MM116 0.96 %
while cutting and 0.69 % otherwise); nothing of the recording itself is in here.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

AIR = 2.3
"""m/s at the face with the ventilation as designed."""


@dataclass(frozen=True, slots=True)
class Face:
    """The state. Methane in % by volume; the rest are departures from their mean, or shares of 1.

    at_face, in_return: methane where MM116 and MM31 hang. freed, broken: how far the shearer's fresh gas and
    the broken coal's gas have built up (0–1). seam, eddies: methane that the seam (hours) and the air's
    swirls (minutes) add, %. leak: what reaches the return by other ways, %. draught: m/s on the air flow.
    weather: hPa on the air pressure.
    """

    at_face: float = 0.7
    in_return: float = 0.33
    freed: float = 0.0
    broken: float = 0.3
    seam: float = 0.0
    eddies: float = 0.0
    leak: float = 0.0
    draught: float = 0.0
    weather: float = 0.0


def step(face: Face, dt: float, noise: Random, *, cutting: bool, ventilation: float = 1.0) -> Face:
    """The face ``dt`` seconds later.

    Args:
        noise: the only source of chance; the same seed gives the same course.
        cutting: whether the shearer runs. ventilation: share of the designed air flow (above 0).
    """
    if dt < 0 or ventilation <= 0:
        raise ValueError("time goes forward and some air always flows")
    load = 1.0 if cutting else 0.0
    freed = _towards(face.freed, load, dt, 240)
    broken = _towards(face.broken, load, dt, 3 * 3600)
    seam = _wander(face.seam, 0.2, dt, 5 * 3600, noise)
    eddies = _wander(face.eddies, 0.06, dt, 270, noise)
    leak = _wander(face.leak, 0.05, dt, 4 * 3600, noise)
    draught = _wander(face.draught, 0.11, dt, 3 * 3600, noise)
    weather = _wander(face.weather, 3.2, dt, 24 * 3600, noise)
    release = max(0.2, 0.56 + 0.15 * freed + 0.48 * broken + seam + eddies - 0.02 * weather)
    target = release / ventilation * AIR / (AIR + draught)
    at_face = _towards(face.at_face, target, dt, 40)
    in_return = _towards(face.in_return, 0.05 + 0.405 * at_face + leak, dt, 150)
    return Face(at_face, in_return, freed, broken, seam, eddies, leak, draught, weather)


def measure(face: Face, noise: Random, *, ventilation: float = 1.0) -> dict[str, float]:
    """What the instruments say, in their own steps: MM116 and MM31 in %, AS038 and PG072 in m/s, BA13 in hPa."""
    air = ventilation * (AIR + face.draught)
    return {
        "MM116": round(max(0.0, face.at_face + noise.gauss(0, 0.01)), 1),
        "MM31": round(max(0.0, face.in_return + noise.gauss(0, 0.008)), 2),
        "AS038": round(max(0.0, air + noise.gauss(0, 0.03)), 1),
        "PG072": round(max(0.0, 0.8 * air + noise.gauss(0, 0.04)), 1),
        "BA13": float(round(1073.4 + face.weather)),
    }


def shearer(noise: Random) -> Iterator[tuple[bool, float]]:
    """Turns of standing still and cutting without end, as (cutting, seconds).

    Cutting lasts 11 minutes on average; most pauses are of minutes, one in five of hours.
    """
    while True:
        pause = 3 * 60 if noise.random() < 0.8 else 110 * 60
        yield False, noise.expovariate(1 / pause)
        yield True, noise.expovariate(1 / (11 * 60))


def course(seed: int, dt: float = 30.0) -> Iterator[tuple[bool, dict[str, float]]]:
    """A face without end: whether it is cutting, and what the instruments say, every ``dt`` seconds."""
    noise = Random(seed)
    face = Face(seam=noise.gauss(0, 0.2), draught=noise.gauss(0, 0.11), weather=noise.gauss(0, 3.2))
    turns = shearer(noise)
    cutting, left = next(turns)
    while True:
        face = step(face, dt, noise, cutting=cutting)
        yield cutting, measure(face, noise)
        left -= dt
        while left <= 0:
            cutting, more = next(turns)
            left += more


def _towards(value: float, target: float, dt: float, constant: float) -> float:
    """First-order lag, exact over any ``dt``."""
    return target + (value - target) * math.exp(-dt / constant)


def _wander(value: float, spread: float, dt: float, constant: float, noise: Random) -> float:
    """Ornstein-Uhlenbeck noise of this spread and correlation time, exact over any ``dt``."""
    kept = math.exp(-dt / constant)
    return value * kept + spread * math.sqrt(1 - kept * kept) * noise.gauss(0, 1)
