"""One enterprise whose points are heard second by second, and what is said of them in a few words."""

import math

import numpy as np

from ingest.readings import BAD, GOOD, GatewayStatus, Readings, Round
from registry.clock import SECOND
from registry.model import Group
from streams.engine import PointEngine
from streams.finding import Finding
from tests.build import RULEBOOK, PointSpec, code, make_registry

START = 1_795_248_000 * SECOND
ONE = code(1)


class Site:
    """Times are seconds after the start."""

    def __init__(self, *points: PointSpec, groups: tuple[Group, ...] = (), engine: PointEngine | None = None):
        self.engine = engine or PointEngine(make_registry(points, groups=groups), START, RULEBOOK)

    def hear(
        self,
        at: float,
        *readings: tuple[str, float, float],
        status: bool | None = None,
        listening: bool = True,
    ) -> list[Finding]:
        """A round that arrives ``at``, of (point, device time, value); NaN is a bad value."""
        rows = self.engine.registry.rows[ONE]
        batch = Readings(
            np.array([rows[point] for point, _, _ in readings], np.int32),
            np.array([when(time) for _, time, _ in readings], np.int64),
            np.array([value for _, _, value in readings], np.float64),
            np.array([BAD if math.isnan(value) else GOOD for _, _, value in readings], np.uint8),
        )
        states = () if status is None else (GatewayStatus(0, status),)
        return self.engine.apply(Round(when(at), listening, status=states, readings=batch))

    def values(self, *values: float, first: float = 1, every: float = 1) -> list[str]:
        """Values of point A, one a second; what was said, as "second phase level"."""
        said = []
        for number, value in enumerate(values):
            at = first + number * every
            said += brief(self.hear(at, ("A", at, value)))
        return said


def when(seconds: float) -> int:
    return START + round(seconds * SECOND)


def brief(findings: list[Finding]) -> list[str]:
    return [
        " ".join(
            [f"{(f.time - START) / SECOND:g}", f.rule, f.phase]
            + [f.level] * bool(f.level)
            + ["late"] * f.late
        )
        for f in findings
    ]
