"""Writing records to Kafka: in order, durably, for however long Kafka is away; never waits."""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fenghuo.topics import LARGEST
from ingest.topics import Headers

SETTINGS: dict[str, str | int | float] = {
    "acks": "all",
    "enable.idempotence": True,  # what is sent again is there once, and in its order
    "message.timeout.ms": 0,  # it is never given up: what was given up could not be told from what is there
    "linger.ms": 0,
    "compression.type": "none",  # rounds are compressed
    "message.max.bytes": LARGEST,
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 256 << 10,
    "reconnect.backoff.max.ms": 1000,
    "socket.timeout.ms": 10_000,
    "log_level": 0,  # what is wrong comes as an error
}

POLL = 0.5
"""Seconds for which the thread waits for an event before it looks whether it is to end."""

Done = Callable[[int], None]
"""Told the offset at which a record was made durable."""


class WriterBroken(Exception):
    """Kafka refused a record for good: what was written after it has no order any more. The process has to end."""


class RecordWriter:
    """A producer whose deliveries come in the owner's thread.

    Args:
        kafka: HOST:PORT, several with commas.
        wake: called in a thread of the writer's when ``deliver`` has something to do.

    ``problem``: the newest trouble, "" from the next delivery on. ``write`` may be called in any thread.
    """

    def __init__(self, kafka: str, wake: Callable[[], None]) -> None:
        self.problem = ""
        self._fatal = ""
        self._wake = wake
        self._delivered: deque[tuple[Done, int]] = deque()
        self._stopping = threading.Event()
        self._producer = Producer({"bootstrap.servers": kafka, "error_cb": self._failed, **SETTINGS})
        self._thread = threading.Thread(target=self._poll, name="kafka-deliveries", daemon=True)
        self._thread.start()

    def write(self, topic: str, partition: int, value: bytes, headers: Headers, done: Done) -> bool:
        """Take a record on its way; False where there is no room: try again after the next deliveries.

        ``done`` is called by ``deliver``, for the records of a partition in their order.
        """
        try:
            self._producer.produce(
                topic,
                value,
                partition=partition,
                headers=list(headers),
                on_delivery=partial(self._on_delivery, done),
            )
        except BufferError:
            return False
        except KafkaException as error:  # larger than it may be, or the producer is broken
            self._fatal = self._fatal or str(error.args[0])
            return False
        return True

    @property
    def undelivered(self) -> int:
        """Records under way."""
        return len(self._producer) + len(self._delivered)

    def deliver(self) -> int:
        """Tell of what has become durable since; how many records. Raises WriterBroken."""
        count = 0
        while self._delivered:
            done, offset = self._delivered.popleft()
            count += 1
            done(offset)
        if count and not self._fatal:
            self.problem = ""
        if self._fatal:
            raise WriterBroken(self._fatal)
        return count

    def close(self) -> None:
        """End it; what is still under way may or may not become durable."""
        self._stopping.set()
        self._producer.purge()
        self._thread.join()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            if self._producer.poll(POLL):
                self._wake()

    def _on_delivery(self, done: Done, error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        if error is None and offset is not None and offset >= 0:
            self._delivered.append((done, offset))
        elif error is None:  # a repeat of which Kafka does not know any more where the first went
            self._fatal = (
                self._fatal or f"{message.topic()}[{message.partition()}]: Kafka does not say where it is"
            )
        elif not self._stopping.is_set():
            self._fatal = self._fatal or f"{message.topic()}[{message.partition()}]: {error.str()}"

    def _failed(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = self._fatal or error.str()
            self._wake()
        self.problem = error.str()
