"""Keeping the file of newest values, as the API reads it, from the cluster's topic of them; in a thread."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from fenghuo.prepared import kafka_away
from fenghuo.settings import Cluster
from fenghuo.topics import LARGEST
from ingest.last_values import LastValues, NoLastValues
from ingest.topics import Topics
from registry import slots
from registry.clock import stopwatch
from registry.model import Registry
from streams.report import Newest, decode_newest

LOOK = 0.25
"""Seconds of real time between two looks, and at least between two writes."""

PATIENCE = 5.0
"""Seconds of real time for which values of all slots are waited for when another registry version takes force."""

BATCH = 1000

log = structlog.get_logger()


class ValuesKeeper:
    """Writes the newest values of all slots into the file, in the rows of the registry in force.

    Args:
        path: of the file; it has one writer.
        registry: the version in force, at any time.
    """

    def __init__(self, cluster: Cluster, path: Path, registry: Callable[[], Registry]) -> None:
        self._cluster = cluster
        self._path = path
        self._registry = registry
        self._newest: dict[int, Newest] = {}
        self._table: LastValues | None = None
        self._rows: dict[int, slots.Rows] = {}
        self._changed = False
        self._since = stopwatch()  # when this version was first seen
        self._version = ""
        self._problem = ""
        self.unread = 0  # records that could not be read, or do not fit the registry
        self.failed = 0  # looks that came to nothing
        self._consumer = Consumer(
            {
                "bootstrap.servers": cluster.kafka,
                "group.id": f"{cluster.topics}-values",  # nothing is committed: all of it is read at each start
                "client.id": "fenghuo-api",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.message.max.bytes": LARGEST,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
                "error_cb": self._erred,
            }
        )
        topic = Topics(cluster.topics).values
        self._consumer.assign(
            [TopicPartition(topic, slot, OFFSET_BEGINNING) for slot in range(cluster.slots)]
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="values-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; the file stays as it is."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        next_write = 0.0
        while not self._stop.is_set():
            try:
                self._hear()
                if stopwatch() >= next_write:
                    next_write = stopwatch() + LOOK
                    self._write()
            except (KafkaException, OSError, NoLastValues, ValueError, LookupError) as error:
                log.error("values_not_kept", why=repr(error))  # the next look tries again
                self.failed += 1
                self._changed = True
                self._stop.wait(LOOK)

    def _hear(self) -> None:
        first = self._consumer.poll(LOOK)
        if first is None:
            return
        for message in (first, *self._consumer.consume(BATCH, 0)):
            slot, value = message.partition(), message.value()
            if error := message.error():
                self._erred(error)
            elif slot is not None and value is not None:
                if self._problem:
                    log.info("kafka_back")
                self._problem = ""
                try:
                    self._take(slot, decode_newest(value))
                except ValueError as error:
                    self.unread += 1
                    log.error("values_not_read", slot=slot, offset=message.offset(), why=str(error))

    def _take(self, slot: int, newest: Newest) -> None:
        """The newer one; a worker that had lost the slot may have written once more."""
        held = self._newest.get(slot)
        if held is None or newest.time >= held.time:
            self._newest[slot] = newest
            self._changed = True

    def _write(self) -> None:
        registry = self._registry()
        if registry.version != self._version:
            self._version, self._since, self._changed, self._rows = registry.version, stopwatch(), True, {}
        ours = {slot: newest for slot, newest in self._newest.items() if newest.version == registry.version}
        waits = len(ours) < len(self._newest) and stopwatch() - self._since < PATIENCE
        if not self._changed or (waits and (self._table is None or self._table.version != registry.version)):
            return
        if self._table is None or self._table.version != registry.version:
            self._table = LastValues.create(self._path, registry.version, len(registry.points))
        count = len(registry.points)
        times, values, qualities = (
            np.zeros(count, np.int64),
            np.full(count, np.nan),
            np.zeros(count, np.uint8),
        )
        for slot, newest in ours.items():
            if slot not in self._rows:
                self._rows[slot] = slots.rows(registry, slot, self._cluster.slots)
            rows = self._rows[slot]
            sizes = (len(newest.newest), len(newest.value), len(newest.quality))
            if sizes != (8 * len(rows), 8 * len(rows), len(rows)):
                self.unread += 1
                log.error("values_do_not_fit", slot=slot, points=len(rows), bytes=sizes)
                del self._newest[slot]
                continue
            times[rows] = np.frombuffer(newest.newest, np.int64)
            values[rows] = np.frombuffer(newest.value, np.float64)
            qualities[rows] = np.frombuffer(newest.quality, np.uint8)
        self._table.write(times, values, qualities)
        self._changed = False

    def _erred(self, error: KafkaError) -> None:
        if not self._problem:
            log.error("kafka_away", why=kafka_away(self._cluster, error.str()))
        self._problem = error.str()
