"""Taking over a slot's partition of the readings: from which record on it is ours, and what was written before.

Our first record says our term: from there on, readers pass over what an earlier owner still writes. What is before it
is what they read; of that we need the digests of messages that the broker may send again, and the newest time.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fenghuo.record_writer import RecordWriter
from ingest import pack
from ingest.topics import Entry, Headers, decode, encode, term_of

CHUNK = 256
"""Records that are read at a time, from the end towards the beginning."""

UNDELIVERED = 64
"""Records of a slot that may be under way at most. So whoever has lost it unawares writes fewer than CHUNK after the
first record of the next owner: in a whole chunk, there is one of the owner's."""

BACK = 60_000
"""Milliseconds (of Kafka's clock) for which we look back at least, where there are few messages."""

NEWEST = 16
"""Records at the end among which the newest time is."""

WITHIN = 10.0
"""Seconds for an answer of Kafka."""

log = structlog.get_logger()


class Stopped(Exception):
    """We were told to end before it was ours."""


class Outdated(Exception):
    """The partition has records of this term, as high as ours or higher: nobody would read what we write."""

    def __init__(self, term: int) -> None:
        super().__init__(f"the partition has records of term {term}")
        self.term = term


class Taken(NamedTuple):
    """offset: of our first record. time: the newest before it, µs, 0 if none. digests: of messages, oldest first."""

    offset: int
    time: int
    digests: list[bytes]


def take_over(
    kafka: str,
    topic: str,
    partition: int,
    writer: RecordWriter,
    first: Callable[[int], Entry],
    messages: int,
    stopping: threading.Event,
) -> Taken:
    """Write our first record, wait until it is durable, and read what is before it. Not for the owner's thread.

    Args:
        first: our first record, told the newest time of the partition.
        messages: how many the broker may send again.

    Raises:
        KafkaException: Kafka cannot be reached just now; to try again does no harm. Outdated; Stopped.
    """
    with _reader(kafka, topic, partition) as reader:
        low, high = reader.bounds()
        records = reader.read(max(low, high - CHUNK), high)
        entry = first(_newest_time(records))
        if (term := max(map(_term, records), default=0)) >= entry.term:
            raise Outdated(term)
        offset = _written(writer, topic, partition, entry, stopping)
        return Taken(offset, *_tail(reader, offset, messages))


def superseded(kafka: str, topic: str, partition: int, start: int, end: int, term: int) -> bool:
    """Whether one of these records is of a later owner. Raises KafkaException."""
    with _reader(kafka, topic, partition) as reader:
        return any(_term(record) > term for record in reader.read(start, end))


class _Reader:
    """A partition, read from wherever it is wanted."""

    def __init__(self, consumer: Consumer, topic: str, partition: int) -> None:
        self._consumer, self._topic, self._partition = consumer, topic, partition

    def bounds(self) -> tuple[int, int]:
        """The offset of the oldest record, and that of the next to come."""
        found = self._consumer.get_watermark_offsets(
            TopicPartition(self._topic, self._partition), timeout=WITHIN
        )
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return found

    def read(self, start: int, end: int) -> list[Message]:
        """The records from ``start`` to before ``end``, which are all there."""
        if start >= end:
            return []
        self._consumer.assign([TopicPartition(self._topic, self._partition, start)])
        found: list[Message] = []
        while not found or (found[-1].offset() or 0) + 1 < end:
            records = self._consumer.consume(min(CHUNK, end - start), timeout=WITHIN)
            if not records:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            for record in records:
                if error := record.error():
                    raise KafkaException(error)
                if (record.offset() or 0) < end:
                    found.append(record)
        return found


@contextmanager
def _reader(kafka: str, topic: str, partition: int) -> Iterator[_Reader]:
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": f"{topic}-collect",  # it never joins one, and commits nothing
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,  # else each new place waits for the last fetch, behind the end, to come back
            "fetch.error.backoff.ms": 10,
            "log_level": 0,
        }
    )
    try:
        yield _Reader(consumer, topic, partition)
    finally:
        consumer.close()


def _newest_time(records: Sequence[Message]) -> int:
    """µs; 0 if there are none."""
    times = [0]
    for record in records[-NEWEST:]:
        try:
            times.append(decode(record.value() or b"", None).round.time)
        except pack.PackError as error:
            _unread(record, error)
    return max(times)


def _written(
    writer: RecordWriter, topic: str, partition: int, entry: Entry, stopping: threading.Event
) -> int:
    """The offset of a record, once it is durable."""
    offsets: list[int] = []
    durable = threading.Event()

    def done(offset: int) -> None:
        offsets.append(offset)
        durable.set()

    while not writer.write(topic, partition, *encode(entry), done):
        if stopping.wait(0.1):
            raise Stopped
    while not durable.wait(0.1):
        if stopping.is_set():
            raise Stopped
    return offsets[0]


def _tail(reader: _Reader, end: int, messages: int) -> tuple[int, list[bytes]]:
    """The newest time, and the digests of the newest messages that readers take: of twice as many as may come again,
    or of all of a minute.

    One chunk more is read, which only says whose term it is: what one has written who had lost the slot is known by
    a higher term before it.
    """
    low, _ = reader.bounds()
    chunks: list[list[tuple[int, bytes]]] = []
    found = 0
    newest: int | None = None
    time = 0
    enough = False
    while end > low and not enough:
        start = max(low, end - CHUNK)
        records = reader.read(start, end)
        enough = bool(chunks) and _far_enough(found, messages, newest, records)
        if newest is None:
            newest, time = _appended(records[-1]), _newest_time(records)
        chunks.append([(_term(record), _digests_of(record)) for record in records])
        found += sum(len(digests) // 8 for _, digests in chunks[-1])
        end = start
    return time, _read(chunks[::-1], lead=1 if enough else 0)


def _digests_of(record: Message) -> bytes:
    try:
        return pack.digests(record.value() or b"")
    except pack.PackError as error:
        _unread(record, error)
        return b""


def _unread(record: Message, error: pack.PackError) -> None:
    """Nobody can read it, so nobody has taken anything from it."""
    log.error("record_unreadable", partition=record.partition(), offset=record.offset(), why=str(error))


def _far_enough(found: int, messages: int, newest: int | None, older: Sequence[Message]) -> bool:
    """Whether what is after these records was enough."""
    return found >= 2 * messages or (newest is not None and newest - _appended(older[-1]) >= BACK)


def _term(record: Message) -> int:
    return term_of(cast(Headers | None, record.headers()))


def _appended(record: Message) -> int:
    """When Kafka appended it (or its producer says so), ms."""
    return record.timestamp()[1]


def _read(chunks: Sequence[Sequence[tuple[int, bytes]]], lead: int) -> list[bytes]:
    """The digests of what readers take, oldest first; of the first ``lead`` chunks only the terms count."""
    term = 0
    taken: list[bytes] = []
    for place, chunk in enumerate(chunks):
        for record_term, digests in chunk:
            if record_term < term:
                continue
            term = record_term
            if place >= lead:
                taken += [digests[n : n + 8] for n in range(0, len(digests), 8)]
    return taken
