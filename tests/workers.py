"""Workers of a cluster as real processes, for tests: the test writes the readings, and hears what is told."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from deploy.dev.services import Kafka
from fenghuo import evaluate, topics
from fenghuo.settings import Cluster, Settings
from ingest.broker import die_with_parent
from ingest.topics import Entry, Headers, Topics, encode
from registry.clock import stopwatch
from streams import report
from streams.configuration import Configuration
from streams.report import Report
from tests import clusters

PATIENCE = 60.0
"""Seconds of real time after which what is waited for is an error."""

_moment = Event()  # never set: a pause


class Workers:
    """Topics of their own, a version in the database, and workers that are started and killed by name.

    Args:
        folder: for settings, versions and logs. settings: of the cluster, laid over the defaults.
    """

    def __init__(self, kafka: Kafka, database: str, folder: Path, prefix: str, **settings: object) -> None:
        self.folder = folder
        where = clusters.database_of(database, folder)
        cluster = Cluster(kafka=kafka.servers, database=where, topics=prefix, **settings)
        self.cluster = cluster
        self.settings = Settings(data=folder / "data", cluster=cluster)
        self.settings.data.mkdir()
        self._file = folder / "run.json"
        self.settings.save(self._file)
        topics.prepare(cluster)
        self.topics = Topics(prefix)
        self.kafka = kafka
        self._producer = Producer(
            {"bootstrap.servers": kafka.servers, "linger.ms": 0, "enable.idempotence": True}
        )
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka.servers,
                "group.id": f"{prefix}-test",
                "auto.offset.reset": "earliest",
            }
        )
        parts = range(cluster.shards)
        self._consumer.assign([TopicPartition(self.topics.findings, number, 0) for number in parts])
        self.reports: list[Report] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def publish(self, wanted: Configuration, bare: Configuration) -> int:
        """Put a version into the database. bare: with the registry as it was compiled, before its templates."""
        published = clusters.publish(self.settings, bare.registry, bare.rulebook)
        assert published.version == wanted.registry.version
        return published.edition

    def write(self, slot: int, entry: Entry) -> None:
        self.write_raw(slot, *encode(entry))

    def write_raw(self, slot: int, value: bytes, headers: Headers | None = None) -> None:
        self._producer.produce(self.topics.readings, value, partition=slot, headers=headers)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def start(self, *names: str) -> None:
        for name in names:
            with (self.folder / f"{name}.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "fenghuo.evaluate", str(self._file), name],
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent(),
                )

    def signal(self, name: str, number: int = signal.SIGKILL) -> None:
        self._processes[name].send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._processes.pop(name).wait(PATIENCE)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def ended(self, name: str) -> int | None:
        """Exit status of a worker that ended by itself."""
        return self._processes[name].poll()

    def status(self, name: str) -> evaluate.EvaluateStatus | None:
        path = evaluate.status_file(self.settings.data, name)
        try:
            said = msgspec.json.decode(path.read_bytes(), type=evaluate.EvaluateStatus)
        except FileNotFoundError:
            return None
        return said if said.pid == self._processes[name].pid else None

    def owns(self, name: str) -> bool:
        """Whether it has partitions of the readings."""
        status = self.status(name)
        return status is not None and bool(status.readings)

    def alter(self, topic: str, settings: Mapping[str, str]) -> None:
        """Set a topic's settings otherwise."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        admin = AdminClient({"bootstrap.servers": self.kafka.servers})
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(30)

    def first_there(self, topic: str, partition: int) -> int:
        """How many records at the beginning of a partition are not there any more."""
        reader = Consumer({"bootstrap.servers": self.kafka.servers, "group.id": "looker"})
        reader.assign([TopicPartition(topic, partition, 0)])
        try:
            [first] = reader.consume(1, 30)
            return first.offset() or 0
        finally:
            reader.close()

    def hear(self) -> list[Report]:
        """What was told since the last time, in the order of each partition."""
        fresh = []
        while messages := self._consumer.consume(500, 0.05):
            for message in messages:
                assert message.error() is None, message.error()
                fresh.append(report.decode(message.value() or b""))
        self.reports += fresh
        return fresh

    def until(self, what: str, done: Callable[[], bool]) -> None:
        """Listen until it is so."""
        begun = stopwatch()
        while not done():
            self.hear()
            assert stopwatch() - begun < PATIENCE, f"{what}: not within {PATIENCE} s\n{self.logs()}"

    def asked(self, number: int) -> bool:
        """Whether all that was asked up to this number is told, by the compound rules of each partition."""
        told = {r.source: r.asked for r in self.reports if r.source.startswith("compound/") and r.asked}
        return len(told) == self.cluster.shards and min(told.values()) >= number

    def logs(self) -> str:
        tails = [(path.name, path.read_text("utf-8")[-3000:]) for path in self.folder.glob("*.log")]
        return "\n".join(f"--- {name}\n{tail}" for name, tail in tails)

    def close(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self._consumer.close()


@contextmanager
def workers(kafka: Kafka, database: str, folder: Path, **settings: object) -> Iterator[Workers]:
    made = Workers(kafka, database, folder, clusters.alone(), **settings)
    try:
        yield made
    finally:
        made.close()


def pause(seconds: float) -> None:
    """Let real time pass: for what only real time can bring."""
    _moment.wait(seconds)
