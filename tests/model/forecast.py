"""When a value will reach a limit, said plainly: from a list of samples."""

from itertools import combinations
from statistics import median
from typing import NamedTuple

from registry.clock import SECOND


class Forecast(NamedTuple):
    level: str  # "" where no limit lies ahead
    target: float
    slope: float  # a second
    share: float  # of the slopes that point that way
    left: float  # seconds
    count: int  # samples within the time over which the slope is taken
    span: int  # µs, from the oldest sample that is used


def used(samples: list[tuple[int, float]], over: int) -> list[tuple[int, float]]:
    """Those not older than ``over``; and the one before the newest, however old it is."""
    now = samples[-1][0]
    return [s for number, s in enumerate(samples) if now - s[0] <= over or number == len(samples) - 2]


def forecast(samples: list[tuple[int, float]], over: int, limits: dict[str, float]) -> Forecast:
    now, newest = samples[-1]
    count = sum(now - time <= over for time, _ in samples)
    samples = used(samples, over)
    span = now - samples[0][0]
    slopes = [(b - a) / ((u - t) / SECOND) for (t, a), (u, b) in combinations(samples, 2)]
    if not slopes or median(slopes) == 0:
        return Forecast("", 0.0, 0.0, 0.0, 0.0, count, span)
    slope = median(slopes)
    here = median(value + slope * ((now - time) / SECOND) for time, value in samples)
    if slope > 0:
        share = sum(s > 0 for s in slopes) / len(slopes)
        on_the_way = [(limits[x], x) for x in ("H", "HH") if limits[x] > max(here, newest)]
        target, level = min(on_the_way, default=(0.0, ""))
    else:
        share = sum(s < 0 for s in slopes) / len(slopes)
        on_the_way = [(limits[x], x) for x in ("L", "LL") if limits[x] < min(here, newest)]
        target, level = max(on_the_way, key=lambda pair: (pair[0], pair[1] == "L"), default=(0.0, ""))
    left = (target - here) / slope if level else 0.0
    return Forecast(level, target, slope, share, left, count, span)
