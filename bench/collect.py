"""The cluster's collector: load generator, mosquitto, one collector, Kafka and PostgreSQL on real sockets, QoS 1.

Every figure is checked before it is told: the readings in Kafka must be those that the generator says it sent.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml
from confluent_kafka import Consumer, TopicPartition

from bench.end_to_end import CONNECTIONS, Differs
from deploy.dev.services import Kafka, Postgres, new_folder
from fenghuo import collect_status, topics
from fenghuo.collect_status import CollectStatus
from fenghuo.rehearsal import processor
from fenghuo.settings import Broker, Cluster, Settings
from ingest import pack
from ingest.broker import Account, Mosquitto, collector_account, free_port, slot_accounts
from ingest.topics import Topics
from registry.clock import stopwatch
from registry.database import open_database
from registry.model import Registry
from simulators.load import Report
from streams import rulebook_file
from tests.build import city_registry
from tests.clusters import database_of, publish, upgrade

SLOTS = 4


@dataclass
class Servers:
    """What a collector stands on, and one collector."""

    settings: Settings
    cluster: Cluster
    broker: Mosquitto
    registry: Registry
    folder: Path
    kafka: Kafka
    postgres: Postgres

    @property
    def file(self) -> Path:
        """The settings of all roles."""
        return self.folder / "cluster.yaml"

    def start(self) -> None:
        self.file.write_text(yaml.safe_dump(json.loads(self.settings.model_dump_json())), "utf-8")
        with (self.folder / "collect.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fenghuo", "collect", str(self.file), "--name", "bench"],
                stdout=log,
                stderr=log,
                env={**os.environ, "FENGHUO_BROKER_PASSWORD": "bench"},
            )

    def wait(self, what: str, done: Callable[[CollectStatus], bool], patience: float = 120) -> CollectStatus:
        end = stopwatch() + patience
        said = None
        while stopwatch() < end:
            said = collect_status.read(collect_status.path(self.settings.data, "bench"))
            if said is not None and said.pid == self.process.pid and done(said):
                return said
            if self.process.poll() is not None:
                raise Differs(f"the collector has died:\n{(self.folder / 'collect.log').read_text()[-2000:]}")
            threading.Event().wait(0.02)
        raise Differs(f"{what}: not within {patience} s; status: {said}")

    def load(self, *arguments: str) -> Report:
        """Run the load generator in its own process."""
        fleet = self.folder / "fleet.json"
        points = list(self.registry.rows[next(iter(self.registry.enterprises))])
        fleet.write_text(
            json.dumps({"enterprises": list(self.registry.enterprises), "gateway": "gw1", "points": points})
        )
        command = [sys.executable, "-m", "simulators.load", "--fleet", str(fleet)]
        command += ["--port", str(self.broker.port), "--connections", str(CONNECTIONS)]
        command += ["--user", "load-{connection}", "--one-in", "1000000", *arguments]
        environment = {**os.environ, "FENGHUO_LOAD_PASSWORD": "bench"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise Differs(f"the generator failed: {done.stderr[-2000:]}")
        return msgspec.json.decode(done.stdout, type=Report)

    def records(self, starts: dict[int, int] | None = None) -> Iterator[tuple[int, bytes]]:
        """What is in the readings: when Kafka appended it (ms), and the round."""
        topic = Topics(self.cluster.topics).readings
        consumer = Consumer({"bootstrap.servers": self.cluster.kafka, "group.id": "bench"})
        for slot in range(SLOTS):
            place = TopicPartition(topic, slot, (starts or {}).get(slot, 0))
            _, end = consumer.get_watermark_offsets(place, timeout=10)
            consumer.assign([place])
            left = end - place.offset
            while left:
                for record in consumer.consume(left, timeout=5.0):
                    left -= 1
                    yield record.timestamp()[1], record.value() or b""
        consumer.close()

    def ends(self) -> dict[int, int]:
        topic = Topics(self.cluster.topics).readings
        consumer = Consumer({"bootstrap.servers": self.cluster.kafka, "group.id": "bench"})
        found = {
            slot: consumer.get_watermark_offsets(TopicPartition(topic, slot), timeout=10)[1]
            for slot in range(SLOTS)
        }
        consumer.close()
        return found


@contextmanager
def servers(compiled: Registry) -> Iterator[Servers]:
    """Everything in folders of their own on the real disk."""
    folder = new_folder()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        loaders = [Account(f"load-{n}", "bench", ("fenghuo/v1/#",)) for n in range(1, CONNECTIONS + 1)]
        broker = Mosquitto(
            folder / "broker",
            free_port(),
            [collector_account("bench"), *slot_accounts("bench", SLOTS), *loaders],
        )
        kafka, postgres = Kafka(folder / "kafka"), Postgres(folder / "postgresql")
        for server in (broker, kafka, postgres):
            stack.callback(server.stop)
            server.start()
        where = database_of(postgres.url("postgres"), folder)
        cluster = Cluster(kafka=kafka.servers, database=where, slots=SLOTS)
        settings = Settings(
            data=folder / "data", cluster=cluster, broker=Broker(url=f"mqtt://127.0.0.1:{broker.port}")
        )
        topics.prepare(cluster)
        database = open_database(cluster.database.address)
        upgrade(database)
        database.dispose()
        publish(settings, compiled, rulebook_file.read(rulebook_file.SHIPPED))
        running = Servers(settings, cluster, broker, compiled, folder, kafka, postgres)
        running.start()
        stack.callback(running.process.wait, 30)
        stack.callback(running.process.terminate)
        running.wait("listening", lambda said: said.listening and len(said.slots) == SLOTS)
        yield running


def measured(running: Servers, *arguments: str) -> dict[str, Any]:
    """What a load costs the collector, and how long it takes from its schedule to Kafka's log."""
    before = running.wait("a status", lambda said: True)
    starts, cpu, pid = running.ends(), processor(running.process.pid), running.process.pid
    brokers = processor(running.broker.pid or 0)
    sent = running.load(*arguments)
    said = running.wait("all in Kafka", lambda said: said.readings - before.readings >= sent.readings)
    used = processor(pid) - cpu
    if said.readings - before.readings != sent.readings or said.dead or any(said.dropped.values()):
        raise Differs(f"{said.readings - before.readings} readings; sent {sent.readings}; {said.dead}")
    late, count, size, rounds = [], 0, 0, 0
    for appended, blob in running.records(starts):
        readings = pack.unpack(blob).readings
        if len(readings):
            count, size, rounds = count + len(readings), size + len(blob), rounds + 1
            late.append(appended - np.unique(readings.time) / 1000)
    if count != sent.readings:
        raise Differs(f"{count} readings in Kafka; sent {sent.readings}")
    delay = np.concatenate(late)
    return {
        "readings": sent.readings,
        "sent_per_s": round(sent.readings / sent.seconds),
        "rounds": rounds,
        "collector_cores": round(used / sent.seconds, 3),
        "cpu_s_per_million": round(used / sent.readings * 1e6, 3),
        "readings_per_s_a_core": round(sent.readings / used),
        "broker_cores": round((processor(running.broker.pid or 0) - brokers) / sent.seconds, 3),
        "generator_lateness_p99_ms": sent.lateness.p99 if sent.lateness else None,
        "scheduled_to_kafka_ms": {
            "p50": round(float(np.percentile(delay, 50)), 1),
            "p99": round(float(np.percentile(delay, 99)), 1),
        },
        "bytes_per_reading": round(size / count, 2),
    }


def run(quick: bool = False) -> dict[str, Any]:
    """All of it; about a minute and a half, or half a minute if quick."""
    seconds = "5" if quick else "15"
    results: dict[str, Any] = {}
    with servers(city_registry(503, 200)) as running:
        cpu = processor(running.process.pid)
        threading.Event().wait(3.0)
        results["idle_cores"] = round((processor(running.process.pid) - cpu) / 3.0, 3)
        city = ("--rate", "100600", "--for", seconds)
        results["city_spread"] = measured(running, "--form", "columns", "--mode", "spread", *city)
        results["city_spread_rows"] = measured(running, "--form", "rows", "--mode", "spread", *city)
        results["city_burst"] = measured(running, "--form", "columns", "--mode", "burst", *city)
        results["columns_500k"] = measured(running, "--form", "columns", "--rate", "500000", "--for", seconds)
        results["columns_most"] = measured(running, "--form", "columns", "--rate", "0", "--for", seconds)
    return results
