"""What the desk costs: a round that raises one alert, a round that raises 503 at once, a round with nothing."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from alerting.desk import Desk
from alerting.tables import upgrade
from registry.clock import SECOND, stopwatch
from registry.database import open_database
from streams.finding import Finding, Phase, Tier, finding_id
from tests.build import city_registry

START = 1_795_248_000 * SECOND
MILLISECOND = 1_000


def run(quick: bool = False) -> dict[str, float]:
    """Medians in ms, commit included: of a round with one new alert, of one with 503 (asked and told, with
    their notices), of one that only stores an offset; and µs of asking for the next deadline."""
    rounds, bursts = (50, 5) if quick else (500, 20)
    registry = city_registry(points=30)
    codes = list(registry.enterprises)
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(Path(folder) / "desk.sqlite")
        upgrade(engine)
        desk = Desk(engine, registry)
        offset = 0

        def timed(work: Callable[[], object]) -> float:
            begun = stopwatch()
            work()
            return (stopwatch() - begun) * 1000

        def one(number: int, findings: list[Finding]) -> float:
            nonlocal offset
            offset += 1
            return timed(lambda: desk.round(findings, offset, START + number * MILLISECOND))

        single = [
            one(n, [_finding(codes[n % len(codes)], n // len(codes) + 1, START + n * MILLISECOND)])
            for n in range(rounds)
        ]
        many = []
        for burst in range(bursts):
            time = START + (rounds + burst) * MILLISECOND
            many.append(one(rounds + burst, [_finding(code, burst + 2, time) for code in codes]))
        idle = [one(rounds + bursts, []) for _ in range(rounds)]
        asked = [timed(desk.next_deadline) * 1000 for _ in range(rounds)]
        engine.dispose()
    return {
        "round of 1 new alert, ms": median(single),
        "round of 503 new alerts, ms": median(many),
        "round of an offset alone, ms": median(idle),
        "next deadline, µs": median(asked),
    }


def _finding(enterprise: str, point: int, time: int) -> Finding:
    subject = f"point:P-{point:04d}"
    return Finding(
        id=finding_id("limit.high", enterprise, subject, time),
        seq=1,
        rule="limit.high",
        enterprise=enterprise,
        subject=subject,
        phase=Phase.BEGUN,
        since=time,
        time=time,
        arrival=time,
        level="HH",
        tier=Tier.III,
        value=91.5,
        limit=90.0,
        unit="°C",
        clause="GB/T 50493-2019 5.5.2",
        version="bench",
    )


if __name__ == "__main__":
    for name, figure in run().items():
        print(f"{name:<32}{figure:10.3f}")
