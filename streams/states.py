"""States in a compacted topic, one key a partition: the newest is at its end, or just before."""

import asyncio
from collections.abc import Iterable
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

    async def find(self, partitions: Iterable[int]) -> dict[int, Found]:
        """The furthest state of each partition, of those written last; none where none was, or none can be read.

        Raises KafkaError.
        """
        best: dict[int, bytes] = {}
        async with self._reading:
            consumer = await self._started()
            places = [TopicPartition(self.topic, partition) for partition in partitions]
            consumer.assign(places)
            first, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            unread = {place for place in places if first[place] < ends[place]}
            for place in unread:
                consumer.seek(place, max(first[place], ends[place] - TAIL))
            while unread:
                for place, records in (await consumer.getmany(*unread, timeout_ms=1000)).items():
                    for record in records:
                        if (
                            record.value is not None
                            and record.value[:8] >= best.get(place.partition, b"")[:8]
                        ):
                            best[place.partition] = record.value
                unread = {place for place in unread if await consumer.position(place) < ends[place]}
        return {
            partition: found for partition in best if (found := self._unpacked(partition, best[partition]))
        }

    def _unpacked(self, partition: int, value: bytes) -> Found | None:
        try:
            return unpack(value)
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
