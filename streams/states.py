"""States in a compacted topic, one key a partition: the newest is at its end, or just before."""

import asyncio
from typing import NamedTuple

import structlog
import zstandard
from aiokafka import AIOKafkaConsumer, TopicPartition

TAIL = 100
"""Records that are looked through for the furthest state: who had lost the partition may have written an older one
last, but ends before it writes so many."""

log = structlog.get_logger()


class Found(NamedTuple):
    """A state of after the record at ``offset`` of the topic whose partition it is of."""

    offset: int
    blob: bytes


def pack(found: Found) -> bytes:
    return found.offset.to_bytes(8, "big") + zstandard.ZstdCompressor(level=1).compress(found.blob)


def unpack(value: bytes) -> Found:
    """Undo :func:`pack`. Raises ValueError."""
    try:
        return Found(int.from_bytes(value[:8], "big"), zstandard.ZstdDecompressor().decompress(value[8:]))
    except zstandard.ZstdError as error:
        raise ValueError(f"no state of a shard: {error}") from error


class States:
    """Reads them. Args: servers: HOST:PORT, several with commas. largest: bytes of a state at most."""

    def __init__(self, servers: str, topic: str, largest: int) -> None:
        self._servers, self.topic, self._largest = servers, topic, largest
        self._consumer: AIOKafkaConsumer | None = None
        self._reading = asyncio.Lock()

    async def find(self, partition: int) -> Found | None:
        """The furthest state of a partition, of those written last; None if none was, or none can be read.

        Raises KafkaError.
        """
        async with self._reading:
            consumer = await self._started()
            place = TopicPartition(self.topic, partition)
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            first = (await consumer.beginning_offsets([place]))[place]
            consumer.seek(place, max(first, end - TAIL))
            best = b""
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(place, timeout_ms=1000)).values():
                    for record in records:
                        if record.value is not None and record.value[:8] >= best[:8]:
                            best = record.value
        try:
            return unpack(best) if best else None
        except ValueError as error:
            log.error("state_unusable", topic=self.topic, partition=partition, why=str(error))
            return None

    async def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=[place.strip() for place in self._servers.split(",")],
                enable_auto_commit=False,
                group_id=None,
                max_partition_fetch_bytes=self._largest,
            )
            await consumer.start()
            self._consumer = consumer
        return self._consumer

    async def close(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None
