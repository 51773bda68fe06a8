"""What the point engine alone judges in a second, on one core, with its state and its snapshot.

A whole city reports every second; each point is judged against LL, L, H and HH with resets, delays, physical
range and silence. One reading in a thousand begins or ends a pending limit: every second 50 points go over H,
half of them for long enough to be found, and 50 come back. What is found is held against what was injected;
where they differ there is no figure.
"""

from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ingest.readings import GOOD, Readings, Round
from registry.clock import SECOND, stopwatch
from registry.model import Registry
from streams.engine import PointEngine
from streams.finding import Finding, Phase
from tests.build import RULEBOOK, city_registry

START = 1_795_248_000 * SECOND
OVER, NORMAL, HIGHEST = 85.0, 50.0, 95.0
LONG, SHORT = 4, 1  # seconds over H; the on-delay is 2 s, the off-delay 5 s
EACH_SECOND = 50

Expected = set[tuple[str, str, Phase, int]]  # enterprise, subject, phase, event time


class WrongFindings(AssertionError):
    """What the engine found is not what was injected: its speed is of no interest."""


def run(quick: bool = False) -> dict[str, float]:
    """Millions of readings a second by size of batch, medians of several runs; milliseconds of the rest."""
    seconds, runs = (12, 3) if quick else (30, 7)
    registry = city_registry()
    readings, expected = stream(registry, seconds)
    shuffled = _shuffled(readings, len(registry.points))
    figures = {}
    for name, each, size in (
        ("200 a round, M/s", readings, 200),
        ("2,000 a round, M/s", readings, 2_000),
        ("2,000 a round, points in random order, M/s", shuffled, 2_000),
        ("100,000 a round, M/s", readings, 100_000),
    ):
        rounds = _rounds(each, size)
        speeds = [len(readings) / _judge(registry, rounds, expected)[0] / 1e6 for _ in range(runs)]
        figures[name] = median(speeds)
    engine = _judge(registry, _rounds(readings, 2_000), expected)[1]
    blob = engine.snapshot()
    figures["snapshot, ms"] = _milliseconds(engine.snapshot, runs)
    figures["snapshot, MB"] = len(blob) / 1e6
    figures["restore, ms"] = _milliseconds(lambda: PointEngine.restore(registry, RULEBOOK, blob), runs)
    figures["same version again, ms"] = _milliseconds(
        lambda: engine.reconfigure(registry, RULEBOOK, engine.now), runs
    )
    figures["next deadline, µs"] = _milliseconds(engine.next_deadline, 1000) * 1000
    for name, each in (("503 sites fire at once, ms", 200), ("every point fires at once, ms", 1)):
        figures[name] = median(_storm(registry, each) for _ in range(3))
    return figures


def stream(registry: Registry, seconds: int) -> tuple[Readings, Expected]:
    """A reading of every point every second, in row order, and the findings it has to give."""
    count = len(registry.points)
    value = np.random.default_rng(1).uniform(NORMAL - 10, NORMAL + 10, (seconds, count))
    gateways = registry.points.gateway.tolist()
    expected: Expected = set()
    chosen = np.random.default_rng(2).permutation(count).tolist()
    for second in range(2, seconds):
        for number in range(EACH_SECOND):
            row, length = chosen.pop(), (LONG, SHORT)[number % 2]
            value[second : second + length, row] = OVER
            enterprise = registry.gateways[gateways[row]].enterprise
            subject = f"point:{registry.points.id[row]}"
            for phase, after in ((Phase.BEGUN, 2), (Phase.ENDED, LONG + 5)):
                if length == LONG and second + after < seconds:
                    expected.add((enterprise, subject, phase, START + (second + after) * SECOND))
    row = np.tile(np.arange(count, dtype=np.int32), seconds)
    time = START + np.repeat(np.arange(seconds) * SECOND, count)
    return Readings(row, time, value.ravel(), np.full(len(row), GOOD, np.uint8)), expected


def _shuffled(stream: Readings, count: int) -> Readings:
    """The same stream, the points in another order every second."""
    random = np.random.default_rng(3)
    order = np.concatenate([random.permutation(count) + at for at in range(0, len(stream), count)])
    return _part(stream, order)


def _part(readings: Readings, which: slice | NDArray[np.intp]) -> Readings:
    return Readings(readings.row[which], readings.time[which], readings.value[which], readings.quality[which])


def _rounds(readings: Readings, size: int) -> list[Round]:
    """Cut into rounds that arrive, each a little after its newest reading."""
    parts = [_part(readings, slice(at, at + size)) for at in range(0, len(readings), size)]
    return [Round(time=int(part.time[-1]) + 1000, readings=part) for part in parts]


def _judge(registry: Registry, rounds: list[Round], expected: Expected) -> tuple[float, PointEngine]:
    engine = PointEngine(registry, START, RULEBOOK)
    findings: list[Finding] = []
    begun = stopwatch()
    for round in rounds:
        findings += engine.apply(round)
    took = stopwatch() - begun
    found = {(f.enterprise, f.subject, f.phase, f.time) for f in findings}
    judged = sum(len(round.readings) for round in rounds)
    if found != expected or len(findings) != len(expected) or engine.counts.judged != judged:
        raise WrongFindings(f"{len(findings)} findings for {len(expected)}, {engine.counts} of {judged}")
    return took, engine


def _storm(registry: Registry, each: int) -> float:
    """Milliseconds of the round in which every ``each``-th point begins a finding at once."""
    count = len(registry.points)
    row, quality = np.arange(count, dtype=np.int32), np.full(count, GOOD, np.uint8)
    engine = PointEngine(registry, START, RULEBOOK)
    value = np.full(count, NORMAL)
    value[::each] = HIGHEST
    for second in range(2):
        engine.apply(
            Round(
                START + second * SECOND,
                readings=Readings(row, np.full(count, START + second * SECOND), value, quality),
            )
        )
    time = START + 2 * SECOND
    begun = stopwatch()
    findings = engine.apply(Round(time, readings=Readings(row, np.full(count, time), value, quality)))
    took = stopwatch() - begun
    if len(findings) != len(value[::each]):
        raise WrongFindings(f"{len(findings)} findings of {len(value[::each])} points over HH")
    return took * 1000


def _milliseconds(work: Callable[[], object], runs: int) -> float:
    def once() -> float:
        begun = stopwatch()
        work()
        return (stopwatch() - begun) * 1000

    return median(once() for _ in range(runs))


if __name__ == "__main__":
    for figure, speed in run(quick=True).items():
        print(f"{figure:45} {speed:10.2f}")
