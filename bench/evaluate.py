"""Workers of a cluster: how much one judges a second with durable state, and what that costs, with one and with two.

A whole city on a real Kafka: records of 200 readings, a checkpoint a second, every point judged as in bench/engine.py.
What is told is held against what was injected; where they differ there is no figure.
"""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.engine import START, WrongFindings, stream
from deploy.dev.services import Kafka, Postgres
from fenghuo.rehearsal import processor
from ingest.readings import Readings, Round
from ingest.topics import Entry, encode
from registry import shared_versions, slots
from registry.clock import SECOND, stopwatch
from registry.model import Registry
from streams.configuration import Configuration
from tests.build import RULEBOOK, city_registry
from tests.servers import new_database, running
from tests.workers import Workers, workers

SLOTS = 8
WARM = 6
"""Seconds of the city by which everything is started before it is measured."""


def run(quick: bool = False) -> dict[str, Any]:
    """Readings a second and cores, medians of several runs, each on topics of its own."""
    seconds, runs = (60, 2) if quick else (150, 5)
    figures: dict[str, Any] = {}
    with running(Kafka) as kafka, running(lambda folder: Postgres(folder, lasting=False)) as postgres:
        for count in (1, 2):
            taken = [_judge(kafka, postgres, seconds, count) for _ in range(runs)]
            figures[f"{count} worker{'s' * (count > 1)}"] = {
                name: median(one[name] for one in taken) for name in taken[0]
            }
    return figures


def _judge(kafka: Kafka, postgres: Postgres, seconds: int, count: int) -> dict[str, float]:
    registry = city_registry()
    bare = Configuration(registry, RULEBOOK)
    wanted = Configuration.of(registry, RULEBOOK)
    readings, expected = stream(registry, seconds)
    with (
        new_database(postgres, shared_versions.upgrade) as database,
        tempfile.TemporaryDirectory() as folder,
        workers(kafka, database, Path(folder), slots=SLOTS, checkpoint=1.0) as cluster,
    ):
        edition = cluster.publish(wanted, bare)
        for slot in range(SLOTS):
            cluster.write(slot, Entry(Round(START, version=wanted.registry.version), 1, edition))
        records = _records(wanted.registry, readings, seconds)
        names = [f"worker-{number}" for number in range(count)]
        cluster.start(*names)
        _send(cluster, records[:WARM])

        def ready() -> bool:
            _ask(
                cluster, 1, START + WARM * SECOND
            )  # a shard is opened by the first record that a worker hears
            return cluster.asked(1) and all(map(cluster.owns, names))

        cluster.until("all workers judge", ready)
        begun, before = stopwatch(), _processor(cluster, kafka, names)
        _send(cluster, records[WARM:])
        _ask(cluster, 2, START + seconds * SECOND)
        cluster.until("all is judged", lambda: cluster.asked(2))
        took = stopwatch() - begun
        used = {name: now - before[name] for name, now in _processor(cluster, kafka, names).items()}
        told = {(f.enterprise, f.subject, f.phase, f.time) for r in cluster.reports for f in r.findings}
        if told != expected:
            raise WrongFindings(f"{len(told - expected)} too many, {len(expected - told)} missing")
    count_of = (seconds - WARM) * len(registry.points) / 1e6
    judging = sum(used[name] for name in names)
    return {
        "M readings/s": count_of / took,
        "M readings/s per core of the workers": count_of / judging,
        "CPU s per M readings, workers": judging / count_of,
        "CPU s per M readings, Kafka": used["kafka"] / count_of,
        "cores, workers": judging / took,
        "cores, Kafka": used["kafka"] / took,
    }


def _records(registry: Registry, readings: Readings, seconds: int) -> list[list[tuple[int, Any]]]:
    """By second: of every enterprise a record, with its slot; packed beforehand."""
    codes = list(registry.enterprises)
    each = len(registry.points) // len(codes)
    place = {}
    for slot in range(SLOTS):
        for row, whole in enumerate(slots.rows(registry, slot, SLOTS).tolist()):
            place[whole] = slot, row
    found = []
    for second in range(seconds):
        found.append([])
        for number in range(len(codes)):
            slot, first = place[number * each]
            at = slice((second * len(codes) + number) * each, (second * len(codes) + number + 1) * each)
            part = Readings(
                readings.row[at] - number * each + first,
                readings.time[at],
                readings.value[at].round(1),
                readings.quality[at],
            )
            found[-1].append((slot, encode(Entry(Round(START + second * SECOND, readings=part), 1))))
    return found


def _send(cluster: Workers, records: list[list[tuple[int, Any]]]) -> None:
    for second in records:
        for slot, (value, headers) in second:
            cluster.write_raw(slot, value, headers)
    cluster.flush()


def _ask(cluster: Workers, number: int, time: int) -> None:
    for slot in range(SLOTS):
        cluster.write(slot, Entry(Round(time), 1, asked=number))
    cluster.flush()


def _processor(cluster: Workers, kafka: Kafka, names: list[str]) -> dict[str, float]:
    assert kafka.pid is not None
    return {name: processor(cluster.pid(name)) for name in names} | {"kafka": processor(kafka.pid)}
