"""What instruments make of the truth: noise, lag, steps, a range that ends, and the faults that instruments have."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.plant import Floats

Indices = NDArray[np.intp]
"""Which points, by their place in the flat arrays."""

GOOD, BAD, MUTE = 0, 1, 2
"""A point shows a value; it is there but cannot measure (sent as null); nothing is heard of it."""

KINDS = ("covered", "calibration", "offset", "drift", "frozen", "open_circuit", "dead")
"""What can be wrong with an instrument, in the order in which a value meets it."""

HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """Something that is wrong with instruments from begin until before end (µs).

    kind: "frozen" keeps the value that it showed at begin; "dead" is silent; "open_circuit" has no value;
    "covered" sees only ``share`` of the truth; "calibration" has the span gas ``value`` before it instead of
    the truth; "offset" adds ``value``; "drift" adds ``per_hour`` for each hour since begin.
    points: each at most once.

    Raises:
        ValueError: no such kind, or it ends before it begins.
    """

    kind: str
    points: Indices
    begin: int
    end: int
    share: float = 0.02
    value: float = 0.0
    per_hour: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"no fault of an instrument is called {self.kind!r}; there are {', '.join(KINDS)}"
            )
        if self.end < self.begin:
            raise ValueError(f"{self.kind} ends before it begins")


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    """What all instruments show at one time, each [p]. values are NaN wherever the state is not GOOD."""

    values: Floats
    state: NDArray[np.uint8]


class Instruments:
    """All instruments of a city side by side, in flat arrays [p].

    A value goes this way: what the sensor has before it (the truth, or less if it is covered, or span
    gas), its lag, its error (drift, offset), noise, the steps of its resolution, the ends of its range,
    and a display that may be frozen. The order of the draws depends on nothing, so that a fault changes
    only the points that have it.

    Args:
        noise: 1 sigma, in the point's unit. resolution: smallest step; 0 for none. lag: of first order, s.
        range_low, range_high: where it saturates; NaN for no end. faults: in any order.
        random: what the noise is drawn from; nobody else may draw from it.

    Raises:
        ValueError: lengths that differ, something negative, or a fault of a point that there is not.
    """

    def __init__(
        self,
        *,
        noise: Floats,
        resolution: Floats,
        lag: Floats,
        range_low: Floats,
        range_high: Floats,
        faults: Sequence[Fault] = (),
        random: Generator,
    ) -> None:
        self.count = len(noise)
        if any(len(given) != self.count for given in (resolution, lag, range_low, range_high)):
            raise ValueError("the instruments' arrays differ in length")
        if not all(np.all(given >= 0) for given in (noise, resolution, lag)):
            raise ValueError("noise, resolution and lag cannot be negative")
        if any(len(f.points) and not 0 <= f.points.min() <= f.points.max() < self.count for f in faults):
            raise ValueError(f"a fault of a point that is not among the {self.count}")
        self._noise = noise
        self._lag = lag
        self._low = np.where(np.isnan(range_low), -np.inf, range_low)
        self._high = np.where(np.isnan(range_high), np.inf, range_high)
        self._random = random
        self._continuous = np.flatnonzero(resolution == 0)
        self._step = np.where(resolution == 0, 1.0, resolution)
        steps, which = np.unique(self._step, return_inverse=True)
        self._scale = np.array([10.0 ** _decimals(step) for step in steps.tolist()])[which]
        self._multiple = np.rint(self._step * self._scale)
        self._upcoming = sorted(faults, key=lambda fault: fault.begin, reverse=True)
        self._active: list[Fault] = []
        self._frozen: dict[Fault, Floats] = {}
        self._left: tuple[float, Floats] = (np.nan, np.empty(0))  # for this dt: what a step leaves of a gap
        self._lagged: Floats | None = None
        self._shown: Floats | None = None

    def read(self, t: int, dt: float, true: Floats) -> Readout:
        """What is shown at t (µs), dt seconds after the last time; true: finite, [p]. t never goes back."""
        began = self._begin(t)
        seen = np.array(true, np.float64)
        for fault in self._of("covered"):
            seen[fault.points] *= fault.share
        for fault in self._of("calibration"):
            seen[fault.points] = fault.value
        lagged = self._follow(seen, dt)
        shown = self._random.standard_normal(self.count)
        shown *= self._noise
        shown += lagged
        for fault in self._of("offset"):
            shown[fault.points] += fault.value
        for fault in self._of("drift"):
            shown[fault.points] += fault.per_hour * (t - fault.begin) / HOUR
        self._quantise(shown)
        np.clip(shown, self._low, self._high, out=shown)
        for fault in self._of("frozen"):
            if fault in began:
                before = shown if self._shown is None or fault.begin == t else self._shown
                self._frozen[fault] = before[fault.points]
            shown[fault.points] = self._frozen[fault]
        self._shown = shown
        values = shown.copy()
        state = np.zeros(self.count, np.uint8)
        for kind, becomes in (("open_circuit", BAD), ("dead", MUTE)):
            for fault in self._of(kind):
                values[fault.points] = np.nan
                state[fault.points] = becomes
        return Readout(values, state)

    def _begin(self, t: int) -> list[Fault]:
        """Bring the active faults up to date; those that have begun since the last time."""
        began = []
        while self._upcoming and self._upcoming[-1].begin <= t:
            began.append(self._upcoming.pop())
        self._active = [fault for fault in (*self._active, *began) if t < fault.end]
        if self._frozen:
            self._frozen = {fault: held for fault, held in self._frozen.items() if t < fault.end}
        return began

    def _of(self, kind: str) -> list[Fault]:
        return [fault for fault in self._active if fault.kind == kind]

    def _follow(self, seen: Floats, dt: float) -> Floats:
        """Let the sensors follow what is before them: the exact answer to a step that lasts dt."""
        if self._lagged is None:
            self._lagged = seen
        else:
            if self._left[0] != dt:
                slow = self._lag > 0
                self._left = dt, np.where(slow, np.exp(-dt / np.where(slow, self._lag, 1.0)), 0.0)
            self._lagged -= seen
            self._lagged *= self._left[1]
            self._lagged += seen
        return self._lagged

    def _quantise(self, shown: Floats) -> None:
        """To whole steps, as the floats that are written with no more digits than the step has."""
        continuous = shown[self._continuous]
        shown /= self._step
        np.rint(shown, out=shown)
        shown *= self._multiple  # whole numbers until here, so that the division rounds only once
        shown /= self._scale
        shown += 0.0  # no -0.0
        shown[self._continuous] = continuous


def _decimals(step: float) -> int:
    """Digits after the point that a step is written with."""
    exponent = Decimal(repr(step)).normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)
