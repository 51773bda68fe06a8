"""A worker of the cluster: judges its share of the readings and of the compound rules, in a Faust app."""

import asyncio
import gc
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import faust
import msgspec
import structlog
from faust.types import AppT
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fenghuo.exposition import expose
from fenghuo.logs import configure
from fenghuo.settings import Settings
from ingest.topics import Topics
from registry.clock import SECOND, pause
from registry.database import open_database
from streams.app import Parameters, Worker
from streams.configurations import Configurations
from streams.point_shard import Layout

LEAVING = 5.0
"""Seconds that a worker that ends has: for its last checkpoint, and for Kafka to let it go."""

log = structlog.get_logger()


class EvaluateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself once a second. Counts are since its start.

    readings, findings: by slot, and by compound shard, the offset of the newest record taken.
    counts: readings judged; records of a lost owner ("stale"), repeated, or before any version ("early").
    """

    pid: int
    number: int  # how many times this process has said so
    readings: dict[int, int]
    findings: dict[int, int]
    versions: list[str]
    counts: dict[str, int]
    rebalances: int
    sought: int  # times that records had been passed over, and were asked for again
    checkpoints: int
    checkpoint_ms: float  # of the last one
    recovered_ms: float  # from states read to states loaded, the last time


def make(settings: Settings) -> Worker:
    """The worker that the settings describe. Raises OSError where the database's password cannot be read."""
    cluster = settings.cluster
    if cluster is None:
        raise SystemExit("no `cluster` in the settings: `fenghuo serve` does all of it on one machine")
    parameters = Parameters(
        kafka=cluster.kafka,
        topics=Topics(cluster.topics),
        layout=Layout(cluster.slots, cluster.shards, cluster.shard_level),
        folder=settings.data / "faust",
        checkpoint=cluster.checkpoint,
        patience=int(cluster.patience * SECOND),
    )
    settings.versions.mkdir(parents=True, exist_ok=True)
    return Worker(parameters, Configurations(open_database(settings.registry_database), settings.versions))


def status_file(data: Path, name: str) -> Path:
    return data / f"evaluate-{name}.json"


def _status(worker: Worker, number: int) -> EvaluateStatus:
    points, compound = worker.points.shards, worker.compound.shards
    counts: Counter[str] = Counter()
    for mine in points.values():
        counts.update(mine.shard.counts)
    for its in compound.values():
        counts.update(its.shard.counts)
    return EvaluateStatus(
        pid=os.getpid(),
        number=number,
        readings={slot: shard.offset for slot, shard in points.items()},
        findings={number: shard.offset for number, shard in compound.items()},
        versions=sorted({shard.shard.version for shard in points.values()} - {""}),
        counts=dict(counts),
        rebalances=worker.rebalances,
        sought=worker.points.sought + worker.compound.sought,
        checkpoints=worker.points.checkpoints + worker.compound.checkpoints,
        checkpoint_ms=round(worker.points.checkpoint_ms, 1),
        recovered_ms=round(worker.points.recovered_ms, 1),
    )


class Scrape(Collector):
    """What Prometheus reads of a worker. How far behind it is, `fenghuo doctor` says: Kafka knows."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand."""
        return ()

    def collect(self) -> Iterator[Metric]:
        said = _status(self._worker, 0)
        yield CounterMetricFamily("fenghuo_evaluate_rebalances", "Rebalances.", said.rebalances)
        yield CounterMetricFamily("fenghuo_evaluate_sought", "Records asked for again.", said.sought)
        yield CounterMetricFamily("fenghuo_evaluate_checkpoints", "Checkpoints.", said.checkpoints)
        counts = CounterMetricFamily(
            "fenghuo_evaluate_records", "By what became of them; readings judged.", labels=["what"]
        )
        for what, count in sorted(said.counts.items()):
            counts.add_metric([what], count)
        yield counts
        for name, words, value in (
            ("checkpoint_seconds", "Of the last checkpoint.", said.checkpoint_ms / 1000),
            ("recovery_seconds", "Of loading states, the last time.", said.recovered_ms / 1000),
            ("slots", "Partitions of readings that it has.", len(said.readings)),
        ):
            yield GaugeMetricFamily(f"fenghuo_evaluate_{name}", words, value)


class Process(faust.Worker):
    """Faust's runner of an app; it writes nothing to a terminal, logs as this process does, and ends at once.

    Once the last checkpoint is made and the group is left there is nothing to wait for, and Faust would for seconds.
    Where Kafka does not let us go in time, others take over when the session is over, from the newest checkpoint.

    Args:
        last: called at the very end.
    """

    def __init__(self, app: AppT, last: Callable[[], None]) -> None:
        super().__init__(app, quiet=True, redirect_stdouts=False, override_logging=False)
        self.spinner = None
        self._last = last

    async def on_stop(self) -> None:
        asyncio.get_running_loop().call_later(LEAVING, self._end, "Kafka has not let us go")

    async def on_shutdown(self) -> None:
        self._end()

    def _end(self, why: str = "") -> None:
        if why:
            log.warning("kafka_not_left", why=why)
        self._last()
        os._exit(0 if self._signal_stop_time and not self.crash_reason else 1)


def main(settings_file: Path, name: str, metrics: str = "") -> None:
    """Run a worker by the settings in a file, until SIGTERM."""
    configure()
    settings = Settings.model_validate_json(settings_file.read_text("utf-8"))
    worker = make(settings)
    path = status_file(settings.data, name)

    async def say(_app: AppT) -> None:
        number = 0
        while True:
            number += 1
            fresh = path.with_suffix(".new")
            try:
                fresh.write_bytes(msgspec.json.encode(_status(worker, number)))
                fresh.replace(path)
            except OSError as error:
                log.error("status_not_written", why=str(error))
            await pause(1.0)

    worker.app.task(say)
    expose(metrics, Scrape(worker))
    # While Kafka is away aiokafka says so some hundred times a second; what comes of it, we say ourselves.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    gc.freeze()

    def last() -> None:
        path.unlink(missing_ok=True)

    try:
        Process(worker.app, last).execute_from_commandline()
    finally:
        last()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
